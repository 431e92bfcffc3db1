//! Docker, and the image that hosts are made of.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::needs;
use crate::run::{Ended, run, run_within};
use crate::wait::{pass, until};

/// What every host has besides Debian's essential packages.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,iproute2,iptables,procps,ca-certificates,libfaketime,init-system-helpers";

/// The image is made anew when this, or what a host has, changes.
const EDITION: u32 = 1;

/// PID 1 of a host before systemd takes over. A host that is started again has another boot id, as a machine would; the
/// kernel's is the same for all containers.
const INIT: &str = "#!/bin/sh
cat /proc/sys/kernel/random/uuid > /run/boot-id
mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
exec /lib/systemd/systemd
";

/// Longest that debootstrap may take over a slow network.
const BOOTSTRAP: Duration = Duration::from_secs(900);

/// Runs docker.
pub fn docker(args: &[&str]) -> Ended {
    run(Command::new("docker").args(args))
}

/// A Docker daemon: the machine's, or one of our own while there is none.
#[derive(Debug)]
pub struct Engine {
    own: Option<Child>,
}

impl Engine {
    /// Finds or starts one; `None`, and says why, where there can be none.
    ///
    /// # Panics
    /// Under `CI`, instead of answering none.
    pub fn start() -> Option<Self> {
        let needed = [
            ("docker", "docker.io"),
            ("dockerd", "docker.io"),
            ("debootstrap", "debootstrap"),
            ("iptables", "iptables"),
            ("ip", "iproute2"),
        ];
        if !needs::root_and(&needed) {
            return None;
        }
        let answers = || docker(&["version"]).code == 0;
        if answers() {
            return Some(Self { own: None });
        }
        let log = std::fs::File::create(std::env::temp_dir().join("windlass-tests.dockerd.log")).unwrap();
        let mut daemon = Command::new("dockerd");
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let engine = Self { own: Some(daemon.spawn().unwrap()) };
        until("dockerd answers (its log: windlass-tests.dockerd.log)", Duration::from_secs(60), || {
            answers().then_some(())
        });
        Some(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Some(daemon) = &mut self.own else { return };
        // Containers are gone by now, so it has nothing to wait for.
        let _ = kill(Pid::from_raw(i32::try_from(daemon.id()).unwrap()), Signal::SIGTERM);
        for _ in 0..200 {
            if matches!(daemon.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            pass(Duration::from_millis(100));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}

/// The image's name; made when the engine does not have it yet.
pub fn image() -> String {
    let suite = suite();
    let recipe = format!("{EDITION} {suite} {PACKAGES} {INIT}");
    let tag = windlass_proto::digest::Digest::of(recipe.as_bytes()).hex()[..12].to_owned();
    let name = format!("windlass-test-host:{tag}");
    if docker(&["image", "inspect", &name]).code != 0 {
        make(&suite, &name);
    }
    name
}

/// The release of Debian or Ubuntu that this machine has; so its programs run on the hosts too.
fn suite() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename.expect("/etc/os-release has a VERSION_CODENAME").trim_matches('"').to_owned()
}

fn make(suite: &str, name: &str) {
    let dir = tempfile::Builder::new().prefix("windlass-image").tempdir().unwrap();
    let root = dir.path().join("root");
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]).arg(&root);
    run_within(&mut bootstrap, BOOTSTRAP).expect(0);
    // Each host gets one of its own when it first boots.
    std::fs::write(root.join("etc/machine-id"), "").unwrap();
    std::fs::write(root.join("init-host"), INIT).unwrap();
    let init = root.join("init-host");
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_dir_all(root.join("var/cache/apt/archives"));
    import(&root, name);
}

fn import(root: &Path, name: &str) {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).args(["-c", "."]).stdout(Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    let mut import = Command::new("docker");
    import.args(["import", "--change", "CMD [\"/init-host\"]", "-", name]);
    let ended = import.stdin(tar.stdout.take().unwrap()).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(tar.wait().unwrap().success());
}
