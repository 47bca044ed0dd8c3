// SPDX-License-Identifier: GPL-2.0

//! What exists once, from the loading of the module to its unloading.

use crate::owned_queue::OwnedQueue;
use core::ptr;
use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Relaxed,
        Release, //
    },
    workqueue::Queue, //
};

/// The queue that all workers run on, and the directory their counters are in.
///
/// The order of the fields is that of their destruction: the queue is drained first.
pub(crate) struct Library {
    queue: OwnedQueue,
    debugfs: Dir,
}

/// The library while the module is loaded.
static LIBRARY: Atomic<*mut Library> = Atomic::new(ptr::null_mut());

/// How many work items of all mirrors run at the same time. A removal may sleep for long, and must
/// not keep the mirrors of other processes from theirs.
const MAX_ACTIVE: u16 = 2048;

impl Library {
    /// Sets it up.
    pub(crate) fn init() -> Result<Handle> {
        let library = KBox::new(
            Self {
                queue: OwnedQueue::new_unbound()
                    .mem_reclaim()
                    .max_active(MAX_ACTIVE)
                    .build(c"odp")?,
                debugfs: Dir::new(c"odp"),
            },
            GFP_KERNEL,
        )?;
        LIBRARY.store(KBox::into_raw(library), Release);
        Ok(Handle(()))
    }

    pub(crate) fn get() -> &'static Self {
        // SAFETY: Everybody who gets here does so from this module, whose `init` has set the
        // pointer before it published anything, or from one that uses its symbols. In both cases the
        // module cannot be unloaded meanwhile; only that ends the life of what the pointer points to.
        unsafe { &*LIBRARY.load(Acquire) }
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) fn debugfs(&self) -> &Dir {
        &self.debugfs
    }
}

/// Tears the library down when it is dropped: the module has this.
pub(crate) struct Handle(());

impl Drop for Handle {
    fn drop(&mut self) {
        let library = LIBRARY.xchg(ptr::null_mut(), Relaxed);
        // SAFETY: It was set by `init`, which made the only handle. The module is being unloaded, so
        // that nobody uses it; workers hold a module of a user, which holds this one.
        drop(unsafe { KBox::from_raw(library) });
    }
}
