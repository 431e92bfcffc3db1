//! Texts from elsewhere, for a person's eyes: nothing in them moves a cursor, rings, hides, turns the direction of reading, or
//! looks like another line. What would is shown as an escape.

use std::borrow::Cow;
use std::fmt::Write as _;

/// How a text is laid out where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// On one line: a line's end in it is no line's end.
    Line,
    /// As lines of its own, which whoever shows it sets apart.
    Page,
}

/// A text on one line.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, Layout::Line)
}

/// A text as lines.
pub fn page(text: &str) -> Cow<'_, str> {
    shown(text, Layout::Page)
}

/// A text in a layout.
pub fn shown(text: &str, layout: Layout) -> Cow<'_, str> {
    let acts = |c: char| acts(c) && !(c == '\n' && layout == Layout::Page);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let written = match c {
            c if !acts(c) => safe.write_char(c),
            '\n' => safe.write_str("\\n"),
            '\r' => safe.write_str("\\r"),
            c if u32::from(c) < 0x100 => write!(safe, "\\x{:02x}", u32::from(c)),
            c => write!(safe, "{}", c.escape_unicode()),
        };
        // Writing to memory does not fail.
        let _ = written;
    }
    Cow::Owned(safe)
}

/// A document of JSON that means the same, and in which nothing beyond ASCII acts either: JSON's own escapes say it.
pub fn json(document: &str) -> Cow<'_, str> {
    let escaped = |c: char| (acts(c) && !c.is_ascii_control()) || c == '\x7f';
    if !document.contains(escaped) {
        return Cow::Borrowed(document);
    }
    let mut safe = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if !escaped(c) {
            safe.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to memory does not fail.
            let _ = write!(safe, "\\u{unit:04x}");
        }
    }
    Cow::Owned(safe)
}

/// Whether a text has anything in it that is shown as an escape, ends of lines aside.
pub fn has_escapes(text: &str) -> bool {
    text.contains(|c| acts(c) && c != '\n')
}

/// Whether a terminal does something else with it than to show it. Tabs stay: logs are full of them.
const fn acts(c: char) -> bool {
    match c {
        '\t' => false,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => true,
        // Marks, embeddings, overrides and isolates of writing from right to left; ends of lines and paragraphs; what has no
        // width; tags.
        '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' => true,
        '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        _ => false,
    }
}

/// A message that holds texts.
pub trait Texts {
    /// Calls `visit` with each of them, and with how it is laid out.
    fn texts(&mut self, visit: &mut dyn FnMut(&mut String, Layout));

    /// The message with all of its texts as they are shown.
    #[must_use]
    fn for_eyes(mut self) -> Self
    where
        Self: Sized,
    {
        self.texts(&mut |text, layout| {
            if let Cow::Owned(safe) = shown(text, layout) {
                *text = safe;
            }
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_is_shown() {
        for (text, expected) in [
            ("plain, with a\ttab and ümläute 漢字", "plain, with a\ttab and ümläute 漢字"),
            ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
            ("\u{9b}2J", "\\x9b2J"),
            ("one\r\ntwo", "one\\r\\ntwo"),
            ("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe"),
            ("a\u{2028}b\u{feff}\u{200b}", "a\\u{2028}b\\u{feff}\\u{200b}"),
            ("\0\x08\x7f", "\\x00\\x08\\x7f"),
        ] {
            assert_eq!(line(text), expected);
        }
        assert_eq!(page("one\r\ntwo\x1b"), "one\\r\ntwo\\x1b");
        assert!(matches!(line("nothing"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn json_means_the_same(text in any::<String>()) {
            let value = serde_json::json!({ "text": text, "acting": "\x7f\u{9b}\u{202e}\u{e0041}" });
            for document in [value.to_string(), format!("{value:#}")] {
                let safe = json(&document);
                prop_assert!(!has_escapes(&safe), "{}", safe);
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value.clone());
            }
        }

        #[test]
        fn nothing_is_left_that_acts(text in any::<String>()) {
            let (one, several) = (line(&text), page(&text));
            prop_assert!(!one.contains(acts));
            prop_assert!(!several.contains(|c| acts(c) && c != '\n'));
            prop_assert_eq!(several.lines().count(), text.split_inclusive('\n').count());
            prop_assert_eq!(line(&one), one.as_ref(), "twice is once");
        }
    }
}
