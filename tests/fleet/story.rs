//! From nothing to rollouts on hosts, as the README tells it.

use windlass_tests::app::App;
use windlass_tests::hosts;

#[test]
fn three_hosts_from_nothing_to_a_rollout() {
    let Some(fleet) = hosts::new().up() else { return };
    let list = fleet.json(&["host", "list"]);
    assert_eq!(list["hosts"].as_array().unwrap().len(), 3, "{list}");
    let app = App::of_kind("web", 8080, "process");
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    fleet.serves(8080, "1.0");
    let unit = App::of_kind("shop", 8081, "systemd");
    fleet.deploy(&unit.version("1.0"), "1.0").expect(0);
    fleet.serves(8081, "1.0");
    eprintln!("{}", fleet.host(1).shell("systemctl status windlass-app-shop --no-pager; cat /run/systemd/system/windlass-app-shop.service; cat /var/lib/windlass/apps/shop/run/started.json; ps axf").stdout);
    fleet.deploy(&unit.version("2.0"), "2.0").expect(0);
    fleet.serves(8081, "2.0");
    eprintln!("{}", fleet.windlass(&["logs", "shop"]).stdout);
}
