//! Hosts, apps, tokens and events, as operators call them.

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use windlass_proto::id::{AppName, HostName};
use windlass_proto::phase::{Evidence, Fault};
use windlass_proto::rpc::fleet_service_server::FleetService;
use windlass_proto::rpc::{self, ErrorKind};
use windlass_proto::spec::selector::Selector;
use windlass_proto::time::Span;
use windlass_proto::tls::JoinToken;

use super::audit::{self, act};
use super::logs::{self, HostLogs};
use super::{Shared, app_filter, rows, send, show, stopping, who};
use crate::driver::Driver;
use crate::fleet::{Act, EventFilter, Fleet, Refusal, Removal, Unquarantine};
use crate::pki::Pki;

/// Past events in one answer when nobody says otherwise.
const PAST: usize = 200;
/// Events fetched from the driver at a time while following.
const PAGE: usize = 100;

/// The service.
#[derive(Debug, Clone)]
pub struct Fleets {
    /// Fleet and objects.
    pub shared: Shared,
    /// Pins join tokens.
    pub pki: Pki,
}

impl Fleets {
    async fn on_host(
        &self,
        act: Act,
        work: impl FnOnce(&mut Fleet, &str) -> Result<rpc::Host, Refusal> + Send + 'static,
    ) -> Result<Response<rpc::Host>, Status> {
        Ok(Response::new(self.shared.driver.act(act, work).await?))
    }
}

fn about(request: &rpc::HostRequest) -> String {
    format!("host {}", request.host)
}

/// A name in a request that is on record, whatever it is.
fn app_name(text: String) -> Result<AppName, Refusal> {
    AppName::new(text).map_err(|error| Refusal::invalid(error.to_string()))
}

/// The host as it is after a change.
fn shown(fleet: &Fleet, name: &str) -> Result<rpc::Host, Refusal> {
    Ok(show::host(fleet, fleet.host(name)?))
}

#[tonic::async_trait]
impl FleetService for Fleets {
    async fn list_hosts(
        &self,
        request: Request<rpc::ListHostsRequest>,
    ) -> Result<Response<rpc::ListHostsResponse>, Status> {
        let selector = match request.into_inner().selector.trim() {
            "" => None,
            text => {
                Some(text.parse::<Selector>().map_err(|error| ErrorKind::Invalid.status(error.to_string()))?)
            }
        };
        let hosts = self.shared.driver.ask(move |fleet| {
            let wanted = fleet.hosts().filter(|host| {
                selector.as_ref().is_none_or(|selector| selector.matches(&host.record.labels))
            });
            wanted.map(|host| show::host(fleet, host)).collect()
        });
        Ok(Response::new(rpc::ListHostsResponse { hosts: hosts.await? }))
    }

    async fn get_host(&self, request: Request<rpc::HostRequest>) -> Result<Response<rpc::Host>, Status> {
        let name = request.into_inner().host;
        let host = self.shared.driver.request(move |fleet| shown(fleet, &name));
        Ok(Response::new(host.await?))
    }

    async fn label_host(
        &self,
        request: Request<rpc::LabelHostRequest>,
    ) -> Result<Response<rpc::Host>, Status> {
        let (act, request) = act(request, |request| format!("host {}", request.host))?;
        self.on_host(act, move |fleet, who| {
            fleet.label(who, &request.host, request.set, &request.remove)?;
            shown(fleet, &request.host)
        })
        .await
    }

    async fn cordon_host(&self, request: Request<rpc::HostRequest>) -> Result<Response<rpc::Host>, Status> {
        let (act, rpc::HostRequest { host, reason, .. }) = act(request, about)?;
        self.on_host(act, move |fleet, who| {
            fleet.cordon(who, &host, Some(reason))?;
            shown(fleet, &host)
        })
        .await
    }

    async fn uncordon_host(&self, request: Request<rpc::HostRequest>) -> Result<Response<rpc::Host>, Status> {
        let (act, rpc::HostRequest { host: name, .. }) = act(request, about)?;
        self.on_host(act, move |fleet, who| {
            fleet.cordon(who, &name, None)?;
            shown(fleet, &name)
        })
        .await
    }

    async fn release_host(
        &self,
        request: Request<rpc::ReleaseHostRequest>,
    ) -> Result<Response<rpc::ReleaseHostResponse>, Status> {
        let (act, request) = act(request, |request| format!("host {}", request.host))?;
        let rpc::ReleaseHostRequest { host, reason, app, leave_down } = request;
        let released = self.shared.driver.act(act, move |fleet, who| {
            let app = Some(app).filter(|app| !app.is_empty()).map(app_name).transpose()?;
            let apps = fleet.release_host(who, &host, &Unquarantine { app, leave_down, reason })?;
            let apps = apps.iter().map(ToString::to_string).collect();
            Ok(rpc::ReleaseHostResponse { host: Some(shown(fleet, &host)?), apps })
        });
        Ok(Response::new(released.await?))
    }

