//! stdout is data, stderr is talk.
//!
//! * [`style`]: colours and words of states; [`table`]: rows; [`json`]: the kinds of design/CLI.md; [`yaml`]: the same as YAML.
//! * [`text`]: spans, sizes and times for people.

pub mod json;
pub mod style;
pub mod table;
pub mod talk;
pub mod text;
pub mod yaml;

pub use talk::{Format, Output};
