//! The live view: one area of the terminal, redrawn. [`render`] is pure; [`Screen`] owns the area.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use windlass_proto::rpc::{Batch, HostProgress, Rollout};

use super::seen;
use super::summary::{confirmed, failed, in_flight, title};
use crate::output::{json, style, table, text};

/// Hosts of one batch that are named one by one.
const NAMED: usize = 6;
/// Hosts under way whose phase and detail are shown.
const DETAILED: usize = 8;
const BAR: usize = 24;

/// The whole area as text, with styles.
pub fn render(rollout: &Rollout, now_ms: i64, away: bool) -> String {
    let (done, all) = confirmed(rollout);
    let bad = failed(rollout).count();
    let running = rollout.batches.iter().find(|b| b.state == "running").map_or(0, |b| b.index);
    let batch = if running == 0 {
        String::new()
    } else {
        format!("    batch {running} of {}", rollout.batches.len())
    };
    let bad =
        if bad == 0 { "0 failed".to_owned() } else { style::paint(style::BAD, &format!("{bad} failed")) };
    let elapsed = text::span(now_ms - rollout.started_at_ms);
    let mut lines = vec![
        String::new(),
        format!(
            "{}    {}{batch}    {done}/{all} hosts    {bad}    {elapsed}",
            style::paint(style::BOLD, &title(rollout)),
            style::word(&rollout.state)
        ),
    ];
    // What hosts do stands below, in full.
    let waiting_for = text::cut(&rollout.waiting_for, 64);
    let waiting = match (away, rollout.conditions.as_slice(), waiting_for.as_str()) {
        (true, ..) => style::paint(style::WARN, "the coordinator is away; trying again"),
        (_, [], "") => String::new(),
        (_, [], waiting) => format!("waits for {waiting}"),
        (_, conditions, "") => style::paint(style::WARN, &conditions.join(", ")),
        (_, conditions, waiting) => {
            format!("{}: waits for {waiting}", style::paint(style::WARN, &conditions.join(", ")))
        }
    };
    lines.push(format!("{}  {waiting}", bar(done, all)));
    lines.extend(seen::line(rollout).map(|seen| format!(" users saw {seen}")));
    lines.push(String::new());
    for batch in &rollout.batches {
        lines.push(batch_line(rollout, batch));
    }
    let busy: Vec<&HostProgress> = rollout.hosts.iter().filter(|h| in_flight(h) || staging(h)).collect();
    if !busy.is_empty() {
        lines.push(String::new());
    }
    for host in busy.iter().take(DETAILED) {
        lines.push(host_line(host));
    }
    if busy.len() > DETAILED {
        lines.push(format!(" ... and {} more", busy.len() - DETAILED));
    }
    lines.join("\n")
}

fn bar(done: usize, all: usize) -> String {
    let filled = (done * BAR).checked_div(all).unwrap_or(BAR);
    let head = if filled < BAR { ">" } else { "" };
    format!("[{}{head}{}]", "=".repeat(filled), ".".repeat(BAR - filled - head.len()))
}

fn staging(host: &HostProgress) -> bool {
    matches!(json::phase(host.phase), "assigned" | "staging")
}

fn batch_line(rollout: &Rollout, batch: &Batch) -> String {
    let of = |name: &String| rollout.hosts.iter().find(|h| h.host == *name);
    let outcome = |name: &String| of(name).and_then(|h| json::outcome(h.outcome));
    let done = batch.hosts.iter().filter(|name| outcome(name) == Some("confirmed")).count();
    let state = style::word(&batch.state);
    let pad = " ".repeat(8usize.saturating_sub(table::visible(&state)));
    let names = if batch.hosts.len() <= NAMED {
        let named = batch.hosts.iter().map(|name| match of(name) {
            Some(host) => format!("{name} {}", short(host)),
            None => name.clone(),
        });
        named.collect::<Vec<_>>().join("  ")
    } else {
        let ends = format!("{} .. {}", batch.hosts[0], batch.hosts[batch.hosts.len() - 1]);
        let troubled = batch.hosts.iter().filter_map(of).filter(|h| is_bad(h)).take(NAMED);
        let troubled: Vec<String> = troubled.map(|h| format!("{} {}", h.host, short(h))).collect();
        if troubled.is_empty() { ends } else { format!("{ends}  {}", troubled.join("  ")) }
    };
    format!(" batch {:<3} {:>7}  {state}{pad}  {names}", batch.index, format!("{done}/{}", batch.hosts.len()))
}

