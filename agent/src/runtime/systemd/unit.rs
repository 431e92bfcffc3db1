//! The text of an application's unit, see systemd.service(5), systemd.exec(5) and systemd.syntax(7).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use windlass_proto::spec::{CpuQuota, Stop};

use super::memory::VERB;
use crate::shim::order::Order;

/// Most bytes of a unit that a bundle brings.
pub const OWN_BYTES: u64 = 64 * 1024;

/// What a unit must know besides what it runs.
#[derive(Debug, Clone, Copy)]
pub struct Maker<'a> {
    /// The agent's program, where memory must be looked at: see [`super::memory`].
    pub looks: Option<&'a Path>,
    /// The application's run directory.
    pub run: &'a Path,
    /// How it is stopped.
    pub stop: &'a Stop,
    /// Most processor time.
    pub cpu_quota: Option<CpuQuota>,
}

/// Files of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The unit.
    pub file: String,
    /// What is set on top of it.
    pub more: Option<String>,
}

/// The unit that runs a command.
pub fn text(order: &Order, maker: &Maker<'_>) -> String {
    let release = &order.release;
    let mut text = format!(
        "# Written by windlass-agent for {release}, and again at each switch; gone at the next boot, when the confirmed \
         release's is written.\n\
         [Unit]\n\
         Description={app} {version} (windlass)\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=exec\n\
         WorkingDirectory={dir}\n",
        app = release.app,
        version = escape_specifiers(release.version.as_ref()),
        dir = escape_specifiers(&order.dir.to_string_lossy()),
    );
    // `:` keeps systemd from replacing variables in it: what stands there is what the release says.
    let words = std::iter::once(order.program.to_string_lossy()).chain(order.args.iter().map(Into::into));
    let words: Vec<String> = words.map(|word| quote(&word)).collect();
    line(&mut text, "ExecStart", &format!(":{}", words.join(" ")));
    if let Some(user) = order.user {
        line(&mut text, "User", &user.uid.to_string());
        line(&mut text, "Group", &user.gid.to_string());
    }
    if let Some(bytes) = order.memory_max {
        line(&mut text, "MemoryMax", &bytes.to_string());
        line(&mut text, "MemorySwapMax", "0");
    }
    if let Some(files) = order.open_files {
        line(&mut text, "LimitNOFILE", &files.to_string());
    }
    if let Some(quota) = maker.cpu_quota {
        line(&mut text, "CPUQuota", &quota.to_string());
    }
    let signal = &maker.stop.signal;
    line(
        &mut text,
        "KillSignal",
        &if signal.starts_with("SIG") { signal.clone() } else { format!("SIG{signal}") },
    );
    // The stop signal is for the application, which ends its own; SIGKILL is for all that is left.
    line(&mut text, "KillMode", "mixed");
    line(&mut text, "Restart", "on-failure");
    line(&mut text, "RestartSec", "1");
    text + &needs(maker)
}

/// A unit of the bundle's own, with what the agent needs of it on top.
pub fn own(file: String, maker: &Maker<'_>) -> Unit {
    Unit { file, more: Some(format!("# Written by windlass-agent.\n[Service]\n{}", needs(maker))) }
}

/// What the agent needs of every unit. The environment is in a file of its own: anybody may read units.
fn needs(maker: &Maker<'_>) -> String {
    let mut text = String::new();
    let path = |path: &Path| escape_specifiers(&path.to_string_lossy());
    line(&mut text, "EnvironmentFile", &path(&maker.run.join("environment")));
    line(&mut text, "TimeoutStopSec", &format!("{}ms", maker.stop.grace.0));
    // Every command of a unit gets the application's environment, which decides what a program loads: so none of the agent's
    // may run as root here.
    if let Some(agent) = maker.looks {
        line(&mut text, "ExecStopPost", &format!("-:{} {VERB}", quote(&agent.to_string_lossy())));
    }
    text
}

fn line(text: &mut String, key: &str, value: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "{key}={value}");
}

/// `%` begins a specifier in most settings.
fn escape_specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// A word of a command line: quoted, with what systemd would read otherwise escaped.
fn quote(word: &str) -> String {
    format!("\"{}\"", escape_specifiers(&escape(word)))
}

fn escape(word: &str) -> String {
    let mut escaped = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control() => c.to_string().bytes().for_each(|byte| {
                let _ = write!(escaped, "\\x{byte:02x}");
            }),
            c => escaped.push(c),
        }
    }
    escaped
}

/// An environment as EnvironmentFile= reads it: in double quotes a backslash stands before what a shell would read.
pub fn environment(env: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (key, value) in env {
        let mut quoted = String::with_capacity(value.len());
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '`' | '$') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        line(&mut text, key, &format!("\"{quoted}\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use windlass_proto::digest::Digest;
    use windlass_proto::release::ReleaseRef;
    use windlass_proto::time::Span;

    use super::*;
    use crate::shim::order::UserIds;

    fn order() -> Order {
        Order {
            release: ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.4.0".parse().unwrap(),
                digest: Digest::of(b"x"),
                counter: 1,
            },
            mark: String::new(),
            program: "/srv/shop/bin/shop".into(),
            args: ["--name", "a b", "100%", "say \"hi\" $HOME", "two\nlines"].map(Into::into).into(),
            dir: "/srv/shop".into(),
            env: BTreeMap::new(),
            user: Some(UserIds { uid: 33, gid: 34 }),
            memory_max: Some(1 << 30),
            open_files: Some(4096),
            log: None,
        }
    }

    #[test]
    fn a_unit_says_all_that_the_spec_says() {
        let stop = Stop { signal: "INT".into(), grace: Span::secs(7) };
        let maker = Maker {
            looks: Some(Path::new("/usr/bin/windlass-agent")),
            run: Path::new("/run/windlass/shop"),
            stop: &stop,
            cpu_quota: Some(CpuQuota(150)),
        };
        let text = text(&order(), &maker);
        for line in [
            r#"ExecStart=:"/srv/shop/bin/shop" "--name" "a b" "100%%" "say \"hi\" $HOME" "two\nlines""#,
            "User=33",
            "Group=34",
            "MemoryMax=1073741824",
            "LimitNOFILE=4096",
            "CPUQuota=150%",
            "KillSignal=SIGINT",
            "TimeoutStopSec=7000ms",
            "EnvironmentFile=/run/windlass/shop/environment",
            r#"ExecStopPost=-:"/usr/bin/windlass-agent" unit-memory"#,
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing:\n{text}");
        }
        let own = own("[Service]\nExecStart=/bin/true\n".into(), &maker);
        assert_eq!(own.file, "[Service]\nExecStart=/bin/true\n");
        let more = own.more.unwrap();
        assert!(more.contains("unit-memory"), "{more}");
        // Whatever is run by `+` or `!` would be run as root, in an environment that the author chose.
        for line in text.lines().chain(more.lines()).filter(|line| line.starts_with("Exec")) {
            let (_, command) = line.split_once('=').unwrap();
            assert!(!command.split('"').next().unwrap().contains(['+', '!']), "{line}");
        }
        let plain = needs(&Maker { looks: None, ..maker });
        assert!(!plain.contains("Exec"), "{plain}");
    }

    #[test]
    fn an_environment_is_quoted_as_a_shell_would() {
        let env = BTreeMap::from([("A".to_owned(), "x \"y\" $z `w` \\ #\nn".to_owned())]);
        assert_eq!(environment(&env), "A=\"x \\\"y\\\" \\$z \\`w\\` \\\\ #\nn\"\n");
    }
}
