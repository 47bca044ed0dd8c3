// SPDX-License-Identifier: GPL-2.0

//! Evidence that a task may block, and the lockdep map that checks it.
//!
//! A call that waits for an invalidation to end deadlocks when it is made from the callback that
//! the wait is for. Core mm reports that for most events, but `MMU_NOTIFY_RELEASE` callbacks run
//! under no lockdep map of the core's, and its map is not exported. So there is one of our own,
//! which is held around every `invalidate()`. Whoever is about to wait for invalidations touches
//! it.
//!
//! A deadlock is not undefined behaviour, so [`MayBlock::enter`] is safe; the mistake is found by
//! lockdep, at the first call, whether or not it would have hung that time.

use core::marker::PhantomData;
use kernel::{
    mm::Mm,
    sync::Srcu,
    types::NotThreadSafe, //
};

mod shim {
    use kernel::bindings;

    // SAFETY: The prototypes are those of helpers.h. Memory safety rests on no requirement of the
    // functions marked safe.
    #[allow(
        improper_ctypes,
        reason = "some structs of the bindings have no fields in some kernels"
    )]
    unsafe extern "C" {
        pub(super) safe fn odp_may_wait_for_invalidate();
        pub(super) safe fn odp_invalidate_enter(blockable: bool);
        pub(super) safe fn odp_invalidate_exit(blockable: bool);
        pub(super) safe fn odp_reclaim_enter();
        pub(super) safe fn odp_reclaim_exit();
        pub(super) fn odp_might_read_lock_mmap(mm: *mut bindings::mm_struct);
        pub(super) fn odp_may_wait_for_readers(srcu: *mut bindings::srcu_struct);
    }
}

/// Evidence that the current task may sleep and wait for callbacks to finish.
///
/// Blocking calls borrow it mutably. What must not be alive across a blocking call, such as a
/// lookup, borrows it too, so that the compiler keeps the two apart.
pub struct MayBlock<'p> {
    // Invariant in `'p`, so that a token cannot outlive or be exchanged for another one's scope.
    _scope: PhantomData<fn(&'p ()) -> &'p ()>,
    _not_send: NotThreadSafe,
}

impl MayBlock<'_> {
    /// Runs `f` with the evidence that this task may block.
    ///
    /// Context: a task that may sleep, outside every `invalidate()` and without a lock that one
    /// takes. Lockdep reports anything else. What is waited for may want more than that, and says
    /// so.
    ///
    /// # Examples
    ///
    /// ```ignore
    /// MayBlock::enter(|p| drop(registration.remove(p)));
    /// ```
    pub fn enter<R>(f: impl for<'p> FnOnce(&mut MayBlock<'p>) -> R) -> R {
        shim::odp_may_wait_for_invalidate();
        Self::assume(f)
    }

    /// Tells lockdep that the caller is about to wait for invalidations.
    ///
    /// Locks may have been taken since [`MayBlock::enter`], so every call that waits does this.
    pub fn for_invalidate(&mut self) {
        shim::odp_may_wait_for_invalidate();
    }

    /// Tells lockdep that the caller is about to wait for readers of `srcu`, though it is another
    /// task that waits for the grace period.
    pub(crate) fn for_readers(&mut self, srcu: &Srcu) {
        // CAST: `Srcu` is transparent over `srcu_struct`.
        let srcu = core::ptr::from_ref(srcu).cast_mut().cast();
        // SAFETY: It is initialised, and the function only looks at its lockdep map.
        unsafe { shim::odp_may_wait_for_readers(srcu) };
    }

    /// Tells lockdep that the caller may have to wait for the `mmap_lock` of `mm`.
    pub(crate) fn for_mmap_lock(&mut self, mm: &Mm) {
        // SAFETY: The `mm_struct` is valid, and the function only looks at the lock's lockdep map.
        unsafe { shim::odp_might_read_lock_mmap(mm.as_raw()) };
    }

    /// Evidence for where the contract says so, as it does for C callers of functions that may
    /// sleep. The calls that wait check as they do always.
    pub(crate) fn assume<R>(f: impl for<'p> FnOnce(&mut MayBlock<'p>) -> R) -> R {
        f(&mut MayBlock {
            _scope: PhantomData,
            _not_send: NotThreadSafe,
        })
    }
}

/// The time during which an `invalidate()` runs, as lockdep sees it.
///
/// A non-blockable call is also marked so for `CONFIG_DEBUG_ATOMIC_SLEEP`, which core mm does for
/// plain notifiers only; but not on `PREEMPT_RT`, where spinlocks would be reported.
pub(crate) struct InvalidateScope {
    blockable: bool,
    _not_send: NotThreadSafe,
}

impl InvalidateScope {
    #[inline]
    pub(crate) fn enter(blockable: bool) -> Self {
        shim::odp_invalidate_enter(blockable);
        Self {
            blockable,
            _not_send: NotThreadSafe,
        }
    }
}

impl Drop for InvalidateScope {
    #[inline]
    fn drop(&mut self) {
        shim::odp_invalidate_exit(self.blockable);
    }
}

/// The time during which lockdep takes the task for one that reclaims memory.
///
/// Taking a lock once in it teaches lockdep, before the machine is ever short of memory, that the
/// lock is taken in callbacks.
pub(crate) struct ReclaimScope(NotThreadSafe);

impl ReclaimScope {
    pub(crate) fn enter() -> Self {
        shim::odp_reclaim_enter();
        Self(NotThreadSafe)
    }
}

impl Drop for ReclaimScope {
    fn drop(&mut self) {
        shim::odp_reclaim_exit();
    }
}
