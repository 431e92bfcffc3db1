//! A fleet on this machine: a real coordinator and real agents as processes of their own, on loopback, without root.
//!
//! * [`place`] what is where in the fleet's directory; [`record`] fleet.json; [`programs`] where the programs are.
//! * [`ports`] where they listen, also after they were down; [`process`] starting, finding again and stopping processes;
//!   [`session`] how they outlive whoever started them; [`interrupt`] Ctrl-C and SIGTERM.
//! * [`up()`] starts what is not running (coordinator, hosts, the author's key); [`down()`] stops all; [`status`] shows;
//!   [`stay`] stays in front.

mod author;
mod coordinator;
mod down;
mod front;
mod host;
pub mod interrupt;
pub mod place;
mod ports;
pub mod process;
pub mod programs;
pub mod record;
pub mod session;
pub mod status;
mod up;
pub(crate) mod wait;

pub use down::{down, kill_all, stop};
pub use front::stay;
pub(crate) use up::connect;
pub use up::up;
