//! What is served at the two doors: servers with their bounds, and the services behind them.

use std::io;

use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use windlass_proto::rpc::DESCRIPTORS;
use windlass_proto::rpc::audit::Head;
use windlass_proto::rpc::bundle_service_server::BundleServiceServer;
use windlass_proto::rpc::fleet_service_server::FleetServiceServer;
use windlass_proto::rpc::rollout_service_server::RolloutServiceServer;
use windlass_proto::tls;

use crate::guests::Guests;
use crate::listen::Connection;
use crate::pki::Pki;
use crate::rpc::auth::TableLayer;
use crate::rpc::bundle::Bundles;
use crate::rpc::fleet::Fleets;
use crate::rpc::rollout::Rollouts;
use crate::rpc::{DECODE, Shared};

/// Requests of one connection at a time; more wait.
const PER_CONNECTION: usize = 64;
/// Streams of one connection at a time.
const STREAMS: u32 = 128;
/// Largest message of a caller without a certificate, and all that it may send unread.
pub(crate) const GUEST_BYTES: usize = 64 * 1024;
/// The smallest that HTTP/2 allows.
const GUEST_FRAME: u32 = 16 * 1024;
/// Streams of such a caller; it makes one request after the other.
const GUEST_STREAMS: u32 = 2;

/// HTTP/2 with the contract's windows and frames, and this side's bounds.
pub(crate) fn server() -> tonic::transport::Server {
    tls::http2_server()
        .concurrency_limit_per_connection(PER_CONNECTION)
        .max_concurrent_streams(STREAMS)
        .http2_max_pending_accept_reset_streams(Some(32))
        .http2_max_header_list_size(16 * 1024)
}

/// The same for callers without a certificate, who bring a CSR and a few labels. What all of them can make the coordinator hold
/// is [`crate::guests`]' places times the window.
pub(crate) fn guest_server() -> tonic::transport::Server {
    server()
        .initial_stream_window_size(GUEST_BYTES as u32)
        .initial_connection_window_size(GUEST_BYTES as u32)
        .max_frame_size(GUEST_FRAME)
        .concurrency_limit_per_connection(1)
        .max_concurrent_streams(GUEST_STREAMS)
        .http2_max_header_list_size(4 * 1024)
}

pub(crate) type Guarded = tower::layer::util::Stack<TableLayer, tower::layer::util::Identity>;

pub(crate) async fn operator_routes(
    shared: &Shared,
    pki: &Pki,
    guests: Guests,
    audited: watch::Receiver<Head>,
) -> Result<Router<Guarded>, tonic_reflection::server::Error> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let fleets = Fleets { shared: shared.clone(), pki: pki.clone() };
    let rollouts = RolloutServiceServer::new(Rollouts(shared.clone()));
    let bundles = BundleServiceServer::new(Bundles(shared.clone()));
    health.set_serving::<FleetServiceServer<Fleets>>().await;
    health.set_serving::<RolloutServiceServer<Rollouts>>().await;
    health.set_serving::<BundleServiceServer<Bundles>>().await;
    Ok(server()
        .layer(TableLayer { guests, audited: Some(audited) })
        .add_service(FleetServiceServer::new(fleets).max_decoding_message_size(DECODE))
        .add_service(rollouts.max_decoding_message_size(DECODE))
        .add_service(bundles.max_decoding_message_size(DECODE))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        // Python's client and older grpcurl know only this one.
        .add_service(reflection().build_v1alpha()?))
}

pub(crate) async fn serve(
    incoming: ReceiverStream<io::Result<Connection>>,
    whom: &'static str,
    routes: Router<Guarded>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let served = routes.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
    if let Err(error) = &served {
        tracing::error!(whom, error = %crate::log::chain(error), "serving ended");
    }
    served
}
