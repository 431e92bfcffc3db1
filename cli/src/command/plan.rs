//! `windlass plan`: what a deploy would change.

use windlass_proto::rpc::{Check, Plan};

use super::{difference, order};
use crate::args;
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;
use crate::invocation::Invocation;
use crate::output::{Output, json, style, text};

/// Shows the plan. Nothing is changed anywhere: the coordinator gets the manifest to plan with, and keeps nothing of it.
pub async fn run(invocation: &Invocation, args: args::Plan) -> Result {
    let out = &invocation.out;
    let (client, order) = order::propose(invocation, &args.order).await?;
    let subject = format!("cannot plan {}", order.app);
    let plan = client.ask(&subject, client.rollouts.clone().plan(order)).await?;
    if out.format.is_structured() {
        out.object(&json::wrap("Plan", json::plan(&plan)))?;
    } else {
        out.data(&render(&plan))?;
    }
    refuse(&plan, "deploy")?;
    let changes = plan.batches.iter().any(|batch| !batch.hosts.is_empty());
    if !out.format.is_structured() && changes {
        let version = plan.to.as_ref().map_or("?", |to| to.version.as_str());
        let what = match &args.order.bundle {
            Some(bundle) => format!("--bundle {bundle}"),
            None => format!("--version {version}"),
        };
        out.talk("Nothing was changed. To deploy exactly this:");
        out.talk(&format!(
            "  windlass deploy {what}{} --expect-revision {}",
            flags(&args.order, &plan.environment),
            plan.revision
        ));
    }
    if !out.format.is_structured() && !changes {
        out.talk("Nothing to do: every host is on it already.");
    }
    Ok(if changes && args.exit_code { Exit::Changes } else { Exit::Done })
}

/// The flags that made this plan what it is.
fn flags(order: &args::Order, environment: &str) -> String {
    let mut flags = String::new();
    let file = order.spec.file.display().to_string();
    if file != "windlass.yaml" {
        flags.push_str(&format!(" -f {file}"));
    }
    flags.push_str(&text::env_flag(environment));
    if let Some(from) = &order.take_from {
        flags.push_str(&format!(" --take-from {from}"));
    }
    for set in &order.spec.set {
        flags.push_str(&format!(" --set '{set}'"));
    }
    flags
}

/// Shows a plan as talk.
pub fn say(out: &Output, plan: &Plan) {
    out.talk(render(plan).trim_end());
}

/// Warnings and errors of a plan as talk; errors end the program.
pub fn say_checks(out: &Output, plan: &Plan, doing: &str) -> Result<()> {
    for check in plan.checks.iter().filter(|check| check.level == "warn") {
        out.warn(&check.message);
    }
    refuse(plan, doing)
}

fn refuse(plan: &Plan, doing: &str) -> Result<()> {
    let errors: Vec<&Check> = plan.checks.iter().filter(|check| check.level == "error").collect();
    if errors.is_empty() {
        return Ok(());
    }
    let conflict = errors.iter().any(|c| {
        matches!(c.id.as_str(), "busy" | "poisoned" | "revision" | "undecided" | "grant" | "environment")
    });
    let exit = if conflict { Exit::Conflict } else { Exit::Failed };
    let version = plan.to.as_ref().map_or(String::new(), |to| format!(" {}", to.version));
    let what = format!("cannot {doing} {}{version}", plan.app);
    let error = match errors.as_slice() {
        [one] => ExpectedError::new(exit, format!("{what}: {}", one.message)),
        several => several
            .iter()
            .fold(ExpectedError::new(exit, format!("{what}: the plan cannot work")), |error, check| {
                error.line(format!("{}: {}", check.id, check.message))
            }),
    };
    Err(match errors[0].id.as_str() {
        "busy" => error.hint("windlass rollout list --open"),
        "revision" => error.hint("windlass plan    (shows the state as it is now)"),
        "poisoned" => error.hint("deploy a new version that mends it"),
        "grant" => {
            let version = plan.to.as_ref().map_or("VERSION", |to| to.version.as_str());
            error.hint(format!("windlass bundle grant {} {version}    (by an author)", plan.app))
        }
        "undecided" => {
            plan.candidates.iter().filter_map(|one| one.release.as_ref()).fold(error, |error, to| {
                let env = text::env_flag(&plan.environment);
                error.hint(format!("windlass rollback {}{env} --to {}", plan.app, to.version))
            })
        }
        _ => error,
    })
}

