//! The demo's application: HTTP with `/health` and `/ready`, on any machine, without dependencies.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DemoApp;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// Longest that a client may take over its request.
const REQUEST: Duration = Duration::from_secs(2);
/// Requests are one line and a few headers; a longer one is answered all the same, by its first line.
const REQUEST_BYTES: usize = 8 * 1024;

/// Serves until SIGTERM.
pub async fn serve(args: DemoApp) -> Result {
    let failed =
        |what: &str, error| ExpectedError::failed(format!("cannot {what} {}", args.listen)).because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed("serve", error))?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| failed("listen on", error))?;
    loop {
        let stream = tokio::select! {
            _ = terminate.recv() => return Ok(Exit::Done),
            accepted = listener.accept() => accepted.map_err(|error| failed("accept on", error))?.0,
        };
        // One client at a time is enough for probes and the demo. One that goes away is its own affair.
        let _ = tokio::time::timeout(REQUEST, answer(stream, &args)).await;
    }
}

async fn answer(mut stream: TcpStream, args: &DemoApp) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while request.len() < REQUEST_BYTES && !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let status = match text.split(' ').nth(1) {
        Some("/health" | "/ready") if args.broken => "503 Service Unavailable",
        Some("/" | "/health" | "/ready") => "200 OK",
        _ => "404 Not Found",
    };
    let body = serde_json::json!({ "version": args.version, "pid": std::process::id() }).to_string();
    let head = "content-type: application/json\r\nconnection: close\r\n";
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\n{head}content-length: {length}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
