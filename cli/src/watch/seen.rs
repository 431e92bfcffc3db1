//! What users saw of a rollout, in words: pure.

use windlass_proto::rpc::{Availability, Rollout, StepAvailability};

/// Questions asked in all, and those that failed.
pub fn totals(seen: &Availability) -> (u64, u64) {
    (seen.steps.iter().map(|step| step.sent).sum(), seen.steps.iter().map(|step| step.failed).sum())
}

/// The step with the longest gap.
pub fn worst(seen: &Availability) -> Option<&StepAvailability> {
    seen.steps.iter().filter(|step| step.failed > 0).max_by_key(|step| step.longest_gap_ms)
}

/// `https://shop.example/health: 3 of 128 failed, longest gap 2s in batch 1`; none where nobody asks.
pub fn line(rollout: &Rollout) -> Option<String> {
    let seen = rollout.availability.as_ref()?;
    let (sent, failed) = totals(seen);
    let url = &seen.url;
    Some(match (sent, worst(seen)) {
        (0, _) => format!("{url}: not asked yet"),
        (1, None) => format!("{url}: 1 answer, none failed"),
        (_, None) => format!("{url}: {sent} answers, none failed"),
        (_, Some(step)) => {
            let gap = gap(step);
            format!("{url}: {failed} of {sent} failed, longest gap {gap} in {}", step.step)
        }
    })
}

/// `batch 2: 3 of 6 failed, longest gap 2.5s`; a gap is told where it began.
pub fn of_step(seen: &StepAvailability) -> String {
    let StepAvailability { step, sent, failed, longest_gap_ms } = seen;
    let gap = if *longest_gap_ms == 0 { String::new() } else { format!(", longest gap {}", gap(seen)) };
    format!("{step}: {failed} of {sent} failed{gap}")
}

fn gap(step: &StepAvailability) -> String {
    format!("{:.1}s", step.longest_gap_ms as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_told_of_in_one_line() {
        let step = |step: &str, sent, failed, longest_gap_ms| StepAvailability {
            step: step.into(),
            sent,
            failed,
            longest_gap_ms,
        };
        let told = |steps: Vec<StepAvailability>| {
            let availability = Some(Availability { url: "http://a/".into(), steps });
            line(&Rollout { availability, ..Rollout::default() }).unwrap()
        };
        assert_eq!(line(&Rollout::default()), None);
        assert_eq!(told(vec![]), "http://a/: not asked yet");
        assert_eq!(told(vec![step("preparing", 1, 0, 0)]), "http://a/: 1 answer, none failed");
        let steps =
            vec![step("preparing", 5, 0, 0), step("batch 1", 20, 2, 1500), step("batch 2", 20, 1, 1000)];
        assert_eq!(of_step(&steps[1]), "batch 1: 2 of 20 failed, longest gap 1.5s");
        assert_eq!(of_step(&step("batch 3", 7, 2, 0)), "batch 3: 2 of 7 failed");
        assert_eq!(told(steps), "http://a/: 3 of 45 failed, longest gap 1.5s in batch 1");
    }
}
