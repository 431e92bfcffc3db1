//! Grants: leave of authors to use an earlier release. They are kept until they end and go along with the orders that need them.
//!
//! Nothing is believed of them here. Hosts say what they have seen and whose signatures they believe, so that it can be foreseen
//! what they will say to an order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use windlass_proto::bundle::{AuthorPublicKey, Signed, Trust};
use windlass_proto::digest::Digest;
use windlass_proto::grant::{Denied, Grant, Past, Presented};
use windlass_proto::id::{AppName, FleetName, HostName, OpId, RolloutId};
use windlass_proto::release::ReleaseRef;
use windlass_proto::rpc::{self, ErrorKind, InvalidField};
use windlass_proto::time::Span;
use windlass_rollout::Event;
use windlass_rollout::grants::foreseen;

use super::log::event;
use super::record::{Authors, GrantRecord};
use super::{Fleet, Host, Refusal, persist};
use crate::log::chain;

/// Grants kept of one app.
const GRANTS: usize = 16;

/// A grant that ends sooner is not counted on: a host's clock may be ahead, and an order takes time.
const ENDS_SOON: Span = Span::secs(60);

/// Author keys of one host.
const KEYS: usize = 64;

impl TryFrom<rpc::Authors> for Authors {
    type Error = InvalidField;

    fn try_from(wire: rpc::Authors) -> Result<Self, InvalidField> {
        if wire.keys.len() > KEYS {
            return Err(InvalidField::new(
                "keys",
                format!("{} are too many: at most {KEYS}", wire.keys.len()),
            ));
        }
        let authors = Self { keys: wire.keys, threshold: wire.threshold };
        authors.trust().map_err(|error| InvalidField::new("keys", error))?;
        Ok(authors)
    }
}

impl Authors {
    /// What the host's own check works with.
    fn trust(&self) -> Result<Trust, String> {
        let keys = self.keys.iter().map(|key| key.parse::<AuthorPublicKey>());
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let threshold = usize::try_from(self.threshold).unwrap_or(usize::MAX);
        Trust::new(keys, threshold).map_err(|error| error.to_string())
    }

    /// Whether a host with these authors believes a grant.
    fn believe(&self, envelope: &str) -> Result<Grant, String> {
        let signed = Signed::<Grant>::decode(envelope.as_bytes()).map_err(|error| chain(&error))?;
        let verified = signed.verify(&self.trust()?).map_err(|error| chain(&error))?;
        Ok(verified.into_statement())
    }
}

impl Host {
    /// What the host remembers of an app, as far as it has said so: an app that it never had is remembered by nothing.
    pub(super) fn past(&self, app: &AppName) -> Option<Past> {
        self.statuses.get(app).map_or_else(|| Some(Past::default()), |status| status.past.clone())
    }
}

impl Fleet {
    /// Keeps a signed grant. The same again changes nothing; of too many of one app, the one that ends first goes.
    pub fn add_grant(&mut self, who: &str, envelope: &[u8]) -> Result<GrantRecord, Refusal> {
        let record = self.open_grant(who, envelope)?;
        let key = Digest::of(record.envelope.as_bytes());
        if let Some(known) = self.grants.get(&key) {
            return Ok(known.clone());
        }
        let now = self.now;
        let over = self.grants.iter().filter(|(_, known)| known.grant.until <= now);
        let mut gone: Vec<Digest> = over.map(|(key, _)| *key).collect();
        let app = &record.grant.app;
        let mut own: Vec<_> = self
            .grants
            .iter()
            .filter(|(_, known)| known.grant.app == *app && known.grant.until > now)
            .map(|(key, known)| (known.grant.until, *key))
            .collect();
        own.sort_unstable();
        let excess = (own.len() + 1).saturating_sub(GRANTS);
        gone.extend(own.into_iter().take(excess).map(|(_, key)| key));
        for key in gone {
            self.grants.remove(&key);
            self.changes.delete(persist::grant_key(&key));
        }
        let message = format!(
            "{}, on hosts that have seen counters up to {}, signed by {}",
            record.release,
            record.grant.up_to,
            record.key_ids.join(", ")
        );
        let mut entry = event("grant.pushed", who, message);
        entry.app = app.to_string();
        self.changes.put(persist::grant_key(&key), &record);
        self.grants.insert(key, record.clone());
        self.log(entry);
        Ok(record)
    }

