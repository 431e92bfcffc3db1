//! Who may call what: a table from method to roles. A method that is not in it is refused, whoever asks.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tower::{Layer, Service};
use windlass_proto::rpc::ErrorKind;
use windlass_proto::rpc::audit::{HEAD_HEADER, Head};
use windlass_proto::tls::Peer;

use crate::guests::Guests;
use crate::listen::{Caller, Door};

/// What a certificate entitles to, together with the door it came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// No certificate, at the agents' door.
    Anonymous,
    /// An enrolled agent, at the agents' door.
    Agent,
    /// An operator, at the operators' door.
    Operator,
}

use Role::{Agent, Anonymous, Operator};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Changes nothing that anybody asked for: it reads, renews, or brings bytes that nothing names yet.
    Reads,
    /// Changes something in somebody's name, and leaves a record in the audit log.
    Acts,
}

use Does::{Acts, Reads};

/// Every method that may be called, with the roles that may call it.
pub const TABLE: &[(&str, &[Role], Does)] = &[
    ("/windlass.v1.AgentService/Challenge", &[Anonymous, Agent], Reads),
    ("/windlass.v1.AgentService/Enroll", &[Anonymous, Agent], Acts),
    ("/windlass.v1.AgentService/Renew", &[Agent], Reads),
    ("/windlass.v1.AgentService/Session", &[Agent], Reads),
    ("/windlass.v1.AgentService/FetchEnvelope", &[Agent], Reads),
    ("/windlass.v1.AgentService/FetchChunks", &[Agent], Reads),
    ("/windlass.v1.BundleService/MissingChunks", &[Operator], Reads),
    ("/windlass.v1.BundleService/PushChunks", &[Operator], Reads),
    ("/windlass.v1.BundleService/PutBundle", &[Operator], Acts),
    ("/windlass.v1.BundleService/ListBundles", &[Operator], Reads),
    ("/windlass.v1.BundleService/GetBundle", &[Operator], Reads),
    ("/windlass.v1.BundleService/FetchBundleEnvelope", &[Operator], Reads),
    ("/windlass.v1.BundleService/GetGrantTerms", &[Operator], Reads),
    ("/windlass.v1.BundleService/PutGrant", &[Operator], Acts),
    ("/windlass.v1.RolloutService/Plan", &[Operator], Reads),
    ("/windlass.v1.RolloutService/Start", &[Operator], Acts),
    ("/windlass.v1.RolloutService/Get", &[Operator], Reads),
    ("/windlass.v1.RolloutService/List", &[Operator], Reads),
    ("/windlass.v1.RolloutService/Watch", &[Operator], Reads),
    ("/windlass.v1.RolloutService/Pause", &[Operator], Acts),
    ("/windlass.v1.RolloutService/Resume", &[Operator], Acts),
    ("/windlass.v1.RolloutService/Abort", &[Operator], Acts),
    ("/windlass.v1.RolloutService/Retry", &[Operator], Acts),
    ("/windlass.v1.FleetService/ListHosts", &[Operator], Reads),
    ("/windlass.v1.FleetService/GetHost", &[Operator], Reads),
    ("/windlass.v1.FleetService/LabelHost", &[Operator], Acts),
    ("/windlass.v1.FleetService/CordonHost", &[Operator], Acts),
    ("/windlass.v1.FleetService/UncordonHost", &[Operator], Acts),
    ("/windlass.v1.FleetService/ReleaseHost", &[Operator], Acts),
    ("/windlass.v1.FleetService/Parole", &[Operator], Acts),
    ("/windlass.v1.FleetService/RemoveHost", &[Operator], Acts),
    ("/windlass.v1.FleetService/Versions", &[Operator], Reads),
    ("/windlass.v1.FleetService/Why", &[Operator], Reads),
    ("/windlass.v1.FleetService/Logs", &[Operator], Reads),
    ("/windlass.v1.FleetService/CreateToken", &[Operator], Acts),
    ("/windlass.v1.FleetService/ListTokens", &[Operator], Reads),
    ("/windlass.v1.FleetService/Environments", &[Operator], Reads),
    ("/windlass.v1.FleetService/RevokeToken", &[Operator], Acts),
    ("/windlass.v1.FleetService/Events", &[Operator], Reads),
    ("/windlass.v1.FleetService/Audit", &[Operator], Reads),
    ("/windlass.v1.FleetService/Info", &[Operator], Reads),
    ("/grpc.health.v1.Health/Check", &[Operator], Reads),
    ("/grpc.health.v1.Health/List", &[Operator], Reads),
    ("/grpc.health.v1.Health/Watch", &[Operator], Reads),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[Operator], Reads),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &[Operator], Reads),
];

