//! Reading windlass.yaml: every problem at once, each with its line.
//!
//! * [`tree`] YAML with places; [`shape`] the tree against the [`mod@schema`]; [`unsupported`] words of later versions.
//! * [`mod@read`] all of it in order, with environments and `--set`; [`files`] what the directory must hold.
//! * [`batching`] what an environment's strategy displaces; [`mod@blame`] which environment a finding is of; [`problem`] how
//!   findings are shown.

pub mod batching;
pub mod blame;
pub mod files;
pub mod problem;
pub mod read;
pub mod schema;
pub mod shape;
pub mod tree;
pub mod unsupported;

pub use read::{Scope, Spec, environments, read};
pub use schema::schema;

/// The known word closest to `word`, when it is close enough to be what was meant.
pub fn near<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count().max(word.chars().count()) / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
