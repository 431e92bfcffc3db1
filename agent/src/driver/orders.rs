//! Orders, and whose they may be.
//!
//! A session looks at a coordinator's fence once, when it begins. What the host has obeyed may have changed since: an order is
//! looked at again, and so is the end of a staging that another coordinator had asked for.

use windlass_proto::fence::{self, Obeyed, Unfit};
use windlass_proto::id::{AppName, OpId};
use windlass_proto::phase::{Fault, Phase};
use windlass_release::{BootTime, Event, Refused, Staging, State};

use super::Driver;
use super::unwilling::Unwilling;
use crate::exchange::{FromSession, Order, Under};

impl Driver {
    pub(super) fn order(&mut self, from: FromSession) {
        let FromSession { opened_at, received_at, under, answers, order } = from;
        // Whatever comes is proof of contact with somebody, but only a lease is with one who leads.
        if order == Order::Lease {
            self.contact = Some(received_at);
            return;
        }
        let names = order.names();
        let is_led = under.is_some();
        if let Err(why) = self.may_order(under.as_ref(), &order) {
            answers.refuse(Unwilling::from(why).answer(names));
            if is_led {
                // The next greeting says whom the host obeys.
                self.published.send_modify(|published| published.redials += 1);
            }
            return;
        }
        self.ordering = under;
        let done = self.obey(order, opened_at, received_at);
        self.ordering = None;
        if let Err(why) = done {
            answers.refuse(why.answer(names));
        }
    }

    fn obey(&mut self, order: Order, opened_at: BootTime, received_at: BootTime) -> Result<(), Unwilling> {
        match order {
            Order::Lease => Ok(()),
            Order::Assign(assign) => {
                let name = assign.to.app.clone();
                self.is_led(assign.epoch)?;
                self.make_room(&name)?;
                self.step(&name, Event::Assign(*assign))?;
                if let Some(app) = self.apps.get_mut(&name) {
                    app.under = self.ordering.clone();
                }
                Ok(())
            }
            Order::Permit { op, epoch, ttl } => {
                let expires = received_at.after(ttl);
                if let Some(app) = self.with_operation(&op) {
                    self.look_at_network(&app, Phase::Staged);
                }
                self.of_operation(epoch, &op, |op| Event::Permit { op, epoch, expires })
            }
            Order::Confirm { op, epoch } => {
                let session_opened_at = opened_at;
                self.of_operation(epoch, &op, |op| Event::Confirm { op, epoch, session_opened_at })
            }
            Order::Abort { op, epoch, reason } => {
                self.of_operation(epoch, &op, |op| Event::Abort { op, epoch, reason })
            }
            Order::ReleaseQuarantine { app, epoch, leave_down, reason } => {
                self.is_led(epoch)?;
                tracing::info!(%app, leave_down, reason, "quarantine released by an operator");
                self.step(&app, Event::ReleaseQuarantine { epoch, leave_down })
            }
        }
    }

    fn of_operation(
        &mut self,
        epoch: u64,
        op: &OpId,
        event: impl FnOnce(OpId) -> Event,
    ) -> Result<(), Unwilling> {
        self.is_led(epoch)?;
        let app = self.with_operation(op).ok_or_else(|| Unwilling::NoOperation(op.clone()))?;
        self.step(&app, event(op.clone()))
    }

    fn may_order(&self, under: Option<&Under>, order: &Order) -> Result<(), Unfit> {
        let (obeyed, highest) = (self.ledger.obeyed().map(Obeyed::led), self.highest_epoch());
        let epoch = match order {
            Order::Assign(assign) => Some(assign.epoch),
            Order::Permit { epoch, .. }
            | Order::Confirm { epoch, .. }
            | Order::Abort { epoch, .. }
            | Order::ReleaseQuarantine { epoch, .. } => Some(*epoch),
            Order::Lease => None,
        };
        let Some(under) = under else {
            return fence::may_lead_unfenced(obeyed, highest, epoch.unwrap_or(highest));
        };
        let given = under.offer.signed.fence.epoch;
        match epoch {
            // An order goes by the fence that was shown and by no other.
            Some(epoch) if epoch != given => Err(Unfit::Lower { given: epoch, obeyed: given }),
            _ => fence::may_lead(obeyed, highest, &under.offer),
        }
    }

    /// What was staged counts for whom the host obeys by now, or it is not taken.
    pub(super) fn still_obeyed(&self, app: &AppName, event: Event) -> Event {
        let Event::Staging { op, news: Staging::Done } = event else { return event };
        let under = self.apps.get(app).and_then(|app| app.under.as_ref());
        let obeyed = self.ledger.obeyed().map(Obeyed::led);
        match under.map(|under| fence::may_lead(obeyed, 0, &under.offer)) {
            None | Some(Ok(())) => Event::Staging { op, news: Staging::Done },
            Some(Err(unfit)) => {
                let reason = format!(
                    "this host obeys another coordinator by now than the one that ordered it: {unfit}"
                );
                Event::Staging { op, news: Staging::Failed { fault: Fault::Policy, reason } }
            }
        }
    }

    /// An epoch is the host's, whichever app it was obeyed for.
    fn is_led(&self, given: u64) -> Result<(), Refused> {
        let highest = self.highest_epoch();
        if given < highest { Err(Refused::Fenced { given, highest }) } else { Ok(()) }
    }
}

/// What a host has obeyed when this state is on record: the leadership of the order at hand, or of the one that began the
/// operation, as soon as the release is one that an author signed.
pub(super) fn accepted(ordering: Option<&Under>, began: Option<&Under>, next: &State) -> Option<Obeyed> {
    let under = ordering.or(began)?;
    let signed = &under.offer.signed;
    if !next.has_accepted() || next.epoch != signed.fence.epoch {
        return None;
    }
    // A permit has no mark of its own; it is about what was assigned.
    let same = began.filter(|began| began.offer.signed.fence == signed.fence);
    let mark = same.map_or(under.mark, |began| under.mark.max(began.mark));
    Some(Obeyed { signed: signed.clone(), mark })
}
