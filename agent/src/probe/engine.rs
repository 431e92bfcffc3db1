//! Probes over time: when checks are made, and what so many passes or failures in a row mean.
//!
//! Thresholds mean what they mean in Kubernetes: failures count at most once a period. While a probe has not passed
//! yet, checks are made faster than that, so that a start is noticed when it happens; these count as passes only.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use windlass_proto::spec::{Probe, Probes};
use windlass_release::{Checks, Health};

use super::{ProbeName, Target, Transcript, Transcripts, check};
use crate::runtime::ALIVE_IS_STARTED;

/// Time between checks while a probe has not passed yet, unless its period is shorter.
const EAGER: Duration = Duration::from_millis(250);

/// What probing tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Something for the machine.
    Health(Health),
    /// Something for people: `probe readiness: 1 of 3 passed`.
    Detail(String),
}

/// Probing under way; dropping it ends it, with the check at hand.
#[derive(Debug)]
pub struct Probing {
    _task: AbortOnDropHandle<()>,
}

/// Begins probing. Sights go through `wrap` into `sights`, which may hold the probing up when it is full.
pub fn begin<T: Send + 'static>(
    target: Target,
    checks: Checks,
    transcripts: Arc<Transcripts>,
    sights: mpsc::Sender<T>,
    wrap: impl Fn(Sight) -> T + Send + Sync + 'static,
) -> Probing {
    let teller = Teller { sights, wrap };
    let task = tokio::spawn(async move {
        match checks {
            Checks::Startup => startup(&target, &transcripts, &teller).await,
            Checks::Service => service(&target, &transcripts, &teller).await,
        }
    });
    Probing { _task: AbortOnDropHandle::new(task) }
}

struct Teller<T, W> {
    sights: mpsc::Sender<T>,
    wrap: W,
}

impl<T, W: Fn(Sight) -> T> Teller<T, W> {
    async fn tell(&self, sight: Sight) {
        // Nobody listens any more when the agent ends.
        let _ = self.sights.send((self.wrap)(sight)).await;
    }

    async fn health(&self, health: Health) {
        self.tell(Sight::Health(health)).await;
    }
}

async fn startup<T, W: Fn(Sight) -> T>(target: &Target, transcripts: &Transcripts, teller: &Teller<T, W>) {
    let Probes { startup, readiness, liveness } = &target.launch.spec.probes;
    let Some(probe) = startup else {
        let process = target.launch.spec.runtime.has_process();
        if process && readiness.is_none() && liveness.is_none() {
            // Its end within this time comes as an event of its own.
            sleep(ALIVE_IS_STARTED).await;
        }
        return teller.health(Health::StartupPassed).await;
    };
    let mut rounds = Rounds::new(target, ProbeName::Startup, probe, transcripts).await;
    loop {
        let verdict = rounds.next(teller).await;
        match verdict {
            Some(Verdict::Passes) => return teller.health(Health::StartupPassed).await,
            Some(Verdict::Fails(why)) => return teller.health(Health::StartupFailed { why }).await,
            None => {}
        }
    }
}

async fn service<T, W: Fn(Sight) -> T>(target: &Target, transcripts: &Transcripts, teller: &Teller<T, W>) {
    let Probes { readiness, liveness, .. } = &target.launch.spec.probes;
    let readiness = async {
        let Some(probe) = readiness else { return teller.health(Health::Ready).await };
        let mut rounds = Rounds::new(target, ProbeName::Readiness, probe, transcripts).await;
        loop {
            match rounds.next(teller).await {
                Some(Verdict::Passes) => teller.health(Health::Ready).await,
                Some(Verdict::Fails(why)) => teller.health(Health::NotReady { why }).await,
                None => {}
            }
        }
    };
    let liveness = async {
        let Some(probe) = liveness else { return };
        let mut rounds = Rounds::new(target, ProbeName::Liveness, probe, transcripts).await;
        loop {
            if let Some(Verdict::Fails(why)) = rounds.next(teller).await {
                teller.health(Health::LivenessFailed { why }).await;
            }
        }
    };
    tokio::join!(readiness, liveness);
}

/// A probe's judgement, told when it changes.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    Fails(String),
}

/// One probe's checks, one after the other.
struct Rounds<'a> {
    target: &'a Target,
    name: ProbeName,
    probe: &'a Probe,
    transcripts: &'a Transcripts,
    next: Instant,
    count: Count,
}

impl<'a> Rounds<'a> {
    async fn new(
        target: &'a Target,
        name: ProbeName,
        probe: &'a Probe,
        transcripts: &'a Transcripts,
    ) -> Self {
        sleep(probe.initial_delay.std()).await;
        let now = Instant::now();
        let count = Count::new(probe, now);
        Self { target, name, probe, transcripts, next: now, count }
    }

    async fn next<T, W: Fn(Sight) -> T>(&mut self, teller: &Teller<T, W>) -> Option<Verdict> {
        sleep_until(self.next).await;
        let begun = Instant::now();
        let transcript = check(self.target, self.name, self.probe).await;
        let verdict = self.count.add(&transcript, begun);
        self.next = begun + self.count.pause();
        if let Some(detail) = self.count.detail(self.name, &transcript) {
            teller.tell(Sight::Detail(detail)).await;
        }
        self.transcripts.push(transcript);
        verdict
    }
}

