// SPDX-License-Identifier: GPL-2.0

//! What an object that can be retired embeds.
//!
//! Lock order: a worker's lists, then the lock of a request. Both are taken with nothing else
//! inside and never across a sleep, so a request can be retired wherever a spinlock may be taken.
//! The lock of a request is for what is noted together with an event; the state itself has none.

use super::{
    latency::Moment,
    state::{
        Effect,
        State,
        Step, //
    }, //
};
use core::{
    cell::UnsafeCell,
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        SpinLock, //
    }, //
};

/// A request to take an object out of service, embedded in the object.
///
/// Laid out like `struct odp_request` of `include/odp.h`.
///
/// # Invariants
///
/// - `word` is a packed [`State`]. It is written by compare-and-exchange only, and what is written
///   is the state after an event in the state that was there.
/// - `link` belongs to the list that the request is on. Between the event that answers
///   [`Effect::Queue`] or [`Effect::Release`] and the next list it belongs to whoever got that
///   answer.
///
/// The name is that of the C struct, because functions that are called through pointers are checked
/// by the names of their arguments' types (kCFI). In Rust it is called [`Request`].
#[allow(non_camel_case_types)]
#[repr(C)]
#[pin_data]
pub struct odp_request {
    #[pin]
    lock: SpinLock<()>,
    word: Atomic<u32>,
    pub(crate) link: UnsafeCell<Link>,
    /// The worker that it belongs to, from its first use on: compared, never followed.
    worker: Atomic<*mut c_void>,
}

pub use odp_request as Request;

/// Makes the lock of a request.
///
/// Not inlined: an initialiser is compiled into the module that uses it, and would give the lock a
/// name in that module's text, and lockdep a class with as many names as there are users.
#[inline(never)]
fn new_lock() -> impl PinInit<SpinLock<()>> {
    new_spinlock!((), "odp::Request")
}

/// A value that its owner's invariants give to one task at a time.
pub(crate) struct Guarded<V>(UnsafeCell<V>);

// SAFETY: Shared access to it is nothing but a pointer; who uses that has the value to itself, and
// hands it to others in turn.
unsafe impl<V: Send> Sync for Guarded<V> {}

impl<V> Guarded<V> {
    pub(crate) const fn new(value: V) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value.
    ///
    /// # Safety
    ///
    /// By the invariants of its owner nobody else accesses it while the answer is used.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn get(&self) -> &mut V {
        // SAFETY: The cell's value is valid for as long as `self` is, and by the safety
        // requirements nobody else accesses it while the answer is used.
        unsafe { &mut *self.0.get() }
    }
}

/// A request's place in a list, and the flushes that wait for it.
#[repr(C)]
pub(crate) struct Link {
    pub(crate) next: *mut Request,
    pub(crate) tickets: Tickets,
    /// Whether its removal, which has just taken place, had to wait for invalidations. Not looked
    /// at but then.
    pub(crate) has_waited: bool,
    /// When it was queued, and then when its object was removed, if that is measured.
    pub(crate) since: Moment,
}

/// In which epoch of each kind a request was queued.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Tickets {
    pub(crate) removed: u8,
    pub(crate) released: u8,
}

// SAFETY: What is in a request is bound to no task. The pointer in its link is followed by whoever
// has the link, by the type invariants, and the pointer to its worker by nobody.
unsafe impl Send for Request {}
// SAFETY: Through a shared reference `word` and `worker` are accessed, which are atomic, `lock`,
// which is `Sync`, and `link`, which the type invariants give to one task at a time.
unsafe impl Sync for Request {}

impl Request {
    /// Makes the request of an object of level 1 that is in service.
    pub fn new() -> impl PinInit<Self> {
        Self::in_state(State::live())
    }

    /// Makes the request of an object of level 1 that may be retired before it is in the driver's
    /// table: its removal does not begin before [`Retirer::publish`](crate::Retirer::publish).
    pub fn building() -> impl PinInit<Self> {
        Self::in_state(State::building(0))
    }

    /// Makes a request in the given state, on no list.
    pub(crate) fn in_state(state: State) -> impl PinInit<Self> {
        pin_init!(Self {
            lock <- new_lock(),
            word: Atomic::new(state.pack()),
            link: UnsafeCell::new(Link {
                next: core::ptr::null_mut(),
                tickets: Tickets { removed: 0, released: 0 },
                has_waited: false,
                since: Moment::NONE,
            }),
            worker: Atomic::new(core::ptr::null_mut()),
        })
    }

