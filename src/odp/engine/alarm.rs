// SPDX-License-Identifier: GPL-2.0

//! Waking somebody up a moment later.
//!
//! A worker that is woken up in the middle of a system call costs that call the wake-up, and on a
//! busy machine it runs in the call's place and time. So the callback sets an alarm instead, which
//! goes off when the call is likely to be over: when nothing has come for a while, and nobody has
//! the lock that such calls have. It does not wait for ever for that. To look in the middle of a
//! call costs the call an interrupt, so how long it waits at first is learnt from how long calls
//! have taken of late.
//!
//! ```text
//!           set()               all quiet, or asked too often
//!   Idle ----------> Set ----------------------------------------> ring() --> Idle
//!    ^                | '--- not yet: a little longer ----------'
//!    '--- cancel() ---'
//! ```

use core::ptr::NonNull;
use kernel::{
    bindings,
    impl_has_hr_timer,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        hrtimer::{
            HasHrTimer,
            HrTimer,
            HrTimerCallback,
            HrTimerCallbackContext,
            HrTimerRestart,
            RelativePinnedMode, //
        },
        Delta,
        Monotonic, //
    }, //
};

/// How often it waits on: half as long as what it learnt at the first time, and then twice as long
/// each time. That is at most 32 times as long.
const SNOOZES: u32 = 6;

/// How often it waits on only because somebody has the lock: at most eight times as long. A call
/// asks for everything at its beginning, and is then busy for a while; but who has the lock all the
/// time is not the one who is waited for.
const PATIENCE: u32 = 4;

/// By how much the first wait may be shorter, or longer, than what was chosen.
const FACTOR: i64 = 4;

/// What an alarm is for.
///
/// What is called when it goes off is called in a hardware interrupt, or on PREEMPT_RT in the
/// thread of a softirq.
pub(crate) struct AlarmOps {
    /// How much has come so far. When it goes off, or where the alarm is set.
    pub(crate) count: unsafe fn(NonNull<Alarm>) -> u64,
    /// Whether a call is likely to be going on. When it goes off.
    pub(crate) busy: unsafe fn(NonNull<Alarm>) -> bool,
    /// Wakes up whoever it is for. When it goes off, or where the alarm is set without a delay.
    pub(crate) ring: unsafe fn(NonNull<Alarm>),
}

/// An alarm, embedded in what it is for.
///
/// # Invariants
///
/// `ops` may be called with this alarm until it is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Alarm {
    #[pin]
    timer: HrTimer<Self>,
    /// What it was made with: zero for at once.
    delay: Delta,
    /// How long it waits at first, in nanoseconds: as calls have taken of late, between a fraction
    /// and a multiple of `delay`.
    learnt: Atomic<i64>,
    ops: &'static AlarmOps,
    /// What `count` said when it was last looked at.
    seen: Atomic<u64>,
    snoozes: Atomic<u32>,
}

impl_has_hr_timer! {
    impl HasHrTimer<Self> for Alarm {
        mode: RelativePinnedMode<Monotonic>, field: self.timer
    }
}

impl Alarm {
    /// Makes an alarm that goes off after `delay`, or what it learns is better; if that is zero, at
    /// once.
    ///
    /// # Safety
    ///
    /// `ops` may be called with it until it is dropped.
    pub(crate) unsafe fn new(delay: Delta, ops: &'static AlarmOps) -> impl PinInit<Self> {
        // INVARIANT: By the safety requirements.
        pin_init!(Self {
            timer <- HrTimer::new(),
            delay,
            learnt: Atomic::new(delay.as_nanos()),
            ops,
            seen: Atomic::new(0),
            snoozes: Atomic::new(0),
        })
    }

    /// Sets it, if it is not set and not about to ring: the caller knows.
    ///
    /// Context: any process context, with the caller's locks held; does not sleep.
    pub(crate) fn set(&self) {
        if self.delay.is_zero() {
            self.ring();
            return;
        }
        self.seen.store(self.count(), Relaxed);
        self.snoozes.store(0, Relaxed);
        let first = Delta::from_nanos(self.learnt.load(Relaxed));
        // SAFETY: The reference is a valid pointer; the timer is not used after `self`, because
        // `drop` cancels it.
        unsafe { <Self as HasHrTimer<Self>>::start(self, first) };
    }

    /// Makes it idle, and says whether it had been set and has not rung. Waits for a ring that is
    /// going on, on PREEMPT_RT with a lock that sleeps.
    pub(crate) fn cancel(&self) -> bool {
        // SAFETY: The reference is a valid pointer.
        let timer = unsafe { <Self as HasHrTimer<Self>>::c_timer_ptr(self) }.cast_mut();
        // SAFETY: The timer is initialised; it is not called with a lock that the callback takes.
        unsafe { bindings::hrtimer_cancel(timer) != 0 }
    }

    fn count(&self) -> u64 {
        // SAFETY: By the type invariants `ops` may be called with this alarm, which has not been
        // dropped.
        unsafe { (self.ops.count)(NonNull::from(self)) }
    }

    /// Has the next wait begin a little shorter, or half as long again, by whether this one was
    /// enough.
    ///
    /// So about one call in twelve is looked at while it goes on: that costs it an interrupt.
    fn learn(&self, enough: bool) {
        let first = self.learnt.load(Relaxed);
        // OVERFLOW: Neither is more than half of the largest number that there is: see the bounds.
        let next = if enough {
            first - first / 32
        } else {
            first + first / 2
        };
        let delay = self.delay.as_nanos();
        let (shortest, longest) = (delay / FACTOR, delay.saturating_mul(FACTOR));
        self.learnt.store(next.clamp(shortest, longest), Relaxed);
    }

    fn ring(&self) {
        // SAFETY: By the type invariants `ops` may be called with this alarm, which has not been
        // dropped.
        unsafe { (self.ops.ring)(NonNull::from(self)) };
    }
}

impl HrTimerCallback for Alarm {
    type Pointer<'a> = Pin<&'a Self>;

    fn run(this: Pin<&Self>, mut context: HrTimerCallbackContext<'_, Self>) -> HrTimerRestart {
        let count = this.count();
        let snoozes = this.snoozes.load(Relaxed);
        // SAFETY: By the type invariants `ops` may be called with this alarm, which is not dropped
        // while its timer's function runs: `drop` waits for that.
        let busy = || unsafe { (this.ops.busy)(NonNull::from(this.get_ref())) };
        let quiet = count == this.seen.load(Relaxed) && (snoozes >= PATIENCE || !busy());
        if snoozes == 0 {
            this.learn(quiet);
        }
        if quiet || snoozes == SNOOZES {
            this.ring();
            return HrTimerRestart::NoRestart;
        }
        this.seen.store(count, Relaxed);
        this.snoozes.store(snoozes.wrapping_add(1), Relaxed);
        // OVERFLOW: Saturates; and a delay is far from the largest that there is.
        let learnt = this.learnt.load(Relaxed);
        let next = learnt.saturating_mul(1i64 << snoozes.min(SNOOZES)) / 2;
        context.forward_now(Delta::from_nanos(next));
        HrTimerRestart::Restart
    }
}

#[pinned_drop]
impl PinnedDrop for Alarm {
    fn drop(self: Pin<&mut Self>) {
        self.cancel();
    }
}
