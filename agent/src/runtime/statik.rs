//! The static runtime: nothing runs; the link is what is switched. A release may have a command that makes a web
//! server read it again.

use std::time::Duration;

use async_trait::async_trait;
use windlass_proto::spec::Runtime as RuntimeSpec;

use super::surroundings::{Prepared, Surroundings};
use super::{HostContext, Launch, Runtime, RuntimeError, Stopped, data};
use crate::command::{self, OneShot};
use crate::shim::order::Started;

/// Longest that a reload may take.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct StaticRuntime {
    host: HostContext,
}

impl StaticRuntime {
    /// For this host.
    pub fn new(host: HostContext) -> Self {
        Self { host }
    }
}

#[async_trait]
impl Runtime for StaticRuntime {
    async fn start(&self, launch: &Launch) -> Result<Option<Started>, RuntimeError> {
        let RuntimeSpec::Static { reload } = &launch.spec.runtime else { return Ok(None) };
        if reload.is_empty() {
            return Ok(None);
        }
        let failed = |what: String| RuntimeError::Reload { command: reload.clone(), what };
        let Prepared { program, args } = Prepared::new(&self.host, launch, reload)?;
        let Surroundings { env, user } = Surroundings::new(&self.host, launch)?;
        data::prepare(&launch.data, user)?;
        let one = OneShot {
            program: &program,
            args: &args,
            dir: &launch.dir,
            env: &env,
            user,
            limit: RELOAD_LIMIT,
        };
        let ended = command::run(one).await.map_err(|e| failed(format!("cannot be run: {e}")))?;
        if ended.ok { Ok(None) } else { Err(failed(format!("ended with {}: {}", ended.how, ended.output))) }
    }

    async fn stop(&self, _: &Launch) -> Result<Stopped, RuntimeError> {
        Ok(Stopped::default())
    }

    async fn find(&self, _: &Launch) -> Option<Started> {
        None
    }
}
