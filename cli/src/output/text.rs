//! Times, spans and sizes for people.

use jiff::Timestamp;

/// Milliseconds since the epoch as RFC 3339 in UTC; `None` for zero, which means "not yet".
pub fn rfc3339(ms: i64) -> Option<String> {
    if ms == 0 {
        return None;
    }
    Timestamp::from_millisecond(ms).ok().map(|at| format!("{at:.3}"))
}

/// An app and its environment: `web (staging)`. The default one goes without saying.
pub fn app(name: &str, environment: &str) -> String {
    if matches!(environment, "" | "default") { name.to_owned() } else { format!("{name} ({environment})") }
}

/// The flag that names an environment in a command, with a space before it.
pub fn env_flag(environment: &str) -> String {
    if matches!(environment, "" | "default") { String::new() } else { format!(" --env {environment}") }
}

/// `15:04:02Z`.
pub fn clock(ms: i64) -> String {
    Timestamp::from_millisecond(ms)
        .map_or_else(|_| "--:--:--Z".into(), |at| at.strftime("%H:%M:%SZ").to_string())
}

/// Now, in milliseconds since the epoch.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `48s`, `9m 41s`, `2h 5m`, `6d 3h`.
pub fn span(ms: i64) -> String {
    let seconds = (ms.max(0) + 500) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `2h 5m ago`; `-` for zero.
pub fn ago(ms: i64) -> String {
    if ms == 0 { "-".into() } else { format!("{} ago", span(now_ms() - ms)) }
}

/// `28.4 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `1 host`, `4 hosts`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// At most `most` characters, the last of them `…` when something is left out.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The first digits of a digest: `b3:07ad4e`.
pub fn short_digest(digest: &str) -> &str {
    digest.char_indices().nth(9).map_or(digest, |(at, _)| &digest[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_round_numbers() {
        assert_eq!((span(400), span(48_000), span(581_000)), ("0s".into(), "48s".into(), "9m 41s".into()));
        assert_eq!(span(7_500_000), "2h 5m");
        assert_eq!(
            (bytes(12), bytes(1024), bytes(29_779_558)),
            ("12 B".into(), "1.0 KiB".into(), "28.4 MiB".into())
        );
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1_500).unwrap(), "1970-01-01T00:00:01.500Z");
        assert_eq!(clock(1_500), "00:00:01Z");
        assert_eq!(short_digest("b3:07ad4e9931"), "b3:07ad4e");
    }
}
