// SPDX-License-Identifier: GPL-2.0

//! What a test has other threads do.

use crate::tally::Tally;
use kernel::{
    bindings,
    prelude::*,
    sync::{
        global_lock,
        Arc, //
    }, //
};
use odp::owned_queue::OwnedQueue;

global_lock! {
    // SAFETY: `Threads::init` initializes it, and the module calls that before a suite runs.
    unsafe(uninit) static QUEUE: Mutex<Option<OwnedQueue>> = None;
}

/// Where the threads come from, and what the module has: dropping it waits until all have ended, so
/// that none is in the module's text any more.
pub(crate) struct Threads(());

impl Threads {
    /// Makes it. There is one, made once.
    pub(crate) fn init() -> Result<Self> {
        // SAFETY: The module's `init` calls this, once.
        unsafe { QUEUE.init() };
        *QUEUE.lock() = Some(OwnedQueue::new_unbound().build(c"odp_kunit")?);
        Ok(Self(()))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let queue = QUEUE.lock().take();
        // Without the lock: threads may still begin others.
        drop(queue);
    }
}

/// A thread of a test, which the end of the test waits for.
///
/// What the thread owns it gives up before it counts as ended. So whatever a test fails at, nothing
/// of it is in use or registered when the next one begins, unless the thread hangs.
pub(crate) struct Thread {
    stop: Arc<Tally>,
    ended: Arc<Tally>,
}

impl Thread {
    /// Has another thread run `f`.
    pub(crate) fn spawn(f: impl FnOnce() + Send + 'static) -> Result<Self> {
        Self::with(|_| f())
    }

    /// Has another thread run `f` until `f` finds the count that it is given to be more than zero.
    pub(crate) fn with(f: impl FnOnce(&Tally) + Send + 'static) -> Result<Self> {
        let (stop, ended) = (Tally::new("stop")?, Tally::new("ended")?);
        let queue = QUEUE.lock();
        queue.as_ref().ok_or(ESHUTDOWN)?.try_spawn(GFP_KERNEL, {
            let (stop, ended) = (stop.clone(), ended.clone());
            move || {
                f(&stop);
                ended.inc();
            }
        })?;
        Ok(Self { stop, ended })
    }

    /// Waits until it has ended by itself.
    pub(crate) fn join(&self) -> Result {
        self.ended.wait_for(1)
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get() != 0
    }

    /// Stops it, and waits until it has ended.
    pub(crate) fn stop(&self) -> Result {
        self.stop.inc();
        self.join()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // If it hangs, that has been said; the module is not unloaded before it has ended.
        let _ = self.stop();
    }
}

/// Lets others run, also in a kernel that does not preempt.
pub(crate) fn give_way() {
    // SAFETY: May be called by any task that may sleep.
    unsafe { bindings::schedule() };
}
