//! What is kept of each thing, as JSON in the state store.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use windlass_proto::digest::Digest;
use windlass_proto::fence::Fence;
use windlass_proto::grant::Grant;
use windlass_proto::id::{AppName, Environment, HostId, HostName};
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::ReleaseSpec;
use windlass_proto::time::Timestamp;
use windlass_rollout::{Failures, Releases};

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its identity.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// Digest of its public key: the same name with another key is another host.
    pub key: Digest,
    /// Where its apps are reached.
    pub address: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it enrolled first.
    pub enrolled_at: Timestamp,
    /// Kept out of rollouts.
    pub cordon: Option<Cordon>,
    /// When its last session was last heard of.
    pub last_seen: Option<Timestamp>,
    /// Version of its agent.
    pub agent_version: String,
    /// What it is.
    pub facts: Option<Facts>,
    /// What it can do, as words; none from an agent that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<BTreeSet<String>>,
    /// Why this coordinator does not lead it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// Whose signatures it believes; none until its agent has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authors: Option<Authors>,
    /// To which environment of each app it belongs: the one whose rollout took it last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<AppName, Environment>,
}

/// Whose signatures a host believes. What it says of itself; hosts decide by their own policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Authors {
    /// `ed25519:...`.
    pub keys: Vec<String>,
    /// How many of them have to sign.
    pub threshold: u32,
}

/// What a host has obeyed, where that is more than this state knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// The fence; none from an agent that is older than fences.
    pub fence: Option<Fence>,
    /// The epoch.
    pub epoch: u64,
    /// Whether it was signed with the fleet's key.
    pub signed: bool,
}

/// Who keeps a host out of rollouts, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What a host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Processors.
    pub cpus: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Free where releases are kept.
    pub disk_free_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Operating system.
    pub os: String,
    /// What is wrong with it, each in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// A join token; the secret itself is never kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Public part.
    pub id: String,
    /// Digest of the secret.
    pub secret: Digest,
    /// Labels that the host gets.
    pub labels: BTreeMap<String, String>,
    /// Only a host of this name may use it.
    pub host: Option<HostName>,
    /// Not after.
    pub expires_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who used it.
    pub used: Option<TokenUse>,
    /// Whether an operator took it back.
    pub revoked: bool,
}

/// The one use of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: HostName,
    /// Digest of its public key: the same key may ask again when the answer was lost.
    pub key: Digest,
}

/// A bundle whose envelope and chunks are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleRecord {
    /// The release.
    pub release: ReleaseRef,
    /// Its own part of the spec.
    pub spec: ReleaseSpec,
    /// Regular files.
    pub files: u64,
    /// Sum of the files' sizes.
    pub bytes: u64,
    /// Different chunks.
    pub chunks: u64,
    /// Sum of the chunks' compressed sizes.
    pub stored_bytes: u64,
    /// Keys whose signatures the envelope holds.
    pub key_ids: Vec<String>,
    /// When it came.
    pub pushed_at: Timestamp,
    /// Who sent it.
    pub pushed_by: String,
}

/// A signed grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// What it says; believed by nobody yet.
    pub grant: Grant,
    /// The release that it is for.
    pub release: ReleaseRef,
    /// With its signatures, as it goes to hosts.
    pub envelope: String,
    /// Keys whose signatures it holds.
    pub key_ids: Vec<String>,
    /// When it came.
    pub pushed_at: Timestamp,
    /// Who sent it.
    pub pushed_by: String,
}

/// What is kept of an app across its rollouts in all environments.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRecord {
    /// Which of its releases failed.
    #[serde(flatten)]
    pub failures: Failures,
}

/// What is kept of one environment of an app across its rollouts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentRecord {
    /// Revision of its newest rollout.
    pub revision: u64,
    /// Which releases were stable there.
    #[serde(flatten)]
    pub releases: Releases,
}

/// That a certificate is on record in the audit log; which one is in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {}

/// One line of the fleet's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number; rises by one.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// `rollout.started`, `host.silent`, ...
    pub kind: String,
    /// `operator/ana`, `agent/<id>`, `coordinator`.
    pub who: String,
    /// What it is about; empty where it is not about such.
    pub app: String,
    /// See `app`.
    pub host: String,
    /// See `app`.
    pub rollout: String,
    /// In words.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is remembered of releases lies in rows of the environment and of the app.
    #[test]
    fn rows_of_apps_and_environments_keep_their_form() {
        let digest = Digest::of(b"1").to_string();
        let row = r#"{"failed":{"DIGEST":{"hosts":["host-1"],"rollout":"r-1","at":7,"after":2}}}"#
            .replace("DIGEST", &digest);
        let app: AppRecord = serde_json::from_str(&row).unwrap();
        assert_eq!(app.failures.failed[&Digest::of(b"1")].hosts.len(), 1);
        assert_eq!(serde_json::to_string(&app).unwrap(), row);
        let release = r#"{"app":"shop","version":"1.0","digest":"DIGEST","counter":1}"#;
        let row = format!(r#"{{"revision":7,"good":[{release}],"succeeded":["DIGEST"]}}"#)
            .replace("DIGEST", &digest);
        let environment: EnvironmentRecord = serde_json::from_str(&row).unwrap();
        assert_eq!((environment.revision, environment.releases.good.len()), (7, 1));
        assert_eq!(serde_json::to_string(&environment).unwrap(), row);
    }
}
