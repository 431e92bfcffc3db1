//! What users would pick instead: rsync over ssh, to an sshd of our own on loopback with keys and directories of our own.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use windlass_tests::report::skip;
use windlass_tests::wait::until;

use crate::report::Report;
use crate::tree::Release;
use crate::{HOSTS, present, timed};

/// An sshd that ends with this value.
pub(crate) struct Daemon {
    process: Child,
    directory: PathBuf,
    port: u16,
    made_run_sshd: bool,
}

const RUN_SSHD: &str = "/run/sshd";

impl Daemon {
    /// Starts it; `None`, said aloud, where rsync or sshd cannot be had.
    pub(crate) fn start(base: &Path) -> Option<Self> {
        if !have_tools() {
            skip("rsync and sshd are not here and cannot be installed: no peer to compare with");
            return None;
        }
        let directory = base.join("rsync");
        fs::create_dir(&directory).unwrap();
        for key in ["host", "user"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(directory.join(key))
                .status();
            assert!(made.unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = nix::unistd::Uid::effective().is_root();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM {pam}\n\
             MaxStartups 100\nMaxSessions 100\nLogLevel ERROR\nSubsystem sftp internal-sftp\n",
            dir = directory.display(),
            pam = if root { "yes" } else { "no" },
        );
        fs::write(directory.join("sshd_config"), config).unwrap();
        // sshd insists on this directory when it is root.
        let made_run_sshd = root && fs::create_dir(RUN_SSHD).is_ok();
        let sshd =
            ["/usr/sbin/sshd", "/usr/bin/sshd"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        let process = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(directory.join("sshd_config"))
            .stderr(fs::File::create(directory.join("log")).unwrap())
            .spawn()
            .unwrap();
        let daemon = Self { process, directory, port, made_run_sshd };
        until("signing in at our own sshd", Duration::from_secs(10), || {
            daemon.ssh("true").stderr(Stdio::null()).status().unwrap().success().then_some(())
        });
        Some(daemon)
    }

    /// First copy, change and flip to all targets at once; then one more target for the bytes.
    pub(crate) fn measure(&self, release: &Release, run: u32, report: &mut Report) {
        println!("run {run}: rsync");
        let target = |host: u32| self.directory.join(format!("run-{run}/{host}"));
        for host in 0..=HOSTS {
            fs::create_dir_all(target(host)).unwrap();
        }
        let (v1, v2) = (release.v1.join("files/"), release.v2.join("files/"));
        let all = |each: &dyn Fn(u32) -> Command| {
            timed(|| {
                let started: Vec<Child> = (1..=HOSTS).map(|host| each(host).spawn().unwrap()).collect();
                for mut child in started {
                    assert!(child.wait().unwrap().success());
                }
            })
        };
        let first = all(&|host| self.rsync(&["-a"], &v1, &target(host).join("v1")));
        report.time("rsync -a", first);
        let second = all(&|host| self.rsync(&["-a", "--link-dest=../v1"], &v2, &target(host).join("v2")));
        report.time("rsync --link-dest", second);
        let flip = |host: u32| {
            let dir = target(host);
            self.ssh(&format!(
                "ln -sfn v1 {0}/current.new && mv -T {0}/current.new {0}/current",
                dir.display()
            ))
        };
        report.time("ssh link flip", all(&flip));
        self.ansible(&target, report);

        let spare = target(0);
        self.counted(&["-az", "--stats"], &v1, &spare.join("v1"));
        let bytes = self.counted(&["-az", "--stats", "--link-dest=../v1"], &v2, &spare.join("v2"));
        report.bytes("rsync -az bytes", bytes);
    }

    /// The link flip that F4 names, where ansible is there.
    fn ansible(&self, target: &dyn Fn(u32) -> PathBuf, report: &mut Report) {
        if !present("ansible") {
            return;
        }
        let hosts: String = (1..=HOSTS)
            .map(|host| {
                format!(
                    "h{host} ansible_host=127.0.0.1 ansible_port={} ansible_ssh_private_key_file={}/user \
                     ansible_ssh_common_args='-F none -o UserKnownHostsFile={}/known -o StrictHostKeyChecking=no' dir={}\n",
                    self.port,
                    self.directory.display(),
                    self.directory.display(),
                    target(host).display()
                )
            })
            .collect();
        fs::write(self.directory.join("inventory"), hosts).unwrap();
        let took = timed(|| {
            let flipped = Command::new("ansible")
                .args([
                    "all",
                    "-f",
                    "8",
                    "-m",
                    "file",
                    "-a",
                    "src=v2 dest={{dir}}/current state=link force=yes",
                    "-i",
                ])
                .arg(self.directory.join("inventory"))
                .stdout(Stdio::null())
                .status();
            assert!(flipped.unwrap().success());
        });
        report.time("ansible link flip", took);
    }

    /// Bytes both ways of one rsync.
    fn counted(&self, options: &[&str], from: &Path, to: &Path) -> u64 {
        let output = self.rsync(options, from, to).output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).replace([',', '.'], "");
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        number("Total bytes sent:") + number("Total bytes received:")
    }

    fn rsync(&self, options: &[&str], from: &Path, to: &Path) -> Command {
        let mut command = Command::new("rsync");
        let shell = format!("ssh {}", self.options().join(" "));
        command.args(options).args(["-e", &shell]).arg(format!("{}/", from.display()).replace("//", "/"));
        command.arg(format!("127.0.0.1:{}", to.display()));
        command
    }

    fn ssh(&self, line: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.options()).args(["127.0.0.1", line]);
        command
    }

    fn options(&self) -> Vec<String> {
        let dir = self.directory.display();
        let known = format!("UserKnownHostsFile={dir}/known");
        let all =
            ["-F", "none", "-p", &self.port.to_string(), "-i", &format!("{dir}/user"), "-o", &known, "-o"]
                .map(String::from);
        let rest =
            ["StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"].map(String::from);
        [all.to_vec(), rest.to_vec()].concat()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if self.made_run_sshd {
            let _ = fs::remove_dir(RUN_SSHD);
        }
    }
}

fn have_tools() -> bool {
    let have = || ["rsync", "sshd", "ssh", "ssh-keygen"].into_iter().all(present);
    if !have() && nix::unistd::Uid::effective().is_root() && present("apt-get") {
        let install = |args: &[&str]| {
            let mut apt = Command::new("apt-get");
            apt.args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            apt.status().is_ok_and(|status| status.success())
        };
        let packages = ["install", "-y", "--no-install-recommends", "rsync", "openssh-server"];
        let _ = install(&packages) || (install(&["update"]) && install(&packages));
    }
    have()
}
