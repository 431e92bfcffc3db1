//! The bugs.

/// A wrong step that somebody could take.
#[derive(Debug)]
pub(crate) struct Bug {
    /// In a few words.
    pub(crate) what: &'static str,
    /// Where.
    pub(crate) file: &'static str,
    /// What is there, once.
    pub(crate) right: &'static str,
    /// What is put there instead.
    pub(crate) wrong: &'static str,
    /// Arguments of `cargo test` for those that are to find it.
    pub(crate) tests: &'static [&'static str],
}

/// The pure machine's own tests, which need no processes.
pub(crate) const MACHINE: &[&str] = &["-p", "windlass-release"];
const JOURNAL: &[&str] = &["-p", "windlass-agent", "--lib", "--", "journal"];
const POWER: &[&str] = &["-p", "windlass-tests", "--test", "kills", "--", "without_power"];
const KILLS: &[&str] = &["-p", "windlass-tests", "--test", "kills", "--", "killed_at"];

pub(crate) const BUGS: &[Bug] = &[
    Bug {
        what: "two steps are swapped: a segment is in force before its checkpoint",
        file: "agent/src/journal/mod.rs",
        right: "        self.write(to, FIRST, &record)?;
        self.write(to, 0, &segment::first_block(generation))?;",
        wrong: "        self.write(to, 0, &segment::first_block(generation))?;
        self.write(to, FIRST, &record)?;",
        tests: JOURNAL,
    },
    Bug {
        what: "a torn tail is left in the journal",
        file: "agent/src/journal/mod.rs",
        right: "Some(Damage::TornTail) => journal.cut_tail()?,",
        wrong: "Some(Damage::TornTail) => {}",
        tests: JOURNAL,
    },
    Bug {
        what: "confirmed twice: a confirm that comes while going back counts",
        file: "agent/release/src/orders.rs",
        right: "            Progress::Reverting { .. } => {
                self.reaffirm(epoch)?;",
        wrong: "            Progress::Reverting { .. } => {
                self.reaffirm(epoch)?;
                self.make_permanent()?;",
        tests: MACHINE,
    },
    Bug {
        what: "the undrain is forgotten when a drain is aborted",
        file: "agent/release/src/orders.rs",
        right: "Progress::Draining { .. } => self.undrain(Fault::Policy, reason),",
        wrong: "Progress::Draining { .. } => self.end(Progress::Failed, Outcome::Failed),",
        tests: MACHINE,
    },
    Bug {
        what: "a connection from before the switch confirms",
        file: "agent/release/src/orders.rs",
        right: "self.operation()?.switched_at.is_none_or(|switched_at| opened_at < switched_at)",
        wrong: "self.operation()?.switched_at.is_none_or(|_| opened_at < BootTime(0))",
        tests: MACHINE,
    },
    Bug {
        what: "the counter's floor is not raised",
        file: "agent/release/src/orders.rs",
        right: "self.state.counter = self.state.counter.max(counter);",
        wrong: "let _ = counter;",
        tests: MACHINE,
    },
    Bug {
        what: "a coordinator whose time is over is obeyed",
        file: "agent/release/src/orders.rs",
        right: "if epoch < highest {",
        wrong: "if epoch < highest.min(0) {",
        tests: MACHINE,
    },
    Bug {
        what: "a permit that is over counts",
        file: "agent/release/src/orders.rs",
        right: "if self.now.boot >= expires {",
        wrong: "if expires == BootTime(0) {",
        tests: MACHINE,
    },
    Bug {
        what: "a drained host without contact goes on",
        file: "agent/release/src/forward.rs",
        right: "if self.now.boot < contact_by || self.now.in_contact() {",
        wrong: "if self.now.boot < contact_by || !self.now.in_contact() || self.now.in_contact() {",
        tests: MACHINE,
    },
    Bug {
        what: "the way back leads to the release before the confirmed one",
        file: "agent/release/src/back.rs",
        right: "        self.revert_to(RevertStep::Switching);
        let to = self.state.confirmed.clone();",
        wrong: "        self.revert_to(RevertStep::Switching);
        let to = self.state.history.first().or(self.state.confirmed.as_ref()).cloned();",
        tests: MACHINE,
    },
    Bug {
        what: "a release that failed stays in traffic while it goes",
        file: "agent/release/src/back.rs",
        right: "        self.ask(Effect::Withdraw);
        self.freeze_evidence();
        self.ask_revert_stop();",
        wrong: "        self.freeze_evidence();
        self.ask_revert_stop();",
        tests: MACHINE,
    },
    Bug {
        what: "after a reboot a trial goes on",
        file: "agent/release/src/recover.rs",
        right: "if !same_boot {",
        wrong: "if !same_boot && self.state.operation.is_none() {",
        tests: MACHINE,
    },
    Bug {
        what: "what a crash kept running in quarantine runs on",
        file: "agent/release/src/recover.rs",
        right: "                self.ask(Effect::WriteConfirmed { release: self.state.confirmed.clone() });
                self.take_out_of_service();",
        wrong: "                self.ask(Effect::WriteConfirmed { release: self.state.confirmed.clone() });",
        tests: MACHINE,
    },
    Bug {
        what: "crashes in the watch window are not counted",
        file: "agent/release/src/supervise.rs",
        right: "self.is_watched() && self.state.restarts >= EXITS_IN_WATCH",
        wrong: "self.is_watched() && self.state.restarts >= EXITS_IN_WATCH.saturating_mul(1000)",
        tests: MACHINE,
    },
    Bug {
        what: "retention takes the way back",
        file: "agent/src/retain.rs",
        right: "stays.extend(current.into_iter().chain(confirmed).chain(before));",
        wrong: "stays.extend(current.into_iter().chain(confirmed)); let _ = before;",
        tests: &["-p", "windlass-agent", "--lib", "--", "retain"],
    },
    Bug {
        what: "a damaged journal's floor is believed",
        file: "agent/src/recover.rs",
        right: "left.state.counter.max(floor).max(here.unwrap_or(0))",
        wrong: "left.state.counter; let _ = (floor, here)",
        tests: &["-p", "windlass-agent", "--lib", "--", "recover"],
    },
    Bug {
        what: "the ballast is never given up",
        file: "agent/src/ballast.rs",
        right: "        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            std::fs::remove_file(layout.ballast())?;",
        wrong: "        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            std::fs::remove_file(layout.ballast())?;",
        tests: &["-p", "windlass-agent", "--lib", "--", "ballast"],
    },
    Bug {
        what: "a release is staged without syncfs",
        file: "agent/src/staging/stage.rs",
        right: "durable::sync_filesystem(&staging).map_err(io_error(\"sync\", &staging))?;",
        wrong: "",
        tests: POWER,
    },
    Bug {
        what: "the journal does not sync its records",
        file: "agent/src/journal/mod.rs",
        right: "written.and_then(|()| file.sync_data())",
        wrong: "written",
        tests: POWER,
    },
    Bug {
        what: "two steps are swapped: confirmed link before its record",
        file: "agent/src/driver/mod.rs",
        right: "        let ledger = &mut self.ledger;",
        wrong: "        let early = next.effects.clone();
        let host = std::sync::Arc::clone(&self.yard.host);
        for effect in &early {
            if let Effect::WriteConfirmed { release } = effect {
                let _ = tokio::task::block_in_place(|| host.point_confirmed(name, release.as_ref()));
                failpoint::before(effect.name());
            }
        }
        let ledger = &mut self.ledger;",
        tests: KILLS,
    },
];
