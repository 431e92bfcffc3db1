//! A real coordinator process, and agents that speak the protocol but run nothing.
#![allow(dead_code, clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

pub mod agent;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use windlass_proto::bundle::{
    AuthorKey, Chunk, Chunker, Compressor, Entry, EntryKind, EntryPath, Envelope, Manifest,
};
use windlass_proto::digest::Digest;
use windlass_proto::rpc::bundle_service_client::BundleServiceClient;
use windlass_proto::rpc::fleet_service_client::FleetServiceClient;
use windlass_proto::rpc::rollout_service_client::RolloutServiceClient;
use windlass_proto::rpc::{self};
use windlass_proto::spec::ReleaseSpec;
use windlass_proto::tls::{self, Credentials};

pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition, asking again and again.
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ask().await {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub struct Coordinator {
    pub dir: TempDir,
    child: Child,
    pub agent: String,
    pub operator: String,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_windlass-coordinator"))
}

fn spawn(state: &Path, agent: &str, operator: &str, more: &[&str]) -> Child {
    Command::new(binary())
        .args([
            "run",
            "--fleet",
            "test",
            "--agent-listen",
            agent,
            "--operator-listen",
            operator,
            "--state-dir",
        ])
        .arg(state)
        .args(more)
        .env("WINDLASS_LOG", std::env::var("WINDLASS_LOG").unwrap_or_else(|_| "warn".into()))
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

async fn addresses(state: &Path, child: &mut Child) -> (String, String) {
    let pid = child.id();
    until("addresses.json", async || {
        assert!(child.try_wait().unwrap().is_none(), "the coordinator ended while it was starting");
        let text = std::fs::read(state.join("addresses.json")).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
        if value["pid"] != pid {
            return None;
        }
        Some((value["agent"].as_str()?.to_owned(), value["operator"].as_str()?.to_owned()))
    })
    .await
}

impl Coordinator {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = spawn(&dir.path().join("state"), "127.0.0.1:0", "127.0.0.1:0", &[]);
        let (agent, operator) = addresses(&dir.path().join("state"), &mut child).await;
        let coordinator = Self { dir, child, agent, operator };
        coordinator.issue("ana").await;
        coordinator
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        until("the coordinator's end", async || self.child.try_wait().unwrap()).await.code()
    }

    /// Waits for its end by itself; the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        until("the coordinator's end", async || self.child.try_wait().unwrap()).await.code()
    }

    /// Starts it where it ends at once; the exit code.
    pub async fn start_in_vain(&mut self) -> Option<i32> {
        self.child = spawn(&self.state(), &self.agent, &self.operator, &[]);
        self.ended().await
    }

    pub async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    pub async fn restart_with(&mut self, more: &[&str]) {
        self.child = spawn(&self.state(), &self.agent, &self.operator, more);
        addresses(&self.state(), &mut self.child).await;
    }

    /// Issues an operator's certificate, beside the coordinator that runs, and waits until it is on record.
    pub async fn issue(&self, name: &str) {
        let out = self.dir.path().join(name);
        let status = Command::new(binary())
            .args(["issue-operator", "--name", name, "--state-dir"])
            .arg(self.state())
            .arg("--out")
            .arg(&out)
            .status();
        assert!(status.unwrap().success());
        self.has_taken_in().await;
    }

    /// Waits until no certificate that was issued is left to be put on record.
    pub async fn has_taken_in(&self) {
        until("issued certificates on record", async || {
            let left = std::fs::read_dir(self.state().join("issued")).unwrap();
            (left.count() == 0).then_some(())
        })
        .await;
    }

    pub fn operator_credentials(&self, name: &str) -> (String, Credentials) {
        let read = |file: &str| std::fs::read_to_string(self.dir.path().join(name).join(file)).unwrap();
        let own = Credentials {
            certificate_pem: read(&format!("{name}.pem")),
            key_pem: read(&format!("{name}.key")),
        };
        (read("ca.pem"), own)
    }

    pub async fn channel(&self, name: &str) -> Channel {
        let (ca, own) = self.operator_credentials(name);
        let config = tls::client_config(&ca, Some(&own)).unwrap();
        until("a channel", async || tls::connect(&self.operator, config.clone()).await.ok()).await
    }

    pub async fn operator(&self) -> Operator {
        Operator::new(self.channel("ana").await)
    }
}

#[derive(Clone)]
pub struct Operator {
    pub fleet: FleetServiceClient<Channel>,
    pub bundles: BundleServiceClient<Channel>,
    pub rollouts: RolloutServiceClient<Channel>,
}

impl Operator {
    pub fn new(channel: Channel) -> Self {
        Self {
            fleet: FleetServiceClient::new(channel.clone()),
            bundles: BundleServiceClient::new(channel.clone()),
            rollouts: RolloutServiceClient::new(channel),
        }
    }

    pub async fn token(&mut self) -> String {
        self.fleet.create_token(rpc::CreateTokenRequest::default()).await.unwrap().into_inner().join
    }

    /// Pushes a bundle with one file; its digest.
    pub async fn push(&mut self, app: &str, version: &str, content: &[u8]) -> Digest {
        let bundle = bundle(app, version, content);
        self.push_bundle(&bundle).await.unwrap();
        bundle.digest
    }

