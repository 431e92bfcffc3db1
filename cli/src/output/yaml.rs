//! A JSON value as YAML, for `-o yaml`.

use serde_json::Value;

/// Renders a value as a block-style YAML document.
pub fn render(value: &Value) -> String {
    let mut text = String::new();
    write(value, 0, &mut text);
    text
}

fn write(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (i, (key, value)) in members.iter().enumerate() {
                if i > 0 || !out.ends_with("- ") {
                    pad(depth, out);
                }
                out.push_str(&scalar(key));
                out.push(':');
                nested(value, depth, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 || !out.ends_with("- ") {
                    pad(depth, out);
                }
                out.push_str("- ");
                match item {
                    Value::Object(m) if !m.is_empty() => write(item, depth + 1, out),
                    Value::Array(a) if !a.is_empty() => write(item, depth + 1, out),
                    _ => {
                        out.push_str(&leaf(item));
                        out.push('\n');
                    }
                }
            }
        }
        _ => {
            out.push_str(&leaf(value));
            out.push('\n');
        }
    }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    match value {
        Value::Object(m) if !m.is_empty() => {
            out.push('\n');
            write(value, depth + 1, out);
        }
        Value::Array(a) if !a.is_empty() => {
            out.push('\n');
            write(value, depth + 1, out);
        }
        _ => {
            out.push(' ');
            out.push_str(&leaf(value));
            out.push('\n');
        }
    }
}

fn pad(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

fn leaf(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        Value::Object(_) => "{}".into(),
        Value::Array(_) => "[]".into(),
        other => other.to_string(),
    }
}

/// A string plain where no reader could take it for anything else, otherwise as a JSON string, which YAML reads too.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./+".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let value = serde_json::json!({
            "apiVersion": "windlass/v1", "kind": "X", "empty": {}, "none": null, "list": [], "n": -1.5, "yes": "yes",
            "hosts": [{"name": "web-01", "labels": {"a b": "1", "x:y": "# no"}}, {"name": "", "apps": [[1, 2], []]}],
            "text": "two\nlines", "time": "2026-01-01T00:00:00Z", "quote": "say \"hi\"", "key": {"true": true}
        });
        let text = render(&value);
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, value, "{text}");
    }
}
