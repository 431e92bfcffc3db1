//! What an app wrote, read from afar.

use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;

#[test]
fn logs_come_from_every_host_that_has_the_app_and_name_the_one_that_is_away() {
    let fleet = fleet::new().hosts(3).up();
    let unknown = fleet.windlass(&["logs", "web"]).expect(1);
    assert!(unknown.stderr.contains("web"), "{}", unknown.stderr);

    let app = App::new("web", free_port(3));
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let all = fleet.windlass(&["logs", "web"]).expect(0).stdout;
    for host in fleet.all() {
        let line = format!("{} | listening on {}:{}", host.name, host.address, app.port);
        assert!(all.contains(&line), "{line}\n{all}");
    }
    let one = fleet.json(&["logs", "web", "--host", "host-2", "-n", "1"]);
    assert_eq!((&one["kind"], &one["hosts"][0]["version"]), (&"Logs".into(), &"1.0".into()));
    assert_eq!(one["hosts"].as_array().unwrap().len(), 1);
    assert_eq!(one["hosts"][0]["lines"].as_array().unwrap().len(), 1);
    assert!(fleet.windlass(&["logs", "web", "--host", "host-9"]).expect(1).stderr.contains("host-9"));

    // Its app goes on without its agent, and so do the answers of the others.
    fleet.host(3).kill();
    let rest = fleet.windlass(&["logs", "web"]).expect(0);
    assert!(rest.stderr.contains("host-3: "), "{}", rest.stderr);
    assert!(
        rest.stdout.contains("host-1 | listening") && !rest.stdout.contains("host-3 |"),
        "{}",
        rest.stdout
    );
    let none = fleet.windlass(&["logs", "web", "--host", "host-3"]).expect(1);
    assert!(none.stderr.contains("no host has answered"), "{}", none.stderr);
    fleet.start();
}
