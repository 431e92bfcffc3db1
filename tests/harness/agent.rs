//! Programs of a development fleet that the test runs itself: an agent behind a wire, a coordinator with something in its
//! environment.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::fleet::{Fleet, Host, kill_hard};
use crate::wait::until;

/// How to run a program.
#[derive(Debug, Clone, Default)]
pub struct Ways {
    /// `coordinators` in an agent's configuration; as they were when empty.
    pub coordinators: Vec<String>,
    /// Tables and keys that an agent's configuration gets besides, as TOML.
    pub settings: String,
    /// Variables in its environment.
    pub variables: Vec<(String, String)>,
    /// A program and its arguments that run a command, as `ip netns exec NAME`.
    pub within: Vec<String>,
    /// This program instead of the one that ran.
    pub program: Option<PathBuf>,
}

/// A program in the test's hands; killed when it goes out of scope.
#[derive(Debug)]
pub struct Taken {
    line: Vec<String>,
    dir: PathBuf,
    log: PathBuf,
    ways: Ways,
    child: Child,
}

impl Taken {
    /// Ends what the fleet runs and runs the same another way, after `change` to its command line or its files.
    fn over(pid: i32, log: PathBuf, ways: Ways, change: impl FnOnce(&mut Vec<String>)) -> Self {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        let line = line.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
        let dir = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        kill_hard(pid);
        let mut line: Vec<String> = line;
        change(&mut line);
        if let Some(program) = &ways.program {
            line[0] = program.to_str().unwrap().to_owned();
        }
        let child = spawn(&line, &dir, &log, &ways);
        Self { line, dir, log, ways, child }
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Runs it again in the same way, after [`Taken::kill`] or instead of it.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.line, &self.dir, &self.log, &self.ways);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Whether it was stopped by SIGSTOP.
    pub fn is_stopped(&self) -> bool {
        self.state() == Some('T')
    }

    /// Its state as the kernel has it (proc(5)); `None` where it is gone.
    pub fn state(&self) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Lets it go on after SIGSTOP.
    pub fn go_on(&self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What its log says so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(line: &[String], dir: &std::path::Path, log: &std::path::Path, ways: &Ways) -> Child {
    let line: Vec<&String> = ways.within.iter().chain(line).collect();
    let mut command = Command::new(line[0]);
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.args(&line[1..]).current_dir(dir).envs(ways.variables.iter().cloned());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// A fleet's coordinator, run by the test from now on.
pub fn take_coordinator(fleet: &Fleet, ways: Ways) -> Taken {
    let logs = fleet.dir().join("logs");
    let log = std::fs::read_to_string(logs.join("coordinator.log")).unwrap();
    let address = |what: &str| log.rsplit_once(what).unwrap().1.split_whitespace().next().unwrap().to_owned();
    // It was first started on any ports; agents and operators know those that it got.
    let ports = |line: &mut Vec<String>| {
        let free: Vec<usize> = (0..line.len()).filter(|at| line[*at].ends_with(":0")).collect();
        for at in free {
            match line[at - 1].as_str() {
                "--agent-listen" => line[at] = address(" agents="),
                "--operator-listen" => line[at] = address(" operators="),
                // Nobody looks for its metrics where they were.
                _ => {}
            }
        }
    };
    Taken::over(fleet.coordinator_pid(), logs.join("coordinator.test.log"), ways, ports)
}

/// A host's agent, run by the test from now on.
#[derive(Debug)]
pub struct Agent {
    /// Its host.
    pub host: Host,
    /// The program.
    pub program: Taken,
}

impl Agent {
    /// Of the N-th host, from 1.
    pub fn take(fleet: &Fleet, number: u32, ways: Ways) -> Self {
        let host = fleet.host(number);
        let config = host.state_dir.parent().unwrap().join("agent.toml");
        let coordinators = ways.coordinators.clone();
        let more: toml::Table = ways.settings.parse().unwrap();
        let change = |_: &mut Vec<String>| {
            let mut settings: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
            settings.extend(more);
            if !coordinators.is_empty() {
                settings.insert("coordinators".into(), coordinators.into());
            }
            std::fs::write(&config, toml::to_string(&settings).unwrap()).unwrap();
        };
        let log = fleet.dir().join(format!("logs/{}.test.log", host.name));
        let program = Taken::over(host.pid.expect("its agent runs"), log, ways, change);
        let agent = Self { host, program };
        agent.sessions(0);
        agent
    }

    /// What its log says so far.
    pub fn log(&self) -> String {
        self.program.log()
    }

    /// How many sessions it has had.
    pub fn sessions_so_far(&self) -> usize {
        self.log().matches("session opened").count()
    }

    /// Waits for a session after the first `before`.
    pub fn sessions(&self, before: usize) {
        until("a new session", Duration::from_secs(40), || (self.sessions_so_far() > before).then_some(()));
    }

    /// The phase of an app, by its log: what the agent itself says, without any coordinator.
    pub fn phase(&self, app: &str) -> Option<String> {
        let of_app = format!("app={app} from=");
        let log = self.log();
        let line = log.lines().rfind(|line| line.contains(&of_app))?;
        Some(line.rsplit_once(" phase=")?.1.split(' ').next()?.to_owned())
    }

    /// Waits until the app is in this phase.
    #[track_caller]
    pub fn in_phase(&self, app: &str, phase: &str) {
        until(&format!("{app} is {phase} on {}", self.host.name), Duration::from_secs(60), || {
            (self.phase(app)? == phase).then_some(())
        });
    }
}
