//! Errors as users see them: one sentence, its causes, and a command that helps.

use std::error::Error as StdError;
use std::fmt;

use tonic::Status;
use windlass_proto::rpc::ErrorKind;
use windlass_proto::shown;

use crate::exit::Exit;

/// A failure with its exit code. `Display` is the one sentence; causes are the source chain.
#[derive(Debug)]
pub struct ExpectedError(Box<Parts>);

/// Boxed, because a `Result` is as large as its larger half.
#[derive(Debug)]
struct Parts {
    exit: Exit,
    message: String,
    lines: Vec<String>,
    causes: Vec<String>,
    hints: Vec<String>,
    detail: Option<String>,
}

impl ExpectedError {
    /// An error that ends the program with `exit`; `message` completes "error: " and names its object.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            exit,
            message: message.into(),
            lines: Vec::new(),
            causes: Vec::new(),
            hints: Vec::new(),
            detail: None,
        }))
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
        self.0.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Wrappers that print their source would say everything twice.
            if !self.0.causes.iter().any(|known| known.contains(&text)) {
                self.0.causes.push(text);
            }
            source = cause.source();
        }
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.causes.push(cause.into());
        self
    }

    /// Adds a line of detail: one of several problems that the sentence counts.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.0.lines.push(line.into());
        self
    }

    /// Adds a hint: preferably a command to copy.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hints.push(hint.into());
        self
    }

    /// The exit code.
    pub const fn exit(&self) -> Exit {
        self.0.exit
    }

    /// What only `-v` shows.
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// The one sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// All that is shown, with the styles of `error:` and `hint:` as escape codes that the stream may strip.
    pub fn render(&self) -> String {
        use crate::output::style::{BAD, HINT, paint};
        let mut text = format!("{} {}\n", paint(BAD, "error:"), indent(&self.0.message, 7));
        for line in &self.0.lines {
            text.push_str(&format!("  {}\n", indent(line, 4)));
        }
        for cause in &self.0.causes {
            text.push_str(&format!("  because: {}\n", indent(cause, 11)));
        }
        for (i, hint) in self.0.hints.iter().enumerate() {
            let label = if i == 0 { paint(HINT, "hint:") } else { "     ".to_owned() };
            text.push_str(&format!("{label}  {}\n", indent(hint, 7)));
        }
        text
    }

    /// What a coordinator's refusal means. `subject` says what was attempted, as in "cannot pause rollout r-1".
    pub fn from_status(subject: &str, status: &Status) -> Self {
        let message = status.message();
        let said = |exit| {
            let text = if message.is_empty() {
                ErrorKind::of(status).word().replace('_', " ")
            } else {
                message.to_owned()
            };
            Self::new(exit, format!("{subject}: {text}"))
        };
        let mut error = said(exit_of(ErrorKind::of(status)));
        error.0.detail =
            Some(format!("gRPC code {:?}, kind {}", status.code(), ErrorKind::of(status).word()));
        match ErrorKind::of(status) {
            ErrorKind::NotAllowed => error.hint("windlass context show    (who you are to the coordinator)"),
            ErrorKind::NotSignedIn => error
                .hint("windlass-coordinator issue-operator --state-dir DIR --name YOU --out DIR    (on its machine)"),
            ErrorKind::Unavailable | ErrorKind::TimedOut => {
                error.hint("windlass status    (safe to try again: the coordinator is away or starting)")
            }
            ErrorKind::Unsupported => {
                error.hint("windlass version    (the coordinator may be older than this program)")
            }
            ErrorKind::StateMoved => error.hint("windlass plan    (shows the state as it is now)"),
            _ => error,
        }
    }
}

/// The documented exit code of each kind of refusal.
const fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Invalid => Exit::Usage,
        ErrorKind::NotAllowed | ErrorKind::NotSignedIn => Exit::NotAllowed,
        ErrorKind::Unavailable | ErrorKind::TimedOut => Exit::Unreachable,
        ErrorKind::Busy
        | ErrorKind::StateMoved
        | ErrorKind::Poisoned
        | ErrorKind::WrongState
        | ErrorKind::GrantNeeded
        | ErrorKind::HostsElsewhere
        | ErrorKind::Exists => Exit::Conflict,
        ErrorKind::NotFound
        | ErrorKind::PlanRefused
        | ErrorKind::TooMuch
        | ErrorKind::Damaged
        | ErrorKind::Unsupported
        | ErrorKind::Internal => Exit::Failed,
    }
}

/// Lines after the first are set under it.
fn indent(text: &str, by: usize) -> String {
    // It may quote anybody; what is on further lines is indented, and so no line of ours.
    shown::page(text.trim_end()).replace('\n', &format!("\n{:by$}", ""))
}

impl fmt::Display for ExpectedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for ExpectedError {}

/// What commands give back.
pub type Result<T = Exit, E = ExpectedError> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_documented_code() {
        for (kind, code) in [
            (ErrorKind::Invalid, 2),
            (ErrorKind::NotAllowed, 4),
            (ErrorKind::NotSignedIn, 4),
            (ErrorKind::Unavailable, 5),
            (ErrorKind::TimedOut, 5),
            (ErrorKind::Busy, 7),
            (ErrorKind::StateMoved, 7),
            (ErrorKind::Poisoned, 7),
            (ErrorKind::GrantNeeded, 7),
            (ErrorKind::NotFound, 1),
            (ErrorKind::PlanRefused, 1),
        ] {
            let error = ExpectedError::from_status("cannot deploy", &kind.status("why"));
            assert_eq!(error.exit().code(), code, "{kind:?}");
            assert_eq!(error.message(), "cannot deploy: why");
        }
        let broken = Status::unknown("transport error");
        assert_eq!(ExpectedError::from_status("x", &broken).exit(), Exit::Unreachable);
    }

    #[test]
    fn errors_are_one_sentence_causes_and_hints() {
        let io = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = ExpectedError::usage("cannot read windlass.yaml")
            .because(io)
            .hint("windlass init")
            .hint("or -f FILE");
        let text = anstream::adapter::strip_str(&error.render()).to_string();
        assert_eq!(
            text,
            "error: cannot read windlass.yaml\n  because: entity not found\nhint:  windlass init\n       or -f FILE\n"
        );
    }
}
