//! The two links of an app: `confirmed`, which survives a reboot, and `current`, which the app uses.
//!
//! `confirmed` changes only at confirm; at boot `current` is made from it, so a power cut before confirm boots the old
//! release. Beside the link, a confirmed release carries a mark with the time, so that its history needs no store.

use std::io;
use std::path::{Path, PathBuf};

use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;
use windlass_proto::time::Timestamp;

use crate::failpoint::{self, Barrier};
use crate::layout::Layout;
use crate::{ballast, durable};

/// A link that could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The filesystem refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The link.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The link points at something that is not a release of the app.
    #[error("{} points at {}, which is not a release", path.display(), target.display())]
    Foreign {
        /// The link.
        path: PathBuf,
        /// Its target.
        target: PathBuf,
    },
    /// The release is not on this host.
    #[error("release {digest} of {app} is not on this host")]
    NoRelease {
        /// The app.
        app: AppName,
        /// The release.
        digest: Digest,
    },
}

const MARK: &str = "confirmed";

/// Points `current` at a release.
pub fn set_current(layout: &Layout, app: &AppName, digest: &Digest) -> Result<(), LinkError> {
    let tree = layout.tree(app, digest);
    if !tree.is_dir() {
        return Err(LinkError::NoRelease { app: app.clone(), digest: *digest });
    }
    let dir = layout.app_run(app);
    ballast::with(layout, || std::fs::create_dir_all(&dir)).map_err(io_error("create", &dir))?;
    let link = layout.current(app);
    ballast::with(layout, || durable::replace_link(&link, &tree)).map_err(io_error("replace", &link))
}

/// Removes `current`: the app has no release in use.
pub fn clear_current(layout: &Layout, app: &AppName) -> Result<(), LinkError> {
    let link = layout.current(app);
    durable::remove(&link).map_err(io_error("remove", &link))
}

/// What `current` points at, as it stands on disk; `None` without a link.
pub fn current_target(layout: &Layout, app: &AppName) -> Result<Option<PathBuf>, LinkError> {
    read(&layout.current(app))
}

/// The release that `current` names.
pub fn current(layout: &Layout, app: &AppName) -> Result<Option<Digest>, LinkError> {
    let link = layout.current(app);
    let Some(target) = read(&link)? else { return Ok(None) };
    let digest = target.parent().and_then(digest_of).filter(|digest| target == layout.tree(app, digest));
    digest.map(Some).ok_or(LinkError::Foreign { path: link, target })
}

/// Points `confirmed` at a release and marks the release as confirmed last at `at`.
pub fn set_confirmed(
    layout: &Layout,
    app: &AppName,
    digest: &Digest,
    at: Timestamp,
) -> Result<(), LinkError> {
    let release = layout.release(app, digest);
    if !release.is_dir() {
        return Err(LinkError::NoRelease { app: app.clone(), digest: *digest });
    }
    let mark = release.join(MARK);
    let time = at.0.to_string();
    ballast::with(layout, || {
        crate::file::replace(&mark, time.as_bytes(), 0o444).map_err(|error| error.source)
    })
    .map_err(io_error("write", &mark))?;
    failpoint::at(Barrier::ConfirmMarked);
    let link = layout.confirmed(app);
    let target = Path::new("releases").join(digest.hex());
    ballast::with(layout, || durable::replace_link(&link, &target)).map_err(io_error("replace", &link))
}

/// Removes `confirmed`: the app was never confirmed here, or is leaving this host.
pub fn clear_confirmed(layout: &Layout, app: &AppName) -> Result<(), LinkError> {
    let link = layout.confirmed(app);
    durable::remove(&link).map_err(io_error("remove", &link))
}

/// The release that `confirmed` names.
pub fn confirmed(layout: &Layout, app: &AppName) -> Result<Option<Digest>, LinkError> {
    let link = layout.confirmed(app);
    let Some(target) = read(&link)? else { return Ok(None) };
    let digest = digest_of(&target).filter(|digest| target == Path::new("releases").join(digest.hex()));
    digest.map(Some).ok_or(LinkError::Foreign { path: link, target })
}

/// When the release in `release_dir` was last confirmed here.
pub fn confirmed_at(release_dir: &Path) -> Option<Timestamp> {
    std::fs::read_to_string(release_dir.join(MARK)).ok()?.trim().parse().ok().map(Timestamp)
}

/// After a boot: makes `current` from `confirmed`, and removes it when nothing was confirmed.
pub fn restore_current(layout: &Layout, app: &AppName) -> Result<Option<Digest>, LinkError> {
    let digest = confirmed(layout, app)?;
    match &digest {
        Some(digest) => set_current(layout, app, digest)?,
        None => clear_current(layout, app)?,
    }
    Ok(digest)
}

fn digest_of(path: &Path) -> Option<Digest> {
    format!("b3:{}", path.file_name()?.to_str()?).parse().ok()
}

fn read(link: &Path) -> Result<Option<PathBuf>, LinkError> {
    match std::fs::read_link(link) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", link)(error)),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LinkError {
    let path = path.to_owned();
    move |source| LinkError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_goes_back_to_the_confirmed_release() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("state"), dir.path().join("run")).unwrap();
        let app = AppName::new("shop").unwrap();
        layout.create().unwrap();
        layout.create_app(&app).unwrap();
        let (old, new) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        assert!(matches!(set_current(&layout, &app, &old), Err(LinkError::NoRelease { .. })));
        for digest in [&old, &new] {
            std::fs::create_dir_all(layout.tree(&app, digest)).unwrap();
        }
        assert_eq!(restore_current(&layout, &app).unwrap(), None);
        set_confirmed(&layout, &app, &old, Timestamp(7)).unwrap();
        set_current(&layout, &app, &new).unwrap();
        assert_eq!(current(&layout, &app).unwrap(), Some(new));
        assert_eq!(confirmed(&layout, &app).unwrap(), Some(old));
        assert_eq!(confirmed_at(&layout.release(&app, &old)), Some(Timestamp(7)));
        assert_eq!(confirmed_at(&layout.release(&app, &new)), None);
        std::fs::remove_dir_all(layout.app_run(&app)).unwrap();
        assert_eq!(restore_current(&layout, &app).unwrap(), Some(old));
        assert_eq!(current(&layout, &app).unwrap(), Some(old));

        durable::replace_link(&layout.current(&app), Path::new("/etc")).unwrap();
        assert!(matches!(current(&layout, &app), Err(LinkError::Foreign { .. })));
    }
}
