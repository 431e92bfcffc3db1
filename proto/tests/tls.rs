//! Both listeners over real sockets: who gets in, and who is refused at which end.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use windlass_proto::digest::Digest;
use windlass_proto::id::HostId;
use windlass_proto::tls::{
    Ca, ClientCertificates, ConnectError, Credentials, JoinToken, Key, Peer, channel, client_config, connect,
    enrol_client_config, http2_server, server_config, verify_ca_pin,
};

fn now() -> windlass_proto::time::Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    windlass_proto::time::Timestamp(i64::try_from(since.as_millis()).unwrap())
}

struct Fleet {
    agents: Ca,
    operators: Ca,
}

impl Fleet {
    fn new() -> Self {
        Self {
            agents: Ca::generate("dev agents", "dev").unwrap(),
            operators: Ca::generate("dev operators", "dev").unwrap(),
        }
    }

    fn agent(&self) -> Credentials {
        let key = Key::generate().unwrap();
        let id = HostId::new("host-1").unwrap();
        let certificate_pem = self.agents.sign_agent_csr(&key.csr_pem().unwrap(), &id, 24, now()).unwrap();
        Credentials { certificate_pem, key_pem: key.to_pem() }
    }

    fn agent_listener(&self) -> Arc<ServerConfig> {
        let own = self.agents.issue_server("c1", 30).unwrap();
        server_config(&own, self.agents.certificate_pem(), ClientCertificates::Optional).unwrap()
    }

    fn operator_listener(&self) -> Arc<ServerConfig> {
        let own = self.operators.issue_server("c1", 30).unwrap();
        server_config(&own, self.operators.certificate_pem(), ClientCertificates::Required).unwrap()
    }
}

/// One connection of `client` to a listener of `server`: whom each side saw, or why it refused.
async fn meet(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (Result<Peer, String>, Result<(), String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accept = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(server).accept(stream).await.map_err(|e| e.to_string())?;
        let peer = Peer::of_connection(stream.get_ref().1.peer_certificates()).map_err(|e| e.to_string());
        stream.write_all(b"ok").await.map_err(|e| e.to_string())?;
        stream.shutdown().await.map_err(|e| e.to_string())?;
        peer
    };
    let dial = async {
        let mut stream = channel::dial(&address, &client).await.map_err(|e| match e {
            ConnectError::Handshake { source, .. } => source.to_string(),
            other => other.to_string(),
        })?;
        // With TLS 1.3 a client learns only by reading that its certificate was refused.
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|e| e.to_string())?;
        assert_eq!(answer, b"ok");
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(accept, dial) }).await.unwrap()
}

#[tokio::test]
async fn agents_and_operators_get_in_at_their_own_door() {
    let fleet = Fleet::new();
    let client = client_config(fleet.agents.certificate_pem(), Some(&fleet.agent())).unwrap();
    let (seen, done) = meet(fleet.agent_listener(), client).await;
    assert_eq!(seen, Ok(Peer::Agent(HostId::new("host-1").unwrap())));
    done.unwrap();

    let ana = fleet.operators.issue_operator("ana", 30).unwrap();
    let client = client_config(fleet.operators.certificate_pem(), Some(&ana)).unwrap();
    let (seen, done) = meet(fleet.operator_listener(), client).await;
    assert_eq!(seen.unwrap().to_string(), "operator/ana");
    done.unwrap();
}

#[tokio::test]
async fn an_enrolling_agent_trusts_only_the_pinned_ca() {
    let fleet = Fleet::new();
    let token = JoinToken::generate(fleet.agents.pin()).unwrap();
    let (seen, done) = meet(fleet.agent_listener(), enrol_client_config(token.pin()).unwrap()).await;
    assert_eq!(seen, Ok(Peer::Anonymous));
    done.unwrap();
    verify_ca_pin(fleet.agents.certificate_pem(), token.pin()).unwrap();
    assert!(verify_ca_pin(fleet.operators.certificate_pem(), token.pin()).is_err());

    for wrong in [fleet.operators.pin(), Digest::from_bytes([1; 32])] {
        let (seen, done) = meet(fleet.agent_listener(), enrol_client_config(wrong).unwrap()).await;
        assert!(seen.is_err());
        assert!(done.unwrap_err().contains("UnknownIssuer"));
    }
}

#[tokio::test]
async fn a_chain_that_merely_carries_the_pinned_ca_is_refused() {
    let (fleet, attacker) = (Fleet::new(), Fleet::new());
    let mut own = attacker.agents.issue_server("c1", 30).unwrap();
    own.certificate_pem.push_str(fleet.agents.certificate_pem());
    let server =
        server_config(&own, attacker.agents.certificate_pem(), ClientCertificates::Optional).unwrap();
    let (seen, done) = meet(server, enrol_client_config(fleet.agents.pin()).unwrap()).await;
    assert!(seen.is_err());
    done.unwrap_err();
}