    async fn parole(
        &self,
        request: Request<rpc::ParoleRequest>,
    ) -> Result<Response<rpc::ParoleResponse>, Status> {
        let about = |request: &rpc::ParoleRequest| format!("release {} {}", request.app, request.release);
        let (act, request) = act(request, about)?;
        let rpc::ParoleRequest { app, release, reason } = request;
        let paroled = self.shared.driver.act(act, move |fleet, who| {
            let app = app_name(app)?;
            let (release, poisoned) = fleet.parole(who, &app, &release, &reason)?;
            Ok(rpc::ParoleResponse {
                release: Some((&release).into()),
                failed_on: poisoned.hosts.iter().map(ToString::to_string).collect(),
                rollout: poisoned.rollout.to_string(),
            })
        });
        Ok(Response::new(paroled.await?))
    }

    async fn remove_host(&self, request: Request<rpc::HostRequest>) -> Result<Response<rpc::Host>, Status> {
        let (act, rpc::HostRequest { host: name, force, .. }) = act(request, about)?;
        let removal = if force { Removal::EvenConnected } else { Removal::Gone };
        self.on_host(act, move |fleet, who| {
            let host = fleet.remove_host(who, &name, removal)?;
            Ok(show::host(fleet, &host))
        })
        .await
    }

    async fn versions(
        &self,
        request: Request<rpc::VersionsRequest>,
    ) -> Result<Response<rpc::VersionsResponse>, Status> {
        let rpc::VersionsRequest { app, environment } = request.into_inner();
        let app = app_filter(&app)?;
        let rows = self.shared.driver.request(move |fleet| rows::versions(fleet, app, &environment));
        Ok(Response::new(rpc::VersionsResponse { rows: rows.await? }))
    }

    async fn why(&self, request: Request<rpc::WhyRequest>) -> Result<Response<rpc::WhyResponse>, Status> {
        let rpc::WhyRequest { subject, environment } = request.into_inner();
        let cause = self.shared.driver.request(move |fleet| fleet.why(&subject, &environment)).await?;
        let mut evidence = Vec::new();
        if let (Some(host), Some(rollout)) = (&cause.host, &cause.rollout)
            && let Some(bytes) = self.shared.objects.evidence(rollout.as_str(), host.as_str()).await?
        {
            let stored: Vec<Evidence> = serde_json::from_slice(&bytes).map_err(|_| {
                ErrorKind::Damaged
                    .status(format!("the evidence of host {host} in rollout {rollout} is damaged"))
            })?;
            evidence = stored.into_iter().map(Into::into).collect();
        }
        Ok(Response::new(rpc::WhyResponse {
            host: cause.host.map(|host| host.to_string()).unwrap_or_default(),
            rollout: cause.rollout.map(|id| id.to_string()).unwrap_or_default(),
            fault: Fault::to_wire(cause.fault),
            cause: cause.cause,
            evidence,
        }))
    }

    type LogsStream = HostLogs;

    async fn logs(&self, request: Request<rpc::LogsRequest>) -> Result<Response<HostLogs>, Status> {
        logs::logs(&self.shared, request.into_inner()).await.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<rpc::CreateTokenRequest>,
    ) -> Result<Response<rpc::Token>, Status> {
        let token = JoinToken::generate(self.pki.agents().pin())
            .map_err(|error| ErrorKind::Internal.status(error.to_string()))?;
        let kept = (token.id().to_owned(), token.secret_digest());
        let (act, request) = act(request, |_| format!("token {}", kept.0))?;
        let ttl = (request.ttl_seconds != 0).then(|| Span(request.ttl_seconds.saturating_mul(1000)));
        let created = self.shared.driver.act(act, move |fleet, who| {
            let host = match request.host.as_str() {
                "" => None,
                name => Some(HostName::new(name).map_err(|error| Refusal::invalid(error.to_string()))?),
            };
            let record = fleet.create_token(who, kept, request.labels, host, ttl)?;
            Ok(show::token(&record, fleet.now))
        });
        Ok(Response::new(rpc::Token { join: token.to_string(), ..created.await? }))
    }

    async fn list_tokens(
        &self,
        _request: Request<rpc::ListTokensRequest>,
    ) -> Result<Response<rpc::ListTokensResponse>, Status> {
        let tokens = self
            .shared
            .driver
            .ask(|fleet| fleet.tokens().iter().map(|token| show::token(token, fleet.now)).collect());
        Ok(Response::new(rpc::ListTokensResponse { tokens: tokens.await? }))
    }

