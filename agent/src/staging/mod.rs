//! From an order to a complete release on this host: fetch what is lacking, write, verify, make durable, make visible.
//!
//! | file | idea |
//! |---|---|
//! | [`stage`] | the whole way, and what is left when it ends early |
//! | [`failure`] | why it did not work, and whose fault that is |
//! | [`accept`] | may this host take this release |
//! | [`room`] | is there room for it |
//! | [`fetch`] | envelope and chunks from the coordinator |
//! | [`sources`], [`remains`] | what the host has already |
//! | [`unpack`] | writing and verifying the tree |
//! | `pen` | files that are written or copied from, one after the other |
//! | [`intact`] | is a tree what its manifest says |
//! | [`beneath`] | a directory that nothing in it can leave |
//! | [`pool`] | the few threads for it |

pub mod accept;
pub mod beneath;
pub mod failure;
pub mod fetch;
pub mod intact;
mod pen;
pub mod pool;
pub mod remains;
pub mod room;
pub mod sources;
pub mod stage;
pub mod unpack;

pub use failure::StageError;
pub use fetch::Patience;
pub(crate) use stage::staged_release;
pub use stage::{Order, PolicyError, Staged, Stager};

#[cfg(test)]
mod tests;
