//! Enrolment: a name, a key, and a token that is used in the same commit.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::id::{HostId, HostName};
use windlass_proto::rpc::ErrorKind;
use windlass_proto::time::Span;

use super::hosts::{check_address, check_labels};
use super::log::event;
use super::record::HostRecord;
use super::{Fleet, Host, Refusal};
use crate::rate::Rate;

/// A host needs two a day; some more where its agent is started again and again.
const CERTIFICATES: Rate = Rate { burst: 10, each: Span::secs(30) };

/// What an agent that enrols says of itself.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The name it wants.
    pub name: HostName,
    /// Digest of its public key.
    pub key: Digest,
    /// Where its apps are reached.
    pub address: String,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Its token's id and the digest of the secret; none when it comes back by its enrolled key.
    pub token: Option<(String, Digest)>,
}

/// A host that has a place in the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its id.
    pub id: HostId,
    /// Whether anything is other than before.
    pub is_change: bool,
    /// Labels, as key=value, that it says it has and that only a token could give it.
    pub ignored_labels: Vec<String>,
}

impl Fleet {
    /// Takes a host into the fleet, or finds the one that it is already. `fresh` is the id that a new host gets.
    pub fn enrol(&mut self, enrolment: Enrolment, fresh: HostId) -> Result<Enrolled, Refusal> {
        check_labels(&enrolment.labels)?;
        check_address(&enrolment.address)?;
        match &enrolment.token {
            None => self.come_back(&enrolment),
            Some((token, _)) => {
                let token = token.clone();
                let given = self.check_token(&enrolment)?;
                // The answer may have been lost: the same token says again who the host is, and no more.
                if self.tokens.get(&token).is_some_and(|token| token.used.is_some()) {
                    return self.come_back(&enrolment);
                }
                self.join(enrolment, &token, given, fresh)
            }
        }
    }

    /// A host that was off for long: its key is proof of who it is and of nothing else, so nothing of it changes. Whoever has no
    /// token learns the same of a name that another host has and of one that nobody has.
    fn come_back(&mut self, enrolment: &Enrolment) -> Result<Enrolled, Refusal> {
        let name = &enrolment.name;
        let known = self.names.get(name).and_then(|id| self.hosts.get(id));
        let known = known.filter(|host| host.record.key == enrolment.key).ok_or_else(|| {
            let message = format!(
                "no host {name} is enrolled with this key; give it a token from `windlass token create`"
            );
            Refusal::new(ErrorKind::NotSignedIn, message)
        })?;
        let id = known.record.id.clone();
        let has = |key: &str| known.record.labels.contains_key(key);
        let others = enrolment.labels.iter().filter(|(key, _)| !has(key));
        let ignored_labels = others.map(|(key, value)| format!("{key}={value}")).collect();
        self.may_have_certificate(&id)?;
        Ok(Enrolled { id, is_change: false, ignored_labels })
    }

    fn join(
        &mut self,
        enrolment: Enrolment,
        token: &str,
        given: BTreeMap<String, String>,
        fresh: HostId,
    ) -> Result<Enrolled, Refusal> {
        let known = self.names.get(&enrolment.name).and_then(|id| self.hosts.get(id));
        let before = known.map(|host| host.record.clone());
        if let Some(host) = before.as_ref().filter(|host| host.key != enrolment.key) {
            let name = &host.name;
            let message = format!(
                "host {name} is enrolled with another key; if that host is gone, run `windlass host rm {name}` first"
            );
            return Err(Refusal::new(ErrorKind::Exists, message));
        }
        let mut all = enrolment.labels.clone();
        for (key, value) in given {
            if let Some(own) = all.get(&key).filter(|own| **own != value) {
                return Err(Refusal::new(
                    ErrorKind::NotAllowed,
                    format!("the token says label {key}={value}, the host says {key}={own}"),
                ));
            }
            all.insert(key, value);
        }
        let mut record = before.clone().unwrap_or_else(|| HostRecord {
            foreign: None,
            authors: None,
            environments: BTreeMap::new(),
            id: fresh,
            name: enrolment.name.clone(),
            key: enrolment.key,
            address: String::new(),
            labels: BTreeMap::new(),
            enrolled_at: self.now,
            cordon: None,
            last_seen: None,
            agent_version: String::new(),
            facts: None,
            features: None,
        });
        // An operator's labels survive the host's coming back; what the host says of itself does not overrule them.
        for (key, value) in all {
            record.labels.entry(key).or_insert(value);
        }
        record.address.clone_from(&enrolment.address);
        let id = record.id.clone();
        if before.is_some() {
            self.may_have_certificate(&id)?;
        }
        self.use_token(token, &id, &enrolment);
        match self.hosts.get_mut(&id) {
            Some(host) => host.record = record,
            None => drop(self.hosts.insert(id.clone(), Host::new(record))),
        }
        self.names.insert(enrolment.name.clone(), id.clone());
        self.keep(&id);
        let (kind, message) = match before {
            None => ("host.enrolled", format!("{} joined the fleet", enrolment.name)),
            Some(_) => ("host.reenrolled", format!("{} joined the fleet again", enrolment.name)),
        };
        let mut record = event(kind, &format!("agent/{id}"), message);
        record.host = enrolment.name.to_string();
        self.log(record);
        Ok(Enrolled { id, is_change: true, ignored_labels: Vec::new() })
    }

    /// Whether a host may renew its certificate with this key, now.
    pub fn may_renew(&mut self, id: &HostId, key: &Digest) -> Result<(), Refusal> {
        let host = self.enrolled(id)?;
        if host.record.key != *key {
            let message = format!("host {} may renew only with the key it enrolled with", host.record.name);
            return Err(Refusal::new(ErrorKind::NotAllowed, message));
        }
        self.may_have_certificate(id)
    }

    /// Counts a certificate that a host asks for.
    fn may_have_certificate(&mut self, id: &HostId) -> Result<(), Refusal> {
        let Some(host) = self.hosts.get_mut(id) else { return Ok(()) };
        host.certificates.take(CERTIFICATES, self.now).map_err(|wait| {
            let message =
                format!("host {} asks for certificates too often; try again in {wait}", host.record.name);
            Refusal::new(ErrorKind::Unavailable, message)
        })
    }

    /// The host of a certificate.
    pub fn enrolled(&self, id: &HostId) -> Result<&Host, Refusal> {
        self.hosts.get(id).ok_or_else(|| {
            let message =
                format!("host {id} is not in this fleet: it was removed; enrol it again with a token");
            Refusal::new(ErrorKind::NotAllowed, message)
        })
    }
}
