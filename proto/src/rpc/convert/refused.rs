//! Refused orders.

use super::{InvalidField, optional};
use crate::phase::Fault;
use crate::refused::{OrderRefused, REASON_BYTES};
use crate::rpc;

impl From<OrderRefused> for rpc::Refused {
    fn from(refused: OrderRefused) -> Self {
        let OrderRefused { op, app, fault, reason, not_yet } = refused;
        Self {
            op_id: op.map(|op| op.to_string()).unwrap_or_default(),
            fault: Fault::to_wire(Some(fault)),
            reason: cut(reason),
            app: app.map(|app| app.to_string()).unwrap_or_default(),
            not_yet,
        }
    }
}

impl TryFrom<rpc::Refused> for OrderRefused {
    type Error = InvalidField;
    fn try_from(wire: rpc::Refused) -> Result<Self, InvalidField> {
        Ok(Self {
            op: optional("refused.op_id", &wire.op_id)?,
            app: optional("refused.app", &wire.app)?,
            fault: Fault::from_wire(wire.fault)?
                .ok_or_else(|| InvalidField::new("refused.fault", "it is missing"))?,
            reason: cut(wire.reason),
            not_yet: wire.not_yet,
        })
    }
}

/// Whoever sent it, no longer than is kept.
fn cut(mut reason: String) -> String {
    let end = reason.floor_char_boundary(REASON_BYTES);
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_round_trips_within_its_bound() {
        let refused = OrderRefused {
            op: Some("r-1-host-1".parse().unwrap()),
            app: None,
            fault: Fault::Host,
            reason: "full".into(),
            not_yet: true,
        };
        let wire = rpc::Refused::from(refused.clone());
        assert_eq!(OrderRefused::try_from(wire.clone()), Ok(refused));
        let long = rpc::Refused { reason: "ü".repeat(REASON_BYTES), ..wire.clone() };
        assert_eq!(OrderRefused::try_from(long).unwrap().reason.len(), REASON_BYTES);
        let nobody = rpc::Refused { fault: 0, ..wire };
        assert_eq!(OrderRefused::try_from(nobody).unwrap_err().field, "refused.fault");
    }
}
