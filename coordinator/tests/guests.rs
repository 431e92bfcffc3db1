//! What somebody without a certificate, or with no more than a host's key, can do to a coordinator.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod harness;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use harness::agent::{Identity, enrol, enrol_over, labels};
use harness::{Coordinator, Operator};
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic::codegen::http::Request;
use windlass_proto::rpc;
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::tls::{self, JoinToken, Key};

/// A TLS connection without a certificate, from an address of one's own choice.
async fn knock(
    coordinator: &Coordinator,
    join: &str,
    from: Ipv4Addr,
) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let tcp = socket.connect(coordinator.agent.parse().unwrap()).await?;
    let config = tls::enrol_client_config(join.parse::<JoinToken>().unwrap().pin()).unwrap();
    TlsConnector::from(config).connect(ServerName::try_from(tls::SERVER_NAME).unwrap(), tcp).await
}

/// How long a guest pushes.
const PUSH: Duration = Duration::from_secs(5);

/// Opens stream after stream, and sends on each as much of a request as is taken. Says how much that was; what is open stays so
/// until the coordinator ends it.
async fn flood(stream: TlsStream<TcpStream>) -> usize {
    let builder = h2::client::Builder::new().initial_max_send_streams(128).clone();
    let Ok((client, connection)) = builder.handshake::<_, Bytes>(stream).await else { return 0 };
    tokio::spawn(connection);
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..128 {
        let Ok(Ok(mut client)) = tokio::time::timeout(PUSH / 10, client.clone().ready()).await else { break };
        let uri = "https://coordinator.windlass/windlass.v1.AgentService/Enroll";
        let request = Request::post(uri).header("content-type", "application/grpc").body(()).unwrap();
        let Ok((answer, body)) = client.send_request(request, false) else { break };
        streams.spawn(push(answer, body));
    }
    streams.join_all().await.into_iter().sum()
}

