//! Probes, drain and attestation against real listeners and processes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use windlass_agent::config::HostPolicy;
use windlass_agent::drain::{DrainEnd, drain};
use windlass_agent::probe::engine::{Sight, begin};
use windlass_agent::probe::{ProbeName, Target, Transcripts, check, smoke};
use windlass_agent::runtime::{HostContext, Launch};
use windlass_agent::shim::order::RunDir;
use windlass_agent::traffic::{admit, withdraw};
use windlass_proto::digest::Digest;
use windlass_proto::phase::Drained;
use windlass_proto::release::ReleaseRef;
use windlass_proto::spec::{
    Drain, ExecProbe, HttpProbe, OnDrainTimeout, PortRef, Probe, Probes, ReleaseSpec, Runtime, Stop, TcpProbe,
};
use windlass_proto::time::Span;
use windlass_release::{Checks, Health};

const DEADLINE: Duration = Duration::from_secs(10);

/// An HTTP server that says what `healthy` says.
async fn server(healthy: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let healthy = Arc::clone(&healthy);
            tokio::spawn(async move {
                let mut request = vec![0; 1024];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                let (status, body) = match request.split(' ').nth(1).unwrap_or_default() {
                    "/json" => ("200 OK", r#"{"version":"1.0","n":7}"#.to_owned()),
                    "/moved" => ("301 Moved", String::new()),
                    "/huge" => ("200 OK", "x".repeat(1_000_000)),
                    "/hang" => return tokio::time::sleep(DEADLINE).await,
                    _ if healthy.load(Ordering::SeqCst) => ("200 OK", "success".to_owned()),
                    _ => ("503 No", "not yet".to_owned()),
                };
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            });
        }
    });
    address
}

fn target(dir: &tempfile::TempDir, port: u16) -> Target {
    Target {
        host: HostContext {
            name: "host-1".parse().unwrap(),
            address: [127, 0, 0, 1].into(),
            labels: BTreeMap::new(),
            policy: HostPolicy {
                author_keys: vec![],
                threshold: 1,
                apps: vec![],
                allow_root: true,
                users: vec![],
            },
        },
        launch: Launch {
            release: ReleaseRef {
                app: "shop".parse().unwrap(),
                version: "1.0".parse().unwrap(),
                digest: Digest::from_bytes([1; 32]),
                counter: 1,
            },
            spec: ReleaseSpec {
                files: String::new(),
                runtime: Runtime::Process {
                    command: vec!["app".into()],
                    user: None,
                    env: BTreeMap::new(),
                    resources: None,
                },
                ports: [("http".to_owned(), port)].into(),
                probes: Probes::default(),
                smoke: vec![],
                drain: Drain::default(),
                stop: Stop::default(),
                hooks: Default::default(),
            },
            dir: dir.path().into(),
            run: RunDir(dir.path().join("run")),
            logs: dir.path().join("log"),
            data: dir.path().join("data"),
        },
    }
}

fn probe() -> Probe {
    Probe {
        http: None,
        tcp: None,
        exec: None,
        initial_delay: Span(0),
        period: Span(50),
        timeout: Span(500),
        failure_threshold: 3,
        success_threshold: 1,
    }
}

fn http(path: &str) -> Probe {
    let port = PortRef::Name("http".into());
    let http = HttpProbe {
        path: path.into(),
        port,
        expect_status: None,
        expect_body: None,
        expect_json: BTreeMap::new(),
    };
    Probe { http: Some(http), ..probe() }
}

fn with(mut probe: Probe, change: impl Fn(&mut HttpProbe)) -> Probe {
    change(probe.http.as_mut().unwrap());
    probe
}

