// SPDX-License-Identifier: GPL-2.0

//! The requests that a worker has, by what is to be done with them next, and who waits for that.

use super::{
    epoch::Epochs,
    fifo::Fifo,
    gone::Gone,
    request::{
        Request,
        Tickets, //
    },
    worker::Until, //
};
use core::ptr::NonNull;

/// What the worker has to do.
pub(super) struct Lists {
    /// Retired or to be changed, and taken by nobody.
    pub(super) pending: Fifo,
    /// Taken to be changed, and nobody has begun to.
    pub(super) changing: Fifo,
    /// Others are in their place; they have yet to leave.
    pub(super) replaced: Fifo,
    /// The grace period is over; for the lanes.
    pub(super) removing: Fifo,
    /// Removed and no longer held.
    pub(super) ready: Fifo,
    /// How many of the worker's current batch are not done with yet.
    pub(super) in_flight: usize,
    /// Whether `batch` is queued or running, or `alarm` is going to queue it.
    pub(super) batching: bool,
    /// Whether `change` is queued or about to look at `changing`.
    pub(super) replacing: bool,
    /// Whether `release` is queued or about to look at `ready`.
    pub(super) releasing: bool,
    /// Whether requests are refused.
    pub(super) closed: bool,
    /// How many lanes there are, besides the work item `batch`.
    pub(super) lanes: usize,
    /// How many tasks sleep on `progress`, or are about to look whether they have to.
    pub(super) waiters: usize,
    /// How many insertions are over, successful or not; wraps.
    pub(super) insertions: usize,
    pub(super) removed: Epochs,
    pub(super) released: Epochs,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self {
            pending: Fifo::new(),
            changing: Fifo::new(),
            replaced: Fifo::new(),
            removing: Fifo::new(),
            ready: Fifo::new(),
            in_flight: 0,
            batching: false,
            replacing: false,
            releasing: false,
            closed: false,
            lanes: 0,
            waiters: 0,
            insertions: 0,
            removed: Epochs::new(),
            released: Epochs::new(),
        }
    }

    /// Queues a request, and says whether the worker must be woken up.
    ///
    /// # Safety
    ///
    /// The caller got the answer [`Effect::Queue`](super::state::Effect::Queue) for it.
    #[must_use]
    pub(super) unsafe fn queue(&mut self, request: NonNull<Request>) -> bool {
        let tickets = Tickets {
            removed: self.removed.enter(),
            released: self.released.enter(),
        };
        // SAFETY: By the safety requirements the link is the caller's.
        unsafe { (*request.as_ref().link.get()).tickets = tickets };
        // SAFETY: As above, and it is valid until it is released, which it is not on a list.
        unsafe { self.pending.push(request) };
        self.should_batch()
    }

    /// The epochs of those who wait for this.
    pub(super) fn epochs(&mut self, until: Until) -> &mut Epochs {
        match until {
            Until::Removed => &mut self.removed,
            Until::Released => &mut self.released,
        }
    }

    /// Counts what is gone.
    pub(super) fn settle(&mut self, gone: &Gone) {
        // What a caller of drain has removed was in nobody's batch, and is not in `of_batch`.
        self.in_flight = self.in_flight.saturating_sub(gone.of_batch);
        self.removed.exit_all(&gone.removed);
        self.released.exit_all(&gone.released);
    }

    /// Whether `batch` must be queued now; the caller does it.
    ///
    /// While a batch is in flight nothing can be done: whoever ends it looks again.
    #[must_use]
    pub(super) fn should_batch(&mut self) -> bool {
        let should = !self.batching && self.in_flight == 0 && !self.is_idle();
        self.batching |= should;
        should
    }

    /// Whether there is nothing for a batch.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.replaced.is_empty()
    }
}
