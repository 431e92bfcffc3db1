//! Errors as users see them: one sentence, its causes, and a command that helps.

use std::error::Error as StdError;
use std::fmt;

use tonic::{Code, Status};

use crate::exit::Exit;

/// A failure with its exit code. `Display` is the one sentence; causes are the source chain.
#[derive(Debug)]
pub struct ExpectedError {
    exit: Exit,
    message: String,
    lines: Vec<String>,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl ExpectedError {
    /// An error that ends the program with `exit`; `message` completes "error: " and names its object.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), lines: Vec::new(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A failure without an exit code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Wrong usage or an invalid spec.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds an error and all its sources as causes.
    #[must_use]
    pub fn because(mut self, error: impl StdError) -> Self {
        self.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Wrappers that print their source would say everything twice.
            if !self.causes.iter().any(|known| known.contains(&text)) {
                self.causes.push(text);
            }
            source = cause.source();
        }
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds a line of detail: one of several problems that the sentence counts.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds a hint: preferably a command to copy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub const fn exit(&self) -> Exit {
        self.exit
    }

    /// The one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// All that is shown, with the styles of `error:` and `hint:` as escape codes that the stream may strip.
    pub fn render(&self) -> String {
        use crate::output::style::{BAD, HINT, paint};
        let mut text = format!("{} {}\n", paint(BAD, "error:"), indent(&self.message, 7));
        for line in &self.lines {
            text.push_str(&format!("  {}\n", indent(line, 4)));
        }
        for cause in &self.causes {
            text.push_str(&format!("  because: {}\n", indent(cause, 11)));
        }
        for (i, hint) in self.hints.iter().enumerate() {
            let label = if i == 0 { paint(HINT, "hint:") } else { "     ".to_owned() };
            text.push_str(&format!("{label}  {}\n", indent(hint, 7)));
        }
        text
    }

    /// What a coordinator's refusal means. `subject` says what was attempted, as in "cannot pause rollout r-1".
    pub fn from_status(subject: &str, status: &Status) -> Self {
        let message = status.message();
        let said = |exit| {
            let text = if message.is_empty() { format!("{:?}", status.code()) } else { message.to_owned() };
            Self::new(exit, format!("{subject}: {text}"))
        };
        match status.code() {
            Code::InvalidArgument | Code::OutOfRange => said(Exit::Usage),
            Code::PermissionDenied => said(Exit::NotAllowed)
                .hint("windlass context show    (who you are to the coordinator)"),
            Code::Unauthenticated => said(Exit::NotAllowed)
                .hint("ask for an operator certificate: windlass-coordinator issue-operator --name YOU --state-dir DIR --out DIR"),
            Code::Unavailable => said(Exit::Unreachable).hint("safe to try again: the coordinator is away or starting"),
            Code::DeadlineExceeded => {
                Self::new(Exit::Unreachable, format!("{subject}: the coordinator did not answer in time"))
                    .hint("safe to try again; windlass status")
            }
            Code::Aborted | Code::AlreadyExists => said(Exit::Conflict),
            Code::Unimplemented => said(Exit::Failed)
                .hint("windlass version    (the coordinator may be older than this program)"),
            Code::Cancelled => said(Exit::Failed),
            _ => said(Exit::Failed),
        }
    }
}

/// Lines after the first are set under it.
fn indent(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}

impl fmt::Display for ExpectedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ExpectedError {}

/// What commands give back.
pub type Result<T = Exit, E = ExpectedError> = std::result::Result<T, E>;
