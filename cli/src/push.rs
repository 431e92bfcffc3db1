//! Uploading a bundle: only the chunks that the coordinator lacks, in bounded memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use windlass_proto::bundle::{ChunkSource, Envelope, Manifest, SourceError, compress_all};
use windlass_proto::digest::Digest;
use windlass_proto::limits::{BATCH_BYTES, PIECE_BYTES};
use windlass_proto::rpc::{BundleInfo, Chunk, ChunkBatch, MissingChunksRequest, Piece};

use crate::client::Client;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::output::{Output, text};
use crate::watch::live::Screen;
use crate::watch::retry::Retry;

/// Digests asked for in one message: 256 KiB.
const ASKED: usize = 8192;
/// Batches between compression and the wire: with one being sent, 2 MiB.
const QUEUE: usize = 4;

/// Chunks from anywhere.
pub type Source = Arc<dyn ChunkSource + Send + Sync>;

/// What an upload did.
#[derive(Debug)]
pub struct Pushed {
    /// The bundle as the coordinator knows it.
    pub info: BundleInfo,
    /// Chunks that were sent.
    pub sent_chunks: usize,
    /// Compressed bytes that were sent.
    pub sent_bytes: u64,
}

/// Sends a bundle. Where the coordinator goes away meanwhile, goes on with what it still lacks.
pub async fn push(
    out: &Output,
    client: &Client,
    envelope: &Envelope,
    manifest: &Manifest,
    source: Source,
) -> Result<Pushed> {
    let mut retry = Retry::brief();
    loop {
        let error = match attempt(out, client, envelope, manifest, Arc::clone(&source)).await {
            Err(error) if error.exit() == Exit::Unreachable => error,
            done => return done,
        };
        if !retry.wait(&tonic::Status::unavailable("")).await {
            return Err(error);
        }
    }
}

async fn attempt(
    out: &Output,
    client: &Client,
    envelope: &Envelope,
    manifest: &Manifest,
    source: Source,
) -> Result<Pushed> {
    let what = format!("{} {}", manifest.app, manifest.version);
    let subject = format!("cannot push {what}");
    let missing = missing(client, &subject, manifest).await?;
    let sent = Arc::new(AtomicU64::new(0));
    let sent_chunks = missing.len();
    if !missing.is_empty() {
        let wanted: std::collections::HashSet<_> = missing.iter().collect();
        let total: u64 = manifest
            .chunks()
            .iter()
            .filter(|c| wanted.contains(&c.digest))
            .map(|c| u64::from(c.length))
            .sum();
        upload(out, client, &subject, missing, total, source, &sent).await?;
    }
    let pieces: Vec<Piece> =
        envelope.encode().chunks(PIECE_BYTES).map(|data| Piece { data: data.to_vec() }).collect();
    let put = client.bundles.clone();
    let info =
        client.ask(&subject, async move { put.clone().put_bundle(tokio_stream::iter(pieces)).await }).await?;
    Ok(Pushed { info, sent_chunks, sent_bytes: sent.load(Ordering::Relaxed) })
}

async fn missing(client: &Client, subject: &str, manifest: &Manifest) -> Result<Vec<Digest>> {
    let mut missing = Vec::new();
    let all: Vec<Digest> = manifest.chunks().iter().map(|chunk| chunk.digest).collect();
    for some in all.chunks(ASKED) {
        let digests = some.iter().map(|d| d.as_bytes().to_vec()).collect();
        let answer = client
            .ask(subject, client.bundles.clone().missing_chunks(MissingChunksRequest { digests }))
            .await?;
        for bytes in answer.digests {
            let digest = Digest::try_from(bytes.as_ref()).map_err(|error| {
                ExpectedError::failed(format!("{subject}: a wrong answer")).because(error)
            })?;
            missing.push(digest);
        }
    }
    Ok(missing)
}

/// Why compression stops before its end.
enum Stopped {
    Source(SourceError),
    /// The other end has gone; its status tells why.
    Unwanted,
}

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

async fn upload(
    out: &Output,
    client: &Client,
    subject: &str,
    missing: Vec<Digest>,
    total: u64,
    source: Source,
    sent: &Arc<AtomicU64>,
) -> Result<()> {
    let (batches, receiver) = mpsc::channel::<ChunkBatch>(QUEUE);
    let count = missing.len();
    let done = Arc::new(AtomicU64::new(0));
    let (progress, counted) = (Arc::clone(&done), Arc::clone(sent));
    let compress = tokio::task::spawn_blocking(move || {
        let mut batch = ChunkBatch::default();
        let mut size = 0;
        compress_all::<Stopped>(source.as_ref(), &missing, |digest, compressed| {
            if size + compressed.len() > BATCH_BYTES && !batch.chunks.is_empty() {
                batches.blocking_send(std::mem::take(&mut batch)).map_err(|_| Stopped::Unwanted)?;
                size = 0;
            }
            size += compressed.len();
            counted.fetch_add(compressed.len() as u64, Ordering::Relaxed);
            progress.fetch_add(1, Ordering::Relaxed);
            batch.chunks.push(Chunk { digest: digest.as_bytes().to_vec(), compressed: compressed.into() });
            Ok(())
        })?;
        if !batch.chunks.is_empty() {
            batches.blocking_send(batch).map_err(|_| Stopped::Unwanted)?;
        }
        Ok::<(), Stopped>(())
    });
    let mut screen = if out.is_live() { Screen::terminal() } else { Screen::none() };
    let stream = ReceiverStream::new(receiver);
    let mut bundles = client.bundles.clone();
    let answered = {
        let call = std::pin::pin!(bundles.push_chunks(stream));
        let ticks =
            tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_millis(200)));
        let mut ticks = std::pin::pin!(ticks);
        let mut call = call;
        loop {
            tokio::select! {
                answer = &mut call => break answer,
                _ = ticks.next() => screen.draw(&format!(
                    "Uploading  {} of {count} chunks, {} of about {} before compression",
                    done.load(Ordering::Relaxed), text::bytes(sent.load(Ordering::Relaxed)), text::bytes(total),
                )),
            }
        }
    };
    screen.clear();
    let compressed = compress.await;
    match (answered, compressed) {
        (_, Ok(Err(Stopped::Source(error)))) => {
            Err(ExpectedError::failed(format!("{subject}: its files cannot be read")).because(error))
        }
        (Err(status), _) => Err(client.failure(subject, &status)),
        (Ok(_), Ok(_)) => Ok(()),
        (Ok(_), Err(error)) => Err(ExpectedError::failed(subject.to_owned()).because(error)),
    }
}
