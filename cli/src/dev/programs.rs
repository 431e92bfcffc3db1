//! Where the other two programs are: beside this one, then in PATH.

use std::path::{Path, PathBuf};

use crate::error::{ExpectedError, Result};

/// The programs that a fleet is made of.
#[derive(Debug, Clone)]
pub struct Programs {
    /// This program.
    pub windlass: PathBuf,
    /// `windlass-coordinator`.
    pub coordinator: PathBuf,
    /// `windlass-agent`.
    pub agent: PathBuf,
}

impl Programs {
    /// Finds all three.
    pub fn find() -> Result<Self> {
        let windlass = std::env::current_exe()
            .map_err(|error| ExpectedError::failed("cannot find this program's own file").because(error))?;
        let beside = windlass.parent().unwrap_or(Path::new("."));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = vec![beside.to_path_buf()];
        places.extend(std::env::split_paths(&path).filter(|place| place.is_absolute()));
        Ok(Self {
            coordinator: find("windlass-coordinator", &places)?,
            agent: find("windlass-agent", &places)?,
            windlass,
        })
    }
}

fn find(name: &str, places: &[PathBuf]) -> Result<PathBuf> {
    let is_program = |path: &PathBuf| {
        use std::os::unix::fs::PermissionsExt;
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    places.iter().map(|place| place.join(name)).find(is_program).ok_or_else(|| {
        let beside = places.first().map(|p| p.display().to_string()).unwrap_or_default();
        ExpectedError::failed(format!("cannot find {name}: it is neither in {beside} nor in PATH")).hint(
            "cargo build --release --locked    (builds windlass, windlass-coordinator and windlass-agent)",
        )
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_executable_files_count_and_the_first_place_wins() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = [a.path().to_path_buf(), b.path().to_path_buf()];
        std::fs::write(a.path().join("tool"), "").unwrap();
        let error = find("tool", &places).unwrap_err().render();
        assert!(error.contains("cargo build"), "{error}");
        for place in &places {
            let file = place.join("tool");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(find("tool", &places).unwrap(), a.path().join("tool"));
    }
}
