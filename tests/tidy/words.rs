//! One word for one thing (DESIGN 2), and nothing left open.

use super::{report, sources};

/// YAML's own word for its parts is "node".
const YAML: &str = "cli/src/spec/tree.rs";

/// Words that DESIGN 2 does not use, as parts of the names that we give. `server` stays the word of TLS and gRPC.
const UNUSED: [&str; 8] = ["node", "wave", "manager", "helper", "helpers", "util", "utils", "common"];

const DEFINES: [&str; 8] = ["fn ", "struct ", "enum ", "trait ", "mod ", "type ", "const ", "static "];

/// The parts of `snake_case`, `SCREAMING` and `CamelCase` names, in lower case.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before_was_lower = false;
    for letter in name.chars() {
        if letter == '_' || (letter.is_uppercase() && before_was_lower) {
            parts.push(String::new());
        }
        if letter != '_' {
            parts.last_mut().unwrap().extend(letter.to_lowercase());
        }
        before_was_lower = letter.is_lowercase();
    }
    parts
}

#[test]
fn names_use_the_words_of_the_design() {
    let mut findings = Vec::new();
    for source in sources(&["proto", "coordinator", "agent", "cli", "tests"]) {
        let stem = source.path.rsplit('/').next().unwrap().trim_end_matches(".rs");
        if parts(stem).iter().any(|part| UNUSED.contains(&part.as_str())) {
            findings.push(source.path.clone());
        }
        if source.path == YAML {
            continue;
        }
        for (number, line) in source.code() {
            let mut code = line.trim_start();
            for prefix in ["pub(crate) ", "pub(super) ", "pub ", "async ", "const fn", "unsafe "] {
                code = code
                    .strip_prefix(prefix)
                    .map_or(code, |rest| if prefix == "const fn" { &code["const ".len()..] } else { rest });
            }
            let Some(rest) = DEFINES.iter().find_map(|word| code.strip_prefix(word)) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if parts(&name).iter().any(|part| UNUSED.contains(&part.as_str())) {
                findings.push(format!("{}:{number}: {name}", source.path));
            }
        }
    }
    report("names with words that DESIGN 2 does not use", &findings);
}

#[test]
fn nothing_is_left_open() {
    let mut findings = Vec::new();
    let open = ["todo!(", "unimplemented!(", "FIXME", "XXX", "#[ignore"];
    for source in sources(&["proto", "coordinator", "agent", "cli"]) {
        for (number, line) in source.text.lines().enumerate() {
            if open.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    report("left open", &findings);
}

#[test]
fn parts_of_names() {
    assert_eq!(parts("HostName"), ["host", "name"]);
    assert_eq!(parts("host_name_2"), ["host", "name", "2"]);
    assert_eq!(parts("HTTP_PORT"), ["http", "port"]);
}
