//! Tables of the fleet by app and environment.

use windlass_proto::id::AppName;
use windlass_proto::rpc;

use crate::fleet::{Fleet, Refusal};

/// Which release provably runs where: of one app or all, in one environment or, where that is empty, in all.
pub fn versions(
    fleet: &Fleet,
    app: Option<AppName>,
    environment: &str,
) -> Result<Vec<rpc::VersionRow>, Refusal> {
    if let Some(app) = &app {
        fleet.known_app(app)?;
    }
    let of = fleet.shown_environment(app.as_ref(), environment)?;
    let rows = fleet.hosts().flat_map(|host| {
        let stale = host.is_silent(fleet.now) || host.record.foreign.is_some();
        let wanted =
            host.statuses.values().filter(|status| app.as_ref().is_none_or(|app| *app == status.app));
        let wanted = wanted.filter(|status| host.is_of(&status.app, of.as_ref()));
        wanted.map(move |status| rpc::VersionRow {
            host: host.record.name.to_string(),
            stale,
            environment: host.environment(&status.app).map(ToString::to_string).unwrap_or_default(),
            status: Some(status.clone().into()),
        })
    });
    Ok(rows.collect())
}

/// The environments of one app or all, with how many hosts belong to each.
pub fn environments(fleet: &Fleet, app: Option<AppName>) -> Result<Vec<rpc::Environment>, Refusal> {
    if let Some(app) = &app {
        fleet.known_app(app)?;
    }
    let all = fleet.environments(app.as_ref()).map(|(app, name, record, hosts)| rpc::Environment {
        app: app.to_string(),
        name: name.to_string(),
        revision: record.revision,
        hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
    });
    Ok(all.collect())
}
