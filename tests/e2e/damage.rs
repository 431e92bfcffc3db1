//! What the agent remembers is damaged while it is off: applications go on, and people are told.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use windlass_tests::agent::{Agent, Ways};
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::report::measured;
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

fn flip(file: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

/// Damages the host while its agent is off; its app is the same process afterwards.
fn damaged(fleet: &Fleet, agent: &mut Agent, app: &App, version: &str, damage: impl FnOnce(&Path)) {
    let pid = |fleet: &Fleet| fleet.versions("web").remove("host-1").unwrap()["attested"]["pid"].clone();
    let before = pid(fleet);
    let sessions = agent.sessions_so_far();
    agent.program.kill();
    damage(&agent.host.state_dir);
    let begun = Instant::now();
    agent.program.restart();
    agent.sessions(sessions);
    measured("from the start of an agent with damaged state to its session", begun.elapsed());
    fleet.serves(app.port, version);
    until("the host has told of its app", LIMIT, || (pid(fleet) == before).then_some(()));
}

fn problems(fleet: &Fleet) -> String {
    fleet.json(&["host", "show", "host-1"])["facts"]["problems"].to_string()
}

#[test]
fn a_damaged_store_or_journal_touches_no_app_and_is_said_loudly() {
    let fleet = fleet::new().hosts(1).up();
    let mut agent = Agent::take(&fleet, 1, Ways::default());
    let app = App::new("web", free_port(1));
    for version in ["1.0", "2.0"] {
        fleet.deploy(&app.version(version), version).expect(0);
    }
    fleet.serves(app.port, "2.0");

    // The store is only an index: it is made anew, and the next release arrives as ever.
    damaged(&fleet, &mut agent, &app, "2.0", |state| {
        let db = state.join("store/db");
        let bytes = std::fs::metadata(&db).unwrap().len();
        std::fs::File::options().write(true).open(db).unwrap().set_len(bytes / 2 + 7).unwrap();
    });
    fleet.deploy(&app.version("3.0"), "3.0").expect(0);

    // Nobody knows what was lost of the journal: the app runs on, and nothing new comes.
    damaged(&fleet, &mut agent, &app, "3.0", |state| {
        for segment in ["journal.0", "journal.1"] {
            flip(&state.join(segment), 4096 + 40);
        }
    });
    until("its problem is known", LIMIT, || problems(&fleet).contains("safe mode").then_some(()));
    let shown = fleet.windlass(&["host", "show", "host-1"]).expect(0).stdout;
    assert!(shown.contains("problem   safe mode"), "{shown}");
    let refused = fleet.deploy(&app.version("4.0"), "4.0").expect(3);
    assert!(refused.stderr.contains("safe mode") && refused.stderr.contains("rm "), "{}", refused.stderr);
    fleet.serves(app.port, "3.0");

    // It lasts until somebody has looked.
    damaged(&fleet, &mut agent, &app, "3.0", |_| {});
    assert!(problems(&fleet).contains("safe mode"));
    damaged(&fleet, &mut agent, &app, "3.0", |state| {
        std::fs::remove_file(state.join("safe-mode")).unwrap();
    });
    assert_eq!(problems(&fleet), "[]");
    fleet.deploy(&app.version("4.1"), "4.1").expect(0);
    fleet.serves(app.port, "4.1");
}
