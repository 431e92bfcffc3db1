//! A command of the release; exit code 0 passes.

use std::time::Duration;

use windlass_proto::spec::ExecProbe;

use super::{Found, Target, shorten};
use crate::command::{OneShot, run as run_command};
use crate::runtime::surroundings::{Prepared, Surroundings};

pub(super) async fn run(target: &Target, probe: &ExecProbe, limit: Duration) -> Found {
    let Target { host, launch } = target;
    let prepared = Prepared::new(host, launch, &probe.command).map_err(|e| e.to_string())?;
    let Surroundings { env, user } = Surroundings::new(host, launch).map_err(|e| e.to_string())?;
    let Prepared { program, args } = &prepared;
    let one = OneShot { program, args, dir: &launch.dir, env: &env, user, limit };
    let shown = probe.command.join(" ");
    match run_command(one).await {
        Ok(ended) => {
            let text = format!("{shown}: {}: {}", ended.how, shorten(&ended.output));
            if ended.ok { Ok(text) } else { Err(text) }
        }
        Err(error) => Err(format!("{shown}: cannot be run: {error}")),
    }
}
