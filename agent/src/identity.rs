//! Who this host is: a key made here that never leaves it, and the certificate that the fleet gave for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use windlass_proto::id::HostId;
use windlass_proto::time::{Span, Timestamp};
use windlass_proto::tls::{self, Credentials, Key, SteadyTime, TlsError};

use crate::clock;
use crate::file::{self, FileError, read_bounded};

/// Largest key or certificate file.
const FILE_BYTES: u64 = 256 * 1024;

/// An identity that cannot be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that can be read and does not hold what it should.
    #[error("{} does not hold {what}; move it away to have the host enrolled anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The key file can be read by others.
    #[error("{} can be read by others (mode {mode:o}); run chmod 600 on it, or have the host enrolled anew", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Key or certificate cannot be used.
    #[error("cannot use the host's key or certificate")]
    Tls(#[from] TlsError),
}

/// What the fleet gave, as it is kept in `identity.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The host's identity.
    pub host_id: HostId,
    /// The fleet.
    pub fleet: String,
    /// Certificate for the host's key.
    pub certificate_pem: String,
    /// The agents' CA: whom the agent trusts.
    pub ca_pem: String,
}

/// The files of the identity directory.
#[derive(Debug, Clone)]
pub struct Vault {
    dir: PathBuf,
    time: Arc<SteadyTime>,
}

impl Vault {
    /// The vault in this directory, made where it does not exist.
    pub fn open(dir: &Path) -> Result<Self, FileError> {
        file::make_dir(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(file::at("protect", dir))?;
        let time = Arc::new(SteadyTime::new(clock::boot_ms, clock::wall));
        Ok(Self { dir: dir.to_owned(), time })
    }

    /// The time that certificates are judged by.
    pub const fn time(&self) -> &Arc<SteadyTime> {
        &self.time
    }

    /// The host's key; made at the first call.
    pub fn key(&self) -> Result<Key, IdentityError> {
        let path = self.dir.join("key.pem");
        if !path.try_exists().map_err(file::at("read", &path))? {
            let key = Key::generate()?;
            file::replace(&path, key.to_pem().as_bytes(), 0o600)?;
            return Ok(key);
        }
        let mode = fs::metadata(&path).map_err(file::at("read", &path))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path, mode });
        }
        let pem = read_bounded(&path, FILE_BYTES)?;
        Key::from_pem(&String::from_utf8_lossy(&pem))
            .map_err(|_| IdentityError::Damaged { path, what: "a private key" })
    }

    /// The certificate; `None` before the host is enrolled.
    pub fn certificate(&self) -> Result<Option<Certificate>, IdentityError> {
        let path = self.path();
        if !path.try_exists().map_err(file::at("read", &path))? {
            return Ok(None);
        }
        let content = read_bounded(&path, FILE_BYTES)?;
        let damaged = |_| IdentityError::Damaged { path, what: "the host's certificate" };
        serde_json::from_slice(&content).map(Some).map_err(damaged)
    }

    /// Keeps a new certificate in place of the former one.
    pub fn keep(&self, certificate: &Certificate) -> Result<(), FileError> {
        file::replace_json(&self.path(), certificate, 0o600)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("identity.json")
    }
}

/// Key and certificate ready to be used.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What the fleet gave.
    pub certificate: Certificate,
    /// TLS with both.
    pub tls: Arc<ClientConfig>,
    /// From when the certificate is valid.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Identity {
    /// Puts key and certificate together.
    pub fn new(key: &Key, certificate: Certificate, time: &Arc<SteadyTime>) -> Result<Self, TlsError> {
        let own = Credentials { certificate_pem: certificate.certificate_pem.clone(), key_pem: key.to_pem() };
        let tls = time.judge(tls::client_config(&certificate.ca_pem, Some(&own))?);
        let (from, until) = tls::certificate_validity(&certificate.certificate_pem)?;
        Ok(Self { certificate, tls, from, until })
    }

    /// When to renew: at half the certificate's life, and up to a tenth of it later. `jitter` is from 0 to 1.
    pub fn renew_at(&self, jitter: f64) -> Timestamp {
        let life = self.until.since(self.from);
        let late = (life.0 as f64 * 0.1 * jitter.clamp(0.0, 1.0)) as u64;
        self.from.after(Span(life.0 / 2 + late))
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::tls::Ca;

    use super::*;

    fn certificate(key: &Key) -> Certificate {
        let ca = Ca::generate("agents", "fleet").unwrap();
        let host_id: HostId = "h-1".parse().unwrap();
        let certificate_pem =
            ca.sign_agent_csr(&key.csr_pem().unwrap(), &host_id, 24, clock::wall()).unwrap();
        Certificate { host_id, fleet: "fleet".into(), certificate_pem, ca_pem: ca.certificate_pem().into() }
    }

    #[test]
    fn a_key_is_made_once_and_kept_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(&dir.path().join("identity")).unwrap();
        let key = vault.key().unwrap();
        assert_eq!(vault.key().unwrap().public_key(), key.public_key());
        let path = dir.path().join("identity/key.pem");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(vault.key().unwrap_err().to_string().contains("chmod 600"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "garbage").unwrap();
        assert!(vault.key().unwrap_err().to_string().contains("does not hold a private key"));
    }

    #[test]
    fn a_certificate_is_kept_and_renewed_in_the_middle_of_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::open(dir.path()).unwrap();
        assert_eq!(vault.certificate().unwrap(), None);
        let key = vault.key().unwrap();
        let given = certificate(&key);
        vault.keep(&given).unwrap();
        assert_eq!(vault.certificate().unwrap(), Some(given.clone()));
        let identity = Identity::new(&key, given, vault.time()).unwrap();
        let half = identity.from.after(Span(identity.until.since(identity.from).0 / 2));
        assert_eq!(identity.renew_at(0.0), half);
        assert!(identity.renew_at(1.0) > half && identity.renew_at(1.0) < identity.until);
        fs::write(dir.path().join("identity.json"), "{}").unwrap();
        assert!(vault.certificate().unwrap_err().to_string().contains("identity.json"));
    }
}
