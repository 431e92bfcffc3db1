//! The two streams: data to stdout, talk to stderr.

use std::io::{IsTerminal, Write};

use serde_json::Value;
use windlass_proto::shown;

use super::style::{GOOD, WARN, paint};
use crate::error::{ExpectedError, Result};
use crate::exit::Exit;

/// The form of data on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// One JSON document.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// YAML of the same members as JSON.
    Yaml,
    /// Names or ids only, one a line.
    Name,
}

impl Format {
    /// True for the forms that programs read.
    pub const fn is_structured(self) -> bool {
        matches!(self, Self::Json | Self::Jsonl | Self::Yaml)
    }
}

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// The form of data on stdout.
    pub format: Format,
    /// More talk: ids and gRPC codes.
    pub verbose: bool,
}

impl Output {
    /// Writes data to stdout; what programs read means what it did, and acts on no terminal either. A reader that went away ends the program normally.
    pub fn data(&self, text: &str) -> Result<()> {
        let text = if self.format.is_structured() { shown::json(text) } else { text.into() };
        let mut stdout = anstream::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            // `windlass ... | head`: nobody reads any more, and nothing is wrong.
            std::io::ErrorKind::BrokenPipe => ExpectedError::new(Exit::Done, ""),
            _ => ExpectedError::failed("cannot write to standard output").because(error),
        })
    }

    /// Writes a line of data.
    pub fn line(&self, text: &str) -> Result<()> {
        self.data(&format!("{text}\n"))
    }

    /// Writes an object in the chosen structured form; for `jsonl` one line.
    pub fn object(&self, value: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => self.data(&super::yaml::render(value)),
            Format::Jsonl => self.line(&value.to_string()),
            _ => self.line(&format!("{value:#}")),
        }
    }

    /// Writes a list: `jsonl` gives one item a line, with `item_kind` as their kind; other forms the whole object.
    pub fn list(&self, whole: &Value, items: &str, item_kind: &str) -> Result<()> {
        if self.format != Format::Jsonl {
            return self.object(whole);
        }
        for item in whole.get(items).and_then(Value::as_array).into_iter().flatten() {
            self.line(&super::json::wrap(item_kind, item.clone()).to_string())?;
        }
        Ok(())
    }

    /// Says something on stderr.
    pub fn talk(&self, text: &str) {
        // Talk that nobody hears is no reason to fail.
        let _ = writeln!(anstream::stderr().lock(), "{text}");
    }

    /// Says that a step is done: a right-aligned green verb and the object.
    pub fn step(&self, verb: &str, text: &str) {
        self.talk(&format!("{} {text}", paint(GOOD, &format!("{verb:>10}"))));
    }

    /// Says something that somebody should look at.
    pub fn warn(&self, text: &str) {
        self.talk(&format!("{} {text}", paint(WARN, "warning:")));
    }

    /// Says something only with `-v`.
    pub fn detail(&self, text: &str) {
        if self.verbose {
            self.talk(text);
        }
    }

    /// True when stderr is a terminal that may be redrawn.
    pub fn is_live(&self) -> bool {
        std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    /// True when a person can be asked.
    pub fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks for a number on the terminal.
    pub fn ask_number(&self, question: &str) -> Option<usize> {
        let _ = write!(anstream::stderr().lock(), "{question} ");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        answer.trim().parse().ok()
    }

    /// Asks a yes-or-no question on the terminal; no is the default.
    pub fn ask(&self, question: &str) -> bool {
        let _ = write!(anstream::stderr().lock(), "{question} [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer).is_ok();
        read && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
    }
}
