// SPDX-License-Identifier: GPL-2.0

//! What a worker calls, and the evidence that it is calling.

use super::{
    fifo::Fifo,
    request::Request, //
};
use crate::{
    may_block::MayBlock,
    mmu_interval::{
        Interval,
        Invalidate,
        Registration, //
    },
    span::Span, //
};
use core::{
    cell::Cell,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    sync::Arc,
    types::NotThreadSafe, //
};

/// What the worker calls, for each request in this order, in process context.
///
/// Laid out like `struct odp_retirer_ops` of `include/odp.h`.
#[repr(C)]
pub(crate) struct RequestOps {
    /// The module that these functions are text of; null if it cannot be unloaded.
    pub owner: *mut bindings::module,
    /// Before the grace period. From here on no new lookup may find the object.
    pub unpublish: Option<unsafe extern "C" fn(*mut Request)>,
    /// After the grace period: may sleep, and may wait for invalidations. Holds may remain.
    pub remove: Option<unsafe extern "C" fn(*mut Request)>,
    /// After that, when the last hold is completed. The object is not touched any more.
    pub release: Option<unsafe extern "C" fn(*mut Request)>,
}

// SAFETY: Shared access reads addresses of functions and of a module, none of which changes, and
// which may be called, or given to the module's functions, in any task.
unsafe impl Sync for RequestOps {}

/// What the worker of a mirror calls, which knows what its objects have in common.
pub(crate) struct MirrorOps {
    /// In the place of [`RequestOps::unpublish`], for all that leave together: requests of this
    /// worker's, taken.
    pub(crate) unpublish: unsafe fn(&Fifo),
    /// After the grace period, for all that leave together, before [`RequestOps::remove`] is called
    /// for any of them: begins their removals. Does not sleep; what is waited for in `remove` then
    /// is the same for all. Says whether it did; if not, it has done nothing.
    pub(crate) start_removal: unsafe fn(&Fifo) -> bool,
    /// For requests to change an object.
    pub(crate) change: ChangeOps,
    /// The addresses of an object, which has not been released. In any context, for events.
    pub(crate) span: unsafe fn(NonNull<Request>) -> Span,
}

/// What the worker calls, before all that, for requests to change an object.
///
/// First `prepare` for all that there are, then `replace` for those that it says so of: the latter
/// sleeps until the invalidations that are going on have ended, which what has been prepared then
/// waits for together.
pub(crate) struct ChangeOps {
    /// Builds what is to take the object's place, if anything is, and says whether there is
    /// anything: then it is the caller's to change until `replace` has returned. If not, it has
    /// been let go of, as by [`Worker::settle`](super::worker::Worker::settle), and may be gone.
    pub prepare: unsafe fn(NonNull<Request>) -> bool,
    /// Puts it there, and applies [`Step::Replace`](super::state::Step::Replace); says whether it
    /// did. If not, the object is as it was. Others that it has done the same to, which `prepare`
    /// had claimed, it appends to the list.
    pub replace: unsafe fn(NonNull<Request>, &mut Fifo) -> bool,
}

/// Evidence that a worker's callback is running: the task may sleep, but not wait for a worker.
///
/// It cannot be made into [`MayBlock`](crate::MayBlock).
pub struct WorkerContext<'w> {
    /// Whether a removal had to wait for invalidations.
    has_waited: Cell<bool>,
    _scope: PhantomData<*mut &'w mut ()>,
    _not_send: NotThreadSafe,
}

impl WorkerContext<'_> {
    /// Removes a notifier, as [`Registration::remove`] does, and lets the worker know if that had
    /// to wait.
    ///
    /// Where removals wait for invalidations, the worker then has more of them do so at the same
    /// time. That a driver's removal sleeps for something else is no reason for that.
    ///
    /// Context: [`Retirable::remove`](crate::Retirable::remove); not under a lock that a callback
    /// takes.
    pub fn remove<T: Invalidate>(&self, registration: Registration<T>) -> Arc<Interval<T>> {
        let (interval, has_waited) = MayBlock::assume(|p| registration.remove_observed(p));
        if has_waited {
            self.has_waited.set(true);
        }
        interval
    }

    /// Whether a removal had to wait for invalidations so far.
    pub(crate) fn has_waited(&self) -> bool {
        self.has_waited.get()
    }

    /// Runs `f` with the evidence that a worker's callback is running.
    ///
    /// # Safety
    ///
    /// Called by functions of a [`RequestOps`] or a [`MirrorOps`] only.
    pub(crate) unsafe fn enter<R>(f: impl for<'w> FnOnce(&WorkerContext<'w>) -> R) -> R {
        f(&WorkerContext {
            has_waited: Cell::new(false),
            _scope: PhantomData,
            _not_send: NotThreadSafe,
        })
    }
}