#[tokio::test]
async fn single_checks_tell_what_they_saw() {
    let dir = tempfile::tempdir().unwrap();
    let address = server(Arc::new(AtomicBool::new(false))).await;
    let target = target(&dir, address.port());
    for (name, content) in [
        ("good", "#!/bin/sh\necho $WINDLASS_APP"),
        ("slow", "#!/bin/sh\nsleep 100"),
        ("bad", "#!/bin/sh\necho oh; exit 2"),
    ] {
        fs::write(dir.path().join(name), content).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let exec = |name: &str| Probe { exec: Some(ExecProbe { command: vec![name.into()] }), ..probe() };
    let tcp = |port| Probe { tcp: Some(TcpProbe { port }), ..probe() };
    let json = |value: &str| {
        let value = value.to_owned();
        with(http("/json"), move |http| {
            http.expect_json.insert("version".into(), value.clone());
            http.expect_json.insert("n".into(), "7".into());
        })
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cases = [
        (http("/x"), false, "status 503, expected 200 to 399: not yet"),
        (with(http("/x"), |http| http.expect_status = Some(503)), true, "status 503"),
        (http("/moved"), true, "status 301"),
        (http("/hang"), false, "no answer in 500ms"),
        (http("/huge"), true, "status 200"),
        (with(http("/huge"), |http| http.expect_body = Some("y".into())), false, "does not contain \"y\""),
        (json("{release.version}"), true, "status 200"),
        (json("2.0"), false, "\"version\" is \"1.0\", expected \"2.0\""),
        (json("{release.name}"), false, "unknown variable {release.name}"),
        (with(http("/x y"), |_| ()), false, "invalid"),
        (tcp(PortRef::Name("http".into())), true, "connected to"),
        (tcp(PortRef::Number(closed)), false, "refused"),
        (tcp(PortRef::Name("grpc".into())), false, "no port \"grpc\""),
        (exec("good"), true, "exit code 0: shop"),
        (exec("bad"), false, "exit code 2: oh"),
        (exec("slow"), false, "not ended after 500ms"),
        (exec("none"), false, "does not exist"),
        (probe(), false, "exactly one of"),
    ];
    for (probe, passes, says) in cases {
        let seen = check(&target, ProbeName::Liveness, &probe).await;
        assert_eq!(seen.passed, passes, "{seen}");
        assert!(seen.text.contains(says), "{seen}\nshould have: {says}");
    }
}

#[tokio::test]
async fn an_application_becomes_ready_fails_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let healthy = Arc::new(AtomicBool::new(false));
    let address = server(Arc::clone(&healthy)).await;
    let mut target = target(&dir, address.port());
    target.launch.spec.probes =
        Probes { startup: Some(http("/")), readiness: Some(http("/")), liveness: Some(http("/")) };
    let transcripts = Arc::new(Transcripts::default());
    let (tell, mut sights) = mpsc::channel(64);
    let start = |checks| begin(target.clone(), checks, Arc::clone(&transcripts), tell.clone(), |sight| sight);
    let probing = start(Checks::Startup);
    let next = async |sights: &mut mpsc::Receiver<Sight>| {
        loop {
            match timeout(DEADLINE, sights.recv()).await.unwrap().unwrap() {
                Sight::Health(health) => return health,
                Sight::Detail(detail) => assert!(detail.starts_with("probe "), "{detail}"),
            }
        }
    };
    assert!(matches!(next(&mut sights).await, Health::StartupFailed { why } if why.contains("503")));
    drop(probing);
    healthy.store(true, Ordering::SeqCst);
    let probing = start(Checks::Startup);
    assert_eq!(next(&mut sights).await, Health::StartupPassed);
    drop(probing);
    let probing = start(Checks::Service);
    assert_eq!(next(&mut sights).await, Health::Ready);
    healthy.store(false, Ordering::SeqCst);
    let both = [next(&mut sights).await, next(&mut sights).await];
    assert!(both.iter().any(|h| matches!(h, Health::NotReady { .. })), "{both:?}");
    assert!(both.iter().any(|h| matches!(h, Health::LivenessFailed { .. })), "{both:?}");
    healthy.store(true, Ordering::SeqCst);
    assert_eq!(next(&mut sights).await, Health::Ready);
    drop(probing);
    assert_eq!(transcripts.all().len(), 10);
}

#[tokio::test]
async fn without_probes_living_for_a_second_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let target = target(&dir, 1);
    let (tell, mut sights) = mpsc::channel(4);
    let begun = Instant::now();
    let _startup = begin(target.clone(), Checks::Startup, Arc::default(), tell.clone(), |sight| sight);
    assert_eq!(timeout(DEADLINE, sights.recv()).await.unwrap(), Some(Sight::Health(Health::StartupPassed)));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let _service = begin(target, Checks::Service, Arc::default(), tell, |sight| sight);
    assert_eq!(timeout(DEADLINE, sights.recv()).await.unwrap(), Some(Sight::Health(Health::Ready)));
}

#[tokio::test]
async fn smoke_stops_at_the_first_failure() {
    let dir = tempfile::tempdir().unwrap();
    let address = server(Arc::new(AtomicBool::new(false))).await;
    let mut target = target(&dir, address.port());
    let transcripts = Transcripts::default();
    target.launch.spec.smoke = vec![http("/json"), http("/"), http("/json")];
    let failed = smoke(&target, &transcripts).await.unwrap_err();
    assert!(failed.to_string().starts_with("probe smoke[1] failed"), "{failed}");
    assert_eq!(transcripts.all().len(), 2);
    target.launch.spec.smoke = vec![http("/json")];
    smoke(&target, &transcripts).await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_connections_and_counts_what_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let Target { host, mut launch } = target(&dir, address.port());
    // The client is another process: a connection of the agent's own is a probe and not in flight.
    let connect = async || {
        let client = TcpStream::connect(address).await.unwrap().into_std().unwrap();
        let mut holder = tokio::process::Command::new("sleep");
        let holder = holder.arg("60").kill_on_drop(true).stdin(OwnedFd::from(client)).spawn().unwrap();
        (holder, listener.accept().await.unwrap().0)
    };
    let _probe = TcpStream::connect(address).await.unwrap();
    launch.spec.drain = Drain { delay: Span(100), timeout: Span::secs(8), on_timeout: OnDrainTimeout::Abort };
    admit(&launch).unwrap();
    assert!(launch.run.ready().exists());

    let one = connect().await;
    let ready = launch.run.ready();
    let closing = async {
        while ready.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(one);
    };
    let draining = async {
        withdraw(&launch.run).unwrap();
        drain(&host, &launch, None, |_| ()).await
    };
    let (end, ()) = tokio::join!(draining, closing);
    assert_eq!(end, DrainEnd::Drained(Drained { in_flight: 1, closed: 1, cut: 0 }));

    launch.spec.drain.timeout = Span(300);
    let _two = connect().await;
    let end = drain(&host, &launch, None, |_| ()).await;
    assert_eq!(end, DrainEnd::TimedOut(Drained { in_flight: 1, closed: 0, cut: 0 }));
    launch.spec.drain.on_timeout = OnDrainTimeout::Continue;
    let end = drain(&host, &launch, None, |_| ()).await;
    assert_eq!(end, DrainEnd::Drained(Drained { in_flight: 1, closed: 0, cut: 1 }));
}
