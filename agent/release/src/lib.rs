//! One host's deployment of one app: every decision that the agent takes, as a pure function.
//!
//! [`step()`]`(state, event, now)` gives the next [`State`] and the [`Effect`]s to perform, or says why the event is
//! [`Refused`]. The crate has no clock, no file and no socket; `.clippy.toml` keeps them out.
//!
//! ```text
//! Idle → Assigned → Staging → Staged →[permit]→ Draining → Stopping → Switching → Starting → Verifying
//!      → Admitting → Trial →[confirm]→ Confirmed
//! failure before Stopping → Undraining → Failed
//! failure from Stopping to Trial, abort, confirm time-out → Reverting → Reverted | Quarantined
//! ```
//!
//! What the shell owes the machine:
//! * it makes `step.state` durable before it performs `step.effects`, and publishes [`status()`] after that;
//! * it performs the effects of one step in order, on the lane that [`Effect::lane`] names; the host lane does one
//!   thing at a time, and what it still does when a later step asks something of it is cancelled first;
//! * a hook is run before the effect that follows it is begun, see [`Effect::Hook`];
//! * each effect is idempotent and ends within a deadline; its outcome comes back as an event that carries the
//!   [`State::turn`] of the step that asked for it, so that outcomes of what was overtaken are told apart;
//! * it sends [`Event::Tick`] at [`State::wake_at`];
//! * after a restart it sends [`Event::Recovered`] to each app's last durable state before anything else.
//!
//! | file | idea |
//! |---|---|
//! | `now` | time on this boot, and contact with the coordinator, as passed in |
//! | `state`, `operation` | what is known and durable |
//! | `event`, `effect`, `refused` | what goes in and comes out |
//! | `step` | the table: which event is handled where |
//! | `orders` | assign, permit, confirm, abort |
//! | `forward` | from staging to trial |
//! | `network` | whose fault a silence is |
//! | `back` | undraining, reverting, quarantine |
//! | `supervise` | the app outside of a deployment, and the watch window |
//! | `recover` | the same phase again after a crash, the old release after a reboot |
//! | `status` | what the coordinator is told |
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod back;
mod effect;
mod event;
mod forward;
mod network;
mod now;
mod operation;
mod orders;
mod recover;
mod refused;
mod state;
mod status;
mod step;
mod supervise;

pub use effect::{Checks, Effect, HOOK_AT_MOST, Lane};
pub use event::{Assign, Done, Event, Health, Staging};
pub use network::Network;
pub use now::{BootTime, LEASE_FRESH, Now};
pub use operation::Operation;
pub use refused::Refused;
pub use state::{HISTORY, Progress, RevertGoal, RevertStep, State, Supervision, WatchWindow};
pub use status::{Observed, status};
pub use step::{Step, step};
