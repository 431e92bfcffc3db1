//! Who may call what: a table from method to roles. A method that is not in it is refused, whoever asks.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};
use windlass_proto::tls::Peer;

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

/// Every method that may be called, with the roles that may call it.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/windlass.v1.AgentService/Enroll", &[Anonymous, Agent]),
    ("/windlass.v1.AgentService/Renew", &[Agent]),
    ("/windlass.v1.AgentService/Session", &[Agent]),
    ("/windlass.v1.AgentService/FetchEnvelope", &[Agent]),
    ("/windlass.v1.AgentService/FetchChunks", &[Agent]),
    ("/windlass.v1.BundleService/MissingChunks", &[Operator]),
    ("/windlass.v1.BundleService/PushChunks", &[Operator]),
    ("/windlass.v1.BundleService/PutBundle", &[Operator]),
    ("/windlass.v1.BundleService/ListBundles", &[Operator]),
    ("/windlass.v1.BundleService/GetBundle", &[Operator]),
    ("/windlass.v1.BundleService/FetchBundleEnvelope", &[Operator]),
    ("/windlass.v1.RolloutService/Plan", &[Operator]),
    ("/windlass.v1.RolloutService/Start", &[Operator]),
    ("/windlass.v1.RolloutService/Get", &[Operator]),
    ("/windlass.v1.RolloutService/List", &[Operator]),
    ("/windlass.v1.RolloutService/Watch", &[Operator]),
    ("/windlass.v1.RolloutService/Pause", &[Operator]),
    ("/windlass.v1.RolloutService/Resume", &[Operator]),
    ("/windlass.v1.RolloutService/Abort", &[Operator]),
    ("/windlass.v1.RolloutService/Retry", &[Operator]),
    ("/windlass.v1.FleetService/ListHosts", &[Operator]),
    ("/windlass.v1.FleetService/GetHost", &[Operator]),
    ("/windlass.v1.FleetService/LabelHost", &[Operator]),
    ("/windlass.v1.FleetService/CordonHost", &[Operator]),
    ("/windlass.v1.FleetService/UncordonHost", &[Operator]),
    ("/windlass.v1.FleetService/ReleaseHost", &[Operator]),
    ("/windlass.v1.FleetService/RemoveHost", &[Operator]),
    ("/windlass.v1.FleetService/Versions", &[Operator]),
    ("/windlass.v1.FleetService/Why", &[Operator]),
    ("/windlass.v1.FleetService/Logs", &[Operator]),
    ("/windlass.v1.FleetService/CreateToken", &[Operator]),
    ("/windlass.v1.FleetService/ListTokens", &[Operator]),
    ("/windlass.v1.FleetService/RevokeToken", &[Operator]),
    ("/windlass.v1.FleetService/Events", &[Operator]),
    ("/windlass.v1.FleetService/Info", &[Operator]),
    ("/grpc.health.v1.Health/Check", &[Operator]),
    ("/grpc.health.v1.Health/List", &[Operator]),
    ("/grpc.health.v1.Health/Watch", &[Operator]),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[Operator]),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &[Operator]),
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

/// Whether this caller may call this method.
pub fn authorise(caller: Option<&Caller>, path: &str) -> Result<(), Status> {
    let Some(caller) = caller else {
        return Err(Status::unauthenticated("the connection carries no identity"));
    };
    let role = role(caller);
    let allowed = TABLE.iter().find(|(method, _)| *method == path).map_or(&[][..], |(_, roles)| roles);
    match role {
        Some(role) if allowed.contains(&role) => Ok(()),
        Some(Anonymous) => Err(Status::unauthenticated(format!("{path} needs a client certificate"))),
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

/// Puts the table before a service.
#[derive(Debug, Clone, Copy)]
pub struct TableLayer;

/// A service behind the table.
#[derive(Debug, Clone)]
pub struct Guarded<S>(S);

impl<S> Layer<S> for TableLayer {
    type Service = Guarded<S>;
    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded(inner)
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
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>();
        match authorise(caller, request.uri().path()) {
            Ok(()) => Box::pin(self.0.call(request)),
            Err(status) => {
                tracing::info!(
                    path = request.uri().path(),
                    address = caller.map(|c| c.address.to_string()),
                    "call refused"
                );
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
