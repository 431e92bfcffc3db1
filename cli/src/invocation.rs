//! What every verb is given: the global flags, resolved.

use windlass_proto::trace::Spans;

use crate::args::{Color, Global};
use crate::client::Client;
use crate::config::Config;
use crate::error::Result;
use crate::output::{Format, Output};

/// One run of the program.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Where data and talk go.
    pub out: Output,
    /// The context asked for by flag or environment.
    pub context: Option<String>,
    /// To a collector of traces.
    pub spans: Spans,
}

impl Invocation {
    /// From the global flags.
    pub fn new(global: &Global) -> Self {
        let format = if global.json { Format::Json } else { global.output };
        Self {
            out: Output { format, verbose: global.verbose },
            context: global.context.clone().filter(|name| !name.is_empty()),
            spans: Spans::default(),
        }
    }

    /// Reads the configuration.
    pub fn config(&self) -> Result<Config> {
        Config::load()
    }

    /// Connects to the context's coordinator; fails with exit 5 and how to reach it when it is away.
    pub async fn connect(&self) -> Result<Client> {
        let config = self.config()?;
        let (name, context) = config.select(self.context.as_deref())?;
        let client = Client::connect(&config, name, context).await?;
        Ok(if self.out.format.is_structured() { client.for_programs() } else { client })
    }
}

/// Applies `--color` to both streams.
pub fn set_color(color: Color) {
    match color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
}
