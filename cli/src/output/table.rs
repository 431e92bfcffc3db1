//! Rows for people: aligned columns, two spaces apart, no frames.

/// Lays out rows under a header. Cells may hold escape codes; they do not count as width.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let mut widths: Vec<usize> = header.iter().map(|h| h.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
    let mut text = String::new();
    let bold: Vec<String> = header.iter().map(|h| super::style::paint(super::style::BOLD, h)).collect();
    for row in std::iter::once(&bold).chain(rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(cell);
            if i + 1 < columns {
                line.extend(std::iter::repeat_n(' ', widths[i] - visible(cell) + 2));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Width of a text on a terminal, without its escape codes.
pub fn visible(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::style;

    #[test]
    fn escape_codes_have_no_width() {
        let rows = vec![
            vec!["web-01".into(), style::word("ready"), "x".into()],
            vec!["w".into(), "-".into(), String::new()],
        ];
        let text = render(&["HOST", "STATE", "MORE"], &rows);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "HOST    STATE  MORE\nweb-01  ready  x\nw       -\n"
        );
    }
}
