// SPDX-License-Identifier: GPL-2.0

//! The requests that a worker has, by what is to be done with them next, and who waits for that.

use super::{
    completed::Completed,
    epoch::Epochs,
    fifo::Fifo,
    request::{
        Request,
        Tickets, //
    }, //
};
use core::ptr::NonNull;

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// No callback, lookup or access is left. Takes as long as the address space is being
    /// invalidated and lookups last; and as the driver's releases do, which are not waited for, but
    /// may be in the way.
    Removed,
    /// Released, too. Takes as long as the slowest hold: user space can make that long.
    Released,
}

/// What the worker has to do.
///
/// # Invariants
///
/// A request on one of the lists is valid until it has been released, and its link is the list's.
/// Besides,
///
/// - those on `pending` have been queued, as [`Effect::Queue`] asks for, and not been taken since;
/// - those on `changing` have been taken with the answer [`Effect::Build`], and no function has
///   been called for that;
/// - those on `replaced` have been marked so by [`Step::Replace`], and not been unpublished;
/// - those on `removing` have been taken and unpublished, in this order, and a grace period has
///   begun and ended since;
/// - those on `ready` have been answered with [`Effect::Release`].
///
/// [`Effect::Queue`]: super::state::Effect::Queue
/// [`Effect::Build`]: super::state::Effect::Build
/// [`Effect::Release`]: super::state::Effect::Release
/// [`Step::Replace`]: super::state::Step::Replace
pub(crate) struct Queues {
    /// Retired or to be changed, and taken by nobody.
    pub(crate) pending: Fifo,
    /// Taken to be changed, and nobody has begun to.
    pub(crate) changing: Fifo,
    /// Others are in their place; they have yet to leave.
    pub(crate) replaced: Fifo,
    /// The grace period is over; for the lanes.
    pub(crate) removing: Fifo,
    /// Removed and no longer held.
    pub(crate) ready: Fifo,
    /// How many of the worker's current batch are not done with yet.
    pub(crate) in_flight: usize,
    /// Whether `batch` is queued or running, or `alarm` is going to queue it.
    pub(crate) batching: bool,
    /// Whether `change` is queued or about to look at `changing`.
    pub(crate) replacing: bool,
    /// Whether `release` is queued or about to look at `ready`.
    pub(crate) releasing: bool,
    /// Whether requests are refused.
    pub(crate) closed: bool,
    /// How many lanes there are, besides the work item `batch`.
    pub(crate) lanes: usize,
    /// How many tasks sleep on `progress`, or are about to look whether they have to.
    pub(crate) waiters: usize,
    /// How many insertions are over, successful or not; wraps.
    pub(crate) insertions: usize,
    pub(crate) removed: Epochs,
    pub(crate) released: Epochs,
}

impl Queues {
    pub(crate) fn new() -> Self {
        // INVARIANT: No list has a request.
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
    /// The caller got the answer [`Effect::Queue`](super::state::Effect::Queue) for it, and it is
    /// valid until it is released.
    #[must_use]
    pub(crate) unsafe fn queue(&mut self, request: NonNull<Request>) -> bool {
        let tickets = Tickets {
            removed: self.removed.enter(),
            released: self.released.enter(),
        };
        // SAFETY: By the safety requirements `Effect::Queue` was answered, which by the invariants
        // of `Request` makes the link the caller's.
        unsafe { Request::link(request) }.tickets = tickets;
        // INVARIANT: It is queued as it has to be, and its link becomes the list's.
        //
        // SAFETY: By the safety requirements the link is the caller's to give away, and the request
        // is valid until it is released; what is released has left all lists.
        unsafe { self.pending.push(request) };
        self.should_batch()
    }

    /// The epochs of those who wait for this.
    pub(crate) fn epochs(&mut self, until: Until) -> &mut Epochs {
        match until {
            Until::Removed => &mut self.removed,
            Until::Released => &mut self.released,
        }
    }

    /// Counts what is completed.
    pub(crate) fn settle(&mut self, completed: &Completed) {
        // What a caller of drain has removed was in nobody's batch, and is not in `of_batch`.
        self.in_flight = self.in_flight.saturating_sub(completed.of_batch);
        self.removed.exit_all(&completed.removed);
        self.released.exit_all(&completed.released);
    }

    /// Whether `batch` must be queued now; the caller does it.
    ///
    /// While a batch is in flight nothing can be done: whoever ends it looks again.
    #[must_use]
    pub(crate) fn should_batch(&mut self) -> bool {
        !self.batching && self.begin_batch()
    }

    /// The same, while no batch has been queued.
    #[inline(never)] // Of most batches one callback comes here.
    fn begin_batch(&mut self) -> bool {
        self.batching = self.in_flight == 0 && !self.is_idle();
        self.batching
    }

    /// Whether there is nothing for a batch.
    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.replaced.is_empty()
    }
}
