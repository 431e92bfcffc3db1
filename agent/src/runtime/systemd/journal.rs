//! What a unit wrote, from the journal: by journalctl(1), whose files nobody else should read.

use std::io::Read as _;
use std::process::{Command, Stdio};

/// The newest lines of one start of a unit, oldest first: at most `count`, and at most `bytes` of them. None where there is
/// no journal. Blocks.
pub fn last_lines(invocation: &str, count: usize, bytes: usize) -> Vec<String> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output", "cat", "--all", "--lines", &count.to_string()]);
    command.arg(format!("_SYSTEMD_INVOCATION_ID={invocation}"));
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return Vec::new() };
    let mut text = Vec::new();
    // Longer lines than that would be cut anyway; the newest stand at the end, so all has to be read.
    let most = 16 * bytes as u64;
    if let Some(output) = child.stdout.take() {
        // What came is shown, however it ended.
        let _ = output.take(most).read_to_end(&mut text);
    }
    let _ = child.kill();
    let _ = child.wait();
    let text = String::from_utf8_lossy(&text);
    let mut left = bytes;
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .take_while(|line| {
            let fits = line.len() < left;
            left = left.saturating_sub(line.len() + 1);
            fits
        })
        .map(str::to_owned)
        .collect();
    lines.reverse();
    lines
}
