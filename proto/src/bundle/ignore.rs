//! `.windlassignore`: what of a directory does not go into the bundle. A subset of gitignore's language: `#` comments,
//! `*`, `**`, `?`, leading and trailing `/`, `!`. What is outside the subset is refused, not taken literally.

/// Name of the file, at the top of the directory; it is itself never part of the bundle.
pub const FILE_NAME: &str = ".windlassignore";

/// A line that is outside the language.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: pattern {pattern:?} {rule}")]
pub struct InvalidPattern {
    line: usize,
    pattern: String,
    rule: &'static str,
}

/// The patterns of one file, in order.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    parts: Vec<String>,
    include: bool,
    directories_only: bool,
}

impl Ignore {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let pattern = line.trim_end();
            if pattern.is_empty() || pattern.starts_with('#') {
                continue;
            }
            let refused = |rule| {
                Err(InvalidPattern { line: index + 1, pattern: pattern.chars().take(200).collect(), rule })
            };
            if pattern.contains(['[', ']', '\\']) {
                return refused("uses [ ] or \\, which are not supported; use * or ?");
            }
            let (include, rest) = match pattern.strip_prefix('!') {
                Some(rest) => (true, rest),
                None => (false, pattern),
            };
            let (directories_only, rest) = match rest.strip_suffix('/') {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            let anchored = rest.contains('/');
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            let mut parts: Vec<String> = rest.split('/').map(str::to_owned).collect();
            if parts.iter().any(|part| part.is_empty() || part == "." || part == "..") {
                return refused("has an empty part, \".\" or \"..\"");
            }
            if !anchored {
                parts.insert(0, "**".to_owned());
            }
            rules.push(Rule { parts, include, directories_only });
        }
        Ok(Self { rules })
    }

    /// Whether an entry is left out; the last pattern that matches decides. Beneath a directory that is left out nothing
    /// is asked any more.
    pub fn leaves_out(&self, path: &str, is_directory: bool) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let applies =
            |rule: &&Rule| (is_directory || !rule.directories_only) && matches_path(&rule.parts, &parts);
        self.rules.iter().rev().find(applies).is_some_and(|rule| !rule.include)
    }
}

fn matches_path(pattern: &[String], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        // At the end, `**` stands for what is inside, not for the directory itself.
        Some((first, [])) if first == "**" => !path.is_empty(),
        Some((first, rest)) if first == "**" => {
            (0..=path.len()).any(|skip| matches_path(rest, &path[skip..]))
        }
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(part, below)| matches_part(first, part) && matches_path(rest, below)),
    }
}

/// `*` and `?` within one part of a path.
fn matches_part(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match &mut retry {
                // Let the last star take one character more.
                Some((star, taken)) => {
                    *taken += 1;
                    (p, t) = (*star + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_gitignore_means() {
        // (patterns, path, is a directory, left out)
        let table = [
            ("*.log", "a.log", false, true),
            ("*.log", "deep/a.log", false, true),
            ("*.log", "a.logs", false, false),
            ("/a", "a", false, true),
            ("/a", "b/a", false, false),
            ("build/", "build", true, true),
            ("build/", "build", false, false),
            ("build/", "src/build", true, true),
            ("src/*.o", "src/x.o", false, true),
            ("src/*.o", "src/y/x.o", false, false),
            ("src/*.o", "top/src/x.o", false, false),
            ("src/**/*.o", "src/x.o", false, true),
            ("src/**/*.o", "src/y/z/x.o", false, true),
            ("**/tmp", "a/b/tmp", true, true),
            ("cache/**", "cache/x", false, true),
            ("cache/**", "cache", true, false),
            ("?.txt", "a.txt", false, true),
            ("?.txt", "ab.txt", false, false),
            ("*.log\n!keep.log", "keep.log", false, false),
            ("!keep.log\n*.log", "keep.log", false, true),
            ("# *.log\n\n", "a.log", false, false),
            ("a*b*c", "aXbXbXc", false, true),
            ("a*b*c", "aXbXb", false, false),
            ("*", "ünï", false, true),
        ];
        for (text, path, is_directory, left_out) in table {
            let ignore = Ignore::parse(text).unwrap();
            assert_eq!(ignore.leaves_out(path, is_directory), left_out, "{text:?} on {path}");
        }
    }

    #[test]
    fn what_is_outside_the_subset_is_refused_with_its_line() {
        for bad in ["[ab].c", "a\\b", "a//b", "../x", "/"] {
            let error = Ignore::parse(&format!("ok\n{bad}")).unwrap_err();
            assert!(error.to_string().starts_with("line 2: "), "{error}");
        }
    }
}
