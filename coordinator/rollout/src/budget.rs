//! How many hosts may be unavailable, fail, or go back at once: amounts of a spec as numbers of hosts.

use windlass_proto::spec::{Amount, RolloutSpec, StrategyType};

/// Hosts out of `total` that may be unavailable at once. A percentage rounds down but not below one; 0 stays 0.
pub fn max_unavailable(spec: &RolloutSpec, total: u32) -> u32 {
    match spec.strategy.kind {
        StrategyType::AllAtOnce => total,
        StrategyType::Rolling => floor(spec.strategy.max_unavailable, total).min(total),
    }
}

/// Hosts out of `total` that may go back at once: at least one.
pub fn back_parallel(spec: &RolloutSpec, total: u32) -> u32 {
    floor(spec.failure.rollback.max_parallel, total).max(1)
}

/// Hosts out of `total` that may fail without ending the rollout.
pub fn error_threshold(spec: &RolloutSpec, total: u32) -> u32 {
    spec.failure.error_threshold.floor(total)
}

fn floor(amount: Amount, total: u32) -> u32 {
    match amount {
        Amount::Percent(ratio) if ratio.0 > 0 => amount.floor(total).max(1),
        other => other.floor(total),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_of_small_fleets_round_down_but_not_away() {
        for (text, total, expected) in [
            ("10%", 5, 1),
            ("10%", 29, 2),
            ("0%", 5, 0),
            ("0", 5, 0),
            ("3", 5, 3),
            ("9", 5, 9),
            ("100%", 5, 5),
        ] {
            assert_eq!(floor(text.parse().unwrap(), total), expected, "{text} of {total}");
        }
    }
}
