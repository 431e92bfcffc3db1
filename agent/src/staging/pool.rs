//! The small pool on which blocking file work is done: enough threads to keep a disk and a hash busy, few enough to leave
//! the host to its applications.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads at work: two to four.
pub fn width() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

/// Does `work` for each number below `count`, [`width`] at a time; stops at the first error and returns it.
pub fn each<E: Send>(count: usize, work: impl Fn(usize) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    let run = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            if let Err(error) = work(index) {
                // The others find nothing more to do.
                next.store(count, Ordering::Relaxed);
                if let Ok(mut failed) = failed.lock() {
                    failed.get_or_insert(error);
                }
            }
        }
    };
    let extra = width().min(count.div_ceil(16)).saturating_sub(1);
    std::thread::scope(|scope| {
        for _ in 0..extra {
            scope.spawn(run);
        }
        run();
    });
    failed.into_inner().ok().flatten().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_done_once_and_the_first_error_ends_it() {
        let sum = AtomicUsize::new(0);
        each::<()>(1000, |index| {
            sum.fetch_add(index, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(sum.into_inner(), 499_500);
        assert_eq!(each(1000, |index| if index == 7 { Err(index) } else { Ok(()) }), Err(7));
        each::<()>(0, |_| Err(())).unwrap();
    }
}
