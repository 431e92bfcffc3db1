//! The chapters. Each does something and then checks from the outside that it came out as promised.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use windlass_proto::rpc::{Phase, Rollout, RolloutRequest};

use super::narrator::Narrator;
use super::outside::{Answer, Windlass, ask};
use super::spec::{APP, Release, write};
use crate::dev::place::Place;
use crate::dev::programs::Programs;
use crate::dev::record::FleetRecord;
use crate::dev::wait::until;
use crate::dev::{connect, up};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::output::Output;

const HOSTS: u32 = 5;
/// Longest wait for one thing to come about; what is waited for takes a few seconds each.
const SOON: Duration = Duration::from_secs(40);
/// States in which a rollout no longer changes.
const ENDED: [&str; 9] = [
    "Succeeded",
    "RolledBack",
    "RollbackFailed",
    "Failed",
    "Rejected",
    "Denied",
    "Expired",
    "Cancelled",
    "Superseded",
];

/// The story and what it needs.
#[derive(Debug, Clone)]
pub struct Story {
    /// The fleet's directory.
    pub place: Place,
    /// The programs.
    pub programs: Programs,
    /// Where the app's spec and files go.
    pub app_dir: PathBuf,
    /// Says what happens.
    pub narrator: Narrator,
    /// For the fleet's own talk.
    pub out: Output,
}

/// What every host's app says, by host.
type Answers = BTreeMap<String, Answer>;

impl Story {
    /// Tells it all; an error is a promise that was not kept.
    pub async fn tell(self) -> Result<()> {
        let tale = &self.narrator;
        tale.chapter("1. A coordinator starts, and five hosts enrol with single-use join tokens");
        let fleet = up(&self.place, Some(HOSTS), &self.programs, &self.out).await?;
        let hosts: Vec<(String, String)> =
            fleet.hosts.iter().map(|h| (h.name.clone(), h.address.clone())).collect();
        let cli = Windlass {
            program: self.programs.windlass.clone(),
            config: self.place.config(),
            narrator: self.narrator,
        };
        self.expect(&cli, &["host", "list"], Exit::Done).await?;
        let told = Told { port: free_port(&hosts)?, story: &self, cli, hosts };
        told.first_release().await?;
        told.next_release_in_batches().await?;
        told.release_that_fails().await?;
        told.coordinator_dies().await?;
        tale.chapter(&format!("All of it came out as promised, in {:.1} s", tale.seconds()));
        Ok(())
    }

    async fn expect(&self, cli: &Windlass, args: &[&str], exit: Exit) -> Result<String> {
        let ended = cli.run(args).await?;
        if ended.code == i32::from(exit.code()) {
            return Ok(ended.stdout);
        }
        let what =
            format!("windlass {} ended with {} instead of {}", args.join(" "), ended.code, exit.code());
        Err(ExpectedError::failed(what))
    }
}

/// The story once the fleet is there.
struct Told<'a> {
    story: &'a Story,
    cli: Windlass,
    hosts: Vec<(String, String)>,
    port: u16,
}

