//! Rules of the rollout: which hosts, in which order, how many at a time.

use super::Findings;
use crate::spec::selector::Selector;
use crate::spec::{Amount, Ratio, RolloutSpec, Strategy, StrategyType};
use crate::time::Span;

impl Findings<'_> {
    pub(super) fn targets(&mut self, spec: &RolloutSpec) {
        let targets = &spec.targets;
        if targets.selector.trim().is_empty() {
            self.error(
                "rollout.targets.selector",
                "empty, and empty never means all hosts; name them, as in \"role=api,env=production\"".into(),
            );
        } else if let Err(invalid) = targets.selector.parse::<Selector>() {
            self.error("rollout.targets.selector", invalid.to_string());
        }
        if let Some(expect) = &targets.expect_hosts {
            if expect.max.is_some_and(|max| max < expect.min) {
                self.error("rollout.targets.expect_hosts", "max is smaller than min".into());
            }
            if expect.max == Some(0) {
                self.error("rollout.targets.expect_hosts.max", "0 hosts are nothing to roll out to".into());
            }
        }
        if targets.failure_domain.as_deref().is_some_and(|label| label.trim().is_empty()) {
            self.error("rollout.targets.failure_domain", "empty: name a label, as in rack".into());
        }
    }

    pub(super) fn period(&mut self, path: &str, period: Span) {
        let (shortest, longest) = (Span(100), Span::secs(60));
        if !(shortest..=longest).contains(&period) {
            self.error(path, format!("{period} is not a time from {shortest} to {longest}"));
        }
    }

    pub(super) fn strategy(&mut self, strategy: &Strategy) {
        let at = |field: &str| format!("rollout.strategy.{field}");
        if strategy.batches.is_some() && strategy.max_parallel.is_some() {
            self.error(&at("max_parallel"), "batches and max_parallel exclude each other: keep one".into());
        }
        if strategy.kind == StrategyType::AllAtOnce {
            for (field, given) in
                [("batches", strategy.batches.is_some()), ("max_parallel", strategy.max_parallel.is_some())]
            {
                if given {
                    self.error(
                        &at(field),
                        "all_at_once has one batch; remove this or use type: rolling".into(),
                    );
                }
            }
        }
        if let Some(ramp) = &strategy.batches {
            self.ramp(ramp);
        }
        if let Some(parallel) = strategy.max_parallel {
            self.amount_above_zero(&at("max_parallel"), parallel);
        }
        self.amount_above_zero(&at("max_unavailable"), strategy.max_unavailable);
        self.positive(&at("healthy_deadline"), strategy.healthy_deadline);
        self.positive(&at("progress_deadline"), strategy.progress_deadline);
        self.bounded(&at("min_healthy_time"), strategy.min_healthy_time);
        self.bounded(&at("pause_between"), strategy.pause_between);
        if strategy.progress_deadline <= strategy.healthy_deadline && strategy.progress_deadline > Span(0) {
            self.error(
                &at("progress_deadline"),
                format!("must be longer than healthy_deadline ({})", strategy.healthy_deadline),
            );
        }
    }

    fn ramp(&mut self, ramp: &[Amount]) {
        let path = "rollout.strategy.batches";
        for (i, amount) in ramp.iter().enumerate() {
            self.amount_above_zero(&format!("{path}.{i}"), *amount);
        }
        for (i, pair) in ramp.windows(2).enumerate() {
            let falls = match (pair[0], pair[1]) {
                (Amount::Count(a), Amount::Count(b)) => b <= a,
                (Amount::Percent(a), Amount::Percent(b)) => b <= a,
                // Which is more depends on the fleet; plan knows.
                _ => false,
            };
            if falls {
                self.error(
                    &format!("{path}.{}", i + 1),
                    format!("{} after {}: the ramp is cumulative and must rise", pair[1], pair[0]),
                );
            }
        }
        match ramp.last() {
            None => self.error(path, "empty: give the ramp, as in [1, 10%, 50%, 100%]".into()),
            Some(Amount::Percent(Ratio(10_000))) => {}
            Some(last @ Amount::Percent(_)) => self.error(
                &format!("{path}.{}", ramp.len() - 1),
                format!("the ramp ends at {last} and would leave hosts behind; end it with 100%"),
            ),
            Some(last @ Amount::Count(_)) => self.warn(
                &format!("{path}.{}", ramp.len() - 1),
                format!("the ramp ends at {last} hosts; end it with 100% so that it fits any fleet"),
            ),
        }
    }
}