/// The role of a caller; `None` where certificate and door do not go together.
pub fn role(caller: &Caller) -> Option<Role> {
    match (caller.door, &caller.peer) {
        (Door::Agents, Peer::Anonymous) => Some(Anonymous),
        (Door::Agents, Peer::Agent(_)) => Some(Agent),
        (Door::Operators, Peer::Operator(_)) => Some(Operator),
        _ => None,
    }
}

/// The method that is called; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Called(pub &'static str);

impl Called {
    fn acts(self) -> bool {
        TABLE.iter().any(|(method, _, does)| *method == self.0 && *does == Acts)
    }
}

/// Whether this caller may call this method.
pub fn authorise(caller: Option<&Caller>, path: &str) -> Result<Called, Status> {
    let Some(caller) = caller else {
        return Err(Status::unauthenticated("the connection carries no identity"));
    };
    let role = role(caller);
    let row = TABLE.iter().find(|(method, ..)| *method == path);
    match (role, row) {
        (Some(role), Some((method, allowed, _))) if allowed.contains(&role) => Ok(Called(method)),
        (Some(Anonymous), _) => Err(Status::unauthenticated(format!("{path} needs a client certificate"))),
        _ => Err(Status::permission_denied(format!("{} may not call {path}", describe(caller)))),
    }
}

/// The caller in words: `operator/ana`.
pub fn describe(caller: &Caller) -> String {
    match &caller.peer {
        Peer::Anonymous => "anonymous".into(),
        Peer::Agent(id) => format!("agent/{id}"),
        Peer::Operator(name) => format!("operator/{name}"),
        Peer::Coordinator(id) => format!("coordinator/{id}"),
    }
}

/// Puts the table before a service, and the book of guests.
#[derive(Debug, Clone)]
pub struct TableLayer {
    /// The book.
    pub guests: Guests,
    /// The head of the audit log, where callers are told it with each answer to what is on record.
    pub audited: Option<watch::Receiver<Head>>,
}

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    layer: TableLayer,
}

impl<S> Layer<S> for TableLayer {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, layer: self.clone() }
    }
}

/// Whether this caller may call this method now. What is refused to guests is counted and not logged one by one: anybody may
/// knock here, as often as they like.
fn admit(guests: &Guests, caller: Option<&Caller>, path: &str) -> Result<Called, Status> {
    let guest = caller.filter(|caller| caller.peer == Peer::Anonymous);
    let address = caller.map(|caller| caller.address);
    match (authorise(caller, path), guest) {
        (Ok(called), None) => Ok(called),
        (Ok(called), Some(guest)) => guests.call(guest.address.ip()).map(|()| called).map_err(|wait| {
            tracing::debug!(path, ?address, %wait, "a guest calls too often");
            ErrorKind::Unavailable.status(format!("too many calls from this address; try again in {wait}"))
        }),
        (Err(status), None) => {
            tracing::info!(path, ?address, "call refused");
            Err(status)
        }
        (Err(status), Some(_)) => {
            tracing::debug!(path, ?address, "call of a guest refused");
            guests.refuse_call();
            Err(status)
        }
    }
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        match admit(&self.layer.guests, caller, request.uri().path()) {
            Ok(called) => {
                request.extensions_mut().insert(called);
                let audited = self.layer.audited.clone().filter(|_| called.acts());
                let answer = self.inner.call(request);
                Box::pin(async move {
                    let mut answer = answer.await?;
                    let head = audited.map(|audited| *audited.borrow()).filter(|head| head.seq > 0);
                    if let Some(head) = head.and_then(|head| HeaderValue::from_str(&head.to_string()).ok()) {
                        answer.headers_mut().insert(HEAD_HEADER, head);
                    }
                    Ok(answer)
                })
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}