impl Told<'_> {
    async fn first_release(&self) -> Result<()> {
        self.story.narrator.chapter("2. The first release: built, signed, pushed, rolled out");
        self.deploy("1.0.0", false, "500ms", Exit::Done).await?;
        self.all_serve("1.0.0").await.map(drop)
    }

    async fn next_release_in_batches(&self) -> Result<()> {
        self.story.narrator.chapter("3. Version 2.0.0 in batches of one, two and two hosts");
        self.deploy("2.0.0", false, "500ms", Exit::Done).await?;
        self.all_serve("2.0.0").await.map(drop)
    }

    async fn release_that_fails(&self) -> Result<()> {
        let tale = &self.story.narrator;
        tale.chapter("4. Version 3.0.0 never becomes healthy: its hosts go back by themselves, the others are not touched");
        let before = self.all_serve("2.0.0").await?;
        self.deploy("3.0.0", true, "500ms", Exit::RolloutFailed).await?;
        tale.checked("the command ended with 3: the rollout failed, the fleet is on the former release");
        let after = self.all_serve("2.0.0").await?;
        let moved: Vec<&String> =
            before.keys().filter(|host| before.get(*host) != after.get(*host)).collect();
        if moved.len() > 1 {
            return Err(broken(format!("more than the first batch was touched: {moved:?}")));
        }
        tale.checked(&format!(
            "{} of {} hosts were never touched: same process as before",
            5 - moved.len(),
            HOSTS
        ));
        let rollout = self.newest_rollout().await?;
        let why = self.cli.run_briefly(&["why", &rollout.id], 6).await?;
        if why.code != 0 || !why.stdout.contains("startup") {
            return Err(broken("windlass why does not name the failed probe".into()));
        }
        Ok(())
    }

    async fn coordinator_dies(&self) -> Result<()> {
        let tale = &self.story.narrator;
        tale.chapter("5. Version 4.0.0, and the coordinator is killed while the second batch is on trial");
        let before = self.all_serve("2.0.0").await?;
        self.write(false, "2s")?;
        let dir = self.story.app_dir.join("windlass.yaml").display().to_string();
        let args = ["deploy", "-f", &dir, "--version", "4.0.0", "--yes", "--detach"];
        self.story.expect(&self.cli, &args, Exit::Done).await?;
        let rollout = self.second_batch_is_verifying().await?;
        let fleet = FleetRecord::read_existing(&self.story.place)?;
        let coordinator =
            fleet.coordinator.process().ok_or_else(|| broken("the coordinator has ended".into()))?;
        coordinator.signal(Signal::SIGKILL);
        if !coordinator.ends_within(Duration::from_secs(5)).await {
            return Err(broken("the coordinator survived SIGKILL".into()));
        }
        tale.say(&format!("kill -9 {}: the coordinator is gone", coordinator.pid));

        let (confirmed, on_trial) = batches(&rollout)?;
        let still = self.serving("4.0.0", &confirmed).await?;
        tale.checked(&format!("{} serves 4.0.0, confirmed", confirmed.join(", ")));
        self.serving("4.0.0", &on_trial).await?;
        tale.checked(&format!(
            "{} serve 4.0.0, unconfirmed: nobody is there to confirm them",
            on_trial.join(", ")
        ));
        self.serving("2.0.0", &on_trial).await?;
        tale.checked(&format!("{} went back to 2.0.0 by themselves", on_trial.join(", ")));
        if self.serving("4.0.0", &confirmed).await? != still {
            return Err(broken(format!("{} moved without a coordinator", confirmed.join(", "))));
        }
        tale.checked(&format!("{} did not move: same process, still 4.0.0", confirmed.join(", ")));
        for (host, address) in
            self.hosts.iter().filter(|(h, _)| !confirmed.contains(h) && !on_trial.contains(h))
        {
            if ask(address, self.port).await.as_ref() != before.get(host) {
                return Err(broken(format!("{host} moved, though its batch had not begun")));
            }
        }

        tale.chapter(
            "6. The coordinator starts again, hears what its hosts did, and the rollout is finished",
        );
        up(&self.story.place, None, &self.story.programs, &self.story.out).await?;
        self.finish(&rollout.id).await?;
        self.all_serve("4.0.0").await?;
        self.attested("4.0.0").await
    }

    /// Follows the rollout to its end. Where losing the coordinator ended it as failed, it is ordered again.
    async fn finish(&self, id: &str) -> Result<()> {
        let mut id = id.to_owned();
        for _ in 0..3 {
            let ended = self.cli.run(&["rollout", "watch", &id]).await?;
            let rollout = self.rollout(&id).await?;
            if rollout.state == "Succeeded" {
                return Ok(());
            }
            if !ENDED.contains(&rollout.state.as_str()) {
                let what =
                    format!("rollout {id} is {} and watching it ended with {}", rollout.state, ended.code);
                return Err(broken(what).cause(rollout.waiting_for));
            }
            self.story.narrator.say(&format!("rollout {id} ended as {}: {}", rollout.state, rollout.failure));
            let again = self.cli.run(&["rollout", "retry", &id]).await?;
            id = self.newest_rollout().await?.id;
            if again.code == 0 && self.rollout(&id).await?.state == "Succeeded" {
                return Ok(());
            }
        }
        Err(broken(format!("rollout {id} did not succeed, though it was tried again")))
    }

    fn write(&self, broken: bool, min_healthy_time: &str) -> Result<()> {
        let program = &self.story.programs.windlass;
        write(&self.story.app_dir, &Release { program, port: self.port, broken, min_healthy_time })
    }

    async fn deploy(&self, version: &str, broken: bool, min_healthy_time: &str, exit: Exit) -> Result<()> {
        self.write(broken, min_healthy_time)?;
        let file = self.story.app_dir.join("windlass.yaml").display().to_string();
        let args = ["deploy", "-f", &file, "--version", version, "--yes"];
        self.story.expect(&self.cli, &args, exit).await.map(drop)
    }

    /// Asks every host's app until all say `version`.
    async fn all_serve(&self, version: &str) -> Result<Answers> {
        let all: Vec<String> = self.hosts.iter().map(|(name, _)| name.clone()).collect();
        let answers = self.serving(version, &all).await?;
        self.story.narrator.checked(&format!("HTTP: all {HOSTS} hosts serve {version}"));
        Ok(answers)
    }

    async fn serving(&self, version: &str, names: &[String]) -> Result<Answers> {
        let mut last = BTreeMap::new();
        let all = until(SOON, async || {
            for (name, address) in self.hosts.iter().filter(|(name, _)| names.contains(name)) {
                match ask(address, self.port).await {
                    Some(answer) => last.insert(name.clone(), answer),
                    None => last.remove(name),
                };
            }
            let done = last.len() == names.len() && last.values().all(|answer| answer.version == version);
            done.then(|| last.clone())
        });
        all.await.ok_or_else(|| {
            broken(format!("{} do not all serve {version}; they say {last:?}", names.join(", ")))
        })
    }

    /// `windlass versions` attests the same.
    async fn attested(&self, version: &str) -> Result<()> {
        let versions = self.cli.json(&["versions", APP, "-o", "json"]).await?;
        let rows = versions["rows"].as_array().cloned().unwrap_or_default();
        let good = |row: &&serde_json::Value| row["version"] == version && row["attested"]["ok"] == true;
        if rows.len() != HOSTS as usize || rows.iter().filter(good).count() != rows.len() {
            return Err(broken(format!("windlass versions does not attest {version} on all hosts"))
                .cause(versions.to_string()));
        }
        self.story.expect(&self.cli, &["versions", APP], Exit::Done).await?;
        self.story.narrator.checked("windlass versions attests it, host by host, from the running processes");
        Ok(())
    }

    /// Waits for the moment at which the second batch runs the new release and is not yet on trial.
    async fn second_batch_is_verifying(&self) -> Result<Rollout> {
        let mut client = connect(&self.story.place).await?;
        let id = self.newest_rollout().await?.id;
        let mut last = String::new();
        let caught = until(SOON, async || {
            let rollout = client.rollouts.get(RolloutRequest { id: id.clone(), ..Default::default() }).await;
            let rollout = client.received(rollout.ok()?);
            let phases: Vec<Phase> = rollout
                .batches
                .get(1)?
                .hosts
                .iter()
                .filter_map(|name| rollout.hosts.iter().find(|host| host.host == *name))
                .map(|host| host.phase())
                .collect();
            last = format!("{phases:?}");
            let past = phases.iter().any(|p| matches!(p, Phase::Trial | Phase::Confirmed | Phase::Reverted));
            let there = phases.iter().all(|phase| *phase == Phase::Verifying);
            (there || past || ENDED.contains(&rollout.state.as_str())).then_some((there && !past, rollout))
        });
        match caught.await {
            Some((true, rollout)) => {
                self.story.narrator.say("the second batch runs 4.0.0 and is being verified");
                Ok(rollout)
            }
            Some((false, rollout)) => Err(broken(format!(
                "rollout {} got past the moment of the kill: {}",
                rollout.id, rollout.state
            ))),
            None => Err(broken(format!("the second batch never came to be verified; its phases: {last}"))),
        }
    }

    async fn newest_rollout(&self) -> Result<Rollout> {
        let list = self.cli.json(&["rollout", "list", "-o", "json"]).await?;
        let newest = list["rollouts"]
            .as_array()
            .and_then(|all| all.iter().max_by_key(|r| r["started_at"].to_string()));
        let id = newest.and_then(|r| r["id"].as_str()).ok_or_else(|| broken("there is no rollout".into()))?;
        self.rollout(id).await
    }

    async fn rollout(&self, id: &str) -> Result<Rollout> {
        let mut client = connect(&self.story.place).await?;
        let request = RolloutRequest { id: id.to_owned(), ..Default::default() };
        let answer = client.rollouts.get(request).await;
        answer
            .map(|rollout| client.received(rollout))
            .map_err(|status| client.failure(&format!("cannot show rollout {id}"), &status))
    }
}

/// The hosts of the first and of the second batch.
fn batches(rollout: &Rollout) -> Result<(Vec<String>, Vec<String>)> {
    match rollout.batches.as_slice() {
        [first, second, ..] => Ok((first.hosts.clone(), second.hosts.clone())),
        _ => Err(broken(format!("rollout {} has no second batch", rollout.id))),
    }
}

fn broken(what: String) -> ExpectedError {
    ExpectedError::failed(format!("a promise was not kept: {what}"))
}

/// A port that is free on every host's address.
fn free_port(hosts: &[(String, String)]) -> Result<u16> {
    for _ in 0..50 {
        let Some(port) = hosts
            .first()
            .and_then(|(_, address)| TcpListener::bind((address.as_str(), 0)).ok())
            .and_then(|listener| listener.local_addr().ok())
            .map(|bound| bound.port())
        else {
            break;
        };
        if hosts.iter().all(|(_, address)| TcpListener::bind((address.as_str(), port)).is_ok()) {
            return Ok(port);
        }
    }
    Err(ExpectedError::failed("cannot find a port that is free on 127.0.1.1 and its neighbours"))
}
