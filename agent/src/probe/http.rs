//! HTTP GET over HTTP/1.1: no redirects are followed, no more than [`BODY_BYTES`] are read.

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use windlass_proto::spec::HttpProbe;

use super::{Found, Target, shorten};

/// Most that is read of a body.
const BODY_BYTES: usize = 64 * 1024;

pub(super) async fn get(target: &Target, probe: &HttpProbe) -> Found {
    let address = target.address(&probe.port)?;
    let asked = format!("GET http://{address}{}", probe.path);
    let told = |what: String| format!("{asked}: {what}");
    let request = Request::get(&probe.path)
        .header(header::HOST, address.to_string())
        .header(header::USER_AGENT, concat!("windlass-probe/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| told(error.to_string()))?;
    let stream = TcpStream::connect(address).await.map_err(|error| told(error.to_string()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| told(error.to_string()))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| told(error.to_string()))?;
        let status = response.status().as_u16();
        let body = read(response.into_body()).await.map_err(|error| told(error.to_string()))?;
        Ok::<_, String>((status, body))
    };
    // The connection is polled here and not in a task of its own, so that nothing is left when this is dropped.
    let mut connection = std::pin::pin!(connection);
    let mut exchange = std::pin::pin!(exchange);
    let (status, body) = tokio::select! {
        biased;
        answer = &mut exchange => answer?,
        _ = &mut connection => exchange.await?,
    };
    match judge(target, probe, status, &body) {
        Ok(()) => Ok(told(format!("status {status}"))),
        Err(problem) => {
            Err(told(format!("status {status}, {problem}: {}", shorten(&String::from_utf8_lossy(&body)))))
        }
    }
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut content = Vec::with_capacity(body.size_hint().lower().min(BODY_BYTES as u64) as usize);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            let room = BODY_BYTES - content.len();
            content.extend_from_slice(&data[..data.len().min(room)]);
            if content.len() == BODY_BYTES {
                break;
            }
        }
    }
    Ok(content)
}

fn judge(target: &Target, probe: &HttpProbe, status: u16, body: &[u8]) -> Result<(), String> {
    match probe.expect_status {
        Some(expected) if status != expected => return Err(format!("expected {expected}")),
        None if !(200..400).contains(&status) => return Err("expected 200 to 399".to_owned()),
        _ => {}
    }
    if let Some(expected) = &probe.expect_body
        && !String::from_utf8_lossy(body).contains(expected.as_str())
    {
        return Err(format!("the body does not contain {expected:?}"));
    }
    if probe.expect_json.is_empty() {
        return Ok(());
    }
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|_| "the body is not JSON".to_owned())?;
    let Target { host, launch } = target;
    let values = host.values(launch);
    for (key, expected) in &probe.expect_json {
        let expected = values.expand(expected).map_err(|error| error.to_string())?;
        let found = match json.get(key) {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => return Err(format!("the body has no {key:?}")),
        };
        if found != expected {
            return Err(format!("{key:?} is {:?}, expected {expected:?}", shorten(&found)));
        }
    }
    Ok(())
}
