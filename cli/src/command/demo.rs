//! `windlass demo`: the whole story.

use crate::args::Demo;
use crate::error::{ExpectedError, Result};
use crate::invocation::Invocation;

/// Runs the verb.
pub async fn run(_invocation: &Invocation, _args: Demo) -> Result {
    Err(ExpectedError::failed("demo is not built yet"))
}
