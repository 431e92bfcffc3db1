//! Which cells of a long matrix are run when there is no time for all.
//!
//! An ordinary run draws cells by a seed until its minutes are over, and says which it did not run; `WINDLASS_SEED=N` draws the
//! same again, `WINDLASS_MINUTES=N` gives each matrix N minutes. `WINDLASS_LONG=1` runs all of them, and with
//! `WINDLASS_PIECE=2/6` the second of six pieces: six such runs are the whole. `WINDLASS_CELLS=WORDS` runs those whose name has the
//! words, as a violation names them.

use std::time::{Duration, Instant, SystemTime};

use crate::dice::Dice;
use crate::report::not_run;

/// What is run of a matrix.
#[derive(Debug)]
pub struct Sample {
    what: &'static str,
    choice: Choice,
    run: usize,
    left: Vec<String>,
}

#[derive(Debug)]
enum Choice {
    /// Every N-th, from the `piece`-th.
    Piece { piece: usize, of: usize },
    /// Those whose name has these words.
    Named(String),
    /// As the dice fall, until then.
    Drawn { seed: u64, dice: Dice, end: Instant },
}

/// Whether everything is to be run, for hours.
pub fn is_long() -> bool {
    std::env::var_os("WINDLASS_LONG").is_some()
}

impl Sample {
    /// Of the matrix with this name, which an ordinary run gives so much time.
    ///
    /// # Panics
    /// Where a variable is not as this module's page says.
    pub fn of(what: &'static str, time: Duration) -> Self {
        let choice = if let Ok(words) = std::env::var("WINDLASS_CELLS") {
            Choice::Named(words)
        } else if is_long() {
            let text = std::env::var("WINDLASS_PIECE").unwrap_or_else(|_| "1/1".into());
            let (piece, of) = piece(&text).expect("WINDLASS_PIECE is K/N, with K from 1 to N");
            Choice::Piece { piece, of }
        } else {
            let seed = number("WINDLASS_SEED").unwrap_or_else(seed_of_now);
            let time = number("WINDLASS_MINUTES").map_or(time, |minutes| Duration::from_secs(60 * minutes));
            Choice::Drawn { seed, dice: Dice(seed), end: Instant::now() + time }
        };
        Self { what, choice, run: 0, left: Vec::new() }
    }

    /// The cells of a group that are run: in a drawn sample at least one, and more until the group's share of the time that is left
    /// is over, where `groups` are still to come, this one among them.
    pub fn draw<T>(&mut self, mut cells: Vec<T>, groups: u32, name: impl Fn(&T) -> String) -> Drawn<'_, T> {
        let (mut end, now) = (None, Instant::now());
        match &mut self.choice {
            Choice::Piece { piece, of } => {
                let (before, mut at) = (self.run + self.left.len(), 0);
                cells.retain(|cell| {
                    at += 1;
                    let is_in = (before + at) % *of == *piece % *of;
                    if !is_in {
                        self.left.push(name(cell));
                    }
                    is_in
                });
            }
            Choice::Named(words) => cells.retain(|cell| name(cell).contains(words.as_str())),
            Choice::Drawn { dice, end: of_all, .. } => {
                dice.shuffle(&mut cells);
                // The first groups have the most that is new, and what a group does not need falls to the next.
                end = Some(now + of_all.saturating_duration_since(now) * 4 / (groups + 3));
            }
        }
        let cells: Vec<(String, T)> = cells.into_iter().map(|cell| (name(&cell), cell)).collect();
        Drawn { sample: self, cells: cells.into_iter(), end, is_first: true }
    }

    /// Says what was not run.
    pub fn finish(self) {
        let all = self.run + self.left.len();
        let how = match self.choice {
            _ if self.left.is_empty() => return,
            Choice::Named(words) => format!("that are not named {words:?}"),
            Choice::Piece { piece, of } => format!("in the pieces of {of} other than {piece}"),
            Choice::Drawn { seed, .. } => format!("not run with WINDLASS_SEED={seed}"),
        };
        not_run(&format!(
            "{} of {all} cells of {} {how}: {}",
            self.left.len(),
            self.what,
            self.left.join(", ")
        ));
    }
}

/// Gives the cells to run, one by one.
#[derive(Debug)]
pub struct Drawn<'a, T> {
    sample: &'a mut Sample,
    cells: std::vec::IntoIter<(String, T)>,
    end: Option<Instant>,
    is_first: bool,
}

impl<T> Iterator for Drawn<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if !self.is_first && self.end.is_some_and(|end| Instant::now() >= end) {
            self.sample.left.extend(self.cells.by_ref().map(|(name, _)| name));
        }
        self.is_first = false;
        let (_, cell) = self.cells.next()?;
        self.sample.run += 1;
        Some(cell)
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number and not {text:?}")))
}

fn piece(text: &str) -> Option<(usize, usize)> {
    let (piece, of) = text.split_once('/')?;
    let (piece, of) = (piece.parse().ok()?, of.parse().ok()?);
    (1..=of).contains(&piece).then_some((piece, of))
}

/// Another one for each run: what one does not draw, another does.
fn seed_of_now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Dice(since.as_nanos() as u64).next() % 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(choice: Choice) -> Sample {
        Sample { what: "cells", choice, run: 0, left: Vec::new() }
    }

    fn drawn(seed: u64, time: Duration) -> Sample {
        sample(Choice::Drawn { seed, dice: Dice(seed), end: Instant::now() + time })
    }

    fn draw(sample: &mut Sample, cells: std::ops::Range<u32>) -> Vec<u32> {
        sample.draw(cells.collect(), 1, u32::to_string).collect()
    }

    #[test]
    fn all_pieces_together_are_the_whole_and_none_comes_twice() {
        let mut all = Vec::new();
        for piece in 1..=3 {
            let mut sample = sample(Choice::Piece { piece, of: 3 });
            for group in [0..10, 10..11, 11..30] {
                all.extend(draw(&mut sample, group));
            }
            assert_eq!(sample.run + sample.left.len(), 30);
        }
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_seed_draws_the_same_again_and_each_group_runs_something() {
        let hour = Duration::from_secs(3600);
        assert_eq!(draw(&mut drawn(7, hour), 0..50), draw(&mut drawn(7, hour), 0..50));
        assert_ne!(draw(&mut drawn(7, hour), 0..50), draw(&mut drawn(8, hour), 0..50));
        let mut late = drawn(7, Duration::ZERO);
        assert_eq!((draw(&mut late, 0..50).len(), draw(&mut late, 50..51).len()), (1, 1));
        assert_eq!((late.run, late.left.len()), (2, 49));
    }

    #[test]
    fn pieces_are_read() {
        assert_eq!(piece("2/6"), Some((2, 6)));
        for wrong in ["", "2", "0/6", "7/6", "1/0", "a/b"] {
            assert_eq!(piece(wrong), None, "{wrong}");
        }
    }
}