/// Passes and failures in a row.
#[derive(Debug)]
struct Count {
    period: Duration,
    to_pass: u32,
    to_fail: u32,
    begun: Instant,
    passes: u32,
    failures: u32,
    /// When a failure may count again.
    failure_counts_at: Instant,
    /// The last verdict.
    passing: Option<bool>,
    told: Option<(bool, u32)>,
}

impl Count {
    fn new(probe: &Probe, now: Instant) -> Self {
        Self {
            period: probe.period.std().max(Duration::from_millis(10)),
            to_pass: probe.success_threshold.max(1),
            to_fail: probe.failure_threshold.max(1),
            begun: now,
            passes: 0,
            failures: 0,
            failure_counts_at: now,
            passing: None,
            told: None,
        }
    }

    /// Counts a check that began at `at`.
    fn add(&mut self, transcript: &Transcript, at: Instant) -> Option<Verdict> {
        if transcript.passed {
            self.failures = 0;
            self.failure_counts_at = at;
            self.passes = self.passes.saturating_add(1);
            if self.passes >= self.to_pass && self.passing != Some(true) {
                self.passing = Some(true);
                return Some(Verdict::Passes);
            }
            return None;
        }
        self.passes = 0;
        if at >= self.failure_counts_at {
            self.failures = self.failures.saturating_add(1);
            self.failure_counts_at = at + self.period;
        }
        // A threshold of 1 would fail every application that needs a moment to listen, so a first verdict takes at
        // least one period.
        let too_early = self.passing.is_none() && at < self.begun + self.period;
        if self.failures >= self.to_fail && self.passing != Some(false) && !too_early {
            self.passing = Some(false);
            return Some(Verdict::Fails(transcript.to_string()));
        }
        None
    }

    /// From the begin of one check to the begin of the next.
    fn pause(&self) -> Duration {
        if self.passing.is_none() && self.passes == 0 { self.period.min(EAGER) } else { self.period }
    }

    /// Words about a verdict that is still open, when they have changed.
    fn detail(&mut self, name: ProbeName, transcript: &Transcript) -> Option<String> {
        let now = if transcript.passed { (true, self.passes) } else { (false, self.failures) };
        if self.passing == Some(transcript.passed) || self.told == Some(now) {
            return None;
        }
        self.told = Some(now);
        Some(match now {
            (true, n) => format!("probe {name}: {n} of {} passed", self.to_pass),
            (false, n) => format!("probe {name}: {n} of {} failed: {}", self.to_fail, transcript.text),
        })
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::time::{Span, Timestamp};

    use super::*;

    fn probe(period: Span, to_fail: u32, to_pass: u32) -> Probe {
        Probe {
            http: None,
            tcp: None,
            exec: None,
            initial_delay: Span(0),
            period,
            timeout: Span::secs(1),
            failure_threshold: to_fail,
            success_threshold: to_pass,
        }
    }

    fn seen(passed: bool) -> Transcript {
        Transcript {
            release: windlass_proto::digest::Digest::of(b"release"),
            probe: ProbeName::Readiness,
            at: Timestamp(0),
            took: Span(1),
            passed,
            text: "x".into(),
        }
    }

    /// Feeds checks at (milliseconds, passed) and returns when which verdict came.
    fn verdicts(probe: &Probe, checks: &[(u64, bool)]) -> Vec<(u64, bool)> {
        let begin = Instant::now();
        let mut count = Count::new(probe, begin);
        let mut found = Vec::new();
        for (ms, passed) in checks {
            let verdict = count.add(&seen(*passed), begin + Duration::from_millis(*ms));
            found.extend(verdict.map(|v| (*ms, v == Verdict::Passes)));
        }
        found
    }

    #[test]
    fn failures_count_once_a_period() {
        let five = probe(Span::secs(5), 3, 1);
        let eager: Vec<_> = (0..60).map(|n| (n * 250, false)).collect();
        assert_eq!(verdicts(&five, &eager), [(10_000, false)]);
        let one = probe(Span::secs(5), 1, 1);
        assert_eq!(verdicts(&one, &eager), [(5_000, false)]);
        assert_eq!(verdicts(&one, &[(0, false), (250, true), (5250, false)]), [(250, true), (5250, false)]);
    }

    #[test]
    fn verdicts_are_told_when_they_change() {
        let quick = probe(Span::secs(1), 2, 2);
        let checks = [
            (0, true),
            (1000, true),
            (2000, true),
            (3000, false),
            (4000, true),
            (5000, false),
            (6000, false),
            (7000, false),
            (8000, true),
            (9000, true),
        ];
        assert_eq!(verdicts(&quick, &checks), [(1000, true), (6000, false), (9000, true)]);
    }

    #[test]
    fn details_say_how_far() {
        let mut count = Count::new(&probe(Span::secs(1), 2, 3), Instant::now());
        let pass = seen(true);
        count.add(&pass, Instant::now());
        assert_eq!(
            count.detail(ProbeName::Readiness, &pass).as_deref(),
            Some("probe readiness: 1 of 3 passed")
        );
        assert_eq!(count.detail(ProbeName::Readiness, &pass), None);
    }
}
