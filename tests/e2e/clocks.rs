//! Wall clocks that jump, of the agent and of the coordinator, at each step of a deployment: no effect.

use std::path::PathBuf;

use windlass_tests::agent::{Agent, Ways, take_coordinator};
use windlass_tests::app::App;
use windlass_tests::fleet;
use windlass_tests::http::free_port;
use windlass_tests::needs;

/// Debian's libfaketime, by architecture.
pub(crate) fn library() -> Option<PathBuf> {
    let all = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    all.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
}

/// A wall clock that says what its file says; the clocks that deadlines run on are left alone.
pub(crate) fn faked(file: &std::path::Path, library: &std::path::Path) -> Ways {
    std::fs::write(file, "+0\n").unwrap();
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ways { variables: variables.to_vec(), ..Ways::default() }
}

#[test]
fn jumps_of_the_wall_clock_change_nothing() {
    if !needs::programs(&[("faketime", "faketime")]) {
        return;
    }
    let library = library().expect("faketime's library is where Debian puts it");
    let dir = tempfile::tempdir().unwrap();
    let (of_agent, of_coordinator) = (dir.path().join("agent"), dir.path().join("coordinator"));
    let fleet = fleet::new().hosts(1).up();
    let coordinator = take_coordinator(&fleet, faked(&of_coordinator, &library));
    let agent = Agent::take(&fleet, 1, faked(&of_agent, &library));
    let mut app = App::new("web", free_port(1));
    app.rollout =
        "  strategy: { max_parallel: 1, max_unavailable: 1, min_healthy_time: 300ms, healthy_deadline: 20s, \
                   progress_deadline: 60s }\n  host: { confirm_timeout: 10s }\n"
            .into();
    fleet.deploy(&app.version("1.0"), "1.0").expect(0);
    let mut jumps = 0;
    for (n, jump) in ["+5s", "-5s", "+2h", "-2h", "+10y", "-10y"].into_iter().enumerate() {
        for (file, phase) in
            [(&of_agent, "staging"), (&of_agent, "verifying"), (&of_coordinator, "verifying")]
        {
            std::fs::write(&of_agent, "+0\n").unwrap();
            std::fs::write(&of_coordinator, "+0\n").unwrap();
            let version = format!("2.{n}.{jumps}");
            let deploy = fleet.deploy_start(&app.version(&version), &version);
            let seen = agent.log().len();
            windlass_tests::wait::until(
                &format!("{version} is {phase}"),
                std::time::Duration::from_secs(30),
                || agent.log()[seen..].contains(&format!("phase={phase}")).then_some(()),
            );
            std::fs::write(file, format!("{jump}\n")).unwrap();
            deploy.finish().expect(0);
            fleet.serves(app.port, &version);
            jumps += 1;
        }
    }
    assert!(!agent.log().contains("phase=reverting"));
    for (log, whose) in [(agent.log(), "agent"), (coordinator.log(), "coordinator")] {
        let years = log.lines().filter_map(|line| line.get(..4)).collect::<std::collections::BTreeSet<_>>();
        assert!(years.len() >= 3, "the {whose}'s wall clock did jump: {years:?}");
    }
    assert_eq!(agent.log().matches("certificate received").count(), 0, "no storm of renewals");
    drop(coordinator);
}
