//! Operators' certificates that are issued beside the coordinator, which `issue-operator` does not ask. Before a certificate is
//! given out a file in `issued/` of the state directory says so; the coordinator takes it into the audit log, and removes it
//! when it is on record there.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, User, getuid};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use windlass_proto::id::OperatorName;
use windlass_proto::time::Timestamp;

use crate::driver::Driver;
use crate::fleet::Refusal;

/// Of the file's form.
const VERSION: u32 = 1;
/// Largest such file.
const BYTES: u64 = 4096;
/// From one look to the next.
const EVERY: Duration = Duration::from_millis(250);
/// Files taken in at a time; more wait.
const AT_ONCE: usize = 100;
/// Files that are named in the log as not understood; of more nothing is said.
const TOLD: usize = 1000;

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    version: u32,
    /// Its serial number, in hex.
    pub serial: String,
    /// Whose it is.
    pub operator: OperatorName,
    /// How long it is valid.
    pub days: u32,
    /// Who issued it: a user of the coordinator's machine.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

impl Issued {
    /// A certificate that the user of this process issues now.
    pub fn now(serial: String, operator: OperatorName, days: u32) -> Self {
        let uid = getuid();
        let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
        let by = user.unwrap_or_else(|| uid.to_string());
        Self { version: VERSION, serial, operator, days, by, at: crate::clock::wall() }
    }

    /// Leaves it where the coordinator finds it; it is on disk when this returns. Whoever issues may be root, and the state
    /// directory another user's: that one gets the file, and can have root neither write nor give away anything else. Blocks.
    pub fn leave(&self, state_dir: &Path) -> io::Result<()> {
        let directory = directory(state_dir);
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let no_link = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let held = OpenOptions::new().read(true).custom_flags(no_link.bits()).open(&directory)?;
        let owner = fs::metadata(state_dir)?;
        let give = |file: &File| match file.metadata()?.uid() == owner.uid() {
            true => Ok(()),
            false => fchown(file, Some(owner.uid()), Some(owner.gid())),
        };
        if held.metadata()?.uid() == Uid::effective().as_raw() {
            give(&held)?;
        }
        let new = format!(".{}.{}", self.serial, std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&held, new.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        give(&file)?;
        file.sync_all()?;
        renameat(&held, new.as_str(), &held, format!("{}.json", self.serial).as_str())?;
        held.sync_all()?;
        File::open(state_dir)?.sync_all()
    }

    fn read(path: &Path) -> Result<Self, String> {
        let mut text = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(BYTES + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
        if text.len() as u64 > BYTES {
            return Err(format!("it is longer than {BYTES} bytes"));
        }
        let issued: Self = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if issued.version != VERSION {
            return Err(format!("it is of version {}, this coordinator knows {VERSION}", issued.version));
        }
        let is_serial = !issued.serial.is_empty()
            && issued.serial.len() <= 64
            && issued.serial.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_serial || path.file_stem() != Some(issued.serial.as_ref()) || issued.by.len() > 100 {
            return Err("it is not what its name says".to_owned());
        }
        Ok(issued)
    }
}

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("issued")
}

/// What waits to be taken in. Blocks.
fn waiting(
    directory: &Path,
    told: &BTreeSet<OsString>,
) -> io::Result<Vec<(PathBuf, Result<Issued, String>)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let paths = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        !name.as_encoded_bytes().starts_with(b".") && !told.contains(&name)
    });
    Ok(paths.take(AT_ONCE).map(|entry| (entry.path(), Issued::read(&entry.path()))).collect())
}

