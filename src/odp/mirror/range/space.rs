// SPDX-License-Identifier: GPL-2.0

//! Level 2: what all ranges of a mirror have in common.

use super::{
    stalled::Stalled,
    Range, //
};
use crate::{
    memcg::MemCgroup,
    mmu_interval::{
        EventOwner,
        Interval, //
    },
    odp::{
        engine::worker::Worker,
        mirror::{
            driver::Mirrored,
            Config,
            InsertErrorKind, //
        }, //
    },
    range_index::RangeIndex, //
};
use kernel::{
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc, //
    }, //
};

/// What all ranges of a mirror have in common.
#[pin_data]
pub(in crate::odp::mirror) struct Space<T: Mirrored> {
    pub(in crate::odp::mirror) worker: Arc<Worker>,
    #[pin]
    pub(in crate::odp::mirror) index: RangeIndex<Interval<Range<T>>>,
    pub(in crate::odp::mirror) mm: ARef<Mm>,
    /// That in which the mirror was made: what it keeps is charged to it.
    pub(in crate::odp::mirror) memcg: MemCgroup,
    /// How many ranges there are, retired ones included.
    ranges: Atomic<usize>,
    limit: usize,
    /// What the ends of pieces are rounded to, in bytes: a power of two, a page or more.
    pub(in crate::odp::mirror) grain: usize,
    /// Whether removals are begun for all ranges of a batch before one is waited for.
    pub(super) split_removal: bool,
    /// Whose events are not for the driver.
    pub(in crate::odp::mirror) owner: Option<EventOwner>,
    /// The ranges that could not be changed as they should.
    pub(super) stalled: Stalled,
}

/// How many ranges a drain looks at, at most, for those that could not be changed, and how many of
/// these it has changed: who inserts a range pays for no more.
const LOOKS: usize = 64;
const TRIES: usize = 8;

/// How many a flush, which tries all of them, looks at before others may change the index.
const LOOKS_AT_A_TIME: usize = 1024;

impl<T: Mirrored> Space<T> {
    pub(in crate::odp::mirror) fn new(
        worker: Arc<Worker>,
        mm: ARef<Mm>,
        memcg: MemCgroup,
        config: Config,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            worker,
            index <- RangeIndex::new(),
            mm,
            memcg,
            ranges: Atomic::new(0),
            limit: config.max_ranges,
            grain: config.grain,
            split_removal: config.split_removal,
            owner: config.owner,
            stalled: Stalled::new(),
        })
    }

    /// Has another try made for a few of the changes that could not be made, if ranges have been
    /// released since; the next call goes on with others. May sleep.
    pub(in crate::odp::mirror) fn retry_some(&self) {
        if !self.stalled.is_due(self.worker.stats().released.get()) {
            return;
        }
        let index = self.index.lock();
        let (from, mut left) = (self.stalled.step(), TRIES);
        let next = index.look_at(from, LOOKS, |interval| {
            // OVERFLOW: No more than there are left.
            left -= usize::from(interval.data().retry(interval.span()));
            left > 0
        });
        self.stalled.stop(next);
    }

    /// Has another try made for all changes that could not be made before the call. May sleep.
    pub(in crate::odp::mirror) fn retry_all(&self) {
        if !self.stalled.any() {
            return;
        }
        self.stalled.pass(|| {
            let mut next = Some(0);
            while let Some(from) = next {
                let index = self.index.lock();
                if from == 0 {
                    self.stalled.take_all();
                }
                next = index.look_at(from, LOOKS_AT_A_TIME, |interval| {
                    let _ = interval.data().retry(interval.span());
                    true
                });
            }
        });
    }

    /// How many ranges there are that have not been released.
    pub(in crate::odp::mirror) fn ranges(&self) -> usize {
        self.ranges.load(Relaxed)
    }

    /// Counts one more. Where there is no room nothing is, not even for a moment: somebody else
    /// might find none for that.
    pub(super) fn count(&self, room: Room) -> Result<(), InsertErrorKind> {
        let mut ranges = self.ranges.load(Relaxed);
        while room == Room::Taken || ranges < self.limit {
            // OVERFLOW: There cannot be as many ranges as there are bytes.
            match self.ranges.cmpxchg(ranges, ranges + 1, Full) {
                Ok(_) => return Ok(()),
                Err(others) => ranges = others,
            }
        }
        Err(InsertErrorKind::Full)
    }

    pub(super) fn uncount(&self) {
        let _ = self.ranges.fetch_sub(1, Full);
    }
}

/// Whether there must be room for another range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::odp::mirror) enum Room {
    /// In the number of ranges that a mirror may have.
    Limited,
    /// There is: that of a range which is about to leave.
    Taken,
}
