//! Log set-up: lines on stderr, chosen by `WINDLASS_LOG`.

use clap::ValueEnum;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use windlass_proto::shown;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The variable that chooses what is logged.
const VARIABLE: &str = "WINDLASS_LOG";

/// `WINDLASS_LOG` does not parse.
#[derive(Debug, thiserror::Error)]
#[error(
    "{VARIABLE} is not a log filter: use a level (error, warn, info, debug, trace) or target=level, with commas"
)]
pub struct BadFilter(#[source] tracing_subscriber::filter::ParseError);

/// Installs the log for the whole process. A second call changes nothing, so that tests may call it.
pub fn install(format: LogFormat) -> Result<(), BadFilter> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let filter = EnvFilter::try_new(if text.is_empty() { "info" } else { &text }).map_err(BadFilter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder.with_ansi(false).fmt_fields(fields()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("log was installed before");
    }
    Ok(())
}

/// Fields as they are elsewhere, but that no value ends its line or acts on the terminal of whoever reads the log: they quote hosts,
/// applications and operators.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    let field = |writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", shown::line(&value)),
            name => write!(writer, "{name}={}", shown::line(&value)),
        }
    };
    debug_fn(field).delimited(" ")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_value_is_part_of_its_line() {
        let memory = Memory::default();
        let to = memory.clone();
        let log =
            tracing_subscriber::fmt().with_ansi(false).fmt_fields(fields()).with_writer(move || to.clone());
        tracing::subscriber::with_default(log.finish(), || {
            let reason = "\x1b]0;owned\x07\r\n2026 INFO all is well\u{202e}";
            tracing::warn!(host = "web-1", %reason, count = 3, "it failed: {reason}");
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let shown = "\\x1b]0;owned\\x07\\r\\n2026 INFO all is well\\u{202e}";
        let expected = format!("it failed: {shown} host=\"web-1\" reason={shown} count=3");
        assert!(text.trim_end().ends_with(&expected), "{text}");
    }
}