/// Removes a file for good. Blocks.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Takes in what was issued, until stopped.
pub async fn take_in(state_dir: PathBuf, driver: Driver, stop: CancellationToken) {
    let mut taker = Taker { directory: directory(&state_dir), driver, told: BTreeSet::new() };
    loop {
        // A driver that is gone has no audit log any more.
        if taker.look().await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Taker {
    directory: PathBuf,
    driver: Driver,
    /// Names of files of which the log has spoken.
    told: BTreeSet<OsString>,
}

impl Taker {
    async fn look(&mut self) -> Result<(), Refusal> {
        let (directory, told) = (self.directory.clone(), self.told.clone());
        let found = match tokio::task::spawn_blocking(move || waiting(&directory, &told)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return self.tell(self.directory.clone(), &error.to_string()).await,
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        };
        for (path, issued) in found {
            match issued {
                Ok(issued) => self.take(path, issued).await?,
                Err(why) => self.tell(path, &why).await?,
            }
        }
        Ok(())
    }

    /// On record, then removed, then forgotten: whatever comes between, it is on record once.
    async fn take(&mut self, path: PathBuf, issued: Issued) -> Result<(), Refusal> {
        let serial = issued.serial.clone();
        self.driver.ask(move |fleet| fleet.record_issued(&issued)).await?;
        let file = path.clone();
        match tokio::task::spawn_blocking(move || remove(&file)).await {
            Ok(Ok(())) => self.driver.ask(move |fleet| fleet.forget_issued(&serial)).await,
            Ok(Err(error)) => {
                self.tell(path, &format!("it is on record and cannot be removed: {error}")).await
            }
            Err(failed) => std::panic::resume_unwind(failed.into_panic()),
        }
    }

    async fn tell(&mut self, path: PathBuf, why: &str) -> Result<(), Refusal> {
        let name = path.file_name().unwrap_or_default().to_owned();
        if self.told.len() >= TOLD || !self.told.insert(name) {
            return Ok(());
        }
        tracing::error!(file = %path.display(), why, "what was issued is not understood, and stays");
        let message = format!("{} is not understood, and stays: {why}", path.display());
        self.driver.ask(move |fleet| fleet.note_unread(message)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn issued(serial: &str) -> Issued {
        Issued::now(serial.to_owned(), OperatorName::new("ana").unwrap(), 30)
    }

    #[test]
    fn what_is_left_is_found_and_nothing_else_is_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (told, issues) = (BTreeSet::new(), directory(dir.path()));
        assert!(waiting(&issues, &told).unwrap().is_empty(), "nothing was ever issued");
        issued("4a01").leave(dir.path()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = issues.join("4a01.json");
        assert_eq!((mode(&issues), mode(&file)), (0o700, 0o600));
        let found = waiting(&issues, &told).unwrap();
        assert_eq!(found.len(), 1, "nothing half-written is left");
        let (path, read) = &found[0];
        assert_eq!((path, read.as_ref().unwrap().serial.as_str()), (&file, "4a01"));

        fs::rename(&file, issues.join("4a02.json")).unwrap();
        fs::write(issues.join("cut.json"), b"{\"version\":1,").unwrap();
        fs::write(issues.join("long.json"), vec![b' '; 5000]).unwrap();
        let newer = serde_json::to_string(&issued("4a03")).unwrap().replace("\"version\":1", "\"version\":2");
        fs::write(issues.join("4a03.json"), newer).unwrap();
        fs::write(issues.join(".4a04.17"), b"half").unwrap();
        let found = waiting(&issues, &told).unwrap();
        let mut names: Vec<_> =
            found.iter().map(|(path, read)| (path.file_name().unwrap(), read.is_ok())).collect();
        names.sort();
        let wrong = ["4a02.json", "4a03.json", "cut.json", "long.json"].map(|name| (name.as_ref(), false));
        assert_eq!(names, wrong);
        let told = BTreeSet::from(["cut.json".into(), "long.json".into()]);
        assert_eq!(waiting(&issues, &told).unwrap().len(), 2, "what was told of is left alone");
        for _ in 0..2 {
            remove(&file).unwrap();
        }
    }

    /// Root may issue where another user has the state directory: it is led nowhere else.
    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o755)).unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory(&state)).unwrap();
        assert!(issued("4a01").leave(&state).is_err());
        assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
        assert_eq!(fs::metadata(&elsewhere).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
