//! The fleet's two CAs: made at the first start, loaded ever after.
//!
//! `pki/agents.{pem,key}` and `pki/operators.{pem,key}`. The directory appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use windlass_proto::id::OperatorName;
use windlass_proto::tls::{Ca, TlsError};

use crate::issued::Issued;

/// Certificates of the listeners are made anew at each start.
const SERVER_DAYS: u32 = 825;

/// Why the CAs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or directory.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A certificate or key.
    #[error("cannot use the certificates in {}", path.display())]
    Tls {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: TlsError,
    },
    /// The state directory is another fleet's.
    #[error("{} holds the state of fleet {has}, and --fleet says {asked}: give that fleet's name or another --state-dir", path.display())]
    OtherFleet {
        /// The state directory.
        path: PathBuf,
        /// Whose it is.
        has: String,
        /// Whose it should be.
        asked: String,
    },
    /// No coordinator has ever run here.
    #[error("there are no certificates in {}: start `windlass-coordinator run --state-dir ...` once, it makes them", path.display())]
    Absent {
        /// Where they would be.
        path: PathBuf,
    },
}

/// The two CAs.
#[derive(Debug, Clone)]
pub struct Pki(Arc<Cas>);

#[derive(Debug)]
struct Cas {
    agents: Ca,
    operators: Ca,
}

/// A listener's own certificate and key.
pub type Own = windlass_proto::tls::Credentials;

impl Pki {
    /// Loads the CAs, or makes them where there are none. Blocks.
    pub fn load_or_make(state_dir: &Path, fleet: &str) -> Result<Self, PkiError> {
        let path = state_dir.join("pki");
        if !path.exists() {
            make(state_dir, &path, fleet)?;
        }
        let pki = Self::load(state_dir)?;
        let has = pki.agents().fleet().to_string();
        if has != fleet {
            let (path, asked) = (state_dir.to_owned(), fleet.to_owned());
            return Err(PkiError::OtherFleet { path, has, asked });
        }
        Ok(pki)
    }

    /// Loads the CAs. Blocks.
    pub fn load(state_dir: &Path) -> Result<Self, PkiError> {
        let path = state_dir.join("pki");
        if !path.exists() {
            return Err(PkiError::Absent { path });
        }
        Ok(Self(Arc::new(Cas { agents: load_ca(&path, "agents")?, operators: load_ca(&path, "operators")? })))
    }

    /// The agents' CA.
    pub fn agents(&self) -> &Ca {
        &self.0.agents
    }

    /// The operators' CA.
    pub fn operators(&self) -> &Ca {
        &self.0.operators
    }

    /// Certificates for the agents' and the operators' listener.
    pub fn issue_servers(&self, id: &str) -> Result<(Own, Own), TlsError> {
        Ok((self.agents().issue_server(id, SERVER_DAYS)?, self.operators().issue_server(id, SERVER_DAYS)?))
    }
}

/// Writes an operator's certificate, key and the CA to trust into `out`, and before that leaves word of it for the audit log.
pub fn issue_operator(state_dir: &Path, name: &str, days: u32, out: &Path) -> Result<(), PkiError> {
    let pki = Pki::load(state_dir)?;
    let issue = || -> Result<_, TlsError> {
        let operator = OperatorName::new(name)?;
        let issued = pki.operators().issue_operator(name, days)?;
        let serial = issued.serial_number()?;
        Ok((issued, Issued::now(serial, operator, days)))
    };
    let issued = issue().map_err(|source| PkiError::Tls { path: state_dir.join("pki"), source });
    let (issued, word) = issued?;
    word.leave(state_dir).map_err(|source| PkiError::Io {
        action: "leave word for the audit log in",
        path: state_dir.to_owned(),
        source,
    })?;
    fs::create_dir_all(out).map_err(|source| PkiError::Io {
        action: "create",
        path: out.to_owned(),
        source,
    })?;
    write(&out.join(format!("{name}.key")), issued.key_pem.as_bytes(), 0o600)?;
    write(&out.join(format!("{name}.pem")), issued.certificate_pem.as_bytes(), 0o644)?;
    write(&out.join("ca.pem"), pki.operators().certificate_pem().as_bytes(), 0o644)
}

fn make(state_dir: &Path, path: &Path, fleet: &str) -> Result<(), PkiError> {
    let io = |action, at: &Path| {
        let at = at.to_owned();
        move |source| PkiError::Io { action, path: at, source }
    };
    let fresh = state_dir.join(".pki.new");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).map_err(io("remove", &fresh))?;
    }
    fs::create_dir_all(state_dir).map_err(io("create", state_dir))?;
    fs::DirBuilder::new().mode(0o700).create(&fresh).map_err(io("create", &fresh))?;
    for (name, title) in [("agents", "windlass agents"), ("operators", "windlass operators")] {
        let ca = Ca::generate(&format!("{title} of {fleet}"), fleet)
            .map_err(|source| PkiError::Tls { path: path.to_owned(), source })?;
        write(&fresh.join(format!("{name}.key")), ca.key_pem().as_bytes(), 0o600)?;
        write(&fresh.join(format!("{name}.pem")), ca.certificate_pem().as_bytes(), 0o644)?;
    }
    sync(&fresh).map_err(io("sync", &fresh))?;
    fs::rename(&fresh, path).map_err(io("rename", &fresh))?;
    sync(state_dir).map_err(io("sync", state_dir))
}

fn load_ca(path: &Path, name: &str) -> Result<Ca, PkiError> {
    let read = |extension: &str| {
        let path = path.join(format!("{name}.{extension}"));
        fs::read_to_string(&path).map_err(|source| PkiError::Io { action: "read", path, source })
    };
    Ca::load(&read("pem")?, &read("key")?).map_err(|source| PkiError::Tls { path: path.to_owned(), source })
}

/// Writes a file whole, with its mode from the first byte on.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Io { action: "write", path: path.to_owned(), source };
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync(parent)
    })();
    written.map_err(failed)
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn made_once_loaded_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let made = Pki::load_or_make(dir.path(), "shop").unwrap();
        let loaded = Pki::load_or_make(dir.path(), "shop").unwrap();
        assert_eq!(made.agents().pin(), loaded.agents().pin());
        assert_ne!(made.agents().pin(), made.operators().pin());
        for key in ["agents.key", "operators.key"] {
            let mode = fs::metadata(dir.path().join("pki").join(key)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{key}");
        }
        let other = Pki::load_or_make(dir.path(), "other").unwrap_err();
        assert!(matches!(other, PkiError::OtherFleet { .. }), "{other}");
    }

    #[test]
    fn an_operator_is_issued_beside_a_running_coordinator() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let absent = issue_operator(dir.path(), "ana", 30, &out).unwrap_err();
        assert!(matches!(absent, PkiError::Absent { .. }), "{absent}");
        Pki::load_or_make(dir.path(), "shop").unwrap();
        issue_operator(dir.path(), "ana", 30, &out).unwrap();
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ana.key", "ana.pem", "ca.pem"]);
        assert!(issue_operator(dir.path(), "../x", 30, &out).is_err());
        let words = || fs::read_dir(dir.path().join("issued")).unwrap().count();
        assert_eq!(words(), 1, "word of each that was issued");
        // Nothing is given out of which no word can be left.
        fs::remove_dir_all(dir.path().join("issued")).unwrap();
        fs::write(dir.path().join("issued"), b"in the way").unwrap();
        let error = issue_operator(dir.path(), "ben", 30, &out).unwrap_err();
        assert!(error.to_string().contains("audit log"), "{error}");
        assert!(!out.join("ben.pem").exists() && !out.join("ben.key").exists());
    }
}
