//! Log set-up: lines on stderr, chosen by `WINDLASS_LOG`.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

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
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        tracing::debug!("log was installed before");
    }
    Ok(())
}
