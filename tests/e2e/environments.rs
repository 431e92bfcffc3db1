//! One app in two environments of one fleet.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::needs;
use windlass_tests::programs::root;
use windlass_tests::run::{Ended, run_within};
use windlass_tests::wait::until;

/// What README says of environments: its part of a spec, and the commands.
fn readme() -> (String, Vec<String>) {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let part = readme.split("**Environments.**").nth(1).unwrap();
    let block = |kind: &str| {
        let block = part.split(&format!("```{kind}\n")).nth(1).unwrap();
        block.split("```").next().unwrap().to_owned()
    };
    let commands =
        block("sh").lines().map(|line| line.split('#').next().unwrap().trim().to_owned()).collect();
    (block("yaml"), commands)
}

/// Four hosts, two labelled for each environment, and an app with README's environments.
fn world(name: &str) -> (Fleet, App) {
    let fleet = fleet::new().hosts(4).up();
    let mut app = App::new(name, free_port(4));
    app.rollout.push_str(&readme().0);
    for host in 1..=4 {
        let of = if host < 3 { "env=staging" } else { "env=production" };
        fleet.windlass(&["host", "label", &format!("host-{host}"), of]).expect(0);
    }
    (fleet, app)
}

fn deploy(fleet: &Fleet, app: &App, of: &str, version: &str, more: &[&str]) -> Ended {
    let spec = app.version(version);
    let args = ["deploy", "-f", spec.to_str().unwrap(), "--env", of, "--version", version];
    fleet.windlass(&[&args, more].concat())
}

/// Environment and version of each host that runs the app.
fn runs(fleet: &Fleet, args: &[&str]) -> BTreeMap<String, String> {
    let rows = fleet.json(&[&["versions"], args].concat());
    let rows = rows["rows"].as_array().unwrap().clone();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("none").to_owned();
    let shown = |row: &serde_json::Value| {
        (text(&row["host"]), format!("{} {}", text(&row["environment"]), text(&row["version"])))
    };
    rows.iter().map(shown).collect()
}

fn are(rows: &[(&str, &str)]) -> BTreeMap<String, String> {
    rows.iter().map(|(host, is)| ((*host).to_owned(), (*is).to_owned())).collect()
}

