//! Owning the coordinator is not owning the fleet.

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;

#[test]
fn a_bundle_signed_by_a_foreign_key_runs_on_no_host() {
    let fleet = fleet::new().hosts(2).up();
    let app = App::new("web", free_port(2));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);

    // Somebody with full access to the coordinator, but another key than the one that the hosts trust.
    let key = fleet.dir().join("keys/author.key");
    std::fs::rename(&key, fleet.dir().join("keys/true.key")).unwrap();
    let foreign = windlass_proto::bundle::AuthorKey::generate().unwrap();
    std::fs::write(&key, foreign.to_pem().unwrap()).unwrap();
    let refused = fleet.deploy(&app.version("6.6.6"), "6.6.6").expect(3);
    assert!(refused.stderr.contains("signed") || refused.stderr.contains("signature"), "{}", refused.stderr);
    fleet.serves(app.port, "1.0");
    // Either host may be the first to refuse it; the other is then told to leave it.
    let rollout = fleet.newest_rollout().unwrap();
    let why = fleet.json(&["why", rollout["id"].as_str().unwrap()]);
    assert_eq!(why["fault"], "policy", "{why}");
}

#[test]
fn an_operator_without_a_certificate_of_this_fleet_is_refused() {
    let (fleet, other) = (fleet::new().hosts(1).up(), fleet::new().hosts(1).up());
    for file in ["admin.pem", "admin.key"] {
        std::fs::copy(other.dir().join(file), fleet.dir().join(file)).unwrap();
    }
    let refused = fleet.windlass(&["host", "list"]);
    assert!([4, 5].contains(&refused.code), "{}: {}", refused.code, refused.stderr);
    assert!(refused.stdout.is_empty(), "{}", refused.stdout);
}
