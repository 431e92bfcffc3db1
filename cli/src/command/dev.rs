//! `windlass dev`: a fleet on this machine.

use crate::args::Dev;
use crate::error::{ExpectedError, Result};
use crate::invocation::Invocation;

/// Runs the verb.
pub async fn run(_invocation: &Invocation, _args: Dev) -> Result {
    Err(ExpectedError::failed("dev is not built yet"))
}