#[test]
fn what_the_readme_shows_of_environments_is_so() {
    let (fleet, app) = world("shop-api");
    deploy(&fleet, &app, "staging", "1.8.0", &[]).expect(0);
    let (_, commands) = readme();
    assert!(commands.len() >= 5, "{commands:?}");
    let mut after = BTreeMap::new();
    for command in commands {
        if let Some(version) = command.split("--version ").nth(1) {
            app.version(version.split(' ').next().unwrap());
        }
        let mut shell = std::process::Command::new("sh");
        let own = fleet.command(&[]);
        let windlass = own.get_program().to_str().unwrap();
        let set = own.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        shell.args(["-c", &command.replacen("windlass", &format!("'{windlass}'"), 1)]);
        shell.envs(set).env_remove("WINDLASS_CONTEXT").current_dir(app.dir());
        run_within(&mut shell, Duration::from_secs(120)).expect(0);
        after.insert(command, runs(&fleet, &["shop-api"]));
    }
    let at = |words: &str| after.iter().find(|(command, _)| command.contains(words)).unwrap().1.clone();
    assert_eq!(
        at("rollback"),
        are(&[
            ("host-1", "staging 1.8.0"),
            ("host-2", "staging 1.8.0"),
            ("host-3", "production 1.9.0"),
            ("host-4", "production 1.9.0"),
        ])
    );
    assert_eq!(
        at("--take-from staging"),
        are(&[
            ("host-1", "staging 1.8.0"),
            ("host-2", "production 2.0.0"),
            ("host-3", "production 2.0.0"),
            ("host-4", "production 2.0.0"),
        ])
    );
    // What is shown of one is shown of one.
    assert_eq!(runs(&fleet, &["shop-api", "--env", "staging"]), are(&[("host-1", "staging 1.8.0")]));
    let revisions = |of: &str| {
        let list = fleet.json(&["rollout", "history", "shop-api", "--env", of]);
        let rollouts = list["rollouts"].as_array().unwrap().clone();
        rollouts.iter().map(|r| r["revision"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((revisions("staging"), revisions("production")), (vec![3, 2, 1], vec![2, 1]));
    for verb in [&["versions"][..], &["status"], &["rollout", "list"], &["rollout", "history", "shop-api"]] {
        let table = fleet.windlass(verb).expect(0).stdout;
        assert!(
            table.lines().next().unwrap().split_whitespace().any(|word| word == "ENV"),
            "{verb:?}: {table}"
        );
        let one = fleet.windlass(&[verb, &["--env", "staging"]].concat()).expect(0).stdout;
        assert!(!one.contains("ENV") && !one.contains("2.0.0"), "{verb:?}: {one}");
    }
    let moved = fleet.windlass(&["events", "-o", "jsonl"]).expect(0).stdout;
    let moved: Vec<&str> = moved.lines().filter(|line| line.contains("\"host.moved\"")).collect();
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert!(moved[0].contains("host-2 was taken from shop-api in staging, for production"), "{moved:?}");
    let audit = fleet.windlass(&["audit"]).expect(0).stdout;
    assert!(audit.contains("app shop-api, environment production, hosts taken from staging"), "{audit}");
}

#[test]
fn one_environment_goes_back_while_the_other_is_held() {
    let (fleet, mut app) = world("web");
    for version in ["1.0", "2.0"] {
        deploy(&fleet, &app, "production", version, &[]).expect(0);
    }
    deploy(&fleet, &app, "staging", "1.0", &[]).expect(0);
    // Held between its two hosts.
    app.rollout = app.rollout.replace("batches: [1, 3, 100%]", "batches: [1, 100%], pause_between: 5m");
    deploy(&fleet, &app, "staging", "2.0", &["--reason", "the spring sale", "--detach"]).expect(0);
    let open = |fleet: &Fleet| {
        let open = fleet.json(&["rollout", "list", "--open", "--env", "staging"]);
        open["rollouts"].as_array().unwrap().first().cloned()
    };
    let held = open(&fleet).unwrap();
    let id = held["id"].as_str().unwrap();
    assert_eq!(
        (held["environment"].as_str(), held["reason"].as_str()),
        (Some("staging"), Some("the spring sale"))
    );
    until("one host of staging on 2.0", Duration::from_secs(60), || {
        let on = runs(&fleet, &["web", "--env", "staging"]);
        on.values().any(|is| is == "staging 2.0").then_some(())
    });
    fleet.windlass(&["rollout", "pause", id]).expect(0);

    fleet.windlass(&["rollback", "web", "--env", "production", "--yes"]).expect(0);
    let production = are(&[("host-3", "production 1.0"), ("host-4", "production 1.0")]);
    assert_eq!(runs(&fleet, &["web", "--env", "production"]), production);
    assert_eq!(open(&fleet).unwrap()["id"], id, "staging is where it was");

    let busy = deploy(&fleet, &app, "staging", "3.0", &[]).expect(7);
    for word in ["web in staging is held by rollout", id, "operator/", "ago", "the spring sale"] {
        assert!(busy.stderr.contains(word), "{word}: {}", busy.stderr);
    }
    // A host of staging is not taken, with leave neither while its rollout is open.
    fleet.windlass(&["host", "label", "host-2", "env=production"]).expect(0);
    let refused = deploy(&fleet, &app, "production", "3.0", &[]).expect(7);
    for word in ["host-2: of web in staging", "--take-from staging"] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    let refused = deploy(&fleet, &app, "production", "3.0", &["--take-from", "staging"]).expect(7);
    assert!(refused.stderr.contains("which is held by rollout"), "{}", refused.stderr);

    fleet.windlass(&["rollout", "abort", id, "--yes", "--wait"]).expect(0);
    // Nobody guesses which is meant.
    let which = fleet.windlass(&["rollback", "web"]).expect(2);
    assert!(which.stderr.contains("which environment? web has production, staging"), "{}", which.stderr);
    for verb in [
        &["rollback", "web"][..],
        &["versions", "web"],
        &["status", "web"],
        &["logs", "web"],
        &["why", "host-1"],
    ] {
        let unknown = fleet.windlass(&[verb, &["--env", "stagin"]].concat()).expect(2);
        for word in ["did you mean \"staging\"?", "there are: production, staging"] {
            assert!(unknown.stderr.contains(word), "{verb:?}: {word}: {}", unknown.stderr);
        }
    }
    if needs::programs(&[("script", "bsdutils")]) {
        let asked = fleet.windlass_on_terminal(&["rollback", "web", "--to", "2.0"], "1\nn\n");
        for word in
            ["1) production", "2) staging", "Which environment of web?", "Roll web (production) back to 2.0"]
        {
            assert!(asked.stdout.contains(word), "{word}: {}", asked.stdout);
        }
        let none = fleet.windlass_on_terminal(&["rollback", "web"], "x\n");
        assert!(none.code == 2 && none.stdout.contains("no environment was chosen"), "{}", none.stdout);
    }
    assert_eq!(runs(&fleet, &["web", "--env", "production"]), production, "nothing was changed");
    // Nor does the host that is labelled for production, and is of staging, stand in the way of going back.
    fleet
        .windlass(&["rollback", "web", "--env", "production", "--to", "2.0", "--yes"])
        .expect(0)
        .says("host-2: not of web");
    let production = are(&[("host-3", "production 2.0"), ("host-4", "production 2.0")]);
    assert_eq!(runs(&fleet, &["web", "--env", "production"]), production);
}
