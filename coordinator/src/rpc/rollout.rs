//! Rollouts, as operators call them.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use windlass_proto::id::RolloutId;
use windlass_proto::rpc::rollout_service_server::RolloutService;
use windlass_proto::rpc::{self, ErrorKind};
use windlass_proto::trace::TraceParent;
use windlass_rollout::{Event, WayBack};

use super::audit::act;
use super::{Shared, app_filter, send, show, stopping};
use crate::fleet::{OrderText, Refusal};

/// Rollouts in one answer when nobody says otherwise, and at most.
const LIST: usize = 100;

/// The service.
#[derive(Debug, Clone)]
pub struct Rollouts(pub Shared);

fn order(request: &rpc::OrderRequest) -> OrderText {
    OrderText {
        app: request.app.clone(),
        environment: request.environment.clone(),
        take_from: request.take_from.clone(),
        target: request.target.clone(),
        spec_json: request.spec_json.clone(),
        rollback: request.rollback,
        expect_revision: request.expect_revision,
        hosts: request.hosts.clone(),
    }
}

/// The trace that the caller follows. One that is not as it should be is none, as its standard wants it.
fn trace<T>(request: &Request<T>) -> Option<TraceParent> {
    request.metadata().get(TraceParent::HEADER)?.to_str().ok()?.parse().ok()
}

/// What is put on record of an order: also whose hosts it may take.
fn about_order(request: &rpc::OrderRequest) -> String {
    let part = |what: &str, name: &str| match name {
        "" => String::new(),
        name => format!(", {what} {name}"),
    };
    let environment = part("environment", &request.environment);
    format!("app {}{environment}{}", request.app, part("hosts taken from", &request.take_from))
}

fn about(request: &rpc::RolloutRequest) -> String {
    format!("rollout {}", request.id)
}

/// A new rollout's id: short enough to type, random enough not to meet again.
fn fresh_id() -> Result<RolloutId, Status> {
    let random = uuid::Uuid::new_v4().simple().to_string();
    RolloutId::new(format!("r-{}", &random[..8]))
        .map_err(|error| ErrorKind::Internal.status(error.to_string()))
}

impl Rollouts {
    /// An operator's event, made of who says it and why.
    async fn command(
        &self,
        request: Request<rpc::RolloutRequest>,
        event: impl FnOnce(String, String) -> Event + Send + 'static,
    ) -> Result<Response<rpc::Rollout>, Status> {
        let (act, rpc::RolloutRequest { id, reason }) = act(request, about)?;
        let told = self.0.driver.act(act, move |fleet, who| {
            fleet.command(who, &id, event(who.to_owned(), reason)).map(show::rollout)
        });
        Ok(Response::new(told.await?))
    }
}

#[tonic::async_trait]
impl RolloutService for Rollouts {
    async fn plan(&self, request: Request<rpc::OrderRequest>) -> Result<Response<rpc::Plan>, Status> {
        let request = request.into_inner();
        if request.rollback && request.target.is_empty() {
            let (app, asked) = (app_filter(&request.app)?, request.proposal.is_none());
            let environment = request.environment.clone();
            let undecided = self.0.driver.request(move |fleet| {
                let Some(app) = app.filter(|_| asked) else { return Ok(None) };
                let environment = fleet.acting_in(&app, &environment)?;
                Ok(match fleet.way_back(&app, &environment) {
                    WayBack::Ask(question) => Some(show::undecided(&app, &environment, &question)),
                    _ => None,
                })
            });
            if let Some(plan) = undecided.await? {
                return Ok(Response::new(plan));
            }
        }
        let made = super::plan::make(&self.0, order(&request), request.proposal).await?;
        Ok(Response::new(show::plan(made)))
    }

    async fn start(&self, request: Request<rpc::OrderRequest>) -> Result<Response<rpc::Rollout>, Status> {
        let trace = trace(&request);
        let (act, request) = act(request, about_order)?;
        let id = fresh_id()?;
        let started = self.0.driver.act(act, move |fleet, who| {
            if request.proposal.is_some() {
                return Err(Refusal::invalid(
                    "a proposed release can only be planned: push the bundle, then name it as the target",
                ));
            }
            let order = order(&request);
            fleet.start(who, &order, &request.reason, &request.idempotency_key, id, trace).map(show::rollout)
        });
        Ok(Response::new(started.await?))
    }

    async fn get(&self, request: Request<rpc::RolloutRequest>) -> Result<Response<rpc::Rollout>, Status> {
        let id = request.into_inner().id;
        let rollout = self.0.driver.request(move |fleet| fleet.rollout(&id).map(show::rollout));
        Ok(Response::new(rollout.await?))
    }

    async fn list(
        &self,
        request: Request<rpc::ListRolloutsRequest>,
    ) -> Result<Response<rpc::ListRolloutsResponse>, Status> {
        let request = request.into_inner();
        let app = app_filter(&request.app)?;
        let limit = match request.limit {
            0 => LIST,
            limit => (limit as usize).min(LIST),
        };
        let rollouts = self.0.driver.request(move |fleet| {
            if let Some(app) = &app {
                fleet.known_app(app)?;
            }
            let environment = fleet.shown_environment(app.as_ref(), &request.environment)?;
            let found = fleet.rollouts(app.as_ref(), environment.as_ref(), request.open_only, limit);
            Ok(found.into_iter().map(show::rollout).collect())
        });
        Ok(Response::new(rpc::ListRolloutsResponse { rollouts: rollouts.await? }))
    }

    type WatchStream = ReceiverStream<Result<rpc::Rollout, Status>>;

    async fn watch(
        &self,
        request: Request<rpc::RolloutRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id = request.into_inner().id;
        let mut changes = self.0.driver.request(move |fleet| fleet.watch_rollout(&id)).await?;
        let (sender, receiver) = mpsc::channel(1);
        let stop = self.0.stop.clone();
        tokio::spawn(async move {
            loop {
                // Latest wins: a slow reader misses states in between, never the last.
                let rollout = changes.borrow_and_update().clone();
                let ended = rollout.ended_at_ms != 0;
                if send(&sender, Ok(rollout)).await.is_err() || ended {
                    return;
                }
                let goes_on = tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    () = stop.cancelled() => false,
                    () = sender.closed() => return,
                };
                if !goes_on {
                    // A reader that is gone needs no farewell.
                    let _ = send(&sender, Err(stopping())).await;
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn pause(&self, request: Request<rpc::RolloutRequest>) -> Result<Response<rpc::Rollout>, Status> {
        self.command(request, |by, reason| Event::Pause { by, reason }).await
    }

    async fn resume(&self, request: Request<rpc::RolloutRequest>) -> Result<Response<rpc::Rollout>, Status> {
        self.command(request, |by, _| Event::Resume { by }).await
    }

    async fn abort(&self, request: Request<rpc::RolloutRequest>) -> Result<Response<rpc::Rollout>, Status> {
        self.command(request, |by, reason| Event::Abort { by, reason }).await
    }

    async fn retry(&self, request: Request<rpc::RolloutRequest>) -> Result<Response<rpc::Rollout>, Status> {
        let trace = trace(&request);
        let (act, rpc::RolloutRequest { id, reason }) = act(request, about)?;
        let fresh = fresh_id()?;
        let retried = self
            .0
            .driver
            .act(act, move |fleet, who| fleet.retry(who, &id, &reason, fresh, trace).map(show::rollout));
        Ok(Response::new(retried.await?))
    }
}
