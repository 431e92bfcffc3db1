//! One rollout's decisions, pure: no clock, no file, no socket.
//!
//! ```text
//!   Fleet + Order ── make_plan ──► Plan ── Rollout::new ──► Rollout ◄─────────────┐
//!                                                              │                  │ Step.state: on disk first
//!   Start, HostStatus, HostConnected, HostSilent, Declined,    ▼                  │
//!   HostRefused,                                               │                  │
//!   Tick, Pause, Resume, Abort, Recovered ────────────► step(&rollout, event, now)
//!                                                              │
//!                                                              ▼ Step.effects: then done, in order
//!                       Assign, Permit, Confirm, AbortOp to hosts; Event to the log; SetTimer; Ended
//! ```
//!
//! Before: [`plan`] (types), [`feasibility`] (all checks), `targets` (which hosts), `environment` (whose they are), [`grants`] (which of them would refuse), [`fetch`] (what they lack), [`batches`], [`budget`], [`timing`].
//!
//! Kept: [`state`]; across rollouts: [`releases`], [`failures`], [`way_back`]. What went wrong: [`cause`]; what users saw: [`availability`]. In: [`event`]. Out: [`effect`]. Shown: [`view`].
//!
//! One [`step()`] is: the event into the books (`hear`: what hosts say; `declined`: what they do not do; [`after`]: what they say of a release that they had confirmed; `step`: what operators say), then as far as the
//! rollout can go (`clock`: deadlines; `progress`: forwards; `abort`: back; [`guard`]: may this host go now?), then
//! `say`: every host is told what it lacks, and told again after [`clock::RESEND`] or on a new session until it acts on
//! it. So losing, doubling or delaying a message changes nothing, and recovery after a crash is the same code.
//!
//! What the rollout relies on: a host's status names its operation, and `attested` is filled from the trial on: a host
//! that does not attest the target is neither confirmed nor counted as done.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod ability;
mod abort;
pub mod after;
pub mod availability;
pub mod batches;
pub mod budget;
pub mod cause;
mod check;
pub mod clock;
pub mod create;
mod declined;
pub mod effect;
mod environment;
pub mod event;
pub mod failures;
pub mod feasibility;
pub mod fetch;
pub mod grants;
pub mod guard;
mod hear;
mod jump;
pub mod plan;
mod progress;
mod refused;
pub mod releases;
mod retry;
mod say;
pub mod state;
mod step;
mod targets;
pub mod timing;
mod turn;
pub mod view;
pub mod way_back;

pub use create::{Start, op_id};
pub use effect::Effect;
pub use event::Event;
pub use failures::Failures;
pub use feasibility::make as make_plan;
pub use fetch::Fetch;
pub use plan::Plan;
pub use refused::Refused;
pub use releases::Releases;
pub use state::{Condition, Kind, Rollout, State, Step};
pub use step::step;
pub use view::View;
pub use way_back::WayBack;