/// The plan as text.
pub fn render(plan: &Plan) -> String {
    let hosts: usize = plan.batches.iter().map(|batch| batch.hosts.len()).sum();
    let to = plan.to.clone().unwrap_or_default();
    let app = style::paint(style::BOLD, &text::app(&plan.app, &plan.environment));
    let mut page = match &plan.from {
        Some(from) => format!("{app}   {} -> {}", from.version, to.version),
        None => format!("{app}   {} (first deployment)", to.version),
    };
    page.push_str(&format!("   revision {}, {} to change\n", plan.revision, text::count(hosts, "host")));
    let former = plan.from.as_ref().map_or("nothing", |from| text::short_digest(&from.digest));
    page.push_str(&format!(
        "  ~ bundle  {former} -> {}    {} to send\n",
        text::short_digest(&to.digest),
        text::bytes(plan.bytes_to_send)
    ));
    page.push_str(&difference::render(plan));
    for batch in &plan.batches {
        let count = text::count(batch.hosts.len(), "host");
        page.push_str(&format!("  batch {:<3} {count:<9} {}\n", batch.index, names(&batch.hosts)));
    }
    if !plan.unchanged.is_empty() {
        page.push_str(&format!(
            "  unchanged {:<9} {}\n",
            text::count(plan.unchanged.len(), "host"),
            names(&plan.unchanged)
        ));
    }
    if !plan.checks.is_empty() {
        page.push('\n');
    }
    for check in &plan.checks {
        let pad = " ".repeat(6usize.saturating_sub(check.level.len()));
        page.push_str(&format!("  {}{pad}{}: {}\n", style::word(&check.level), check.id, check.message));
    }
    if hosts > 0 {
        let seconds = |n: u64| text::span(i64::try_from(n).unwrap_or(i64::MAX).saturating_mul(1000));
        page.push_str(&format!(
            "\n  takes about {}; going back takes about {}\n",
            seconds(plan.estimate_seconds),
            seconds(plan.rollback_seconds)
        ));
    }
    page
}

/// Up to eight names; of more the ends.
fn names(hosts: &[String]) -> String {
    match hosts {
        [first, .., last] if hosts.len() > 8 => format!("{first} .. {last}"),
        _ => hosts.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::rpc::{Batch, ReleaseRef};

    fn sample() -> Plan {
        let release = |version: &str, digest: &str| {
            Some(ReleaseRef { version: version.into(), digest: digest.into(), ..Default::default() })
        };
        let check = |id: &str, level: &str, message: &str| Check {
            id: id.into(),
            level: level.into(),
            message: message.into(),
        };
        Plan {
            environment: "default".into(),
            app: "web".into(),
            from: release("1.8.3", "b3:9f31c2aa"),
            to: release("1.9.0", "b3:07ad4eaa"),
            revision: 42,
            batches: vec![
                Batch { index: 1, hosts: vec!["web-01".into()], state: "waiting".into() },
                Batch {
                    index: 2,
                    hosts: (2..=12).map(|n| format!("web-{n:02}")).collect(),
                    state: "waiting".into(),
                },
            ],
            checks: vec![
                check("disk", "ok", "room for 96 MiB on every host"),
                check("absent", "warn", "web-07 is silent and will be skipped"),
            ],
            estimate_seconds: 200,
            rollback_seconds: 61,
            bytes_to_send: 1_258_291,
            unchanged: vec!["web-13".into()],
            candidates: Vec::new(),
            grant: None,
            difference: None,
        }
    }

    #[test]
    fn a_plan_reads_like_the_contract() {
        insta::assert_snapshot!(anstream::adapter::strip_str(&render(&sample())).to_string());
    }

    #[test]
    fn a_plan_with_errors_is_refused_with_its_code() {
        let with = |id: &str| {
            let mut plan = sample();
            plan.checks.push(Check { id: id.into(), level: "error".into(), message: "no".into() });
            refuse(&plan, "deploy").unwrap_err().exit()
        };
        assert_eq!(
            (with("busy"), with("poisoned"), with("revision"), with("grant")),
            (Exit::Conflict, Exit::Conflict, Exit::Conflict, Exit::Conflict)
        );
        assert_eq!(with("disk"), Exit::Failed);
        assert!(refuse(&sample(), "deploy").is_ok());
    }
}
