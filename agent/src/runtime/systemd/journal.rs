//! What a unit wrote, and what systemd wrote of it, from the journal: by journalctl(1), whose files nobody else should read.

use std::io::Read as _;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::seen::{End, Status};

/// Most of what systemd itself writes of one start: a few lines.
const OF_SYSTEMD: u64 = 256 * 1024;

/// What systemd says of every process of a unit that ends: sd-messages(3), SD_MESSAGE_UNIT_PROCESS_EXIT.
const PROCESS_EXIT: &str = "98e322203f7a4ed290d09fe03c09fe15";

/// And where the kernel has ended one for want of memory: SD_MESSAGE_UNIT_OUT_OF_MEMORY.
const OUT_OF_MEMORY: &str = "fe6faa94e7774663a0da52717891d8ef";

/// The newest lines of one start of a unit, oldest first: at most `count`, and at most `bytes` of them. None where there is
/// no journal. Blocks.
pub fn last_lines(invocation: &str, count: usize, bytes: usize) -> Vec<String> {
    let lines = count.to_string();
    let of = format!("_SYSTEMD_INVOCATION_ID={invocation}");
    // Longer lines than that would be cut anyway; the newest stand at the end, so all has to be read.
    let text = read(&["--output", "cat", "--all", "--lines", &lines, &of], 16 * bytes as u64);
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

/// How a start ended, as systemd wrote it down itself: for a unit that it has forgotten since. Blocks.
pub fn end_of(invocation: &str) -> Option<End> {
    // The journal's own fields, with the underscore, are no sender's to choose.
    let of = format!("INVOCATION_ID={invocation}");
    read_end(&read(&["--output", "json", "_PID=1", "_UID=0", &of], OF_SYSTEMD))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
struct Entry {
    message_id: String,
    message: String,
    exit_code: String,
    exit_status: String,
}

fn read_end(lines: &str) -> Option<End> {
    let entries: Vec<Entry> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_main =
        |entry: &&Entry| entry.message_id == PROCESS_EXIT && entry.message.contains(": Main process exited");
    let Entry { exit_code, exit_status, .. } = entries.iter().find(of_main)?;
    let number = exit_status.parse().ok()?;
    let status = if exit_code == "exited" { Status::Exited(number) } else { Status::Killed(number) };
    let memory_was_short = entries.iter().any(|entry| entry.message_id == OUT_OF_MEMORY);
    Some(End { status, memory_was_short })
}

/// What journalctl says, as far as it says it; nothing where there is none.
fn read(args: &[&str], most: u64) -> String {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager"]).args(args);
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return String::new() };
    let mut text = Vec::new();
    if let Some(output) = child.stdout.take() {
        // What came is shown, however it ended.
        let _ = output.take(most).read_to_end(&mut text);
    }
    let _ = child.kill();
    let _ = child.wait();
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_process_end_is_found_among_what_systemd_wrote() {
        let line = |id: &str, message: &str, code: &str, status: &str| {
            serde_json::json!({ "MESSAGE_ID": id, "MESSAGE": message, "EXIT_CODE": code, "EXIT_STATUS": status, "_PID": "1" })
                .to_string()
        };
        let control = line(PROCESS_EXIT, "x: Control process exited", "exited", "83");
        let main = line(PROCESS_EXIT, "x: Main process exited, code=killed, status=9/KILL", "killed", "9");
        assert_eq!(read_end(&control), None);
        let end = End { status: Status::Killed(9), memory_was_short: false };
        assert_eq!(read_end(&format!("{control}\n{main}\nnot json")), Some(end.clone()));
        let oom = line(OUT_OF_MEMORY, "x: A process of this unit has been killed", "", "");
        assert_eq!(read_end(&format!("{oom}\n{main}")), Some(End { memory_was_short: true, ..end }));
        let exit = line(PROCESS_EXIT, "x: Main process exited, code=exited, status=3", "exited", "3");
        assert_eq!(read_end(&exit).unwrap().status, Status::Exited(3));
    }
}
