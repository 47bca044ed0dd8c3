// SPDX-License-Identifier: GPL-2.0

//! Counters of a worker, as debugfs shows them.

use kernel::{
    fmt,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// A number that only grows.
pub(crate) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    pub(crate) fn add(&self, n: usize) {
        // CAST: `usize` has at most 64 bits.
        self.0.add(n as u64, Relaxed);
    }

    pub(crate) fn inc(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

// The first argument is a `$`, for the macro that this defines.
macro_rules! counters {
    ($dollar:tt $($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of a worker while it works.
        pub(crate) struct Stats {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        /// The counters of a worker at one moment.
        #[derive(Clone, Copy, Debug, Default)]
        #[repr(C)]
        pub struct Snapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            pub(crate) const fn new() -> Self {
                Self { $($name: Counter::new(),)* }
            }

            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get(),)* }
            }

            /// Writes a line for each counter.
            pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{} {}", stringify!($name), self.$name.get())?;)*
                // Read one after the other, so that it may seem that more have ended than begun.
                let outstanding = self.holds.get().saturating_sub(self.puts.get());
                writeln!(f, "holds_outstanding {outstanding}")
            }
        }

        /// Calls a macro with the names of all counters.
        macro_rules! with_counters {
            ($dollar with:ident) => {
                $dollar with! { $($name)* }
            };
        }
        pub(crate) use with_counters;
    };
}

// `struct odp_stats` of odp.h has the same, in the same order. src/interface.c gets their names
// from here, by a rule of Kbuild, and so does ffi: the build fails where the two differ.
counters! {
    $
    /// Ranges inserted.
    inserted,
    /// Insertions that failed, for whatever reason.
    insert_failed,
    /// Insertions that failed because the address space was completed.
    mm_dead,
    /// Requests accepted.
    queued,
    /// Requests that found the range retired already.
    coalesced,
    /// Batches taken, by the worker or by the caller of drain.
    batches,
    /// Grace periods waited for.
    grace_periods,
    /// Requests taken by callers of drain.
    drained,
    /// Removals begun for a whole batch before the first was waited for.
    started,
    /// Ranges whose removal is over.
    removed,
    /// Ranges released.
    released,
    /// Long holds begun.
    holds,
    /// Long holds ended.
    puts,
    /// Releases that had to wait for a hold.
    held_back,
    /// Times that the worker was woken up.
    kicks,
    /// Non-blockable invalidations declined: the user lock was taken, or the driver refused.
    would_block,
    /// Requests to change a range that were accepted.
    changes,
    /// Times that a change came to nothing, because the range was right as it was.
    unchanged,
    /// Ranges replaced by others.
    replaced,
    /// The ranges that they were replaced by.
    pieces,
    /// Ranges that became part of a neighbour's, and are counted as replaced, too.
    merged,
    /// Times that a range was kept as it was because it could not be replaced.
    replace_failed,
}
