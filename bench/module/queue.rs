// SPDX-License-Identifier: GPL-2.0

//! The queue of the arms that have been written by hand: like the library's.

use core::ptr;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    workqueue::Queue, //
};
use odp::owned_queue::OwnedQueue;

static QUEUE: Atomic<*mut OwnedQueue> = Atomic::new(ptr::null_mut());

/// The queue while the module is loaded. Goes after the device, so that work functions are over
/// before their text goes.
pub(crate) struct Handle(());

impl Handle {
    /// Makes it.
    pub(crate) fn new() -> Result<Self> {
        let queue = OwnedQueue::new_unbound()
            .mem_reclaim()
            .max_active(512)
            .build(c"odp_bench_arms")?;
        QUEUE.store(KBox::into_raw(KBox::new(queue, GFP_KERNEL)?), Release);
        Ok(Self(()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: It was made by `new`, once, and the module is on its way out.
        drop(unsafe { KBox::from_raw(QUEUE.xchg(ptr::null_mut(), Relaxed)) });
    }
}

/// The queue.
pub(crate) fn queue() -> &'static Queue {
    // SAFETY: Only users of the device come here, and it goes before the queue.
    unsafe { &*QUEUE.load(Acquire) }
}
