//! The whole story on a fleet of its own: what windlass promises, done and then checked from the outside.
//!
//! * [`story`] the chapters; [`app`] the application that is deployed: this very program, as a small HTTP server.
//! * [`narrator`] says what happens, with the time; [`outside`] asks the apps and runs the CLI as a user would.
//! * [`directory`] a temporary directory that is removed whatever happened.

pub mod app;
pub mod directory;
pub mod narrator;
pub mod outside;
mod spec;
pub mod story;
