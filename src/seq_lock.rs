// SPDX-License-Identifier: GPL-2.0

//! Sequence locks: readers take no lock, and begin again if there was a writer.
//!
//! C header: [`include/linux/seqlock.h`](srctree/include/linux/seqlock.h)

use core::marker::PhantomData;
use kernel::{
    bindings,
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

// The prototypes are those of helpers.h.
unsafe extern "C" {
    fn odp_seqlock_init(lock: *mut bindings::seqlock_t);
    fn odp_read_seqbegin(lock: *const bindings::seqlock_t) -> u32;
    fn odp_read_seqretry(lock: *const bindings::seqlock_t, start: u32) -> bool;
    fn odp_write_seqlock(lock: *mut bindings::seqlock_t);
    fn odp_write_sequnlock(lock: *mut bindings::seqlock_t);
}

/// A sequence lock (`seqlock_t`). To lockdep all of them are one.
///
/// # Invariants
///
/// `lock` is initialised.
#[pin_data]
pub struct SeqLock {
    #[pin]
    lock: Opaque<bindings::seqlock_t>,
}

// SAFETY: It may be used from any task, and all of its functions may be called at the same time.
unsafe impl Send for SeqLock {}
// SAFETY: As above.
unsafe impl Sync for SeqLock {}

/// A writer's section. Nobody else writes, and the task must not sleep.
pub struct WriteGuard<'a> {
    lock: &'a SeqLock,
    _not_send: PhantomData<NotThreadSafe>,
}

impl SeqLock {
    /// Makes one that nobody has.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: It is initialised here.
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and pinned.
            lock <- Opaque::ffi_init(|slot| unsafe { odp_seqlock_init(slot) }),
        })
    }

    /// Begins to read, when no writer is in the middle of it (`read_seqbegin()`). Process context;
    /// spins, and on PREEMPT_RT may sleep.
    #[inline]
    pub fn read_begin(&self) -> u32 {
        // SAFETY: By the type invariants it is initialised.
        unsafe { odp_read_seqbegin(self.lock.get()) }
    }

    /// Whether there was a writer since [`SeqLock::read_begin`] returned `start`
    /// (`read_seqretry()`), so that what was read may be of different times.
    #[inline]
    pub fn read_retry(&self, start: u32) -> bool {
        // SAFETY: By the type invariants it is initialised.
        unsafe { odp_read_seqretry(self.lock.get(), start) }
    }

    /// Begins to write (`write_seqlock()`). Process context. All that the caller has stored before
    /// is visible to whoever sees what it stores in the section.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_> {
        // SAFETY: By the type invariants it is initialised. The guard ends the section.
        unsafe { odp_write_seqlock(self.lock.get()) };
        WriteGuard {
            lock: self,
            _not_send: PhantomData,
        }
    }
}

impl Drop for WriteGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `write` has begun the section, in this task because the guard is not `Send`.
        unsafe { odp_write_sequnlock(self.lock.lock.get()) };
    }
}
