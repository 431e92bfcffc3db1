//! Enrolment: a name, a key, and a token that is used in the same commit.

use std::collections::BTreeMap;

use windlass_proto::digest::Digest;
use windlass_proto::id::{HostId, HostName};
use windlass_proto::rpc::ErrorKind;

use super::hosts::{check_address, check_labels};
use super::log::event;
use super::record::HostRecord;
use super::{Fleet, Host, Refusal};

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

impl Fleet {
    /// Takes a host into the fleet, or finds the one that it is already. `fresh` is the id that a new host gets.
    pub fn enrol(&mut self, enrolment: Enrolment, fresh: HostId) -> Result<HostId, Refusal> {
        let labels = self.check_token(&enrolment)?;
        check_labels(&enrolment.labels)?;
        check_address(&enrolment.address)?;
        let known = self.names.get(&enrolment.name).and_then(|id| self.hosts.get(id));
        let id = match known {
            Some(host) if host.record.key == enrolment.key => host.record.id.clone(),
            Some(host) => {
                return Err(Refusal::new(
                    ErrorKind::Exists,
                    format!(
                        "host {} is enrolled with another key; if that host is gone, run `windlass host rm {}` first",
                        host.record.name, host.record.name
                    ),
                ));
            }
            None if enrolment.token.is_none() => {
                return Err(Refusal::new(
                    ErrorKind::NotSignedIn,
                    format!(
                        "host {} is not enrolled; give it a token from `windlass token create`",
                        enrolment.name
                    ),
                ));
            }
            None => fresh,
        };
        let mut all = enrolment.labels.clone();
        for (key, value) in labels {
            if let Some(own) = all.get(&key).filter(|own| **own != value) {
                return Err(Refusal::new(
                    ErrorKind::NotAllowed,
                    format!("the token says label {key}={value}, the host says {key}={own}"),
                ));
            }
            all.insert(key, value);
        }
        if let Some((token, _)) = &enrolment.token {
            self.use_token(token, &id, &enrolment);
        }
        let new = !self.hosts.contains_key(&id);
        let now = self.now;
        let host = self.hosts.entry(id.clone()).or_insert_with(|| {
            Host::new(HostRecord {
                foreign: None,
                id: id.clone(),
                name: enrolment.name.clone(),
                key: enrolment.key,
                address: String::new(),
                labels: BTreeMap::new(),
                enrolled_at: now,
                cordon: None,
                last_seen: None,
                agent_version: String::new(),
                facts: None,
            })
        });
        // An operator's labels survive the host's coming back; what the host says of itself does not overrule them.
        for (key, value) in all {
            host.record.labels.entry(key).or_insert(value);
        }
        host.record.address = enrolment.address;
        self.names.insert(enrolment.name.clone(), id.clone());
        self.keep(&id);
        let (kind, message) = match new {
            true => ("host.enrolled", format!("{} joined the fleet", enrolment.name)),
            false => ("host.reenrolled", format!("{} came back with its key", enrolment.name)),
        };
        let mut record = event(kind, &format!("agent/{id}"), message);
        record.host = enrolment.name.to_string();
        self.log(record);
        Ok(id)
    }

    /// Whether a host may renew its certificate with this key.
    pub fn may_renew(&self, id: &HostId, key: &Digest) -> Result<(), Refusal> {
        let host = self.enrolled(id)?;
        if host.record.key == *key {
            return Ok(());
        }
        let message = format!("host {} may renew only with the key it enrolled with", host.record.name);
        Err(Refusal::new(ErrorKind::NotAllowed, message))
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
