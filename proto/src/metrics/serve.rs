//! The listener: one request a connection, few connections at a time, each with a deadline.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::text::Format;

/// Connections at a time; more wait in the kernel's queue.
const PLACES: usize = 8;
/// How long one may take.
const WITHIN: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as no more file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves until `stop` comes to its end. `measure` is asked for each scrape; its error is answered as 503.
pub async fn serve<M, F>(listener: TcpListener, measure: M, stop: impl Future<Output = ()>)
where
    M: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Registry, String>> + Send + 'static,
{
    tokio::select! {
        () = accept(listener, measure, WITHIN) => {}
        () = stop => {}
    }
}

async fn accept<M, F>(listener: TcpListener, measure: M, within: Duration)
where
    M: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Registry, String>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(PLACES));
    // Never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let answering = answer(stream, measure.clone());
        tokio::spawn(async move {
            // A caller who is slow, or gone, has had its time.
            let _ = tokio::time::timeout(within, answering).await;
            drop(place);
        });
    }
}

async fn answer<M, F>(stream: TcpStream, measure: M)
where
    M: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Registry, String>> + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let measure = measure.clone();
        async move { Ok::<_, Infallible>(respond(&request, measure).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        // The whole has a deadline, and this one needs a timer.
        .header_read_timeout(None)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // What breaks off is the caller's affair.
    let _ = connection.await;
}

async fn respond<B, M, F>(request: &Request<B>, measure: M) -> Response<Full<Bytes>>
where
    M: Fn() -> F,
    F: Future<Output = Result<Registry, String>>,
{
    const PLAIN: &str = "text/plain; charset=utf-8";
    let say = |status, text: String| response(status, PLAIN, text);
    if request.uri().path() != "/metrics" {
        return say(StatusCode::NOT_FOUND, "there is nothing here but /metrics\n".into());
    }
    if request.method() != Method::GET {
        let mut refusal = say(StatusCode::METHOD_NOT_ALLOWED, "metrics are read with GET\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return refusal;
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let text = match measure().await {
        Ok(registry) => format.write(&registry).map_err(|_| "the metrics cannot be written".to_owned()),
        Err(why) => Err(why),
    };
    match text {
        Ok(text) => response(StatusCode::OK, format.content_type(), text),
        Err(why) => say(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::metrics::gauge;

    async fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn one() -> Result<Registry, String> {
        let mut registry = Registry::with_prefix("windlass");
        gauge(&mut registry, "sessions", "Open sessions", 3.0);
        Ok(registry)
    }

    #[tokio::test]
    async fn only_metrics_are_served_and_only_with_get() {
        let (listener, address) = listener().await;
        let serving = tokio::spawn(serve(listener, one, std::future::pending()));
        let get = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(get.starts_with("HTTP/1.1 200 OK"), "{get}");
        assert!(get.contains("content-type: text/plain; version=0.0.4"), "{get}");
        assert!(get.contains("\nwindlass_sessions 3.0\n"), "{get}");
        let accept = "accept: application/openmetrics-text;version=1.0.0,*/*;q=0.1";
        let open = ask(address, &format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{accept}\r\n\r\n")).await;
        assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
        let post = ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
        assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET"), "{post}");
        let other = ask(address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 404") && other.contains("/metrics"), "{other}");
        serving.abort();
    }

    #[tokio::test]
    async fn what_cannot_be_measured_is_said() {
        let (listener, address) = listener().await;
        let fails = || async { Err("the coordinator is stopping".to_owned()) };
        let serving = tokio::spawn(serve(listener, fails, std::future::pending()));
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("is stopping"), "{answer}");
        serving.abort();
    }

    #[tokio::test]
    async fn callers_who_say_nothing_do_not_keep_others_out() {
        let (listener, address) = listener().await;
        let serving = tokio::spawn(accept(listener, one, Duration::from_millis(200)));
        let mut silent = Vec::new();
        for _ in 0..2 * PLACES {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let get = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(get.starts_with("HTTP/1.1 200 OK"), "{get}");
        serving.abort();
    }
}