    async fn revoke_token(
        &self,
        request: Request<rpc::RevokeTokenRequest>,
    ) -> Result<Response<rpc::Token>, Status> {
        let (act, request) = act(request, |request| format!("token {}", request.id))?;
        let revoked = self.shared.driver.act(act, move |fleet, who| {
            let record = fleet.revoke_token(who, &request.id)?;
            Ok(show::token(&record, fleet.now))
        });
        Ok(Response::new(revoked.await?))
    }

    type EventsStream = ReceiverStream<Result<rpc::Event, Status>>;

    async fn events(
        &self,
        request: Request<rpc::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let request = request.into_inner();
        let filter = EventFilter { app: request.app, host: request.host, rollout: request.rollout };
        let limit = match request.limit {
            0 => PAST,
            limit => limit as usize,
        };
        let (after, resume, first) = (request.after, request.resume, filter.clone());
        let (past, at, news) = self
            .shared
            .driver
            .request(move |fleet| {
                if resume {
                    fleet.events_from(after)?;
                }
                let past = fleet.events(after, &first, limit, !resume);
                // What the limit left out comes by following, too.
                let at = match past.last().filter(|_| resume && past.len() == limit) {
                    Some(last) => last.seq,
                    None => fleet.newest_event(),
                };
                Ok((past, at, fleet.follow_events()))
            })
            .await?;
        let (sender, receiver) = mpsc::channel(16);
        let (driver, stop) = (self.shared.driver.clone(), self.shared.stop.clone());
        let follow = request.follow.then_some(Follow { driver, stop, filter, at, news });
        tokio::spawn(async move {
            for event in &past {
                if send(&sender, Ok(show::event(event))).await.is_err() {
                    return;
                }
            }
            if let Some(follow) = follow {
                follow.run(&sender).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type AuditStream = ReceiverStream<Result<rpc::AuditRecord, Status>>;

    async fn audit(
        &self,
        request: Request<rpc::AuditRequest>,
    ) -> Result<Response<Self::AuditStream>, Status> {
        let newest = self.shared.driver.ask(|fleet| fleet.audited().seq).await?;
        let request = request.into_inner();
        let after = audit::begin(&request, newest);
        Ok(Response::new(self.shared.audit.read(after, request.limit)))
    }

    async fn environments(
        &self,
        request: Request<rpc::EnvironmentsRequest>,
    ) -> Result<Response<rpc::EnvironmentsResponse>, Status> {
        let app = app_filter(&request.into_inner().app)?;
        let environments = self.shared.driver.request(move |fleet| rows::environments(fleet, app));
        Ok(Response::new(rpc::EnvironmentsResponse { environments: environments.await? }))
    }

    async fn info(&self, request: Request<rpc::InfoRequest>) -> Result<Response<rpc::InfoResponse>, Status> {
        let caller = who(&request)?;
        let info = self.shared.driver.ask(move |fleet| rpc::InfoResponse {
            version: windlass_proto::version::PROGRAM.to_owned(),
            fleet: fleet.name.clone(),
            epoch: fleet.fence().epoch,
            hosts: u32::try_from(fleet.hosts().count()).unwrap_or(u32::MAX),
            sessions: u32::try_from(fleet.sessions()).unwrap_or(u32::MAX),
            started_at_ms: fleet.started_at.0,
            caller,
        });
        Ok(Response::new(info.await?))
    }
}

/// Events to come. They are read from the log in pages, so a slow reader holds no queue.
struct Follow {
    driver: Driver,
    stop: CancellationToken,
    filter: EventFilter,
    at: u64,
    news: watch::Receiver<u64>,
}

impl Follow {
    async fn run(mut self, sender: &mpsc::Sender<Result<rpc::Event, Status>>) {
        loop {
            let (filter, at) = (self.filter.clone(), self.at);
            let page = self.driver.request(move |fleet| {
                fleet.events_from(at)?;
                Ok((fleet.events(at, &filter, PAGE, false), fleet.newest_event()))
            });
            let (page, newest) = match page.await {
                Ok(page) => page,
                Err(refusal) => {
                    // The coordinator is stopping, or the reader was slower than events are kept. One that is gone needs no
                    // farewell.
                    let _ = send(sender, Err(refusal.into())).await;
                    return;
                }
            };
            for event in &page {
                if send(sender, Ok(show::event(event))).await.is_err() {
                    return;
                }
            }
            if page.len() == PAGE {
                self.at = page.last().map_or(newest, |event| event.seq);
                continue;
            }
            self.at = newest;
            let at = self.at;
            let goes_on = tokio::select! {
                changed = self.news.wait_for(|seen| *seen > at) => changed.is_ok(),
                () = self.stop.cancelled() => false,
                () = sender.closed() => return,
            };
            if !goes_on {
                let _ = send(sender, Err(stopping())).await;
                return;
            }
        }
    }
}
