// SPDX-License-Identifier: GPL-2.0

//! Sleeping with a lock let go of, until somebody says that things have changed.
//!
//! [`CondVar`](kernel::sync::CondVar) does that, too, but its sleep ends with no signal or with
//! any: there is none that ends when the task is killed. This is meant to go once that is in the
//! `kernel` crate.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h)

use core::{
    marker::PhantomPinned,
    ptr, //
};
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_long, //
    },
    prelude::*,
    sync::{
        lock::{
            Backend,
            Guard, //
        },
        LockClassKey, //
    },
    task::TASK_NORMAL,
    types::Opaque, //
};

// The prototype is that of helpers.h, and memory safety rests on no requirement of the function.
unsafe extern "C" {
    safe fn odp_fatal_signal_pending() -> bool;
}

/// Which signals end a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// None.
    Uninterruptible,
    /// One that kills the task.
    Killable,
}

impl Sleep {
    /// The state of a task that sleeps so.
    fn state(self) -> c_int {
        let state = match self {
            Sleep::Uninterruptible => bindings::TASK_UNINTERRUPTIBLE,
            Sleep::Killable => bindings::TASK_KILLABLE,
        };
        // CAST: A few bits.
        state as c_int
    }
}

/// Whether the current task has been killed, so that it is going to do nothing in user space any
/// more.
pub(crate) fn is_killed() -> bool {
    odp_fatal_signal_pending()
}

/// The tasks that wait for a change of what a lock guards.
///
/// # Invariants
///
/// `head` is initialised.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
    /// It is a list, whose entries point to it.
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: The functions of a `wait_queue_head` may be called in any task.
unsafe impl Send for WaitQueue {}
// SAFETY: Several tasks may call those functions at the same time: a `wait_queue_head` has a lock
// of its own.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// Makes one that nobody waits in; `name` and `key` are those of its lock.
    pub(crate) fn new(name: &'static CStr, key: Pin<&'static LockClassKey>) -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: That is what is called here.
            //
            // SAFETY: `slot` is valid for the call, `name` and `key` are for ever.
            head <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_waitqueue_head(slot, name.as_char_ptr(), key.as_ptr())
            }),
            _pin: PhantomPinned,
        })
    }

    /// Lets go of the lock, sleeps until [`WaitQueue::notify_all`] is called, and takes it again.
    /// Who calls that with the lock held, or after having had it, is not missed.
    ///
    /// The sleep may also end because of a signal, see [`is_killed`], after `left` jiffies, or for
    /// no reason. What it took is taken off `left`, unless that is `MAX_SCHEDULE_TIMEOUT`, for no
    /// limit.
    ///
    /// Context: may sleep, with no lock held but this one.
    pub(crate) fn wait<'a, T: ?Sized, B: Backend>(
        &self,
        guard: Guard<'a, T, B>,
        sleep: Sleep,
        left: &mut c_long,
    ) -> Guard<'a, T, B> {
        let lock = guard.lock_ref();
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: The memory is the entry's, and stays where it is up to the end of this function.
        unsafe { bindings::init_wait(entry.get()) };
        // SAFETY: The queue is initialised by the type invariants, the entry by the call above. The
        // entry is taken out again below, before it goes, and nothing in between can unwind or
        // return.
        unsafe { bindings::prepare_to_wait(self.head.get(), entry.get(), sleep.state()) };
        drop(guard);
        // SAFETY: The caller may sleep, with no lock held but the one that has just been let go of.
        *left = unsafe { bindings::schedule_timeout(*left) };
        // SAFETY: The entry is that of the call above, in the same queue.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        lock.lock()
    }

    /// Wakes up all that sleep. Context: any, with the lock held or not.
    pub(crate) fn notify_all(&self) {
        // SAFETY: By the type invariants the queue is initialised.
        unsafe { bindings::__wake_up(self.head.get(), TASK_NORMAL, 0, ptr::null_mut()) };
    }
}
