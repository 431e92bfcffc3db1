//! What applications, releases and operators say is shown; it acts on nobody's terminal, and looks like no other line.

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::run::Ended;

/// Sets a title, rings, clears by C1, goes back to the line's beginning, begins another line, turns the direction of reading.
const HOSTILE: &str = "\x1b]0;owned\x07\u{9b}2J\rok\nhost-9  all is well \u{202e}";
/// The same for a shell's printf.
const PRINTED: &str = r"\033]0;owned\007\302\2332J\rok\nhost-9  all is well \342\200\256";
/// What a person sees of its beginning.
const SHOWN: &str = r"\x1b]0;owned\x07\x9b2J\rok";

/// What is left of a text that acts, colours aside: those are windlass's own.
fn acting(text: &str) -> Vec<char> {
    let mut left = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next_if(|c| c.is_ascii_digit() || *c == ';').is_some() {}
                if rest.next() != Some('m') {
                    left.push(c);
                }
            }
            '\n' | '\t' => {}
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}') => {
                left.push(c)
            }
            _ => {}
        }
    }
    left
}

/// Looks at both streams, in colour as on a terminal.
fn seen(fleet: &Fleet, args: &[&str]) -> Ended {
    let ended = fleet.windlass(&[&["--color", "always"], args].concat());
    for text in [&ended.stdout, &ended.stderr] {
        assert_eq!(acting(text), Vec::<char>::new(), "{args:?}: {text:?}");
        let forged = text.lines().any(|line| line.starts_with("host-9"));
        assert!(!forged, "{args:?} shows a line that somebody made up: {text}");
    }
    ended
}

#[test]
fn nothing_that_anybody_says_acts_on_a_terminal() {
    let fleet = fleet::new().hosts(1).up();
    let mut app = App::new("web", free_port(1));
    std::fs::rename(app.dir().join("files/app"), app.dir().join("files/srv")).unwrap();
    app.script("app", &format!("printf '{PRINTED}\\n'\nexec \"$(dirname \"$0\")/srv\" \"$@\""));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    // A hook that says the same and fails: it is in the reason, in the hook's output and in the evidence.
    app.script("hostile", &format!("printf '{PRINTED}\\n' >&2\nexit 1"));
    app.release = "  hooks:\n    after_install: [ { run: [hostile], timeout: 5s } ]\n".into();
    let spec = app.version("1.1");
    let spec = spec.to_str().unwrap();
    let deploy = ["deploy", "-f", spec, "--version", "1.1", "--reason", HOSTILE];
    assert_eq!(seen(&fleet, &deploy).code, 3);
    for act in ["cordon", "uncordon"] {
        seen(&fleet, &["host", act, "host-1", "--reason", HOSTILE]);
    }
    let rollout = fleet.newest_rollout().unwrap()["id"].as_str().unwrap().to_owned();

    let mut told = std::collections::BTreeMap::new();
    for verb in [
        &["status"][..],
        &["versions", "web"],
        &["why", "host-1"],
        &["why", &rollout],
        &["logs", "web"],
        &["events"],
        &["events", "-o", "wide"],
        &["audit"],
        &["audit", "-o", "wide"],
        &["host", "list", "-o", "wide"],
        &["host", "show", "host-1"],
        &["rollout", "list"],
        &["rollout", "show", &rollout],
        &["rollout", "watch", &rollout],
        &["rollout", "watch", &rollout, "-o", "jsonl"],
        &["rollout", "history", "web"],
        &["bundle", "list", "-o", "wide"],
        &["plan", "-f", spec, "--version", "1.2"],
        &["host", "show", HOSTILE],
        &["why", HOSTILE],
        &["token", "list"],
        &["version"],
        &["context", "show"],
    ] {
        let ended = seen(&fleet, verb);
        let text = ended.stdout + &ended.stderr;
        told.insert(verb.join(" "), text.contains(SHOWN) || text.contains(r"\x1b]0;owned"));
    }
    for verb in ["logs web", "why host-1", "events"] {
        assert!(told[verb], "{verb} does not show what was said: {told:?}");
    }

    // Programs get it as it was said.
    let log = fleet.json(&["logs", "web"]);
    let lines = log["hosts"][0]["lines"].as_array().unwrap();
    assert!(
        lines.iter().any(|line| line.as_str().unwrap().contains("\x1b]0;owned\x07\u{9b}2J\rok")),
        "{log}"
    );
    let head = fleet.windlass(&["audit", "--check"]).expect(0);
    assert!(head.stdout.contains("none missing, none changed"), "{}", head.stdout);

    // Logs are read on terminals, too.
    for log in ["coordinator.log", "host-1.log"] {
        let text = std::fs::read_to_string(fleet.dir().join("logs").join(log)).unwrap();
        assert_eq!(acting(&text), Vec::<char>::new(), "{log}");
        assert!(!text.lines().any(|line| line.starts_with("host-9")), "{log}");
    }
}