    fn open_grant(&self, who: &str, envelope: &[u8]) -> Result<GrantRecord, Refusal> {
        let signed = Signed::<Grant>::decode(envelope)
            .map_err(|error| Refusal::invalid(format!("not a signed grant: {}", chain(&error))))?;
        let grant = signed.unverified().map_err(|error| Refusal::invalid(chain(&error)))?;
        let key_ids: Vec<_> = signed.key_ids().iter().map(ToString::to_string).collect();
        if key_ids.is_empty() {
            return Err(Refusal::invalid(
                "the grant is not signed; sign it with `windlass bundle sign FILE`",
            ));
        }
        if grant.fleet.as_str() != self.name {
            let message = format!("the grant is for fleet {}, and this is {}", grant.fleet, self.name);
            return Err(Refusal::invalid(message));
        }
        let release = self.bundle(&grant.digest).map(|bundle| bundle.release.clone());
        let release = release.filter(|release| release.app == grant.app).ok_or_else(|| {
            let release = grant.digest.short();
            let message =
                format!("the grant is for {} {release}, which is not stored here; push it first", grant.app);
            Refusal::new(ErrorKind::NotFound, message)
        })?;
        if grant.until <= self.now.after(ENDS_SOON) {
            let message = format!(
                "the grant of {release} ends within {ENDS_SOON}, or is over; make one that lasts longer"
            );
            return Err(Refusal::invalid(message));
        }
        let envelope = String::from_utf8_lossy(&signed.encode()).into_owned();
        Ok(GrantRecord { grant, release, envelope, key_ids, pushed_at: self.now, pushed_by: who.to_owned() })
    }

