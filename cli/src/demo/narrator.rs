//! Says what happens, as it happens, with the time since the beginning.

use tokio::time::Instant;

use crate::output::Output;
use crate::output::style::{BOLD, DIM, GOOD, paint};

/// Tells the story on standard output.
#[derive(Debug, Clone, Copy)]
pub struct Narrator {
    out: Output,
    began: Instant,
}

impl Narrator {
    /// Begins now.
    pub fn new(out: Output) -> Self {
        Self { out, began: Instant::now() }
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A new chapter.
    pub fn chapter(&self, title: &str) {
        self.line("");
        self.say(&paint(BOLD, title));
    }

    /// Something happened.
    pub fn say(&self, text: &str) {
        self.line(&format!("{} {text}", self.stamp()));
    }

    /// A claim was checked and holds.
    pub fn checked(&self, text: &str) {
        self.line(&format!("{} {} {text}", self.stamp(), paint(GOOD, "checked:")));
    }

    /// A line that a command printed.
    pub fn quote(&self, text: &str) {
        self.line(&format!("{}   {} {text}", self.stamp(), paint(DIM, "|")));
    }

    fn stamp(&self) -> String {
        paint(DIM, &format!("{:6.2}s", self.seconds()))
    }

    fn line(&self, text: &str) {
        // A reader that went away does not stop the story: its checks and its cleaning up go on.
        let _ = self.out.line(text);
    }
}
