//! The effect that runs a hook.

use std::sync::Arc;

use futures::FutureExt as _;
use windlass_proto::phase::HookName;
use windlass_release::Event;

use super::{Brief, Host};
use crate::dispatch::{Finding, Found};
use crate::hook::{Call, HookError};
use crate::runtime::Launch;

impl Host {
    pub(super) async fn hook(
        &self,
        brief: &Brief,
        launch: Arc<Launch>,
        hook: HookName,
        round: u64,
        must_pass: bool,
    ) -> Result<(), HookError> {
        let Some(operation) = brief.operation.clone() else { return Ok(()) };
        let told = |running: bool| {
            let event = Event::Hook { turn: brief.turn, running: running.then_some(hook) };
            let finding = Finding::Outcome(Box::new(event.into()));
            let found = Found { app: brief.app.clone(), finding };
            async move { drop(brief.teller.found.send(found).await) }.boxed()
        };
        let call = Call { host: self.context.clone(), launch, operation, hook, round, must_pass };
        call.run(self.hooks.as_ref(), &brief.stops, &told).await
    }
}
