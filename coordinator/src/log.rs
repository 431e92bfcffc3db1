//! The log on stderr, and errors as one line.

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use windlass_proto::shown;

use crate::args::LogFormat;

/// Sets the log up; `WINDLASS_LOG` holds the filter, as in `info,windlass_coordinator=debug`.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("WINDLASS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).fmt_fields(fields()).init(),
        LogFormat::Json => log.json().init(),
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
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
