// SPDX-License-Identifier: GPL-2.0

//! How long requests take, as debugfs shows it.
//!
//! A request has room for one moment: that in which it was queued, and later that in which its
//! object was removed. The first is noted in a callback, and only while the event `odp:odp_request`
//! is on: so a callback does not pay for this while nobody wants it, not even a second branch. Who
//! writes 1 to the file has that event be on.

use super::trace;
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    str::kstrtobool_bytes,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex, //
    },
    time::{
        ClockSource,
        Monotonic,
        NSEC_PER_USEC, //
    },
    uaccess::UserSliceReader, //
};

/// A moment in microseconds, of which only differences have a meaning, and only within an hour:
/// there is no room for more in a request.
///
/// # Invariants
///
/// Zero for one that has not been noted.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Moment(u32);

impl Moment {
    pub(crate) const NONE: Self = Self(0);

    /// This moment. Context: any but an NMI.
    pub(crate) fn now() -> Self {
        // CAST: What is lost is what differences do not depend on.
        let us = (Monotonic::ktime_get() / NSEC_PER_USEC) as u32;
        // INVARIANT: It is noted, and not zero.
        Self(us.max(1))
    }

    /// Whether it has not been noted.
    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// A number of microseconds falls into the bucket of as many as it has binary digits.
const BUCKETS: usize = u32::BITS as usize + 1;

/// How many took how long.
struct Histogram([Atomic<u64>; BUCKETS]);

impl Histogram {
    const fn new() -> Self {
        Self([const { Atomic::new(0) }; BUCKETS])
    }

    /// Counts what has taken from `begin` to `end`, if both have been noted.
    fn count(&self, begin: Moment, end: Moment) {
        if begin.is_none() || end.is_none() {
            return;
        }
        let us = end.0.wrapping_sub(begin.0);
        // CAST: No more than 32.
        let bucket = (u32::BITS - us.leading_zeros()) as usize;
        self.0[bucket].add(1, Relaxed);
    }

    fn clear(&self) {
        for bucket in &self.0 {
            bucket.store(0, Relaxed);
        }
    }
}

/// How long objects take to be removed, and then to be released, and whether that is measured.
#[pin_data(PinnedDrop)]
pub(crate) struct Latency {
    asked_to_removed: Histogram,
    removed_to_released: Histogram,
    /// Since when: what was noted before does not count. Zero if it is not measured.
    began: Atomic<u32>,
    /// Whether this listens to requests.
    #[pin]
    on: Mutex<bool>,
}

impl Latency {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            asked_to_removed: Histogram::new(),
            removed_to_released: Histogram::new(),
            began: Atomic::new(0),
            on <- new_mutex!(false, "odp::Latency::on"),
        })
    }

    /// Whether a moment has been noted, and since this is measured: whoever traces has moments
    /// noted as well.
    fn counts(&self, moment: Moment) -> bool {
        let began = self.began.load(Relaxed);
        // CAST: Differences have a meaning within an hour, before and after.
        !moment.is_none() && began != 0 && moment.0.wrapping_sub(began) as i32 >= 0
    }

    /// An object has been removed. Returns the moment, if it is measured from when that was asked
    /// for.
    pub(crate) fn removed(&self, asked: Moment) -> Moment {
        if !self.counts(asked) {
            return Moment::NONE;
        }
        let now = Moment::now();
        self.asked_to_removed.count(asked, now);
        now
    }

    /// An object that was removed at some moment is released.
    pub(crate) fn released(&self, removed: Moment) {
        if self.counts(removed) {
            self.removed_to_released.count(removed, Moment::now());
        }
    }

    /// Writes a line for each bucket, up to the last one in which there is anything.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "measuring {}", u8::from(*self.on.lock()))?;
        writeln!(f, "us asked_to_removed removed_to_released")?;
        let of = |n: usize| {
            let load = |histogram: &Histogram| histogram.0[n].load(Relaxed);
            (
                load(&self.asked_to_removed),
                load(&self.removed_to_released),
            )
        };
        let last = (0..BUCKETS).rev().find(|&n| of(n) != (0, 0));
        for n in 0..last.map_or(0, |last| last + 1) {
            let (removed, released) = of(n);
            // OVERFLOW: `n` is no more than 32.
            let least = (1u64 << n) / 2;
            writeln!(f, "{least} {removed} {released}")?;
        }
        Ok(())
    }

    /// Begins with everything at zero, or ends, by what user space has written.
    ///
    /// # Errors
    ///
    /// `EINVAL` if that is neither, `EFAULT`, `ENOMEM`, `EOPNOTSUPP` if the kernel has no
    /// tracepoints.
    pub(crate) fn read(&self, reader: &mut UserSliceReader) -> Result {
        let mut written = [0u8; 2];
        let len = reader.len().min(written.len());
        reader.read_slice(&mut written[..len])?;
        let wanted = kstrtobool_bytes(&written[..len])?;

        let mut on = self.on.lock();
        if *on != wanted {
            trace::watch_requests(wanted)?;
            *on = wanted;
        }
        self.began.store(0, Relaxed);
        if wanted {
            self.asked_to_removed.clear();
            self.removed_to_released.clear();
            self.began.store(Moment::now().0, Relaxed);
        }
        Ok(())
    }
}

#[pinned_drop]
impl PinnedDrop for Latency {
    fn drop(self: Pin<&mut Self>) {
        if *self.on.lock() {
            let _ = trace::watch_requests(false);
        }
    }
}
