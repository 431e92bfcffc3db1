//! Staying in front of a fleet: shows it until Ctrl-C or SIGTERM.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::Interrupt;
use super::place::Place;
use super::status::look;
use crate::error::Result;
use crate::output::text::{clock, now_ms};
use crate::output::{Output, table};

/// Shows the fleet, redrawn on a terminal, elsewhere one line for each change. Returns when asked to stop.
pub async fn stay(place: &Place, interrupt: &mut Interrupt, out: &Output) -> Result<()> {
    let area = out.is_live().then(|| {
        let area = ProgressBar::new_spinner();
        area.set_style(
            ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        area
    });
    let mut known = BTreeMap::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = interrupt.came() => break,
            _ = tick.tick() => {}
        }
        let status = look(place).await?;
        if let Some(area) = &area {
            let (header, rows) = status.rows();
            area.set_message(format!("{}\nCtrl-C stops the fleet", table::render(&header, &rows)));
            area.tick();
            continue;
        }
        for (name, line) in status.lines() {
            if known.get(&name) != Some(&line) {
                out.talk(&format!("{} {name}: {line}", clock(now_ms())));
                known.insert(name, line);
            }
        }
    }
    if let Some(area) = &area {
        area.finish_and_clear();
    }
    Ok(())
}