fn is_bad(host: &HostProgress) -> bool {
    matches!(
        json::outcome(host.outcome),
        Some("reverted" | "already_reverted" | "failed" | "quarantined" | "lost")
    )
}

fn short(host: &HostProgress) -> String {
    match (json::outcome(host.outcome), json::phase(host.phase)) {
        (Some("confirmed"), _) => style::paint(style::GOOD, "ok"),
        (Some(outcome), _) => style::word(outcome),
        (None, "idle" | "unknown") => String::new(),
        (None, phase) => style::word(phase),
    }
}

fn host_line(host: &HostProgress) -> String {
    let phase = json::phase(host.phase);
    let spent = host.phase_times.iter().find(|t| t.phase == host.phase).map(|t| t.milliseconds);
    let spent = spent.map_or(String::new(), |ms| format!(" {}", text::span(i64::try_from(ms).unwrap_or(0))));
    let word = format!("{}{spent}", style::word(phase));
    let pad = " ".repeat(16usize.saturating_sub(table::visible(&word)));
    format!(" {:<12} {word}{pad} {}", host.host, host.detail.lines().next().unwrap_or_default())
}

/// Cuts each line to the terminal: a line that wraps would be counted as one, and part of the area left behind.
fn fit(text: &str, width: usize) -> String {
    let lines = text.lines().map(|line| console::truncate_str(line, width.saturating_sub(1), "…"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The area of the terminal that is redrawn.
#[derive(Debug)]
pub struct Screen {
    bar: Option<ProgressBar>,
    plain: bool,
}

impl Screen {
    /// An area at the end of stderr.
    pub fn terminal() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        let plain = anstream::AutoStream::choice(&std::io::stderr()) == anstream::ColorChoice::Never;
        Self { bar: Some(bar), plain }
    }

    /// No area: lines are written instead.
    pub fn none() -> Self {
        Self { bar: None, plain: true }
    }

    /// True when there is an area.
    pub fn is_live(&self) -> bool {
        self.bar.is_some()
    }

    /// Shows `text` instead of what was there.
    pub fn draw(&self, text: &str) {
        if let Some(bar) = &self.bar {
            let shown =
                if self.plain { anstream::adapter::strip_str(text).to_string() } else { text.to_owned() };
            let (_, width) = console::Term::stderr().size();
            bar.set_message(fit(&shown, usize::from(width)));
        }
    }

    /// Removes the area for good.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_proto::rpc::{Outcome, Phase, PhaseTime, ReleaseRef};

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let styled = format!("{} and a long way to go\nshort", style::word("running"));
        let shown = fit(&styled, 12);
        for line in shown.lines() {
            assert!(table::visible(line) < 12, "{line}");
        }
        assert!(shown.ends_with("short"));
    }

    #[test]
    fn the_area_shows_batches_hosts_and_why_it_waits() {
        let release =
            |v: &str| Some(ReleaseRef { version: v.into(), digest: v.into(), ..Default::default() });
        let names: Vec<String> = (1..=12).map(|n| format!("web-{n:02}")).collect();
        let host = |name: &String, phase: Phase, outcome: Outcome| HostProgress {
            host: name.clone(),
            phase: phase.into(),
            outcome: outcome.into(),
            ..Default::default()
        };
        let mut hosts: Vec<HostProgress> =
            names.iter().map(|n| host(n, Phase::Staged, Outcome::Unspecified)).collect();
        for i in 0..4 {
            hosts[i] = host(&names[i], Phase::Confirmed, Outcome::Confirmed);
        }
        hosts[4] = HostProgress {
            phase_times: vec![PhaseTime { phase: Phase::Starting.into(), milliseconds: 8_000 }],
            detail: "probe startup: 2 of 3 passed".into(),
            ..host(&names[4], Phase::Starting, Outcome::Unspecified)
        };
        let batch = |index, hosts: &[String], state: &str| Batch {
            index,
            hosts: hosts.to_vec(),
            state: state.into(),
        };
        let rollout = Rollout {
            app: "web".into(),
            from: release("1.8.3"),
            to: release("1.9.0"),
            state: "Progressing".into(),
            started_at_ms: 1_000,
            waiting_for: "web-05 to become healthy".into(),
            batches: vec![
                batch(1, &names[..1], "done"),
                batch(2, &names[1..5], "running"),
                batch(3, &names[5..], "waiting"),
            ],
            hosts,
            ..Default::default()
        };
        let text = anstream::adapter::strip_str(&render(&rollout, 193_000, false)).to_string();
        insta::assert_snapshot!(text);
    }
}
