//! Why the kernel lets a user not run a program, as far as modes and mounts tell: the host's affair, not the release's.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, User, getgroups};

use crate::shim::order::UserIds;

/// What keeps a user from running a program.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Bar {
    /// A directory on the way cannot be entered.
    Enter(PathBuf, u32),
    /// The file itself.
    Run(PathBuf, u32),
    /// The file system runs nothing.
    NoExec(PathBuf),
}

/// What keeps `user` (the agent's own where none is named) from running `program` in the working directory `dir`, in one
/// sentence; `None` where modes and mounts allow it.
pub fn why(program: &Path, dir: &Path, user: Option<UserIds>) -> Option<String> {
    let who = Who::new(user);
    let bar = way(dir).chain(program.parent().into_iter().flat_map(way)).find_map(|on| who.enter(&on));
    let bar = bar.or_else(|| who.run(program)).or_else(|| no_exec(program))?;
    let name = &who.name;
    Some(match bar {
        Bar::Enter(path, mode) => format!("user {name} cannot enter {} ({mode:04o})", path.display()),
        Bar::Run(path, mode) => format!("user {name} may not run {} ({mode:04o})", path.display()),
        Bar::NoExec(mount) => format!("{} is mounted noexec", mount.display()),
    })
}

/// The directories on the way to a path, from the root, and the path.
fn way(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut all: Vec<PathBuf> = path.ancestors().map(Path::to_owned).collect();
    all.reverse();
    all.into_iter()
}

struct Who {
    uid: Uid,
    groups: Vec<Gid>,
    name: String,
}

impl Who {
    fn new(user: Option<UserIds>) -> Self {
        let (uid, groups) = match user {
            Some(UserIds { uid, gid }) => (Uid::from_raw(uid), vec![Gid::from_raw(gid)]),
            None => (Uid::effective(), getgroups().unwrap_or_default()),
        };
        let name = match User::from_uid(uid) {
            Ok(Some(user)) => user.name,
            _ => uid.to_string(),
        };
        Self { uid, groups, name }
    }

    /// Whether the execute bit that is for this user is set.
    fn has_bit(&self, file: &Metadata) -> bool {
        let mode = file.permissions().mode();
        let bit = if file.uid() == self.uid.as_raw() {
            0o100
        } else if self.groups.iter().any(|group| group.as_raw() == file.gid()) {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }

    fn enter(&self, dir: &Path) -> Option<Bar> {
        let metadata = dir.metadata().ok()?;
        let barred = metadata.is_dir() && !self.uid.is_root() && !self.has_bit(&metadata);
        barred.then(|| Bar::Enter(dir.to_owned(), metadata.permissions().mode() & 0o7777))
    }

    fn run(&self, program: &Path) -> Option<Bar> {
        let metadata = program.metadata().ok()?;
        let any = metadata.permissions().mode() & 0o111 != 0;
        let may = if self.uid.is_root() { any } else { self.has_bit(&metadata) };
        (!may).then(|| Bar::Run(program.to_owned(), metadata.permissions().mode() & 0o7777))
    }
}

fn no_exec(program: &Path) -> Option<Bar> {
    let real = program.canonicalize().ok()?;
    if !statvfs(&real).ok()?.flags().contains(FsFlags::ST_NOEXEC) {
        return None;
    }
    let device = real.metadata().ok()?.dev();
    let within = |path: &&Path| path.metadata().is_ok_and(|metadata| metadata.dev() == device);
    let mount = real.ancestors().take_while(within).last().unwrap_or(&real);
    Some(Bar::NoExec(if mount.as_os_str() == OsStr::new("") { real.clone() } else { mount.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_bars_the_way_is_named_with_its_mode() {
        let place = tempfile::tempdir().unwrap();
        set(place.path(), 0o755);
        let apps = place.path().join("apps");
        let tree = apps.join("shop/tree");
        fs::create_dir_all(&tree).unwrap();
        let program = tree.join("srv");
        fs::write(&program, "x").unwrap();
        set(&program, 0o755);
        // A user that nobody is, so that only the bits for others count.
        let nobody = Some(UserIds { uid: 64_999, gid: 64_999 });
        let why = |user| why(&program, &tree, user);
        assert_eq!(why(nobody), None);
        assert_eq!(why(None), None);
        set(&apps, 0o700);
        assert_eq!(why(nobody).unwrap(), format!("user 64999 cannot enter {} (0700)", apps.display()));
        let group = Some(UserIds { uid: 64_999, gid: fs::metadata(&apps).unwrap().gid() });
        set(&apps, 0o710);
        assert_eq!(why(group), None);
        assert!(why(nobody).unwrap().ends_with("apps (0710)"));
        set(&apps, 0o755);
        set(&program, 0o750);
        assert!(why(nobody).unwrap().contains("may not run"), "{:?}", why(nobody));
    }

    #[test]
    fn a_file_system_that_runs_nothing_is_named() {
        // Of the kernel's own file systems, /proc is mounted so wherever there is one.
        let status = Path::new("/proc/self/status");
        if statvfs(status).unwrap().flags().contains(FsFlags::ST_NOEXEC) {
            assert_eq!(no_exec(status), Some(Bar::NoExec("/proc".into())));
        }
    }
}