    /// The state at some moment during the call.
    ///
    /// Takes no lock, and may be out of date at once. Where a decision rests on it, a lock must be
    /// held that is taken after each change which matters: for commits and accesses that is the
    /// user lock, which the zap takes after the mark.
    pub(crate) fn state(&self) -> State {
        State::unpack(self.word.load(Acquire))
    }

    /// Whether the request belongs to `worker`; one that belongs to none does from now on.
    pub(crate) fn bind(&self, worker: *mut c_void) -> bool {
        let bound = self.worker.load(Relaxed);
        if bound.is_null() {
            // If somebody else was faster, what counts is for whom.
            return match self.worker.cmpxchg(bound, worker, Relaxed) {
                Ok(_) => true,
                Err(bound) => bound == worker,
            };
        }
        bound == worker
    }

    /// Lets the worker know whether the removal of the object's notifier had to wait for
    /// invalidations.
    ///
    /// # Safety
    ///
    /// Called in [`RequestOps::remove`](super::callbacks::RequestOps::remove) for this request.
    pub(crate) unsafe fn note_wait(&self, has_waited: bool) {
        // SAFETY: By the safety requirements the worker is calling `remove`. So it has taken the
        // request from a list, by the type invariants the link is its own, and it leaves it alone
        // until that returns.
        unsafe { (*self.link.get()).has_waited = has_waited };
    }

    /// The link of a request.
    ///
    /// # Safety
    ///
    /// `request` is valid for `'a`, and by the type invariants its link belongs to the caller, or
    /// to a list of the caller's, for as long.
    pub(crate) unsafe fn link<'a>(request: NonNull<Self>) -> &'a mut Link {
        // SAFETY: By the safety requirements it is valid.
        let link = unsafe { request.as_ref() }.link.get();
        // SAFETY: By the safety requirements nobody else accesses it.
        unsafe { &mut *link }
    }

    /// Applies `event`. The caller does what the effect asks for.
    ///
    /// What was done before an event is seen by who applies a later one, or reads the state.
    ///
    /// The object is not accessed after the event: what kept it for the caller may have ended with
    /// that, as a hold does. A try that fails is no event, and has ended nothing.
    #[must_use]
    pub(crate) fn apply(&self, event: Step) -> Effect {
        self.apply_from(self.word.load(Relaxed), event)
    }

    /// Applies `event`, where `word` was there a moment ago, or is a guess.
    fn apply_from(&self, mut word: u32, event: Step) -> Effect {
        loop {
            let (state, effect) = State::unpack(word).step(event);
            // INVARIANT: It is written if `word` is what is there.
            match self.word.cmpxchg(word, state.pack(), Full) {
                Ok(_) => return effect,
                Err(other) => word = other,
            }
        }
    }

    /// Applies [`Step::Retire`], as [`Request::apply`] does; in fewer instructions where nobody
    /// holds the object or has asked for it to change. This is in callbacks.
    #[must_use]
    #[inline(always)]
    pub(crate) fn retire(&self) -> Effect {
        const LIVE: State = State::live();
        const RETIRED: (State, Effect) = LIVE.step(Step::Retire);

        // INVARIANT: It is written if `LIVE` is what is there.
        match self.word.cmpxchg(LIVE.pack(), RETIRED.0.pack(), Full) {
            Ok(_) => RETIRED.1,
            Err(word) => self.apply_from(word, Step::Retire),
        }
    }

    /// Applies `event`, and `f` to the effect with the lock held: no other event that comes with
    /// such a function is applied meanwhile. Others may be, before `f`: it uses nothing but the
    /// effect, and what is accessed with the lock held. The lock does not keep the object, the
    /// caller does. `f` takes no lock.
    pub(crate) fn apply_with<R>(&self, event: Step, f: impl FnOnce(Effect) -> R) -> R {
        let _lock = self.lock.lock();
        f(self.apply(event))
    }

    /// Runs `f` with the lock held: no event that comes with a function is applied meanwhile. `f`
    /// takes no lock.
    pub(crate) fn locked<R>(&self, f: impl FnOnce() -> R) -> R {
        let _lock = self.lock.lock();
        f()
    }
}
