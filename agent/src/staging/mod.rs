//! From an order to a complete release on this host: fetch what is lacking, write, verify, make durable, make visible.
//!
//! | file | idea |
//! |---|---|
//! | [`beneath`] | a directory that nothing in it can leave |
//! | [`fetch`] | envelope and chunks from the coordinator |
//! | [`sources`] | what the host has already |
//! | [`unpack`] | writing and verifying the tree |
//! | [`intact`] | is a tree what its manifest says |
//! | [`pool`] | the few threads for it |

pub mod beneath;
pub mod fetch;
pub mod intact;
pub mod pool;
pub mod sources;
pub mod unpack;
