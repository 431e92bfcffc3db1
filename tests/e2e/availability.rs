//! What users saw of a rollout, as the coordinator counts it by asking one URL.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use windlass_tests::agent::{Ways, take_coordinator};
use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::wait::{pass, until};

const LIMIT: Duration = Duration::from_secs(60);

/// Something that users reach, until it is out of order.
struct Site {
    url: String,
    out_of_order: Arc<AtomicBool>,
}

impl Site {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/health", listener.local_addr().unwrap());
        let out_of_order = Arc::new(AtomicBool::new(false));
        let is_out = Arc::clone(&out_of_order);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let status = if is_out.load(Ordering::SeqCst) { "503 Service Unavailable" } else { "200 OK" };
                let _ = stream.read(&mut [0; 4096]);
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { url, out_of_order }
    }
}

fn app(url: &str) -> App {
    let mut app = App::new("web", free_port(2));
    app.rollout = format!(
        "  strategy: {{ batches: [1, 100%], min_healthy_time: 4s, healthy_deadline: 20s, progress_deadline: 60s }}\n  \
         host: {{ confirm_timeout: 10s }}\n  availability: {{ url: \"{url}\", period: 200ms }}\n"
    );
    app
}

#[test]
fn an_outage_is_counted_in_the_step_in_which_users_had_it() {
    let fleet = fleet::new().hosts(2).up();
    let site = Site::open();
    let app = app(&site.url);
    let rollout = fleet.deploy_start(&app.version("1.0"), "1.0");
    let seen = || fleet.newest_rollout().map(|rollout| rollout["availability"].clone());
    let in_batch = |seen: &Value| {
        let steps = seen["steps"].as_array().unwrap();
        steps.iter().any(|step| step["step"] == "batch 1" && step["sent"].as_u64().unwrap() > 2)
    };
    until("the first batch is watched", LIMIT, || seen().filter(in_batch));
    site.out_of_order.store(true, Ordering::SeqCst);
    until("the outage is counted", LIMIT, || seen().filter(|seen| seen["failed"].as_u64().unwrap() > 0));
    pass(Duration::from_secs(1));
    site.out_of_order.store(false, Ordering::SeqCst);

    let ended = rollout.finish().expect(0);
    let seen = seen().unwrap();
    assert_eq!(seen["url"], site.url.as_str());
    let gap = seen["longest_gap_seconds"].as_f64().unwrap();
    assert!(gap >= 1.0, "{seen}");
    let failed = seen["failed"].as_u64().unwrap();
    assert!(failed >= 3 && failed < seen["sent"].as_u64().unwrap(), "{seen}");
    let steps = seen["steps"].as_array().unwrap();
    let first = steps.iter().find(|step| step["step"] == "batch 1").unwrap();
    assert_eq!(first["longest_gap_seconds"].as_f64(), Some(gap), "{seen}");
    assert!(steps.iter().any(|step| step["step"] == "batch 2" && step["failed"] == 0), "{seen}");

    let words = format!("{failed} of {} failed, longest gap {gap:.1}s in batch 1", seen["sent"]);
    assert!(ended.stderr.contains(&words), "{words}\n{}", ended.stderr);
    let shown = fleet.windlass(&["rollout", "show", fleet.newest_rollout().unwrap()["id"].as_str().unwrap()]);
    assert!(shown.stdout.contains(&words), "{words}\n{}", shown.stdout);
}

#[test]
fn without_any_roots_the_coordinator_starts_and_asks_what_needs_none() {
    let fleet = fleet::new().hosts(2).up();
    let none = |name: &str| (name.to_owned(), "/nonexistent".to_owned());
    let variables = vec![none("SSL_CERT_FILE"), none("SSL_CERT_DIR")];
    let coordinator = take_coordinator(&fleet, Ways { variables, ..Ways::default() });
    until("the coordinator answers", LIMIT, || (fleet.windlass(&["host", "list"]).code == 0).then_some(()));
    let site = Site::open();
    fleet.deploy(&app(&site.url).version("1.0"), "1.0").expect(0);
    let seen = fleet.newest_rollout().unwrap()["availability"].clone();
    assert!(seen["sent"].as_u64().unwrap() > 2 && seen["failed"] == 0, "{seen}");
    assert!(coordinator.log().contains("install ca-certificates"), "{}", coordinator.log());
}

#[test]
fn what_the_coordinator_may_not_dial_is_refused_before_a_host_is_touched() {
    let fleet = fleet::new().hosts(2).up();
    let app = app("http://shop.example/health");
    let refused = fleet.deploy(&app.version("1.0"), "1.0");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("may not dial http://shop.example/health"), "{}", refused.stderr);
    assert!(refused.stderr.contains("dial_allow"), "{}", refused.stderr);
    assert_eq!(fleet.newest_rollout(), None);

    let spec = app.version("1.0");
    let text = std::fs::read_to_string(&spec).unwrap();
    for (wrong, why) in [
        (text.replace("http://shop.example/health", "ftp://shop.example"), "does not begin with http"),
        (text.replace("period: 200ms", "period: 1ms"), "is not a time from 100ms to 1m"),
        (text.replace("period: 200ms", "every: 1s"), "period"),
    ] {
        std::fs::write(&spec, wrong).unwrap();
        let invalid = fleet.windlass(&["validate", "-f", spec.to_str().unwrap()]).expect(2);
        assert!(
            invalid.stderr.contains(why) && invalid.stderr.contains("windlass.yaml:"),
            "{}",
            invalid.stderr
        );
    }
}
