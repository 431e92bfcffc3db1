//! May this host take this release? Judged on the host, from the signed manifest and the host's own policy, whatever the
//! coordinator says.

use windlass_proto::bundle::{Envelope, EnvelopeError, Manifest, Trust, Untrusted, Verified};
use windlass_proto::counter::{self, TooFar};
use windlass_proto::grant::Leave;
use windlass_proto::id::AppName;
use windlass_proto::phase::Fault;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::Runtime;
use windlass_proto::spec::check::{self, Unsound};

use super::Order;
use crate::config::HostPolicy;
use crate::runtime::RuntimeError;
use crate::runtime::user;

/// Why a release is refused here.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no envelope.
    #[error("the envelope of {release} is refused")]
    Envelope {
        /// The release.
        release: Box<ReleaseRef>,
        /// Why.
        source: EnvelopeError,
    },
    /// No pinned author vouches for it.
    #[error("{release} is refused")]
    Untrusted {
        /// The release.
        release: Box<ReleaseRef>,
        /// Why.
        source: Untrusted,
    },
    /// Signed, but not what the order names.
    #[error("the order names {ordered} with counter {}, the signed manifest is {signed} with counter {}", ordered.counter, signed.counter)]
    Different {
        /// As ordered.
        ordered: Box<ReleaseRef>,
        /// As signed.
        signed: Box<ReleaseRef>,
    },
    /// Signed, but its spec breaks rules that `windlass validate` knows.
    #[error("the spec of {release} is refused")]
    Spec {
        /// The release.
        release: Box<ReleaseRef>,
        /// Which rules.
        source: Unsound,
    },
    /// Older than what this host has seen.
    #[error("{release} has counter {}, this host has seen {seen}; only what was confirmed here, or what its authors granted, may go lower", release.counter)]
    Counter {
        /// The release.
        release: Box<ReleaseRef>,
        /// Highest seen.
        seen: u64,
    },
    /// So far above what this host has seen that it might end the app's numbers.
    #[error("{release} is refused")]
    Jump {
        /// The release.
        release: Box<ReleaseRef>,
        /// How far.
        source: TooFar,
    },
    /// The host does not run this app.
    #[error("this host does not allow app {app}; policy.apps in agent.toml says which")]
    App {
        /// The app.
        app: AppName,
    },
    /// The host does not run it as this user.
    #[error(transparent)]
    User(Box<RuntimeError>),
}

impl Refusal {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::User(error) => error.fault(),
            _ => Fault::Policy,
        }
    }
}

/// Opens an envelope as it came, packed or plain. `base` is the one that the host offered to build on.
pub fn open(bytes: &[u8], base: Option<&Envelope>, asked: &ReleaseRef) -> Result<Envelope, Refusal> {
    // Plain envelopes are JSON; a coordinator that knows no other form sends them.
    let opened =
        if bytes.starts_with(b"{") { Envelope::decode(bytes) } else { Envelope::unpack(bytes, base) };
    opened.map_err(|source| Refusal::Envelope { release: Box::new(asked.clone()), source })
}

/// Believes an envelope if enough pinned authors signed it.
pub fn believe(envelope: &Envelope, trust: &Trust, asked: &ReleaseRef) -> Result<Verified, Refusal> {
    envelope.verify(trust).map_err(|source| Refusal::Untrusted { release: Box::new(asked.clone()), source })
}

/// Compares a believed manifest with the order, with the rules of specs, and with the host's policy. What has checked it
/// before it was signed, if anything has, is not known here.
pub fn accept(verified: &Verified, asked: &Order, policy: &HostPolicy) -> Result<(), Refusal> {
    let signed = verified.release_ref();
    if signed != asked.release {
        return Err(Refusal::Different {
            ordered: Box::new(asked.release.clone()),
            signed: Box::new(signed),
        });
    }
    if signed.counter < asked.seen && asked.leave == Leave::Newest {
        return Err(Refusal::Counter { release: Box::new(signed), seen: asked.seen });
    }
    if let Err(source) = counter::may_follow(asked.seen, signed.counter) {
        return Err(Refusal::Jump { release: Box::new(signed), source });
    }
    if !policy.allows_app(&signed.app) {
        return Err(Refusal::App { app: signed.app });
    }
    check::sound(&signed.app, &verified.manifest().release)
        .map_err(|source| Refusal::Spec { release: Box::new(signed), source })?;
    check_user(verified.manifest(), policy)
}

fn check_user(manifest: &Manifest, policy: &HostPolicy) -> Result<(), Refusal> {
    let refused = |error| Refusal::User(Box::new(error));
    match &manifest.release.runtime {
        // Whatever user it names, a unit of its own can have any.
        Runtime::Systemd { unit: Some(_), .. } if !policy.allow_root => {
            Err(refused(RuntimeError::UnitRefused))
        }
        Runtime::Process { user, .. } | Runtime::Systemd { user, .. } => {
            user::resolve(user.as_deref(), policy, &manifest.app).map_err(refused)?;
            Ok(())
        }
        Runtime::Static { reload } if reload.is_empty() => Ok(()),
        // The reload command runs as the agent.
        Runtime::Static { .. } => {
            user::resolve(None, policy, &manifest.app).map_err(refused)?;
            Ok(())
        }
    }
}
