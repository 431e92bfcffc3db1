//! From nothing to rollouts on hosts, as the README tells it.

use windlass_tests::app::App;
use windlass_tests::hosts;

#[test]
fn three_hosts_from_nothing_to_a_rollout() {
    let Some(fleet) = hosts::new().up() else { return };
    let list = fleet.json(&["host", "list"]);
    assert_eq!(list["hosts"].as_array().unwrap().len(), 3, "{list}");
    let app = App::on_hosts("web", 8080, "process");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(8080, "1.0");
}
