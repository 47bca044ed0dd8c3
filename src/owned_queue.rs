// SPDX-License-Identifier: GPL-2.0

//! A workqueue with an owner.
//!
//! `kernel::workqueue` wraps queues that somebody else keeps. This adds one that is created here
//! and destroyed with its owner, in the shape that is being proposed for the kernel crate, so that
//! users can move over.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::c_int,
    prelude::*,
    workqueue::Queue, //
};

// The prototype is that of helpers.h.
unsafe extern "C" {
    fn odp_alloc_workqueue(
        name: *const kernel::ffi::c_char,
        flags: kernel::ffi::c_uint,
        max_active: c_int,
        one_of_many: bool,
    ) -> *mut bindings::workqueue_struct;
}

/// What a queue is going to be.
pub struct Builder {
    flags: bindings::wq_flags,
    max_active: c_int,
    one_of_many: bool,
}

impl Builder {
    /// Gives the queue a rescuer, so that it makes progress when no worker can be created.
    pub fn mem_reclaim(mut self) -> Self {
        self.flags |= bindings::wq_flags_WQ_MEM_RECLAIM;
        self
    }

    /// Gives the queue the lockdep class that all queues built so have, instead of one of its own.
    ///
    /// For a queue of which there may be thousands, more than lockdep has classes. Work on such a
    /// queue must not wait for work on another one.
    pub fn one_of_many(mut self) -> Self {
        self.one_of_many = true;
        self
    }

    /// Limits how many work items of the queue run at the same time; the kernel's default if this
    /// is not called or `n` is zero. Where there are several NUMA nodes, each of them has a share,
    /// by its number of CPUs, but no less than eight.
    pub fn max_active(mut self, n: u16) -> Self {
        self.max_active = c_int::from(n);
        self
    }

    /// Creates the queue. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn build(self, name: &CStr) -> Result<OwnedQueue> {
        // SAFETY: `name` is a NUL-terminated string, which the callee copies.
        let queue = unsafe {
            odp_alloc_workqueue(
                name.as_char_ptr(),
                self.flags,
                self.max_active,
                self.one_of_many,
            )
        };

        // INVARIANT: The queue was allocated just now and belongs to nobody else.
        NonNull::new(queue)
            .map(|queue| OwnedQueue { queue })
            .ok_or(ENOMEM)
    }
}

/// A workqueue that belongs to whoever has this.
///
/// Dropping it waits for everything that is queued, so it may sleep, and it must not happen in one
/// of the queue's own work items.
///
/// # Invariants
///
/// `queue` is valid and destroyed by nobody else.
pub struct OwnedQueue {
    queue: NonNull<bindings::workqueue_struct>,
}

// SAFETY: A workqueue may be used and destroyed from any task.
unsafe impl Send for OwnedQueue {}
// SAFETY: Several tasks may queue work and flush at the same time; the workqueue has locks of its
// own.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Begins a queue whose work items run on any CPU (`WQ_UNBOUND`).
    pub fn new_unbound() -> Builder {
        Builder {
            flags: bindings::wq_flags_WQ_UNBOUND,
            max_active: 0,
            one_of_many: false,
        }
    }

    /// Waits until everything that was queued before the call has run. May sleep; not in one of the
    /// queue's own work items.
    pub fn flush(&self) {
        // SAFETY: By the type invariants the queue is valid.
        unsafe { bindings::__flush_workqueue(self.queue.as_ptr()) };
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariants the queue is valid for as long as `self` is.
        unsafe { Queue::from_raw(self.queue.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the queue is valid, and nobody else destroys it.
        unsafe { bindings::destroy_workqueue(self.queue.as_ptr()) };
    }
}
