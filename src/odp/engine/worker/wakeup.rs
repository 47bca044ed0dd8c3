// SPDX-License-Identifier: GPL-2.0

//! When the worker begins.

use super::{
    Worker,
    BATCH, //
};
use crate::odp::engine::{
    alarm::{
        Alarm,
        AlarmOps, //
    },
    queues::Queues, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        lock::spinlock::SpinLockGuard,
        Arc,
        ArcBorrow, //
    },
    time::Delta, //
};

// SAFETY: The prototype is that of helpers.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_mmap_is_locked(mm: *mut bindings::mm_struct) -> bool;
}

/// How long after a request the worker is woken up, where nothing else is chosen.
///
/// Longer than most calls take. What runs beside a call costs the call more than a range that goes
/// some milliseconds later costs anybody: whoever wants it gone waits, and who waits does not wait
/// for this. While requests keep coming it may be 65 ms, as the alarm has it.
pub(crate) const WAKEUP_DELAY: Delta = Delta::from_micros(500);

/// How soon a worker does what it is asked for.
pub struct WakeupConfig {
    /// About how long after a request it is woken up, see
    /// [`Config::wakeup_delay`](crate::Config::wakeup_delay): zero for at once, and at most
    /// [`WakeupConfig::MAX_WAKEUP_DELAY`].
    pub wakeup_delay: Delta,
    /// Whether its grace periods are expedited (`synchronize_srcu_expedited()`).
    pub expedited: bool,
    /// The address space that requests come from, if it is one: the worker is woken up a little
    /// later while its `mmap_lock` is taken. It pins the `mm_struct`.
    pub mm: Option<ARef<Mm>>,
}

impl WakeupConfig {
    /// The longest wakeup delay.
    pub const MAX_WAKEUP_DELAY: Delta = Delta::from_millis(100);

    /// Says whether a worker can keep to it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the wakeup delay is not what it has to be.
    pub(crate) fn check(&self) -> Result {
        if self.wakeup_delay.is_negative() || self.wakeup_delay > Self::MAX_WAKEUP_DELAY {
            return Err(EINVAL);
        }
        Ok(())
    }
}

impl Default for WakeupConfig {
    fn default() -> Self {
        Self {
            wakeup_delay: WAKEUP_DELAY,
            expedited: false,
            mm: None,
        }
    }
}

impl Worker {
    /// Has the next batch taken, if there is anything for one, unless the alarm is set for that.
    /// While somebody waits it is not, see [`Worker::wait`].
    pub(super) fn go_on(this: ArcBorrow<'_, Self>, mut queues: SpinLockGuard<'_, Queues>) {
        let kick = queues.should_batch();
        drop(queues);
        if kick {
            Self::kick_batch(this);
        }
    }

    pub(super) fn kick_batch(this: ArcBorrow<'_, Self>) {
        this.stats.kicks.inc();
        // The flag says that it is neither queued nor going to look again.
        let _ = this.process().enqueue::<Arc<Self>, BATCH>(this.into());
    }

    pub(super) const ALARM_OPS: AlarmOps = AlarmOps {
        count: Self::alarm_count,
        busy: Self::alarm_busy,
        ring: Self::alarm_rings,
    };

    /// The worker that an alarm is for.
    ///
    /// # Safety
    ///
    /// It is that of a worker, which is valid for `'a`.
    unsafe fn of_alarm<'a>(alarm: NonNull<Alarm>) -> ArcBorrow<'a, Self> {
        // SAFETY: By the safety requirements it is the field of a valid worker.
        let this = unsafe { kernel::container_of!(alarm.as_ptr(), Self, alarm) };
        // An alarm says `self`, and what comes from a reference to it may not free the worker, as
        // the end of a work item may; what `new` exposed may.
        let this = core::ptr::with_exposed_provenance::<Self>(this.addr());
        // SAFETY: By the type invariants a worker lives in an Arc, the provenance of which was
        // exposed before any alarm was set; by the safety requirements it is valid for `'a`.
        unsafe { ArcBorrow::from_raw(this) }
    }

    /// How many requests there have been.
    ///
    /// # Safety
    ///
    /// Called by a worker's alarm.
    unsafe fn alarm_count(alarm: NonNull<Alarm>) -> u64 {
        // SAFETY: The worker is valid for as long as its alarm may go off.
        let this = unsafe { Self::of_alarm(alarm) };
        this.stats
            .queued
            .get()
            .wrapping_add(this.stats.changes.get())
    }

    /// Whether the address space is likely to be changing.
    ///
    /// # Safety
    ///
    /// Called by a worker's alarm.
    unsafe fn alarm_busy(alarm: NonNull<Alarm>) -> bool {
        // SAFETY: The worker is valid for as long as its alarm may go off.
        let this = unsafe { Self::of_alarm(alarm) };
        // SAFETY: The reference keeps the `mm_struct`; the function only looks at its lock.
        let locked = |mm: &Mm| unsafe { odp_mmap_is_locked(mm.as_raw()) };
        this.mm.as_deref().is_some_and(locked)
    }

    /// Has the next batch taken.
    ///
    /// # Safety
    ///
    /// Called by a worker's alarm.
    unsafe fn alarm_rings(alarm: NonNull<Alarm>) {
        // SAFETY: The worker is valid for as long as its alarm may go off.
        Self::kick_batch(unsafe { Self::of_alarm(alarm) });
    }

    /// Has the worker begin when the caller's system call is likely to be over; at once, if
    /// somebody waits.
    pub(super) fn wake(this: ArcBorrow<'_, Self>, queues: &Queues) {
        if queues.waiters > 0 {
            Self::kick_batch(this);
        } else {
            this.alarm.set();
        }
    }

    /// Has the worker begin if it was going to anyway, only later. May sleep for a moment.
    pub(super) fn hurry(this: ArcBorrow<'_, Self>) {
        if this.alarm.cancel() {
            Self::kick_batch(this);
        }
    }

    /// Has the next batch taken if the lanes are through with this one.
    pub(crate) fn kick_batch_if_idle(self: &Arc<Self>) {
        let kick = self.queues.lock().should_batch();
        if kick {
            Self::kick_batch(self.as_arc_borrow());
        }
    }
}
