//! Why a request is not done, in words that name the object and the way out.

/// A request that is refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("unknown {what} {name:?}{}", near_words(near))]
    Unknown {
        /// `host`, `app`, ...
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What may have been meant.
        near: Vec<String>,
    },
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It cannot be done as things are.
    #[error("{0}")]
    Precondition(String),
    /// Somebody else was there first.
    #[error("{0}")]
    Conflict(String),
    /// The caller may not.
    #[error("{0}")]
    Denied(String),
    /// The caller's proof is not good.
    #[error("{0}")]
    Unauthenticated(String),
}

impl Refusal {
    /// Refuses an unknown name, with what may have been meant.
    pub fn unknown<'a>(what: &'static str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self::Unknown { what, name: name.chars().take(100).collect(), near: near(name, known) }
    }
}

fn near_words(near: &[String]) -> String {
    match near {
        [] => String::new(),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

/// Up to three known names that are like `name`, the most alike first.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let score = |known: &str| strsim::jaro_winkler(name, known);
    let mut like: Vec<_> = known.map(|k| (score(k), k)).filter(|(score, _)| *score > 0.75).collect();
    like.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    like.dedup_by(|a, b| a.1 == b.1);
    like.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_matches_are_offered() {
        let known = ["web-01", "web-02", "db-01"];
        let refusal = Refusal::unknown("host", "wbe-01", known.into_iter());
        assert!(refusal.to_string().starts_with("unknown host \"wbe-01\"; did you mean web-01"), "{refusal}");
        let refusal = Refusal::unknown("host", "zzz", known.into_iter());
        assert_eq!(refusal.to_string(), "unknown host \"zzz\"");
    }
}