/// Most of a message that is as large as a guest's may be, and never its end.
async fn push(answer: h2::client::ResponseFuture, mut body: h2::SendStream<Bytes>) -> usize {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(60_000);
    message.put_bytes(7, 59_000);
    let mut sent = 0;
    let pushing = async {
        while !message.is_empty() {
            body.reserve_capacity(message.len());
            let Some(Ok(free)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else { return };
            let part = message.split_to(free.min(message.len())).freeze();
            sent += part.len();
            if body.send_data(part, false).is_err() {
                return;
            }
        }
    };
    // The window is full.
    let _ = tokio::time::timeout(PUSH, pushing).await;
    tokio::spawn(async move {
        let _ = answer.await;
        drop(body);
    });
    sent
}

/// How many records the audit log has.
async fn audited(operator: &mut Operator) -> usize {
    let mut stream = operator.fleet.audit(rpc::AuditRequest::default()).await.unwrap().into_inner();
    let mut records = 0;
    while stream.message().await.unwrap().is_some() {
        records += 1;
    }
    records
}

/// The number of the last event.
async fn happened(operator: &mut Operator) -> u64 {
    let mut stream = operator.fleet.events(rpc::EventsRequest::default()).await.unwrap().into_inner();
    let mut last = 0;
    while let Some(event) = stream.message().await.unwrap() {
        last = event.seq;
    }
    last
}

fn resident_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what was measured")]
async fn all_the_guests_that_there_is_room_for_cost_little() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    enrol(&coordinator.agent, &join, "first", &Key::generate().unwrap()).await.unwrap();
    let before = resident_kib(coordinator.pid());
    let mut floods = tokio::task::JoinSet::new();
    for n in 0..256u16 {
        // Two addresses, for one gets half of the places.
        let from = Ipv4Addr::new(127, 0, 3, 1 + (n % 2) as u8);
        let stream = knock(&coordinator, &join, from).await.unwrap();
        floods.spawn(flood(stream));
    }
    let mut most = 0;
    let mut sent = 0;
    while !floods.is_empty() {
        most = most.max(resident_kib(coordinator.pid()));
        let ended = tokio::time::timeout(Duration::from_millis(100), floods.join_next()).await;
        sent += ended.ok().flatten().map_or(0, Result::unwrap);
    }
    let grown = most.saturating_sub(before) / 1024;
    let sent = sent / 1024;
    eprintln!(
        "MEASURED: the coordinator under 256 guests that sent {sent} KiB: {} MiB, then {grown} MiB more",
        before / 1024
    );
    assert!(sent > 256, "the guests did send something");
    assert!(grown < 64, "{grown} MiB for guests");
    // Those who have a certificate do not notice, and whoever comes when the guests have left is let in.
    operator.fleet.info(rpc::InfoRequest {}).await.unwrap();
    let join = operator.token().await;
    let key = Key::generate().unwrap();
    harness::until("a place", async || enrol(&coordinator.agent, &join, "second", &key).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_room_for_others() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let join = operator.token().await;
    let mut held = Vec::new();
    for _ in 0..128 {
        held.push(knock(&coordinator, &join, Ipv4Addr::new(127, 0, 3, 1)).await.unwrap());
    }
    // The handshake is done when the place is refused; nothing is answered over this connection.
    let mut over = knock(&coordinator, &join, Ipv4Addr::new(127, 0, 3, 1)).await.unwrap();
    let mut answer = [0; 1];
    let end =
        tokio::time::timeout(harness::DEADLINE, tokio::io::AsyncReadExt::read(&mut over, &mut answer)).await;
    assert!(matches!(end.unwrap(), Ok(0) | Err(_)), "the connection is closed");
    enrol(&coordinator.agent, &join, "web-1", &Key::generate().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_key_alone_gets_it_a_certificate_and_changes_nothing() {
    let coordinator = Coordinator::start().await;
    let mut operator = coordinator.operator().await;
    let key = Key::generate().unwrap();
    let join = operator.token().await;
    let first = enrol(&coordinator.agent, &join, "web-1", &key).await.unwrap();
    let shown = async |operator: &mut Operator| {
        let host = rpc::HostRequest { host: "web-1".into(), ..Default::default() };
        operator.fleet.get_host(host).await.unwrap().into_inner()
    };
    let before = shown(&mut operator).await;
    let records = audited(&mut operator).await;
    let events = happened(&mut operator).await;

    let config = tls::client_config(&first.ca_pem, None).unwrap();
    let channel = tls::connect(&coordinator.agent, config).await.unwrap();
    let mut moved = rpc::EnrollRequest {
        name: "web-1".into(),
        address: "10.9.9.9".into(),
        labels: labels(),
        ..Default::default()
    };
    moved.labels.insert("pci".into(), "yes".into());
    let again = enrol_over(&channel, moved.clone(), &key).await.unwrap();
    assert_eq!((again.host_id, again.ignored_labels), (first.host_id.clone(), vec!["pci=yes".to_owned()]));
    // Nor does the token that it has used.
    let used = rpc::EnrollRequest { token: join, ..moved.clone() };
    assert_eq!(enrol_over(&channel, used, &key).await.unwrap().ignored_labels, ["pci=yes"]);
    assert_eq!(shown(&mut operator).await.labels, before.labels);
    assert_eq!(shown(&mut operator).await.address, before.address);

    // A CSR that somebody saw is good for the connection that it was made for.
    let mut client = AgentServiceClient::new(channel.clone());
    let mine = client.challenge(rpc::ChallengeRequest {}).await.unwrap().into_inner().challenge;
    let csr_pem = key.csr_pem_for(&tls::Challenge::from_bytes(&mine).unwrap()).unwrap();
    let other =
        tls::connect(&coordinator.agent, tls::client_config(&first.ca_pem, None).unwrap()).await.unwrap();
    let replayed = rpc::EnrollRequest { csr_pem, ..moved.clone() };
    let refused = AgentServiceClient::new(other).enroll(replayed).await.unwrap_err();
    assert!(refused.message().contains("not made for this connection"), "{refused}");

    // Again and again: some certificates, then none for a while; and nothing on record.
    let mut got = 0;
    for _ in 0..40 {
        match enrol_over(&channel, moved.clone(), &key).await {
            Ok(_) => got += 1,
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                assert!(status.message().contains("try again in"), "{status}");
            }
        }
    }
    assert!((1..20).contains(&got), "{got} certificates");
    assert_eq!(audited(&mut operator).await, records);
    assert_eq!(happened(&mut operator).await, events);

    // Renewals are counted with them.
    let own = tls::Credentials { certificate_pem: again.certificate_pem, key_pem: key.to_pem() };
    let identity = Identity { host_id: first.host_id, ca: first.ca_pem, own };
    let mut client = AgentServiceClient::new(identity.channel(&coordinator.agent).await.unwrap());
    let renewal = rpc::RenewRequest { csr_pem: key.csr_pem().unwrap() };
    assert_eq!(client.renew(renewal).await.unwrap_err().code(), Code::Unavailable);
}
