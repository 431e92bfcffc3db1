//! What is done to the host when it is struck, and what must be true of it at once.

use std::process::Command;
use std::time::{Duration, Instant};

use windlass_agent::held;
use windlass_agent::layout::Layout;
use windlass_agent::link;
use windlass_proto::phase::Phase;
use windlass_tests::http::get;
use windlass_tests::programs::agent_with_failpoints;
use windlass_tests::properties::Properties;
use windlass_tests::run::run;
use windlass_tests::wait::pass;

use super::{Field, PROPERTIES, tail, write_boot_id};
use crate::story::Runtime;
use crate::strike::How;

impl Field {
    /// Does to the host what is to be done at this point, and says what is wrong at once.
    pub(super) fn strike(&mut self, how: How, properties: &Properties<'_>) -> Vec<String> {
        if how == How::Kill {
            let violations = self.confirmed_on_no_record(properties);
            self.agent.program.restart();
            return violations.into_iter().collect();
        }
        let disk = self.disk.as_ref().unwrap();
        match how {
            How::Kill => {}
            How::NoBytes => disk.fill(),
            How::NoInodes => disk.fill_inodes(),
            How::ReadOnly => disk.make_read_only(),
            How::PowerCut => {
                disk.fail();
                return self.boot(properties);
            }
            How::Errors => {
                disk.fail();
                self.agent.program.go_on();
                pass(Duration::from_secs(2));
                return self.boot(properties);
            }
        }
        self.agent.program.go_on();
        Vec::new()
    }

    /// Puts a bad disk in order. Until then the host serves what it says, and so does an agent that starts only now.
    pub(super) fn mend(&mut self, how: How, properties: &Properties<'_>) -> Vec<String> {
        match how {
            How::Kill | How::PowerCut | How::Errors => return Vec::new(),
            How::NoBytes | How::NoInodes | How::ReadOnly => {}
        }
        let mut violations = self.serves(properties, how);
        if how == How::ReadOnly {
            violations.extend(self.boot(properties));
        } else {
            self.agent.program.restart();
            violations.extend(self.serves(properties, how));
            self.disk.as_ref().unwrap().make_room();
            // The coordinator shall know of the room at once.
            self.agent.program.restart();
        }
        violations
    }

    /// What is confirmed is served soon, although this has happened.
    fn serves(&self, properties: &Properties<'_>, how: How) -> Vec<String> {
        let since = Instant::now();
        loop {
            let state = properties.state(&self.app.name);
            let confirmed =
                state.and_then(|state| state.confirmed).map(|release| release.version.to_string());
            let says = self.says();
            if says.is_some() && says == confirmed {
                return Vec::new();
            }
            if since.elapsed() > PROPERTIES {
                let said = if confirmed.is_none() { properties.said() } else { String::new() };
                let agent = self.agent_now();
                return vec![format!(
                    "P1: with {how} {says:?} is served and not {confirmed:?} {said}; {agent}"
                )];
            }
            pass(Duration::from_millis(50));
        }
    }

    /// What the agent does, for whoever wants to know why the host is not as it should be: in words, with the end of its log.
    pub(super) fn agent_now(&self) -> String {
        let does = match self.agent.program.state() {
            Some('T') => "stands still",
            Some('Z') | None => "has ended",
            Some(_) => "runs",
        };
        format!("the agent {does}; its log:\n{}", tail(&self.agent.log()))
    }

    /// What the app answers of its version.
    pub(super) fn says(&self) -> Option<String> {
        let host = &self.agent.host;
        match self.runtime {
            Runtime::Process => get(&host.address, self.app.port, "/")?.member("version"),
            Runtime::Static => {
                std::fs::read_to_string(self.agent.host.run_dir().join("web/current/version")).ok()
            }
        }
    }

    /// The power comes back: links first, without an agent, then the agent. Says what is wrong before it starts.
    fn boot(&mut self, properties: &Properties<'_>) -> Vec<String> {
        self.agent.program.kill();
        self.disk.as_ref().unwrap().mount_again();
        write_boot_id(&self.points.path().join("boot-id"), self.deployments);
        // It is a tmpfs.
        let _ = std::fs::remove_dir_all(self.agent.host.run_dir());
        std::fs::create_dir(self.agent.host.run_dir()).unwrap();
        let config = self.agent.host.run_dir().with_file_name("agent.toml");
        run(Command::new(agent_with_failpoints()).args(["restore-links", "--config"]).arg(config)).expect(0);

        let layout = Layout::new(&self.agent.host.state_dir, self.agent.host.run_dir()).unwrap();
        let app = self.app.name.parse().unwrap();
        let mut violations = Vec::new();
        let (current, confirmed) =
            (link::current(&layout, &app).unwrap(), link::confirmed(&layout, &app).unwrap());
        if current != confirmed || (confirmed.is_none() && !self.version.is_empty()) {
            violations.push(format!("P1: at boot {current:?} is current and {confirmed:?} confirmed"));
        }
        violations.extend(self.confirmed_on_no_record(properties));
        for digest in held::digests(&layout, &app) {
            if let Err(error) = held::verify(&layout, &app, &digest) {
                violations.push(format!("P1: {digest} is torn: {error}"));
            }
        }
        self.agent.program.restart();
        violations
    }

    /// The link may be behind the journal, for one of them is written first. It is never ahead: a host that boots by a link to
    /// a release whose confirm is on no record would boot a release on trial.
    fn confirmed_on_no_record(&self, properties: &Properties<'_>) -> Option<String> {
        let state = properties.state(&self.app.name)?;
        let layout = Layout::new(&self.agent.host.state_dir, self.agent.host.run_dir()).unwrap();
        let link = link::confirmed(&layout, &state.app).unwrap()?;
        let on_trial = state.operation.as_ref().is_some_and(|operation| operation.to.digest == link);
        let on_record = state.confirmed.as_ref().is_some_and(|release| release.digest == link);
        let ahead = on_trial && !on_record && !matches!(state.phase(), Phase::Reverting | Phase::Reverted);
        ahead.then(|| {
            format!("P3: in {} the link says that {link} is confirmed, and no record does", state.phase())
        })
    }
}
