//! What looks like a secret: by the name of what holds it, or by itself. A guess, for what is shown to people.

/// In place of a value that looks secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// Whether a variable or a flag of this name is likely to hold a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    const PARTS: [&str; 8] =
        ["secret", "token", "password", "passwd", "passphrase", "credential", "private", "apikey"];
    const WORDS: [&str; 8] = ["key", "keys", "pass", "pwd", "auth", "dsn", "cookie", "salt"];
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    PARTS.iter().any(|part| name.contains(part)) || words.any(|word| WORDS.contains(&word))
}

/// Whether a value is a secret by its looks: a URL with a password in it, or a private key.
pub(super) fn is_secret(value: &str) -> bool {
    let mut after = value.split("://").skip(1);
    let with_password = after.any(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    });
    with_password || value.contains("PRIVATE KEY-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_give_secrets_away() {
        for name in [
            "DB_PASSWORD",
            "API_KEY",
            "GITHUB_TOKEN",
            "ClientSecret",
            "SENTRY_DSN",
            "db.pass",
            "AUTH",
            "AWS_CREDENTIALS",
            "TOKEN.of.shop",
            "--api-key",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "AUTHOR", "MONKEY", "PASSAGE", "COMPASS", "LOG_LEVEL", ""] {
            assert!(!names_a_secret(name), "{name}");
        }
        for value in [
            "postgres://shop:hunter2@db/shop",
            "x=https://u:p@h?q",
            "http://plain,amqp://a:b@c",
            "-----BEGIN EC PRIVATE KEY-----",
        ] {
            assert!(is_secret(value), "{value}");
        }
        for value in ["https://user@host:80/a:b@c", "https://host:80/", "mail@host", "://", ""] {
            assert!(!is_secret(value), "{value}");
        }
    }
}
