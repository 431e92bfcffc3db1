//! What a host does not do, and why.

use crate::id::{AppName, OpId};
use crate::phase::Fault;

/// Longest reason that is sent and kept, in bytes.
pub const REASON_BYTES: usize = 1000;

/// An order that a host does not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRefused {
    /// The order's operation, where it has one.
    pub op: Option<OpId>,
    /// The app, where the order named one.
    pub app: Option<AppName>,
    /// Whose fault it is.
    pub fault: Fault,
    /// Why, in one sentence.
    pub reason: String,
    /// The same order may be done later: nothing has failed yet.
    pub not_yet: bool,
}
