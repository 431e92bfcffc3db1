//! Phases, outcomes, faults.

use super::InvalidField;
use crate::phase::{Fault, Outcome, Phase};
use crate::rpc;

macro_rules! word {
    ($name:ident, $field:literal, [$($variant:ident),*]) => {
        impl From<$name> for rpc::$name {
            fn from(word: $name) -> Self {
                match word { $($name::$variant => Self::$variant,)* }
            }
        }

        impl $name {
            /// From the wire's number; `None` where it says "unspecified".
            pub fn from_wire(number: i32) -> Result<Option<Self>, InvalidField> {
                match rpc::$name::try_from(number) {
                    $(Ok(rpc::$name::$variant) => Ok(Some(Self::$variant)),)*
                    Ok(rpc::$name::Unspecified) => Ok(None),
                    Err(_) => Err(InvalidField::new($field, format!("unknown number {number}"))),
                }
            }

            /// The wire's number of an optional word.
            pub fn to_wire(word: Option<Self>) -> i32 {
                word.map_or(rpc::$name::Unspecified, Into::into).into()
            }
        }
    };
}

word!(
    Phase,
    "phase",
    [
        Idle,
        Assigned,
        Staging,
        Staged,
        Draining,
        Undraining,
        Stopping,
        Switching,
        Starting,
        Verifying,
        Admitting,
        Trial,
        Confirmed,
        Reverting,
        Reverted,
        Quarantined,
        Failed
    ]
);
word!(Outcome, "outcome", [Confirmed, Reverted, AlreadyReverted, Skipped, Failed, Quarantined, Lost]);
word!(Fault, "fault", [App, Agent, Transport, Host, Policy]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_round_trips() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_wire(Phase::to_wire(Some(*phase))), Ok(Some(*phase)));
        }
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_wire(Outcome::to_wire(Some(*outcome))), Ok(Some(*outcome)));
        }
        for fault in Fault::ALL {
            assert_eq!(Fault::from_wire(Fault::to_wire(Some(*fault))), Ok(Some(*fault)));
        }
        assert_eq!(Phase::from_wire(0), Ok(None));
        assert_eq!(Fault::from_wire(99).unwrap_err().to_string(), "field fault: unknown number 99");
    }
}
