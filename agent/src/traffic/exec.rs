//! The driver that runs commands of the host: one takes an application out of traffic, one puts it back, and one says where
//! it is, which is asked until it says what was wanted. A load balancer that was told has not obeyed yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use windlass_proto::id::AppName;
use windlass_proto::time::Span;

use crate::command::{self, Ended, OneShot};
use crate::runtime::HostContext;

/// How often it is asked where an application is.
const LOOK: Duration = Duration::from_millis(200);

/// Longest that one such question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// The commands. Each gets `WINDLASS_APP`, `WINDLASS_HOST` and `WINDLASS_ADDRESS`, runs as the agent's user, and may be run
/// again at any time: taking out what is out must pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecDriver {
    /// Takes the application out of traffic.
    pub take_out: HostCommand,
    /// Puts it back.
    pub put_back: HostCommand,
    /// Says where it is: exit code 0 in traffic, 1 out of traffic, any other not known.
    pub is_in: HostCommand,
    /// Longest that a command and the wait for its effect may take together.
    pub timeout: Span,
}

/// A command of the host's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCommand {
    /// Absolute program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Why an application is not where it should be.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The command cannot be run at all.
    #[error("traffic.{key} of agent.toml cannot be run: {}", program.display())]
    Run {
        /// Its key in the configuration.
        key: &'static str,
        /// Its program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("traffic.{key} of agent.toml ended with {how}{}", said(output))]
    Failed {
        /// Its key in the configuration.
        key: &'static str,
        /// How it ended.
        how: String,
        /// The last of its output.
        output: String,
    },
    /// It passed, and yet nothing changed.
    #[error(
        "{app} is not {wanted} traffic {timeout} after traffic.{key} was begun: traffic.is_in says {how}{}",
        said(output)
    )]
    NotObeyed {
        /// The application.
        app: AppName,
        /// `in` or `out of`.
        wanted: &'static str,
        /// The command's key in the configuration.
        key: &'static str,
        /// How long was waited.
        timeout: Span,
        /// How the last question ended.
        how: String,
        /// The last of its output.
        output: String,
    },
}

fn said(output: &str) -> String {
    match output.lines().next_back() {
        Some(line) => format!(": {line}"),
        None => String::new(),
    }
}

impl ExecDriver {
    pub(super) const fn limit(&self) -> Duration {
        self.timeout.std().saturating_add(QUESTION)
    }

    pub(super) async fn take_out(&self, host: &HostContext, app: &AppName) -> Result<(), ExecError> {
        self.steer(host, app, "take_out", &self.take_out, (1, "out of")).await
    }

    pub(super) async fn put_back(&self, host: &HostContext, app: &AppName) -> Result<(), ExecError> {
        self.steer(host, app, "put_back", &self.put_back, (0, "in")).await
    }

    async fn steer(
        &self,
        host: &HostContext,
        app: &AppName,
        key: &'static str,
        command: &HostCommand,
        (code, wanted): (i32, &'static str),
    ) -> Result<(), ExecError> {
        let deadline = Instant::now() + self.timeout.std();
        let ended = run(host, app, key, command, self.timeout.std()).await?;
        if !ended.ok {
            return Err(ExecError::Failed { key, how: ended.how, output: ended.output });
        }
        loop {
            let seen = run(host, app, "is_in", &self.is_in, QUESTION).await?;
            if seen.code == Some(code) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let (app, timeout) = (app.clone(), self.timeout);
                let Ended { how, output, .. } = seen;
                return Err(ExecError::NotObeyed { app, wanted, key, timeout, how, output });
            }
            sleep(LOOK).await;
        }
    }
}

async fn run(
    host: &HostContext,
    app: &AppName,
    key: &'static str,
    HostCommand { program, args }: &HostCommand,
    limit: Duration,
) -> Result<Ended, ExecError> {
    let env = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("WINDLASS_APP".to_owned(), app.to_string()),
        ("WINDLASS_HOST".to_owned(), host.name.to_string()),
        ("WINDLASS_ADDRESS".to_owned(), host.address.to_string()),
    ]);
    let one = OneShot { program, args, dir: Path::new("/"), env: &env, user: None, limit };
    command::run(one).await.map_err(|source| ExecError::Run { key, program: program.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::HostPolicy;

    fn host() -> HostContext {
        HostContext {
            name: "host-1".parse().unwrap(),
            address: [127, 0, 1, 1].into(),
            labels: BTreeMap::new(),
            policy: HostPolicy {
                author_keys: vec![],
                threshold: 1,
                apps: vec![],
                allow_root: false,
                users: vec![],
            },
        }
    }

    /// A load balancer that keeps its state in a file and obeys after so many questions.
    fn driver(dir: &Path, obeys_after: u32, fails: &str) -> ExecDriver {
        let script = format!(
            "#!/bin/sh\ncd {}\necho \"$1 $WINDLASS_APP $WINDLASS_HOST $WINDLASS_ADDRESS\" >> calls\n\
             [ \"$1\" != \"{fails}\" ] || {{ echo 'no such backend'; exit 4; }}\n\
             case $1 in\n  is_in) echo x >> asked; [ $(wc -l < asked) -gt {obeys_after} ] || exit 2\n\
             [ \"$(cat state)\" = put_back ] && exit 0; exit 1;;\n  *) echo $1 > state; : > asked;;\nesac\n",
            dir.display()
        );
        let program = dir.join("lb");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let command = |what: &str| HostCommand { program: program.clone(), args: vec![what.to_owned()] };
        ExecDriver {
            take_out: command("take_out"),
            put_back: command("put_back"),
            is_in: command("is_in"),
            timeout: Span(1_000),
        }
    }

    #[tokio::test]
    async fn it_waits_until_the_load_balancer_has_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let driver = driver(dir.path(), 2, "-");
        let app = "shop".parse().unwrap();
        driver.take_out(&host(), &app).await.unwrap();
        driver.take_out(&host(), &app).await.unwrap();
        driver.put_back(&host(), &app).await.unwrap();
        let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
        let steers: Vec<&str> = calls.lines().filter(|line| !line.starts_with("is_in")).collect();
        let call = |what: &str| format!("{what} shop host-1 127.0.1.1");
        assert_eq!(steers, [call("take_out"), call("take_out"), call("put_back")]);
        assert_eq!(calls.lines().filter(|line| line.starts_with("is_in")).count(), 9);
    }

    #[tokio::test]
    async fn what_fails_or_is_not_obeyed_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let app = "shop".parse().unwrap();
        let refused = driver(dir.path(), 0, "take_out").take_out(&host(), &app).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "traffic.take_out of agent.toml ended with exit code 4: no such backend"
        );
        let deaf = driver(dir.path(), 1_000, "-").put_back(&host(), &app).await.unwrap_err();
        assert_eq!(
            deaf.to_string(),
            "shop is not in traffic 1s after traffic.put_back was begun: traffic.is_in says exit code 2"
        );
        let mut missing = driver(dir.path(), 0, "-");
        missing.take_out.program = "/nonexistent/lb".into();
        let missing = missing.take_out(&host(), &app).await.unwrap_err();
        assert_eq!(missing.to_string(), "traffic.take_out of agent.toml cannot be run: /nonexistent/lb");
    }
}
