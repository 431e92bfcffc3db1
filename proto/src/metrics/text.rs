//! The text that is answered: OpenMetrics 1.0 where the caller takes it, else Prometheus' text format 0.0.4.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Plain,
}

impl Format {
    /// The one for a caller with this header `Accept`.
    pub(super) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Plain }
    }

    /// Its name on the wire.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// All of a registry.
    pub(super) fn write(self, registry: &Registry) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, registry)?;
        Ok(match self {
            Self::OpenMetrics => text,
            Self::Plain => plain(&text),
        })
    }
}

/// In the older format a counter's help and type bear its whole name, an info is a gauge, and units and the end have no lines.
fn plain(open_metrics: &str) -> String {
    let suffix = |name: &str| {
        let kind = open_metrics
            .lines()
            .find_map(|line| line.strip_prefix("# TYPE ")?.strip_prefix(name)?.strip_prefix(' '));
        match kind {
            Some("counter") => ("_total", "counter"),
            Some("info") => ("_info", "gauge"),
            Some(kind) => ("", kind),
            None => ("", "untyped"),
        }
    };
    let mut plain = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        let line = match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), Some(help)) => {
                format!("# HELP {name}{} {help}", suffix(name).0)
            }
            (Some("#"), Some("TYPE"), Some(name), Some(_)) => {
                let (suffix, kind) = suffix(name);
                format!("# TYPE {name}{suffix} {kind}")
            }
            (Some("#"), ..) => continue,
            _ => line.to_owned(),
        };
        plain.push_str(&line);
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::info::Info;

    use super::*;
    use crate::metrics::{Words, durations, gauge, gauges};

    fn registry() -> Registry {
        let mut registry = Registry::with_prefix("windlass");
        let ended = Family::<Words<1>, Counter>::default();
        ended.get_or_create(&[("state", "Succeeded")]).inc_by(2);
        registry.register("rollouts", "Rollouts that ended", ended);
        registry.register("build", "What this is", Info::new([("version", "0.1.0")]));
        let commits = durations();
        commits.observe(0.2);
        registry.register("commit_seconds", "Commits of the store", commits);
        gauge(&mut registry, "sessions", "Open sessions", 3.0);
        gauges(&mut registry, ("hosts", "state"), "Hosts", [("ready", 2.0)]);
        registry
    }

    #[test]
    fn openmetrics_has_its_end_and_counters_their_suffix() {
        let text = Format::OpenMetrics.write(&registry()).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        for line in [
            "# TYPE windlass_rollouts counter",
            "windlass_rollouts_total{state=\"Succeeded\"} 2",
            "windlass_build_info{version=\"0.1.0\"} 1",
            "windlass_commit_seconds_bucket{le=\"0.25\"} 1",
            "windlass_sessions 3.0",
            "windlass_hosts{state=\"ready\"} 2.0",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_older_format_names_counters_whole() {
        let text = Format::Plain.write(&registry()).unwrap();
        for line in [
            "# HELP windlass_rollouts_total Rollouts that ended.",
            "# TYPE windlass_rollouts_total counter",
            "# TYPE windlass_build_info gauge",
            "# TYPE windlass_commit_seconds histogram",
            "# TYPE windlass_sessions gauge",
        ] {
            assert!(text.lines().any(|has| has == line), "{line}\n{text}");
        }
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    }

    #[test]
    fn callers_get_what_they_take() {
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for other in ["", "*/*", "text/html"] {
            assert_eq!(Format::accepted(other), Format::Plain, "{other}");
        }
    }
}
