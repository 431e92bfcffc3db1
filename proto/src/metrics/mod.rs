//! What a program shows to a monitoring system: `GET /metrics` on a listener of its own, and nothing else there.
//!
//! [`address`]: where, as settings write it. `text`: the two text formats. [`serve()`]: one request a connection. `endings`: what
//! agents and coordinator count alike.

pub mod address;
mod endings;
mod serve;
mod text;

use std::path::Path;

pub use prometheus_client;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use self::address::MetricsAddress;
pub use self::endings::{Ending, Endings};
pub use self::serve::serve;

/// Labels of a metric, all of them words of the program: how many there are does not depend on the fleet.
pub type Words<const N: usize> = [(&'static str, &'static str); N];

/// Registers a value that was measured for this scrape.
pub fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Registers a value for each word of a label, measured for this scrape.
pub fn gauges(
    registry: &mut Registry,
    (name, label): (&str, &'static str),
    help: &str,
    values: impl IntoIterator<Item = (&'static str, f64)>,
) {
    let family = Family::<Words<1>, Gauge<f64, std::sync::atomic::AtomicU64>>::default();
    for (word, value) in values {
        family.get_or_create(&[(label, word)]).set(value);
    }
    registry.register(name, help, family);
}

/// For what takes from a hundredth of a second to an hour.
pub fn durations() -> Histogram {
    Histogram::new([
        0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
    ])
}

/// Bytes of the files in a directory and below it, links not followed; what vanishes meanwhile does not count.
pub fn bytes_beneath(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_beneath(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