    fn grants_of<'a>(&'a self, to: &ReleaseRef) -> impl Iterator<Item = &'a GrantRecord> + use<'a> {
        let to = to.clone();
        self.grants.values().filter(move |known| known.grant.app == to.app && known.grant.digest == to.digest)
    }

    /// Grants of a release as a host with these authors would see them. In the order of [`Self::grants_of`].
    fn present(&self, authors: Option<&Authors>, to: &ReleaseRef) -> Arc<[Presented]> {
        // Names of fleets are checked where a fleet is made.
        let Ok(fleet) = FleetName::new(self.name.as_str()) else { return Arc::default() };
        let at = self.now.after(ENDS_SOON);
        let presented = self.grants_of(to).map(|record| Presented {
            fleet: fleet.clone(),
            at,
            grant: match authors {
                Some(authors) => authors.believe(&record.envelope),
                None => Err("the host has not said whose signatures it believes".to_owned()),
            },
        });
        presented.collect()
    }

    /// The same for all hosts; those with the same authors share the work.
    pub(super) fn offered(&self, to: &ReleaseRef) -> impl FnMut(&Host) -> Arc<[Presented]> {
        let mut known: BTreeMap<Option<Authors>, Arc<[Presented]>> = BTreeMap::new();
        let any = self.grants_of(to).next().is_some();
        move |host| {
            if !any {
                return Arc::default();
            }
            let authors = &host.record.authors;
            Arc::clone(known.entry(authors.clone()).or_insert_with(|| self.present(authors.as_ref(), to)))
        }
    }

    /// What has to go along with an order so that the host takes it, or why nothing lets it.
    fn grant_for(&self, host: &Host, to: &ReleaseRef, rollback: bool) -> Result<Vec<u8>, Box<Denied>> {
        let Some(past) = host.past(&to.app) else { return Ok(Vec::new()) };
        if past.may_take(to, rollback, None).is_ok() {
            return Ok(Vec::new());
        }
        let chosen = past.choose(to, rollback, &self.present(host.record.authors.as_ref(), to))?;
        let record = chosen.and_then(|at| self.grants_of(to).nth(at));
        Ok(record.map(|record| record.envelope.clone().into_bytes()).unwrap_or_default())
    }

    /// The grant for an order of a rollout; or what the rollout is told where the host would refuse the order. One that the
    /// rollout cannot do without is asked all the same.
    pub(super) fn grant_of(
        &self,
        id: &RolloutId,
        name: &HostName,
        op: &OpId,
        to: &ReleaseRef,
        rollback: bool,
    ) -> Result<Vec<u8>, Box<Event>> {
        let Ok(host) = self.host(name.as_str()) else { return Ok(Vec::new()) };
        let part = self.rollouts.get(id).and_then(|entry| entry.rollout.hosts.get(name));
        match self.grant_for(host, to, rollback) {
            Ok(grant) => Ok(grant),
            Err(_) if part.is_none_or(|part| !part.may_be_left_out()) => Ok(Vec::new()),
            Err(denied) => {
                let why = format!("{}, then `windlass rollout retry {id}`", foreseen(&denied));
                Err(Box::new(Event::Declined { host: name.clone(), op: op.clone(), why }))
            }
        }
    }

    /// What a grant of a release has to say for these hosts; `None`: for all that would refuse a rollback to it.
    pub fn grant_terms(&self, to: &ReleaseRef, hosts: Option<&[HostName]>) -> rpc::GrantTerms {
        let refuses = |host: &&Host| match hosts {
            Some(named) => named.contains(&host.record.name),
            None => host.past(&to.app).is_some_and(|past| past.may_take(to, true, None).is_err()),
        };
        let refusing: Vec<&Host> = self.hosts().filter(refuses).collect();
        let seen =
            self.hosts().filter_map(|host| host.past(&to.app)).map(|past| past.seen).max().unwrap_or(0);
        // A host's word alone makes no author sign for more than there is: a grant up to any number would be good for ever.
        let highest = self.bundles(Some(&to.app)).last().map_or(0, |bundle| bundle.release.counter);
        let asked: Vec<&Host> = if refusing.is_empty() { self.hosts().collect() } else { refusing.clone() };
        let authors: BTreeSet<&Authors> =
            asked.into_iter().filter_map(|host| host.record.authors.as_ref()).collect();
        rpc::GrantTerms {
            fleet: self.name.clone(),
            release: Some(to.into()),
            up_to: seen.min(highest).max(to.counter),
            hosts: refusing.iter().map(|host| host.record.name.to_string()).collect(),
            authors: authors
                .into_iter()
                .map(|authors| rpc::Authors { keys: authors.keys.clone(), threshold: authors.threshold })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use windlass_proto::bundle::AuthorKey;
    use windlass_proto::fence::{Fence, LeaderId};
    use windlass_proto::grant::GRANT_FORMAT;
    use windlass_proto::id::{Environment, HostId};
    use windlass_proto::phase::{AppStatus, Outcome};
    use windlass_proto::rpc::coordinator_message::Kind;
    use windlass_proto::time::Timestamp;
    use windlass_rollout::Releases;

    use super::super::record::{BundleRecord, EnvironmentRecord};
    use super::super::{Enrolment, Greeting, OrderText, SILENT_AFTER};
    use super::*;

    const SPEC: &str = r#"{"targets":{"selector":"role=app"},"strategy":{"max_unavailable":"100%"}}"#;

    fn release(n: u8) -> ReleaseRef {
        ReleaseRef {
            app: "shop".parse().unwrap(),
            version: format!("{n}.0").parse().unwrap(),
            digest: Digest::from_bytes([n; 32]),
            counter: n.into(),
        }
    }

    fn id(n: u64) -> HostId {
        format!("id-{n}").parse().unwrap()
    }

    struct World {
        fleet: Fleet,
        author: AuthorKey,
        receivers: Vec<mpsc::Receiver<rpc::CoordinatorMessage>>,
    }

    impl World {
        /// Releases 1 to 3 were stable; the fleet is on the last.
        fn new() -> Self {
            let fence = Fence { epoch: 1, leader: LeaderId([1; 16]) };
            let mut fleet = Fleet::new("test".into(), fence, Timestamp(1_000_000));
            let good = vec![release(1), release(2), release(3)];
            for release in &good {
                let record = BundleRecord {
                    release: release.clone(),
                    spec: serde_json::from_str(r#"{"runtime":{"kind":"static"}}"#).unwrap(),
                    files: 1,
                    bytes: 1,
                    chunks: 1,
                    stored_bytes: 1,
                    key_ids: vec![],
                    pushed_at: fleet.now,
                    pushed_by: String::new(),
                };
                fleet.add_bundle(record).unwrap();
            }
            let succeeded = good.iter().map(|release| release.digest).collect();
            let releases = Releases { good, succeeded };
            let record = EnvironmentRecord { revision: 3, releases };
            fleet.keep_environment(&release(1).app, &Environment::default(), record);
            Self { fleet, author: AuthorKey::generate().unwrap(), receivers: vec![] }
        }

        /// A host on release 3 that remembers these besides, and says so in a new session.
        fn host(&mut self, n: u64, history: &[u8]) {
            if !self.fleet.hosts.contains_key(&id(n)) {
                let token = (format!("t{n}"), Digest::of(&n.to_le_bytes()));
                let labels = BTreeMap::from([("role".to_owned(), "app".to_owned())]);
                self.fleet.create_token("operator/ana", token.clone(), labels.clone(), None, None).unwrap();
                let enrolment = Enrolment {
                    name: format!("host-{n}").parse().unwrap(),
                    key: Digest::of(&n.to_be_bytes()),
                    address: "127.0.0.1".into(),
                    labels,
                    token: Some(token),
                };
                self.fleet.enrol(enrolment, id(n)).unwrap();
            }
            let confirmed = [3].iter().chain(history).map(|n| release(*n).digest.to_string()).collect();
            let status = rpc::AppStatus {
                app: "shop".into(),
                seq: 1,
                phase: rpc::Phase::Confirmed.into(),
                current: Some(release(3).into()),
                confirmed: Some(release(3).into()),
                past: Some(rpc::Past { seen: 3, confirmed }),
                ..Default::default()
            };
            let (sender, receiver) = mpsc::channel(64);
            let keys = vec![self.author.public().to_string()];
            let greeting = Greeting {
                agent_version: "1".into(),
                address: "127.0.0.1".into(),
                facts: None,
                features: None,
                apps: vec![AppStatus::try_from(status).unwrap()],
                authors: Some(Authors { keys, threshold: 1 }),
            };
            self.fleet.connect(&id(n), 1, sender, greeting).unwrap();
            self.receivers.push(receiver);
        }

        fn signed(&self, change: impl FnOnce(&mut Grant), keys: &[&AuthorKey]) -> Vec<u8> {
            let mut grant = Grant {
                format: GRANT_FORMAT,
                fleet: "test".parse().unwrap(),
                app: release(2).app,
                digest: release(2).digest,
                up_to: 3,
                until: self.fleet.now.after(Span::secs(3600)),
            };
            change(&mut grant);
            let mut signed = Signed::new(&grant);
            keys.iter().for_each(|key| signed.sign(key));
            signed.encode()
        }

        fn grant(&mut self) -> Vec<u8> {
            let envelope = self.signed(|_| {}, &[&self.author]);
            self.fleet.add_grant("operator/ana", &envelope).unwrap();
            envelope
        }

        fn roll_back(&mut self, id: &str) -> Result<(), Refusal> {
            let (app, target) = ("shop".into(), "2.0".into());
            let order =
                OrderText { app, target, spec_json: SPEC.into(), rollback: true, ..OrderText::default() };
            self.fleet.start("operator/ana", &order, "", "", id.parse().unwrap(), None).map(|_| ())
        }

        /// Orders since the last look: to whom, and the grant that goes along.
        fn assigned(&mut self) -> Vec<(HostId, Vec<u8>)> {
            let (_, outbox) = self.fleet.take_changes();
            let assigned = outbox.sends.into_iter().filter_map(|(host, kind)| match kind {
                Kind::Assign(assign) => Some((host, assign.grant)),
                _ => None,
            });
            assigned.collect()
        }
    }

    #[test]
    fn a_host_gets_the_grant_that_it_needs_with_its_order() {
        let mut world = World::new();
        world.host(1, &[2, 1]);
        world.host(2, &[1]);
        let refused = world.roll_back("r-1").unwrap_err();
        assert_eq!(refused.kind, ErrorKind::GrantNeeded, "{refused}");
        let words = refused.message;
        assert!(
            words.starts_with("host-2: would") && words.contains("windlass bundle grant shop 2.0"),
            "{words}"
        );
        assert_eq!(world.assigned(), []);

        // One that too few of the host's authors signed is foreseen to be refused.
        let foreign = AuthorKey::generate().unwrap();
        let envelope = world.signed(|_| {}, &[&foreign]);
        world.fleet.add_grant("operator/ana", &envelope).unwrap();
        let refused = world.roll_back("r-1").unwrap_err();
        assert!(refused.message.contains("no trusted author key"), "{refused}");

        let envelope = world.grant();
        world.roll_back("r-1").unwrap();
        assert_eq!(world.assigned(), [(id(1), vec![]), (id(2), envelope)]);
    }

    #[test]
    fn terms_name_who_would_refuse_and_no_host_talks_an_author_into_more_than_there_is() {
        let mut world = World::new();
        world.host(1, &[2, 1]);
        world.host(2, &[1]);
        let terms = world.fleet.grant_terms(&release(2), None);
        assert_eq!(
            (terms.fleet.as_str(), terms.up_to, &terms.hosts[..]),
            ("test", 3, &["host-2".to_owned()][..])
        );
        let keys = vec![world.author.public().to_string()];
        assert_eq!(terms.authors, [rpc::Authors { keys, threshold: 1 }]);
        let status = world.fleet.hosts.get_mut(&id(2)).unwrap().statuses.values_mut().next().unwrap();
        status.past = Some(Past { seen: u64::MAX, confirmed: vec![] });
        assert_eq!(world.fleet.grant_terms(&release(2), None).up_to, 3);
        world.grant();
        let refused = world.roll_back("r-1").unwrap_err();
        assert!(
            refused.message.contains("host-2") && refused.message.contains("good up to counter 3"),
            "{refused}"
        );
        world.fleet.cordon("operator/ana", "host-2", Some("it lies".into())).unwrap();
        world.roll_back("r-1").unwrap();
    }

    #[test]
    fn a_host_that_returns_follows_under_the_grant_or_is_left_out() {
        for granted in [false, true] {
            let mut world = World::new();
            world.host(2, &[1]);
            world.fleet.now = world.fleet.now.after(SILENT_AFTER).after(Span::secs(1));
            world.host(1, &[2, 1]);
            world.fleet.tick();
            world.roll_back("r-1").unwrap();
            assert_eq!(world.assigned(), [(id(1), vec![])]);
            let envelope = if granted { world.grant() } else { vec![] };
            world.fleet.now = world.fleet.now.after(Span::secs(1));
            world.host(2, &[1]);
            let part = |world: &World| {
                let rollout = world.fleet.rollout("r-1").unwrap();
                rollout.hosts[&"host-2".parse::<HostName>().unwrap()].clone()
            };
            assert_eq!(part(&world).outcome, Some(Outcome::Skipped), "excused when it was planned");
            let rollout = world.fleet.rollout("r-1").unwrap().id.clone();
            let op = part(&world).op.clone();
            let name: HostName = "host-2".parse().unwrap();
            let said = world.fleet.grant_of(&rollout, &name, &op, &release(2), true);
            match said {
                Ok(grant) => assert_eq!((granted, grant), (true, envelope)),
                Err(declined) => {
                    let Event::Declined { host, why, .. } = *declined else { panic!("{declined:?}") };
                    assert_eq!((granted, host), (false, name));
                    assert!(
                        why.contains("bundle grant shop 2.0`, then `windlass rollout retry r-1`"),
                        "{why}"
                    );
                }
            }
        }
    }

    #[test]
    fn grants_are_bounded_and_only_those_that_can_be_used_are_kept() {
        let mut world = World::new();
        let author = AuthorKey::generate().unwrap();
        let soon = world.fleet.now.after(ENDS_SOON);
        let mut refused = |words: &str, change: &dyn Fn(&mut Grant)| {
            let envelope = world.signed(change, &[&author]);
            let refused = world.fleet.add_grant("operator/ana", &envelope).unwrap_err();
            assert!(refused.message.contains(words), "{refused}");
        };
        refused("is for fleet prod, and this is test", &|grant| grant.fleet = "prod".parse().unwrap());
        refused("not stored here", &|grant| grant.digest = release(9).digest);
        refused("not stored here", &|grant| grant.app = "news".parse().unwrap());
        refused("ends within 1m", &|grant| grant.until = soon);
        refused("ends within 1m", &|grant| grant.until = Timestamp(0));
        let unsigned = world.signed(|_| {}, &[]);
        for bytes in [&unsigned[..], b"{}", &vec![b' '; 1 << 20]] {
            assert_eq!(world.fleet.add_grant("operator/ana", bytes).unwrap_err().kind, ErrorKind::Invalid);
        }
        assert!(world.fleet.grants.is_empty());

        let now = world.fleet.now;
        for n in 0..40 {
            let until = now.after(Span::secs(3600 + n));
            let envelope = world.signed(|grant| grant.until = until, &[&author]);
            for _ in 0..2 {
                world.fleet.add_grant("operator/ana", &envelope).unwrap();
            }
        }
        assert_eq!(world.fleet.grants.len(), GRANTS);
        let first = world.fleet.grants.values().map(|record| record.grant.until).min();
        assert_eq!(
            first,
            Some(now.after(Span::secs(3600 + 40 - GRANTS as u64))),
            "those that end first went"
        );
        // What is over goes with the next one.
        world.fleet.now = now.after(Span::secs(7200));
        world.grant();
        assert_eq!(world.fleet.grants.len(), 1);
    }
}
