//! The first and the last of a command's output, however much it writes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Bytes kept of each end.
pub const END_BYTES: usize = 64 * 1024;

/// Output as it comes, of which the middle is dropped.
#[derive(Debug, Default)]
pub struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    dropped: u64,
}

/// What is kept of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its first bytes.
    pub head: String,
    /// Bytes that were dropped between the two.
    pub dropped: u64,
    /// Its last bytes.
    pub tail: String,
}

impl Ends {
    /// Takes what was written.
    pub fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(END_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(END_BYTES);
        self.tail.drain(..over);
        self.dropped += over as u64;
    }

    /// What there is now; what is no text is replaced.
    pub fn output(&mut self) -> Output {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let tail = text(self.tail.make_contiguous());
        Output { head: text(&self.head), dropped: self.dropped, tail }
    }
}

impl Output {
    /// The last bytes, at most `most`, beginning with a line where one begins there.
    pub fn last(&self, most: usize) -> String {
        let whole = if self.dropped > 0 {
            format!("{}\n[{} bytes left out]\n{}", self.head, self.dropped, self.tail)
        } else {
            format!("{}{}", self.head, self.tail)
        };
        let whole = whole.trim_end();
        let from = whole.len().saturating_sub(most);
        let from = (from..whole.len()).find(|at| whole.is_char_boundary(*at)).unwrap_or(0);
        let last = &whole[from..];
        match last.find('\n') {
            Some(at) if from > 0 && at + 1 < last.len() => last[at + 1..].to_owned(),
            _ => last.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_kept_and_the_middle_is_counted() {
        let mut ends = Ends::default();
        ends.push(b"first\n");
        for _ in 0..1000 {
            ends.push(&[b'x'; 1000]);
        }
        ends.push(b"\nlast\n");
        let output = ends.output();
        assert!(output.head.starts_with("first\n") && output.tail.ends_with("\nlast\n"));
        assert_eq!((output.head.len(), output.tail.len()), (END_BYTES, END_BYTES));
        assert_eq!(output.dropped, 1_000_012 - 2 * END_BYTES as u64);
        assert_eq!(output.last(100), "last");
        assert!(output.last(usize::MAX).contains("bytes left out"));
    }

    #[test]
    fn short_output_is_whole() {
        let mut ends = Ends::default();
        ends.push("über\n".as_bytes());
        assert_eq!(ends.output().last(100), "über");
        assert_eq!(ends.output().last(4), "ber");
        assert_eq!(Ends::default().output().last(10), "");
    }
}
