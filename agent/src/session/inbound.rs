//! What a coordinator says, in the domain's types.

use windlass_proto::id::{AppName, OpId, RolloutId};
use windlass_proto::phase::Fault;
use windlass_proto::refused::OrderRefused;
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::{self, InvalidField, coordinator_message::Kind};
use windlass_proto::time::Span;
use windlass_proto::version;
use windlass_release::Assign;

use super::authors::Authors;
use crate::exchange::Order;

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|error| InvalidField::new(field, error))
}

/// What is said of a message that this agent does not know at all.
pub fn unknown() -> OrderRefused {
    let reason = format!(
        "agent {} does not know this kind of order; install the coordinator's version",
        version::PROGRAM
    );
    OrderRefused { op: None, app: None, fault: Fault::Agent, reason, not_yet: false }
}

/// The operation and the app that a message names, as far as they are names.
pub fn names(message: &Kind) -> (Option<OpId>, Option<AppName>) {
    let (op, app) = match message {
        Kind::Assign(wire) => (wire.op_id.as_str(), wire.release.as_ref().map_or("", |to| to.app.as_str())),
        Kind::Permit(wire) => (wire.op_id.as_str(), ""),
        Kind::Confirm(wire) => (wire.op_id.as_str(), ""),
        Kind::Abort(wire) => (wire.op_id.as_str(), ""),
        Kind::ReleaseQuarantine(wire) => ("", wire.app.as_str()),
        Kind::Welcome(_) | Kind::Lease(_) | Kind::ReadLog(_) => ("", ""),
    };
    (op.parse().ok(), app.parse().ok())
}

/// What is said of an order that makes no sense to this agent.
pub fn misunderstood((op, app): (Option<OpId>, Option<AppName>), error: &InvalidField) -> OrderRefused {
    let reason = format!(
        "agent {} does not understand the order: {error}; install the coordinator's version",
        version::PROGRAM
    );
    OrderRefused { op, app, fault: Fault::Agent, reason, not_yet: false }
}

/// An order from a message; `None` for what is none.
pub fn order(message: Kind, authors: &Authors) -> Result<Option<Order>, InvalidField> {
    Ok(Some(match message {
        Kind::Welcome(_) | Kind::ReadLog(_) => return Ok(None),
        Kind::Lease(_) => Order::Lease,
        Kind::Assign(wire) => Order::Assign(Box::new(assign(wire, authors)?)),
        Kind::Permit(wire) => Order::Permit {
            op: parsed("permit.op_id", &wire.op_id)?,
            epoch: wire.epoch,
            ttl: Span(wire.ttl_ms),
        },
        Kind::Confirm(wire) => {
            Order::Confirm { op: parsed("confirm.op_id", &wire.op_id)?, epoch: wire.epoch }
        }
        Kind::Abort(wire) => Order::Abort {
            op: parsed("abort.op_id", &wire.op_id)?,
            epoch: wire.epoch,
            reason: wire.reason.chars().take(1000).collect(),
        },
        Kind::ReleaseQuarantine(wire) => Order::ReleaseQuarantine {
            app: parsed::<AppName>("release_quarantine.app", &wire.app)?,
            epoch: wire.epoch,
            leave_down: wire.leave_down,
            reason: wire.reason.chars().take(1000).collect(),
        },
    }))
}

fn assign(wire: rpc::Assign, authors: &Authors) -> Result<Assign, InvalidField> {
    let release = wire.release.ok_or_else(|| InvalidField::new("assign.release", "it is missing"))?;
    Ok(Assign {
        op: parsed::<OpId>("assign.op_id", &wire.op_id)?,
        rollout: parsed::<RolloutId>("assign.rollout_id", &wire.rollout_id)?,
        epoch: wire.epoch,
        to: ReleaseRef::try_from(release).map_err(|error| error.within("assign.release"))?,
        order: serde_json::from_str(&wire.order_json)
            .map_err(|error| InvalidField::new("assign.order_json", error))?,
        rollback: wire.rollback,
        grant: authors.present(&wire.grant).map(Box::new),
        // One that is not as it should be is none: nothing but talk depends on it.
        trace: wire.traceparent.parse().ok(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::authors::tests::{authors, signed};
    use super::*;
    use windlass_proto::bundle::AuthorKey;

    #[test]
    fn a_grant_comes_with_its_order() {
        let ana = AuthorKey::generate().unwrap();
        let (grant, signed) = signed(&[&ana]);
        let release = rpc::ReleaseRef {
            app: "shop".into(),
            version: "1".into(),
            digest: grant.digest.to_string(),
            counter: 1,
        };
        let assign = rpc::Assign {
            op_id: "op".into(),
            rollout_id: "r-1".into(),
            release: Some(release),
            order_json: r#"{"host":{},"min_healthy_time":"1s","healthy_deadline":"1s"}"#.into(),
            grant: signed.encode(),
            ..Default::default()
        };
        let Ok(Some(Order::Assign(taken))) = order(Kind::Assign(assign), &authors(&[&ana], 1)) else {
            panic!("not taken")
        };
        assert_eq!(taken.grant.unwrap().grant, Ok(grant));
    }

    #[test]
    fn an_order_that_makes_no_sense_names_its_field() {
        let assign = rpc::Assign { op_id: "op".into(), rollout_id: "r-1".into(), ..Default::default() };
        let authors = authors(&[&AuthorKey::generate().unwrap()], 1);
        let order = |kind| order(kind, &authors);
        assert_eq!(order(Kind::Assign(assign)).unwrap_err().field, "assign.release");
        let permit = rpc::Permit { op_id: "../x".into(), ..Default::default() };
        assert_eq!(order(Kind::Permit(permit)).unwrap_err().field, "permit.op_id");
        assert_eq!(order(Kind::Welcome(rpc::Welcome::default())), Ok(None));
    }

    #[test]
    fn what_is_not_understood_is_answered_by_its_names() {
        let release = rpc::ReleaseRef {
            app: "shop".into(),
            version: "1.0".into(),
            digest: windlass_proto::digest::Digest::of(b"x").to_string(),
            counter: 1,
        };
        let assign = Kind::Assign(rpc::Assign {
            op_id: "r-1-host-1".into(),
            rollout_id: "r-1".into(),
            release: Some(release),
            order_json: r#"{"host":{},"min_healthy_time":"1s","healthy_deadline":"1m","of_tomorrow":1}"#
                .into(),
            ..Default::default()
        });
        let authors = authors(&[&AuthorKey::generate().unwrap()], 1);
        let names = names(&assign);
        let refused = misunderstood(names, &order(assign, &authors).unwrap_err());
        assert_eq!(refused.op.unwrap().as_str(), "r-1-host-1");
        assert_eq!(refused.app.unwrap().as_str(), "shop");
        assert!(
            refused.reason.contains("assign.order_json: unknown field `of_tomorrow`"),
            "{}",
            refused.reason
        );
        assert!(refused.reason.ends_with("install the coordinator's version"), "{}", refused.reason);
        assert_eq!((refused.fault, refused.not_yet), (Fault::Agent, false));
    }
}