    pub async fn push_bundle(&mut self, bundle: &Bundle) -> Result<rpc::BundleInfo, tonic::Status> {
        let digests = bundle.chunks.iter().map(|chunk| chunk.digest.clone()).collect();
        let missing =
            self.bundles.missing_chunks(rpc::MissingChunksRequest { digests }).await?.into_inner().digests;
        let wanted: Vec<_> = bundle.chunks.iter().filter(|c| missing.contains(&c.digest)).cloned().collect();
        let batches: Vec<_> = wanted.chunks(8).map(|c| rpc::ChunkBatch { chunks: c.to_vec() }).collect();
        self.bundles.push_chunks(tokio_stream::iter(batches)).await?;
        self.put(bundle.envelope.clone()).await
    }

    pub async fn put(&mut self, envelope: Vec<u8>) -> Result<rpc::BundleInfo, tonic::Status> {
        let pieces: Vec<_> =
            envelope.chunks(100_000).map(|data| rpc::Piece { data: data.to_vec() }).collect();
        Ok(self.bundles.put_bundle(tokio_stream::iter(pieces)).await?.into_inner())
    }

    pub async fn start(
        &mut self,
        app: &str,
        target: &str,
        spec: &str,
    ) -> Result<rpc::Rollout, tonic::Status> {
        let order = rpc::OrderRequest {
            app: app.into(),
            target: target.into(),
            spec_json: spec.into(),
            ..Default::default()
        };
        Ok(self.rollouts.start(order).await?.into_inner())
    }

    pub async fn rollout(&mut self, id: &str) -> Result<rpc::Rollout, tonic::Status> {
        Ok(self.rollouts.get(rpc::RolloutRequest { id: id.into(), ..Default::default() }).await?.into_inner())
    }

    /// Watches a rollout to its end.
    pub async fn ended(&mut self, id: &str) -> rpc::Rollout {
        let watch = self.rollouts.watch(rpc::RolloutRequest { id: id.into(), ..Default::default() });
        let mut stream = watch.await.unwrap().into_inner();
        let mut last = None;
        let all = async {
            while let Some(rollout) = stream.message().await.unwrap() {
                last = Some(rollout);
            }
        };
        tokio::time::timeout(DEADLINE, all).await.expect("the rollout ends");
        last.unwrap()
    }
}

/// Hosts `host-1` … `host-N` of a fleet that has no others, all connected.
pub async fn fleet(coordinator: &Coordinator, operator: &mut Operator, count: usize) -> Vec<agent::Agent> {
    let mut agents = Vec::new();
    for n in 1..=count {
        let join = operator.token().await;
        agents.push(agent::Agent::start(&coordinator.agent, &join, &format!("host-{n}")).await);
    }
    until("all sessions", async || {
        let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
        (info.sessions as usize == count).then_some(())
    })
    .await;
    agents
}

/// Calls a method of any kind with one empty message; the status of the answer's beginning.
pub async fn call(channel: Channel, method: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    let answer = async {
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path: PathAndQuery = method.parse().unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let request = Request::new(tokio_stream::iter([()]));
        let mut stream = client.streaming(request, path, codec).await?.into_inner();
        // Answers are not of the empty type; that they come is enough.
        match tokio::time::timeout(Duration::from_millis(200), stream.message()).await {
            Ok(Err(status)) if status.code() != Code::Internal => Err(status),
            _ => Ok(()),
        }
    };
    tokio::time::timeout(Duration::from_secs(15), answer).await.expect("an answer")
}

/// A rollout spec that is quick.
pub fn spec(max_parallel: u32) -> String {
    serde_json::json!({
        "targets": { "selector": "role=app" },
        "strategy": { "max_parallel": max_parallel, "max_unavailable": "50%", "min_healthy_time": "0s",
                      "healthy_deadline": "30s", "progress_deadline": "60s" },
        "host": { "confirm_timeout": "30s" },
    })
    .to_string()
}

pub struct Bundle {
    pub envelope: Vec<u8>,
    pub digest: Digest,
    pub chunks: Vec<rpc::Chunk>,
    pub key: AuthorKey,
    pub manifest: Manifest,
}

pub fn bundle(app: &str, version: &str, content: &[u8]) -> Bundle {
    let mut compressor = Compressor::new().unwrap();
    let (mut chunks, mut list) = (BTreeMap::new(), Vec::new());
    let cut = Chunker::default().cut::<std::io::Error>(content, |data| {
        let digest = Digest::of(data);
        list.push(Chunk { digest, length: u32::try_from(data.len()).unwrap() });
        chunks.insert(digest, compressor.compress(data)?);
        Ok(())
    });
    cut.unwrap();
    let release: ReleaseSpec = serde_json::from_value(serde_json::json!({
        "runtime": { "kind": "static" }, "drain": { "timeout": "2s" },
    }))
    .unwrap();
    let counter = version.bytes().fold(1_u64, |sum, byte| sum * 7 + u64::from(byte)) % 1_000_000;
    let manifest = Manifest {
        format: 1,
        app: app.parse().unwrap(),
        version: version.parse().unwrap(),
        counter,
        release,
        entries: vec![Entry {
            path: EntryPath::new("data").unwrap(),
            kind: EntryKind::File {
                executable: false,
                size: content.len() as u64,
                digest: Digest::of(content),
                chunks: list,
            },
        }],
    };
    let key = AuthorKey::generate().unwrap();
    let mut envelope = Envelope::new(&manifest);
    envelope.sign(&key);
    let chunk = |(digest, frame): (Digest, Vec<u8>)| rpc::Chunk {
        digest: digest.as_bytes().to_vec(),
        compressed: frame.into(),
    };
    Bundle {
        digest: envelope.digest(),
        envelope: envelope.encode(),
        chunks: chunks.into_iter().map(chunk).collect(),
        key,
        manifest,
    }
}
