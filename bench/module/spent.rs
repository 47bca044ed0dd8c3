// SPDX-License-Identifier: GPL-2.0

//! What callbacks take, by the clock: where instructions are counted, instructions.
//!
//! All arms have the same line at the beginning of `invalidate()`. It costs a load and a branch
//! unless somebody wants to know. Whoever that is sees to it that there are no other callbacks
//! meanwhile.

use kernel::{
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};

static WANTED: Atomic<bool> = Atomic::new(false);
static CALLBACKS: Atomic<u64> = Atomic::new(0);
static FIRST: Atomic<u64> = Atomic::new(0);
static OTHERS: Atomic<u64> = Atomic::new(0);

/// The time during which a callback runs.
pub(crate) struct Spent(Option<Instant<Monotonic>>);

/// A callback has begun.
#[must_use = "it ends when this is dropped"]
pub(crate) fn callback() -> Spent {
    Spent(WANTED.load(Relaxed).then(Instant::now))
}

impl Drop for Spent {
    fn drop(&mut self) {
        let Some(begin) = self.0 else {
            return;
        };
        // CAST: The clock does not go backwards.
        let took = begin.elapsed().as_nanos() as u64;
        if CALLBACKS.fetch_add(1, Relaxed) == 0 {
            FIRST.store(took, Relaxed);
        } else {
            OTHERS.fetch_add(took, Relaxed);
        }
    }
}

/// What callbacks have taken.
pub(crate) struct Sum {
    /// How many there were.
    pub(crate) callbacks: u64,
    /// The nanoseconds of the first,
    pub(crate) first: u64,
    /// and those of all others together.
    pub(crate) others: u64,
}

/// From now on it is noted; what was is forgotten. Returns how many nanoseconds a callback in which
/// nothing happens would be said to take.
pub(crate) fn begin() -> u64 {
    /// How often that is tried: an interrupt is not part of it.
    const TRIES: u64 = 32;

    WANTED.store(true, Relaxed);
    let nothing = (0..TRIES).map(|_| {
        reset();
        drop(callback());
        FIRST.load(Relaxed)
    });
    let nothing = nothing.min().unwrap_or_default();
    reset();
    nothing
}

fn reset() {
    CALLBACKS.store(0, Relaxed);
    FIRST.store(0, Relaxed);
    OTHERS.store(0, Relaxed);
}

/// It is not noted any more.
pub(crate) fn end() -> Sum {
    WANTED.store(false, Relaxed);
    Sum {
        callbacks: CALLBACKS.load(Relaxed),
        first: FIRST.load(Relaxed),
        others: OTHERS.load(Relaxed),
    }
}
