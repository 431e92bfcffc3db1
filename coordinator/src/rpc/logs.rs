//! What apps wrote last, asked of their hosts and told as they answer.

use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use windlass_proto::id::{AppName, HostId};
use windlass_proto::limits::LOG_LINES;
use windlass_proto::rpc;

use super::{Shared, send};
use crate::fleet::Refusal;

/// Lines when nobody says how many.
const LINES: u32 = 100;
/// Hosts asked at once: their answers wait in memory for their turn.
const AT_ONCE: usize = 8;

/// One message a host.
pub type HostLogs = ReceiverStream<Result<rpc::HostLog, Status>>;

/// Asks each host that is meant.
pub async fn logs(shared: &Shared, request: rpc::LogsRequest) -> Result<HostLogs, Status> {
    let app = AppName::new(request.app).map_err(|error| Refusal::invalid(error.to_string()))?;
    let lines = match request.lines {
        0 => LINES,
        lines => lines.min(LOG_LINES),
    };
    let (of, environment, names) = (app.clone(), request.environment, request.hosts);
    let hosts = shared.driver.request(move |fleet| fleet.hosts_with(&of, &environment, &names)).await?;
    let (sender, receiver) = mpsc::channel(1);
    let shared = shared.clone();
    tokio::spawn(async move {
        let asked = stream::iter(hosts).map(|(id, name)| ask(&shared, id, name, &app, lines));
        let mut answers = asked.buffered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            if send(&sender, Ok(answer)).await.is_err() {
                return;
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn ask(shared: &Shared, id: HostId, name: String, app: &AppName, lines: u32) -> rpc::HostLog {
    let without = |problem: String| rpc::HostLog { host: name.clone(), problem, ..Default::default() };
    let question = shared.questions.to(id.clone());
    let read = rpc::ReadLog { ticket: question.ticket(), app: app.to_string(), lines };
    if let Err(refusal) = shared.driver.request(move |fleet| fleet.read_log(&id, read)).await {
        return without(refusal.to_string());
    }
    match question.answer().await {
        Some(rpc::AppLog { release, lines, problem, .. }) => {
            rpc::HostLog { release, lines, problem, ..without(String::new()) }
        }
        None => without("the host did not answer within 10 s".to_owned()),
    }
}
