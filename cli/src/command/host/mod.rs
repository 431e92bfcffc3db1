//! `windlass host`: hosts, their labels, and whether rollouts may use them.

use std::collections::BTreeMap;

use windlass_proto::rpc::{self, HostRequest, LabelHostRequest, ListHostsRequest, ReleaseHostRequest};

use crate::args::{Host, HostAct};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Format, json, style, table, text};

mod release;

/// Runs the verb.
pub async fn run(invocation: &Invocation, verb: Host) -> Result {
    match verb {
        Host::List { selector } => list(invocation, selector).await,
        Host::Show { host } => show(invocation, host).await,
        Host::Label { host, labels } => label(invocation, host, &labels).await,
        Host::Cordon(act) => change(invocation, Act::Cordon, act).await,
        Host::Uncordon(act) => change(invocation, Act::Uncordon, act).await,
        Host::Release { act, app, leave_down, timeout, yes } => {
            let whose = app.as_ref().map_or_else(|| "every quarantined app".to_owned(), ToString::to_string);
            let question = match leave_down {
                true => format!("Let {whose} of {} take part again, down until the next deploy?", act.host),
                false => format!("Start the last confirmed release of {whose} on {} again?", act.host),
            };
            let mut command = format!("windlass host release {}", act.host);
            if let Some(app) = &app {
                command.push_str(&format!(" --app {app}"));
            }
            if leave_down {
                command.push_str(" --leave-down");
            }
            agree(invocation, &command, &question, yes)?;
            let request = ReleaseHostRequest {
                host: act.host,
                reason: act.reason,
                app: app.unwrap_or_default(),
                leave_down,
            };
            release::run(invocation, request, timeout.std()).await
        }
        Host::Rm { act, force, yes } => {
            let question =
                format!("Forget host {}? Its agent will have to enrol again with a new token.", act.host);
            agree(invocation, &format!("windlass host rm {}", act.host), &question, yes)?;
            change(invocation, Act::Remove { force }, act).await
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Cordon,
    Uncordon,
    Remove { force: bool },
}

/// A person agrees to `command`, or has said `--yes` already.
fn agree(invocation: &Invocation, command: &str, question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    let again = format!("{command} --yes");
    if !invocation.out.can_ask() {
        let problem = format!("{command} needs --yes where nobody can be asked");
        return Err(ExpectedError::usage(problem).hint(again));
    }
    if invocation.out.ask(question) {
        Ok(())
    } else {
        Err(ExpectedError::failed(format!("{command}: nothing was done, it was not agreed to")).hint(again))
    }
}

async fn list(invocation: &Invocation, selector: String) -> Result {
    let out = &invocation.out;
    let client = invocation.connect().await?;
    let hosts = client
        .ask(
            "cannot list hosts",
            client.fleet.clone().list_hosts(ListHostsRequest { selector: selector.clone() }),
        )
        .await?
        .hosts;
    match out.format {
        Format::Name => {
            for host in &hosts {
                out.line(&host.name)?;
            }
        }
        format if format.is_structured() => out.list(&json::host_list(&hosts), "hosts", "Host")?,
        _ if hosts.is_empty() && selector.is_empty() => {
            out.talk("no hosts are enrolled");
            out.talk("windlass token create --label role=app    (then start an agent with the token)");
        }
        _ if hosts.is_empty() => out.talk(&format!("no host has labels {selector:?}")),
        format => {
            let wide = format == Format::Wide;
            let mut header = vec!["HOST", "STATE", "APPS", "LABELS", "AGENT", "SEEN"];
            if wide {
                header.extend(["ADDRESS", "CPUS", "MEMORY", "DISK FREE", "KERNEL", "ID"]);
            }
            let rows: Vec<Vec<String>> = hosts.iter().map(|host| row(host, wide)).collect();
            out.data(&table::render(&header, &rows))?;
        }
    }
    Ok(Exit::Done)
}

fn row(host: &rpc::Host, wide: bool) -> Vec<String> {
    let seen = match host.state.as_str() {
        _ if host.last_seen_ms == 0 => "never".to_owned(),
        _ => text::span(text::now_ms() - host.last_seen_ms),
    };
    let mut row = vec![
        host.name.clone(),
        style::word(&host.state),
        apps(host),
        labels(&host.labels),
        host.agent_version.clone(),
        seen,
    ];
    if wide {
        let facts = host.facts.clone().unwrap_or_default();
        row.extend([
            host.address.clone(),
            facts.cpus.to_string(),
            text::bytes(facts.memory_bytes),
            text::bytes(facts.disk_free_bytes),
            facts.kernel,
            host.id.clone(),
        ]);
    }
    row
}

fn apps(host: &rpc::Host) -> String {
    let apps: Vec<String> = host
        .apps
        .iter()
        .filter_map(|status| {
            let version = json::running(status)?.version.clone();
            let phase = json::phase(status.phase);
            // What is settled needs no word.
            let settled = matches!(phase, "idle" | "confirmed" | "reverted" | "failed");
            Some(if settled {
                format!("{} {version}", status.app)
            } else {
                format!("{} {version} ({phase})", status.app)
            })
        })
        .collect();
    if apps.is_empty() { "-".into() } else { apps.join(", ") }
}

/// `role=app rack=r1`, in a fixed order.
pub fn labels(labels: &BTreeMap<String, String>) -> String {
    let mut all: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    all.sort();
    if all.is_empty() { "-".into() } else { all.join(" ") }
}

async fn show(invocation: &Invocation, name: String) -> Result {
    let client = invocation.connect().await?;
    let request = HostRequest { host: name.clone(), ..HostRequest::default() };
    let host =
        client.ask(&format!("cannot show host {name}"), client.fleet.clone().get_host(request)).await?;
    print(invocation, &host)
}

fn print(invocation: &Invocation, host: &rpc::Host) -> Result {
    let out = &invocation.out;
    if out.format == Format::Name {
        out.line(&host.name)?;
    } else if out.format.is_structured() {
        out.object(&json::wrap("Host", json::host(host)))?;
    } else {
        let facts = host.facts.clone().unwrap_or_default();
        let seen = text::ago(host.last_seen_ms);
        let mut page = format!(
            "{}  {}  {}\n  id        {}\n  labels    {}\n  agent     {}, last heard {seen}\n  enrolled  {}\n  facts     {} cpus, {} memory, {} disk free, {}\n",
            style::paint(style::BOLD, &host.name),
            style::word(&host.state),
            host.address,
            host.id,
            labels(&host.labels),
            host.agent_version,
            text::rfc3339(host.enrolled_at_ms).unwrap_or_else(|| "-".into()),
            facts.cpus,
            text::bytes(facts.memory_bytes),
            text::bytes(facts.disk_free_bytes),
            facts.kernel,
        );
        if !host.foreign.is_empty() {
            page.push_str(&format!("  {}  {}\n", style::paint(style::BAD, "not led "), host.foreign));
        }
        for problem in &facts.problems {
            page.push_str(&format!("  {}  {problem}\n", style::paint(style::BAD, "problem ")));
        }
        for status in &host.apps {
            page.push_str(&app_page(status));
        }
        if host.apps.is_empty() {
            page.push_str("  no apps\n");
        }
        out.data(&page)?;
        if !host.foreign.is_empty() {
            out.talk("stop the coordinator that is wrong; if this one was restored from a backup, start it once with:");
            out.talk("windlass-coordinator run --after-restore");
        }
        if matches!(host.state.as_str(), "quarantined" | "silent") {
            out.talk(&format!("windlass why {}", host.name));
        }
    }
    Ok(Exit::Done)
}

fn app_page(status: &rpc::AppStatus) -> String {
    let attested = status.attested.clone().unwrap_or_default();
    let version = json::running(status).map_or("nothing", |r| r.version.as_str());
    let digest = json::running(status).map_or("", |r| text::short_digest(&r.digest));
    let mut page = format!(
        "\n  {} {version} {digest}  {}  for {}\n",
        style::paint(style::BOLD, &status.app),
        style::word(json::phase(status.phase)),
        text::span(text::now_ms() - status.since_ms),
    );
    if attested.pid != 0 {
        let ok = if attested.ok { style::word("ok") } else { style::paint(style::BAD, "does not match") };
        page.push_str(&format!("    attested  {ok}  pid {}  {}\n", attested.pid, attested.exe));
    }
    if !attested.link.is_empty() {
        page.push_str(&format!("    link      {}\n", attested.link));
    }
    if let Some(confirmed) = &status.confirmed {
        page.push_str(&format!(
            "    confirmed {} {}\n",
            confirmed.version,
            text::short_digest(&confirmed.digest)
        ));
    }
    if !status.reason.is_empty() {
        page.push_str(&format!("    reason    {}\n", status.reason));
    }
    if !status.detail.is_empty() {
        page.push_str(&format!("    doing     {}\n", status.detail));
    }
    page
}

async fn label(invocation: &Invocation, host: String, changes: &[String]) -> Result {
    let mut set = BTreeMap::new();
    let mut remove = Vec::new();
    for change in changes {
        match (change.split_once('='), change.strip_suffix('-')) {
            (Some((key, value)), _) if !key.is_empty() => {
                set.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(key)) if !key.is_empty() => remove.push(key.to_owned()),
            _ => {
                return Err(ExpectedError::usage(format!("{change:?} is neither key=value nor key-"))
                    .hint(format!("windlass host label {host} rack=r1 old-")));
            }
        }
    }
    let client = invocation.connect().await?;
    let request = LabelHostRequest { host: host.clone(), set, remove };
    let host =
        client.ask(&format!("cannot label host {host}"), client.fleet.clone().label_host(request)).await?;
    if invocation.out.format.is_structured() {
        return print(invocation, &host);
    }
    invocation.out.step("Labelled", &format!("{}  {}", host.name, labels(&host.labels)));
    Ok(Exit::Done)
}

async fn change(invocation: &Invocation, act: Act, HostAct { host, reason }: HostAct) -> Result {
    let client = invocation.connect().await?;
    let force = matches!(act, Act::Remove { force: true });
    let request = HostRequest { host: host.clone(), reason, force };
    let mut fleet = client.fleet.clone();
    let (doing, done) = match act {
        Act::Cordon => ("cordon", "Cordoned"),
        Act::Uncordon => ("uncordon", "Uncordoned"),
        Act::Remove { .. } => ("remove", "Removed"),
    };
    let call = async {
        match act {
            Act::Cordon => fleet.cordon_host(request).await,
            Act::Uncordon => fleet.uncordon_host(request).await,
            Act::Remove { .. } => fleet.remove_host(request).await,
        }
    };
    let host = client.ask(&format!("cannot {doing} host {host}"), call).await?;
    if invocation.out.format.is_structured() {
        return print(invocation, &host);
    }
    let more = match act {
        Act::Cordon => format!("   undo: windlass host uncordon {}", host.name),
        _ => String::new(),
    };
    invocation.out.step(done, &format!("{}  {}{more}", host.name, style::word(&host.state)));
    Ok(Exit::Done)
}
