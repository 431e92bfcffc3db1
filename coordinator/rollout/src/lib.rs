//! One rollout's decisions, pure: no clock, no file, no socket.
//!
//! ```text
//!   Fleet + Order ── make_plan ──► Plan  ── Rollout::new ──► Rollout ◄─────────────┐
//!                                                               │                 │ Step.state: on disk first
//!   Start, HostStatus, HostConnected, HostSilent, Tick,         ▼                 │
//!   Pause, Resume, Abort, Recovered ───────────────────► step(&rollout, event, now)
//!                                                               │
//!                                                               ▼ Step.effects: then done, in order
//!                        Assign, Permit, Confirm, AbortOp to hosts; Event to the log; SetTimer; Ended
//! ```
//!
//! * [`plan`]: the order checked against the fleet.
//! * [`state`]: what is kept between two events. [`event`]: what can happen. [`effect`]: what can be asked for.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod batches;
pub mod budget;
pub mod effect;
pub mod event;
pub mod feasibility;
pub mod plan;
pub mod state;
pub mod timing;

pub use effect::Effect;
pub use event::Event;
pub use feasibility::make as make_plan;
pub use plan::Plan;
pub use state::{Condition, Kind, Refused, Rollout, State, Step};
