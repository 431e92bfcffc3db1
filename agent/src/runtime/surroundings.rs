//! What every command of a release gets on this host, be it the application, a probe or a reload: program and
//! arguments with their variables replaced, environment, user.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{HostContext, Launch, RuntimeError, user};
use crate::shim::order::UserIds;

/// A command ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Absolute program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Prepared {
    /// Replaces the variables and finds the program.
    pub fn new(host: &HostContext, launch: &Launch, command: &[String]) -> Result<Self, RuntimeError> {
        let values = host.values(launch);
        let words = command.iter().map(|word| values.expand(word).map_err(RuntimeError::Variable));
        let mut words = words.collect::<Result<Vec<_>, _>>()?.into_iter();
        let program = words.next().filter(|word| !word.is_empty()).ok_or(RuntimeError::NoCommand)?;
        Ok(Self { program: find_program(&launch.dir, &program)?, args: words.collect() })
    }
}

/// The program of a command: relative to the release's tree unless absolute; must be there and executable.
fn find_program(dir: &Path, program: &str) -> Result<PathBuf, RuntimeError> {
    let path = dir.join(program);
    let Ok(metadata) = path.metadata() else { return Err(RuntimeError::NoProgram(path)) };
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(path)
    } else {
        Err(RuntimeError::NotExecutable(path))
    }
}

/// Environment and user of a release's commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// The user to become.
    pub user: Option<UserIds>,
}

impl Surroundings {
    /// Nothing of the agent's own environment is handed on.
    pub fn new(host: &HostContext, launch: &Launch) -> Result<Self, RuntimeError> {
        let runtime = &launch.spec.runtime;
        let run_as = user::resolve(runtime.user(), &host.policy, &launch.release.app)?;
        let mut env = BTreeMap::new();
        let mut set = |key: &str, value: String| env.insert(key.to_owned(), value);
        set("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        set("HOME", run_as.home);
        set("LANG", "C.UTF-8".to_owned());
        let values = host.values(launch);
        for (key, value) in runtime.env() {
            set(key.as_str(), values.expand(value).map_err(RuntimeError::Variable)?);
        }
        set("WINDLASS_APP", launch.release.app.to_string());
        set("WINDLASS_VERSION", launch.release.version.to_string());
        set("WINDLASS_DIGEST", launch.release.digest.to_string());
        set("WINDLASS_HOST", host.name.to_string());
        set("WINDLASS_ADDRESS", host.address.to_string());
        set("WINDLASS_DATA", launch.data.to_string_lossy().into_owned());
        Ok(Self { env, user: run_as.ids })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_checked_before_anything_is_spawned() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "x").unwrap();
        assert!(matches!(find_program(dir.path(), "no"), Err(RuntimeError::NoProgram(_))));
        assert!(matches!(find_program(dir.path(), "plain"), Err(RuntimeError::NotExecutable(_))));
        assert!(matches!(find_program(dir.path(), "."), Err(RuntimeError::NotExecutable(_))));
        assert_eq!(find_program(dir.path(), "/bin/sh").unwrap(), Path::new("/bin/sh"));
    }
}
