// SPDX-License-Identifier: GPL-2.0

//! References to an object: that of whoever removes it, and those of who uses it.

use kernel::sync::atomic::{
    Atomic,
    Full,
    Relaxed, //
};

/// How many there are; an object begins with one, and ends with the last.
pub(crate) struct References(Atomic<i32>);

impl References {
    /// Makes the first.
    pub(crate) fn new() -> Self {
        Self(Atomic::new(1))
    }

    /// Takes one more, unless there is none: `refcount_inc_not_zero()`.
    pub(crate) fn get(&self) -> bool {
        let mut n = self.0.load(Relaxed);
        while n != 0 {
            match self.0.cmpxchg(n, n + 1, Full) {
                Ok(_) => return true,
                Err(now) => n = now,
            }
        }
        false
    }

    /// Gives one back; says whether that was the last.
    #[must_use = "the object ends with the last one"]
    pub(crate) fn put(&self) -> bool {
        self.0.fetch_sub(1, Full) == 1
    }
}
