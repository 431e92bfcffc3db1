//! The whole story on a fleet of its own: what windlass promises, done and then checked from the outside.
//!
//! * [`app`] the application that is deployed: this very program, as a small HTTP server.

pub mod app;
