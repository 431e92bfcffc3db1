//! Why a request is not done, in words that name the object and the way out.

use windlass_proto::rpc::ErrorKind;

/// A request that is refused; nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request can never be right.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// The request is not right as things are.
    pub fn wrong_state(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::WrongState, message)
    }

    /// An unknown name, with what may have been meant.
    pub fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let mut message = format!("unknown {what} {:?}", name.chars().take(100).collect::<String>());
        let near = near(name, known);
        if !near.is_empty() {
            message.push_str(&format!("; did you mean {}?", near.join(" or ")));
        }
        Self::new(ErrorKind::NotFound, message)
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        refusal.kind.status(refusal.message)
    }
}

/// What was refused with a status already.
impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        Self::new(ErrorKind::of(&status), status.message())
    }
}

/// Up to three known names that are like `name`, the most alike first.
fn near<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    // Two letters exchanged in a short name are far apart for Jaro-Winkler, and the commonest slip.
    let score = |known: &str| match strsim::damerau_levenshtein(name, known) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(name, known),
    };
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
        assert!(refusal.message.starts_with("unknown host \"wbe-01\"; did you mean web-01"), "{refusal}");
        let refusal = Refusal::unknown("app", "wbe", ["web", "db"].into_iter());
        assert_eq!(refusal.message, "unknown app \"wbe\"; did you mean web?");
        let refusal = Refusal::unknown("host", "zzz", known.into_iter());
        assert_eq!(refusal.message, "unknown host \"zzz\"");
    }
}
