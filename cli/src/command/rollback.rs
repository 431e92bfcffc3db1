//! `windlass rollback`: a rollout whose target is an earlier release.

use windlass_proto::rpc::OrderRequest;

use super::order::Target;
use super::{deploy, environment};
use crate::args::Rollback;
use crate::error::Result;
use crate::invocation::Invocation;

/// Rolls back to the release asked for, or the stable one before the current one.
pub async fn run(invocation: &Invocation, args: Rollback) -> Result {
    let client = invocation.connect().await?;
    let environment = environment::acting(&client, &invocation.out, &args.app, args.env.as_deref()).await?;
    let request = OrderRequest {
        app: args.app,
        environment,
        target: args.to.unwrap_or_default(),
        rollback: true,
        expect_revision: args.expect_revision.unwrap_or(0),
        reason: args.reason,
        ..OrderRequest::default()
    };
    deploy::start(invocation, &client, Target { request }, args.yes, false, &args.follow).await
}
