// SPDX-License-Identifier: GPL-2.0

//! The memory that is mirrored, and what happened to it when.

use super::uapi;
use core::num::NonZeroUsize;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
    time::{
        Instant,
        Monotonic, //
    }, //
};
use odp::Span;

/// The most ranges that a region may have.
const MAX_RANGES: u32 = 1 << 20;

struct Stamp {
    retired: Atomic<u64>,
    begun: Atomic<u64>,
    released: Atomic<u64>,
}

impl Stamp {
    const fn new() -> Self {
        Self {
            retired: Atomic::new(0),
            begun: Atomic::new(0),
            released: Atomic::new(0),
        }
    }
}

/// Memory of a process, as ranges of the same size that follow each other.
#[pin_data]
pub(crate) struct Region {
    span: Span,
    range_size: NonZeroUsize,
    stamped: bool,
    ranges: usize,
    begin: Instant<Monotonic>,
    stamps: KVVec<Stamp>,
    removed: Atomic<u64>,
    /// How many ranges have yet to be released, if it is stamped.
    left: Atomic<usize>,
    #[pin]
    gone: Completion,
}

impl Region {
    /// Checks what user space wants.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `EOVERFLOW` if the addresses make no region, `ENOMEM`.
    pub(crate) fn new(region: &uapi::Region) -> Result<Arc<Self>> {
        if region.ranges > MAX_RANGES {
            return Err(EINVAL);
        }
        let start = usize::try_from(region.start)?;
        let range_size = NonZeroUsize::try_from(usize::try_from(region.range_size)?)?;
        let ranges = usize::try_from(region.ranges)?;
        // Its first range, to have the size checked.
        Span::new(start, range_size.get())?;
        let size = range_size.get().checked_mul(ranges).ok_or(EOVERFLOW)?;
        let span = Span::new(start, size)?;

        let stamped = region.stamped != 0;
        let mut stamps = KVVec::new();
        for _ in 0..if stamped { ranges } else { 0 } {
            stamps.push(Stamp::new(), GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self {
                span,
                range_size,
                stamped,
                ranges,
                begin: Instant::now(),
                stamps,
                removed: Atomic::new(0),
                left: Atomic::new(*ranges),
                gone <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// How many ranges it has.
    pub(crate) fn len(&self) -> usize {
        self.ranges
    }

    /// Where it is.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// How many bytes a range has.
    pub(crate) fn range_size(&self) -> usize {
        self.range_size.get()
    }

    /// Its ranges.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Result<Span>> + '_ {
        (self.span.start()..self.span.end())
            .step_by(self.range_size.get())
            .map(|start| Ok(Span::new(start, self.range_size.get())?))
    }

    /// The time, for one of the calls below; zero, at no cost, if nobody wants to know.
    pub(crate) fn now(&self) -> u64 {
        if !self.stamped {
            return 0;
        }
        // CAST: The clock does not go backwards.
        self.begin.elapsed().as_nanos() as u64
    }

    fn stamp(&self, range: Span) -> Option<&Stamp> {
        // As for the time: at no cost, or next to none.
        if !self.stamped {
            return None;
        }
        let offset = range.start().checked_sub(self.span.start())?;
        self.stamps.get(offset / self.range_size)
    }

    /// At `now` `invalidate()` asked for the removal of `range`.
    pub(crate) fn retired(&self, range: Span, now: u64) {
        if let Some(stamp) = self.stamp(range) {
            stamp.retired.store(now, Relaxed);
        }
    }

    /// At `now` whoever does the rest had begun with `range`.
    pub(crate) fn begun(&self, range: Span, now: u64) {
        if let Some(stamp) = self.stamp(range) {
            stamp.begun.store(now, Relaxed);
        }
    }

    /// At `now` `range` was gone for good.
    pub(crate) fn released(&self, range: Span, now: u64) {
        if let Some(stamp) = self.stamp(range) {
            stamp.released.store(now, Relaxed);
            if self.left.fetch_sub(1, Full) == 1 {
                self.gone.complete_all();
            }
        }
    }

    /// Waits until each of its ranges, all of which are unmapped, has been released once, and tells
    /// the arm nothing of it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are not stamped: then nobody counts.
    pub(crate) fn wait(&self) -> Result {
        if !self.stamped {
            return Err(EINVAL);
        }
        self.gone.wait_for_completion();
        Ok(())
    }

    /// At `now` somebody had waited until all ranges were removed.
    pub(crate) fn removed(&self, now: u64) {
        self.removed.store(now, Relaxed);
    }

    /// When that was.
    pub(crate) fn removed_at(&self) -> u64 {
        self.removed.load(Relaxed)
    }

    /// What happened to each range.
    pub(crate) fn stamps(&self) -> impl Iterator<Item = uapi::Stamp> + '_ {
        self.stamps.iter().map(|stamp| uapi::Stamp {
            retired: stamp.retired.load(Relaxed),
            begun: stamp.begun.load(Relaxed),
            released: stamp.released.load(Relaxed),
        })
    }
}
