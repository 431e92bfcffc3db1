//! Colours. They are always written; the stream strips them where they are not wanted.

use anstyle::{AnsiColor, Style};

/// Things that went right.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Things that went wrong.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// Things somebody should look at.
pub const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// Things under way.
pub const BUSY: Style = AnsiColor::Cyan.on_default();
/// Hints.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();
/// Things of less weight.
pub const DIM: Style = Style::new().dimmed();
/// Headings.
pub const BOLD: Style = Style::new().bold();

/// `text` in `style`.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The style of a state's, phase's or outcome's word; the word itself always says it too.
pub fn of_word(word: &str) -> Style {
    match word {
        "confirmed" | "ready" | "ok" | "done" | "Succeeded" | "open" => GOOD,
        "failed" | "reverted" | "already_reverted" | "quarantined" | "lost" | "revoked" | "foreign"
        | "error" | "Failed" | "RolledBack" | "RollbackFailed" | "Rejected" | "Denied" | "Expired" => BAD,
        "silent" | "cordoned" | "drained" | "warn" | "skipped" | "reverting" | "Aborting" | "Cancelled" => {
            WARN
        }
        "idle" | "waiting" | "-" | "used" | "expired" => DIM,
        _ => BUSY,
    }
}

/// A word in its own style.
pub fn word(word: &str) -> String {
    paint(of_word(word), word)
}