#[tokio::test]
async fn the_wrong_door_is_closed() {
    let fleet = Fleet::new();
    let ana = fleet.operators.issue_operator("ana", 30).unwrap();
    // An operator's certificate at the agents' listener, an agent's at the operators'.
    let client = client_config(fleet.agents.certificate_pem(), Some(&ana)).unwrap();
    let (seen, done) = meet(fleet.agent_listener(), client).await;
    assert!(seen.is_err() && done.is_err(), "{seen:?} {done:?}");
    let client = client_config(fleet.operators.certificate_pem(), Some(&fleet.agent())).unwrap();
    let (seen, done) = meet(fleet.operator_listener(), client).await;
    assert!(seen.is_err() && done.is_err(), "{seen:?} {done:?}");
    // No certificate at the operators' listener.
    let client = client_config(fleet.operators.certificate_pem(), None).unwrap();
    let (seen, done) = meet(fleet.operator_listener(), client).await;
    assert!(seen.is_err() && done.is_err(), "{seen:?} {done:?}");
}

#[tokio::test]
async fn a_coordinators_certificate_opens_no_door_and_an_agents_serves_nobody() {
    let fleet = Fleet::new();
    let coordinator = fleet.agents.issue_server("c1", 30).unwrap();
    let client = client_config(fleet.agents.certificate_pem(), Some(&coordinator)).unwrap();
    let (seen, _) = meet(fleet.agent_listener(), client).await;
    assert!(seen.is_err(), "{seen:?}");

    let server =
        server_config(&fleet.agent(), fleet.agents.certificate_pem(), ClientCertificates::Optional).unwrap();
    let client = client_config(fleet.agents.certificate_pem(), None).unwrap();
    let (_, done) = meet(server, client).await;
    done.unwrap_err();
}

#[tokio::test]
async fn another_fleets_coordinator_is_refused() {
    let (fleet, other) = (Fleet::new(), Fleet::new());
    let client = client_config(fleet.agents.certificate_pem(), Some(&fleet.agent())).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accept = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(other.agent_listener()).accept(stream).await.is_err()
    });
    let error = connect(&address, client).await.unwrap_err();
    assert!(error.is_certificate_refused(), "{error:?}");
    assert!(accept.await.unwrap());
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let fleet = Fleet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(fleet.agent_listener()).accept(stream).await.map(|_| ()).map_err(|e| e.to_string())
    });
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&tls_1_2_client_hello()).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert");
    assert_eq!(answer.last(), Some(&70), "protocol_version");
    accept.await.unwrap().unwrap_err();
}

fn tls_1_2_client_hello() -> Vec<u8> {
    let extensions: &[&[u8]] = &[
        &[0, 10, 0, 4, 0, 2, 0, 23], // supported_groups: P-256
        &[0, 11, 0, 2, 1, 0],        // ec_point_formats: uncompressed
        &[0, 13, 0, 4, 0, 2, 4, 3],  // signature_algorithms: ecdsa_secp256r1_sha256
        &[0, 23, 0, 0],              // extended_master_secret
    ];
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([9; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut hello = vec![1, 0];
    hello.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    hello.extend(body);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    record.extend(hello);
    record
}

#[tokio::test]
async fn a_channel_carries_grpc_and_dials_again() {
    use windlass_proto::rpc::InfoRequest;
    use windlass_proto::rpc::fleet_service_client::FleetServiceClient;

    let fleet = Fleet::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let coordinator = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(fleet.operator_listener());
    let (connections, incoming) = tokio::sync::mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await;
            let _ = connections.send(stream).await;
        }
    });
    let serve = http2_server()
        .add_routes(tonic::service::Routes::default())
        .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(incoming));
    tokio::spawn(serve);

    // The way there is cut once, after the first answer.
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = way.local_addr().unwrap().to_string();
    let (cut, mut cut_now) = tokio::sync::watch::channel(());
    let dialled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dialled);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = way.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let mut far = TcpStream::connect(coordinator).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = cut_now.changed() => {}
            }
        }
    });

    let ana = fleet.operators.issue_operator("ana", 30).unwrap();
    let config = client_config(fleet.operators.certificate_pem(), Some(&ana)).unwrap();
    let mut client = FleetServiceClient::new(connect(&address, config).await.unwrap());
    let status = client.info(InfoRequest {}).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    cut.send(()).unwrap();
    let again = async {
        loop {
            let code = client.info(InfoRequest {}).await.unwrap_err().code();
            if code == tonic::Code::Unimplemented && dialled.load(Ordering::SeqCst) == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.unwrap();
}
