//! Events for machines: whoever follows them misses none and sees none twice.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;
use windlass_tests::app::App;
use windlass_tests::fleet::{self, Fleet};
use windlass_tests::http::free_port;
use windlass_tests::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// `windlass events --follow`, writing to a file; killed when it goes out of scope.
struct Follower(Child);

impl Follower {
    fn start(fleet: &Fleet, after: u64, file: &Path) -> Self {
        let mut command =
            fleet.command(&["events", "--follow", "-o", "jsonl", "--after", &after.to_string()]);
        let file = std::fs::File::create(file).unwrap();
        Self(command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Numbers of the events in a file, of which the last line may be on its way.
fn seqs(file: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let events = text.lines().map_while(|line| serde_json::from_str::<Value>(line).ok());
    events.map(|event| event["seq"].as_u64().unwrap()).collect()
}

fn newest(fleet: &Fleet) -> u64 {
    let events = fleet.json(&["events", "--limit", "1"]);
    events["events"][0]["seq"].as_u64().unwrap()
}

#[test]
fn whoever_follows_resumes_over_a_restart_without_gap_or_double() {
    let fleet = fleet::new().hosts(2).up();
    let (all, rest) = (fleet.dir().join("all.jsonl"), fleet.dir().join("rest.jsonl"));
    let _follower = Follower::start(&fleet, 0, &all);
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let middle = newest(&fleet);
    fleet.kill_coordinator();
    fleet.start();
    fleet.deploy(&app.version("2.0"), "2.0").expect(0);
    let last = newest(&fleet);
    assert!(last > middle + 5);

    let whole: Vec<u64> = (1..=last).collect();
    until("the follower has seen all", LIMIT, || (seqs(&all).last() == whole.last()).then_some(()));
    assert_eq!(seqs(&all), whole);

    // Another one goes on from where a first one ended.
    let _second = Follower::start(&fleet, middle, &rest);
    until("the second follower has seen the rest", LIMIT, || {
        (seqs(&rest).last() == whole.last()).then_some(())
    });
    assert_eq!(seqs(&rest), whole[middle as usize..]);

    // In pages, without following.
    let page = |after: u64| {
        let page = fleet.json(&["events", "--after", &after.to_string(), "--limit", "3"]);
        let events = page["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["seq"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(page(0), [1, 2, 3]);
    assert_eq!(page(middle), [middle + 1, middle + 2, middle + 3]);
    assert_eq!(page(last), [0; 0]);
    let never = fleet.windlass(&["events", "--after", &(last + 1).to_string()]).expect(7);
    assert!(never.stderr.contains("has not happened here"), "{}", never.stderr);

    // Each of them is documented, with its fields.
    let kinds = fleet.json(&["events", "--kinds"]);
    let kinds = kinds["kinds"].as_array().unwrap();
    let text = std::fs::read_to_string(&all).unwrap();
    for event in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let kind = kinds.iter().find(|kind| kind["type"] == event["type"]);
        let kind = kind.unwrap_or_else(|| panic!("{event} is of no kind"));
        for field in kind["has"].as_array().unwrap() {
            assert!(event[field.as_str().unwrap()].is_string(), "{event}");
        }
    }
}
