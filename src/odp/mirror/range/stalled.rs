// SPDX-License-Identifier: GPL-2.0

//! Where to look for ranges that could not be changed as they should be, for want of memory or of
//! room.
//!
//! There may be as many as there are ranges, and whoever makes room has room for one. So they are
//! not looked for all at once but in rounds: each drain goes a few steps of one.

use kernel::sync::atomic::{
    Acquire,
    Atomic,
    Relaxed,
    Release, //
};

/// What is known of the ranges of a mirror that could not be changed.
///
/// # Invariants
///
/// - Of each there is that is not being changed: `some` is set, or a round has yet to come by it,
///   or a task that is counted in `passing` has.
/// - `cursor` is only written with the mirror's index locked.
pub(super) struct Stalled {
    /// Whether there may be any that no round is going to come by.
    some: Atomic<bool>,
    /// How many ranges had been released when a range could not be changed for the last time.
    released: Atomic<u64>,
    /// The address that the round has come to; 0 if none is going on.
    cursor: Atomic<usize>,
    /// How many tasks go by all ranges.
    passing: Atomic<usize>,
}

impl Stalled {
    pub(super) const fn new() -> Self {
        Self {
            some: Atomic::new(false),
            released: Atomic::new(0),
            cursor: Atomic::new(0),
            passing: Atomic::new(0),
        }
    }

    /// Notes that a range could not be changed, and that `released` had been released by then.
    pub(super) fn add(&self, released: u64) {
        self.released.store(released, Relaxed);
        self.again();
    }

    /// Notes that a range was not looked at, because somebody else is changing it.
    pub(super) fn again(&self) {
        self.some.store(true, Release);
    }

    /// Whether there may be any.
    pub(super) fn any(&self) -> bool {
        // In this order: whoever clears one of them has said in the next that it is going to look.
        self.some.load(Acquire) || self.cursor.load(Acquire) != 0 || self.passing.load(Relaxed) != 0
    }

    /// Whether a step is to be made, now that `released` have been released: either a round is
    /// going on, or there is reason to begin one.
    pub(super) fn is_due(&self, released: u64) -> bool {
        self.cursor.load(Relaxed) != 0
            || (self.some.load(Relaxed) && self.released.load(Relaxed) != released)
    }

    /// Where the next step of the round begins; begins a round if none is going on. The index is
    /// locked.
    pub(super) fn step(&self) -> usize {
        if self.cursor.load(Relaxed) == 0 {
            // Nothing begins between the first byte and this.
            self.cursor.store(1, Relaxed);
            self.some.store(false, Release);
        }
        self.cursor.load(Relaxed)
    }

    /// The round goes on at `next` the next time, or is over. The index is locked, and has been
    /// since [`Stalled::step`].
    pub(super) fn stop(&self, next: Option<usize>) {
        self.cursor.store(next.unwrap_or(0), Relaxed);
    }

    /// Runs `f`, which goes by all ranges after it has called [`Stalled::take_all`].
    pub(super) fn pass(&self, f: impl FnOnce()) {
        let _ = self.passing.fetch_add(1, Relaxed);
        f();
        let _ = self.passing.fetch_sub(1, Release);
    }

    /// Leaves all there are to the caller, who is in [`Stalled::pass`]. The index is locked.
    pub(super) fn take_all(&self) {
        self.some.store(false, Release);
        // A round that had begun ends here, and what it had left is the caller's.
        self.cursor.store(0, Release);
    }
}
