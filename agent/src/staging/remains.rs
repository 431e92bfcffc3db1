//! What an interrupted staging leaves: its half-written tree is kept below `chunks/`, one per app, and is a source for the
//! next staging, so that nothing is fetched twice. All of it is hashed before it is used.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use windlass_proto::digest::Digest;
use windlass_proto::id::AppName;

use crate::durable;
use crate::layout::Layout;

/// Marks a staging directory that holds everything that the host had: it may replace older remains.
pub const FETCHING: &str = "fetching";
/// Remains older than this are of no use any more.
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Remains of an app's release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// The app.
    pub app: AppName,
    /// The release.
    pub digest: Digest,
    /// Its directory: like a release's, but its tree is not complete.
    pub dir: PathBuf,
}

/// All remains.
pub fn list(layout: &Layout) -> Vec<Remains> {
    let Ok(items) = std::fs::read_dir(layout.chunks()) else { return Vec::new() };
    items.flatten().filter_map(|item| parse(item.path())).collect()
}

fn parse(dir: PathBuf) -> Option<Remains> {
    let (app, hex) = dir.file_name()?.to_str()?.rsplit_once('.')?;
    let (app, digest) = (AppName::new(app).ok()?, format!("b3:{hex}").parse().ok()?);
    Some(Remains { app, digest, dir })
}

/// Keeps a staging directory as remains if it got as far as fetching, else removes it.
pub fn keep_or_wipe(layout: &Layout, staging: &Path, app: &AppName, digest: &Digest) -> io::Result<()> {
    if !staging.join(FETCHING).exists() {
        return durable::remove_tree(staging);
    }
    drop_of(layout, app)?;
    durable::rename(staging, &layout.chunks().join(format!("{app}.{}", digest.hex())))
}

/// Moves an app's remains to the trash.
pub fn drop_of(layout: &Layout, app: &AppName) -> io::Result<()> {
    for remains in list(layout).into_iter().filter(|remains| remains.app == *app) {
        durable::discard(&remains.dir, &layout.trash())?;
    }
    Ok(())
}

/// At start: keeps what an agent that died was staging, and drops what is old or of no known form. `now` is the wall clock.
pub fn tidy(layout: &Layout, now: SystemTime) -> io::Result<()> {
    for item in std::fs::read_dir(layout.staging())? {
        let dir = item?.path();
        match crate::staging::staged_release(&dir) {
            Some((app, digest)) => keep_or_wipe(layout, &dir, &app, &digest)?,
            None => durable::remove_tree(&dir)?,
        }
    }
    for item in std::fs::read_dir(layout.chunks())? {
        let item = item?;
        let age = item.metadata()?.modified().ok().and_then(|at| now.duration_since(at).ok());
        if parse(item.path()).is_none() || age.is_some_and(|age| age > OLDEST) {
            durable::discard(&item.path(), &layout.trash())?;
        }
    }
    Ok(())
}
