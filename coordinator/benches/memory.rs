//! Numbers, not promises: memory of the coordinator, idle and while eight agents fetch at once; speed of push and fetch.
//!
//! `cargo bench -p windlass-coordinator`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::time::Instant;

use harness::agent::Agent;
use harness::{Coordinator, bundle, spec, until};
use rand::{Rng as _, SeedableRng as _};
use windlass_proto::rpc::agent_service_client::AgentServiceClient;
use windlass_proto::rpc::{self, Phase};

const MEBIBYTES: usize = 200;
const AGENTS: usize = 8;

fn memory(pid: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::main]
async fn main() {
    let coordinator = Coordinator::start().await;
    let pid = coordinator.pid();
    let mut operator = coordinator.operator().await;
    println!("idle: {} MiB", memory(pid, "VmRSS"));
    let mut agents = Vec::new();
    for n in 0..AGENTS {
        let join = operator.token().await;
        let agent = Agent::start(&coordinator.agent, &join, &format!("host-{n}")).await;
        agent.sticks_in(&[Phase::Staging]);
        agents.push(agent);
    }
    until("all sessions", async || {
        let info = operator.fleet.info(rpc::InfoRequest {}).await.unwrap().into_inner();
        (info.sessions as usize == AGENTS).then_some(())
    })
    .await;
    println!("{AGENTS} sessions: {} MiB", memory(pid, "VmRSS"));
    let mut content = vec![0; MEBIBYTES << 20];
    rand::rngs::SmallRng::seed_from_u64(1).fill_bytes(&mut content);
    let bundle = bundle("shop", "1.0", &content);
    drop(content);
    let started = Instant::now();
    operator.push_bundle(&bundle).await.unwrap();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "push: {:.0} MiB/s, {} chunks; {} MiB",
        MEBIBYTES as f64 / seconds,
        bundle.chunks.len(),
        memory(pid, "VmRSS")
    );
    operator.start("shop", "1.0", &spec(1)).await.unwrap();
    let started = Instant::now();
    let mut fetches = tokio::task::JoinSet::new();
    for agent in &agents {
        let channel = agent.identity.channel(&coordinator.agent).await.unwrap();
        let chunks = bundle.chunks.iter().map(|chunk| chunk.digest.clone()).collect();
        let request = rpc::FetchChunksRequest { digest: bundle.digest.to_string(), chunks };
        fetches.spawn(async move {
            let mut client = AgentServiceClient::new(channel)
                .max_decoding_message_size(windlass_proto::limits::MESSAGE_BYTES);
            let mut batches = client.fetch_chunks(request).await.unwrap().into_inner();
            let mut bytes = 0;
            while let Some(batch) = batches.message().await.unwrap() {
                bytes += batch.chunks.iter().map(|chunk| chunk.compressed.len()).sum::<usize>();
            }
            bytes
        });
    }
    let (mut bytes, mut peak) = (0, 0);
    while let Some(fetched) = fetches.join_next().await {
        bytes += fetched.unwrap();
        peak = peak.max(memory(pid, "VmRSS"));
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{AGENTS} fetches of {MEBIBYTES} MiB: {:.0} MiB/s together; RSS {peak} MiB, high water {} MiB",
        (bytes >> 20) as f64 / seconds,
        memory(pid, "VmHWM")
    );
}
