// SPDX-License-Identifier: GPL-2.0

//! The worker: what happens to a request after the callback.
//!
//! One for each mirror. It takes what has been queued as one batch and, for the whole batch,
//!
//! 1. *takes* what there is. What is not to go but to change is left to a work item of its own, so
//!    that nothing waits for it: that one *replaces* it, see
//!    [`ChangeOps`](crate::odp::engine::callbacks::ChangeOps), and what has been replaced goes on
//!    here, in a later batch;
//! 2. *unpublishes*: from then on no new lookup finds the objects;
//! 3. waits for *one* grace period of its SRCU domain, for lookups that had found them;
//! 4. *removes*: the blocking part, because a removal sleeps until the invalidations of the address
//!    space have ended. Where core mm removes in two steps, a mirror's worker begins with hundreds
//!    and then waits once. Otherwise several lanes remove at the same time, because all that sleep
//!    in the same phase wake up together; where removals sleep there are more lanes;
//! 5. *releases* each object once its last hold is completed. Nothing ever waits for a hold: where
//!    one is left, its end queues the release.
//!
//! While a batch is on its way, what comes in meanwhile waits and makes the next one. Nothing here
//! waits for another work item, so that a single thread (the queue's rescuer) is enough.
//!
//! It knows nothing of ranges, notifiers or Rust types: an object is a [`Request`] and a table of C
//! functions, [`RequestOps`].

mod batch;
mod change;
mod removal;
mod shutdown;
mod tracing;
mod waiting;
mod wakeup;

pub use self::wakeup::WakeupConfig;
pub(crate) use self::{
    shutdown::OwnedWorker,
    wakeup::WAKEUP_DELAY, //
};

use super::{
    alarm::Alarm,
    callbacks::{
        MirrorOps,
        RequestOps, //
    },
    library::Library,
    outcome::{
        Changed,
        Retire, //
    },
    process::Process,
    queues::Queues,
    request::Request,
    state::{
        Effect,
        Step, //
    },
    stats::Stats,
    trace::{
        self,
        Asked, //
    }, //
};
use crate::{
    may_block::MayBlock,
    wait_queue::WaitQueue, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    debugfs::File,
    mm::Mm,
    new_spinlock,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        aref::ARef,
        srcu::{
            self,
            new_srcu, //
        },
        Arc,
        ArcBorrow,
        SpinLock,
        Srcu, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work, //
    }, //
};

// SAFETY: The prototype is that of helpers.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    safe fn odp_srcu_size() -> usize;
}

/// The work behind one mirror.
///
/// # Invariants
///
/// - It lives in an [`Arc`], and the provenance of the allocation is exposed before its alarm is
///   set.
/// - A request that is on one of the lists of `queues`, or that a task has taken off one and
///   neither released nor put on another, is that of an object which `ops` is for, and `mirror` if
///   there is one. It is valid, and nobody but that task calls a function for it.
/// - For each request the functions are called in the order of the tables, each at most once in a
///   life but for those of [`ChangeOps`](super::callbacks::ChangeOps).
#[pin_data]
pub(crate) struct Worker {
    /// Set instead of queueing `batch`, where somebody is in the middle of something. The first
    /// field, so that it is cancelled before anything else goes.
    #[pin]
    alarm: Alarm,
    /// The address space that requests come from, where there is one.
    mm: Option<ARef<Mm>>,
    /// Where its work runs.
    process: Arc<Process>,
    #[pin]
    queues: SpinLock<Queues>,
    /// Notified when `queues` has changed for somebody who waits.
    #[pin]
    progress: WaitQueue,
    /// That of its file in debugfs.
    name: CString,
    #[pin]
    srcu: Srcu,
    /// As much memory as `srcu` has for the machine's CPUs, which `init_srcu_struct()` charges to
    /// nobody: user space decides how many of these there are.
    _charge: KVVec<u8>,
    #[pin]
    batch: Work<Worker, BATCH>,
    #[pin]
    change: Work<Worker, CHANGE>,
    #[pin]
    release: Work<Worker, RELEASE>,
    #[pin]
    stats: File<Stats>,
    ops: &'static RequestOps,
    /// Where the requests are those of a mirror's ranges.
    mirror: Option<&'static MirrorOps>,
    /// Whether grace periods are expedited.
    expedited: bool,
}

const BATCH: u64 = 0;
const RELEASE: u64 = 1;
const CHANGE: u64 = 2;

impl_has_work! {
    impl HasWork<Self, 0> for Worker { self.batch }
    impl HasWork<Self, 1> for Worker { self.release }
    impl HasWork<Self, 2> for Worker { self.change }
}

impl Worker {
    fn new(
        name: &CStr,
        ops: &'static RequestOps,
        mirror: Option<&'static MirrorOps>,
        wakeup: WakeupConfig,
        process: Arc<Process>,
    ) -> Result<Arc<Self>> {
        let shown = CString::try_from(name)?;
        Arc::pin_init(
            try_pin_init!(Self {
                // SAFETY: `ALARM_OPS` want the alarm of a worker that has not been dropped. This
                // one is, and as the first field it is dropped before the rest of the worker.
                alarm <- unsafe { Alarm::new(wakeup.wakeup_delay, &Self::ALARM_OPS) },
                mm: wakeup.mm,
                process,
                queues <- new_spinlock!(Queues::new(), "odp::Worker::queues"),
                progress <- WaitQueue::new(c"odp::Worker::progress", static_lock_class!()),
                name: shown,
                srcu <- new_srcu!("odp::Worker::srcu"),
                _charge: KVVec::with_capacity(odp_srcu_size(), GFP_KERNEL_ACCOUNT)?,
                batch <- new_work!("odp::Worker::batch"),
                change <- new_work!("odp::Worker::change"),
                release <- new_work!("odp::Worker::release"),
                stats <- Library::get().debugfs().read_callback_file(
                    name,
                    Stats::new(),
                    &|stats: &Stats, f: &mut kernel::fmt::Formatter<'_>| stats.write(f),
                ),
                ops,
                mirror,
                expedited: wakeup.expedited,
            }),
            GFP_KERNEL_ACCOUNT,
        )
        // INVARIANT: It is in an Arc, which nobody else has seen yet. `of_alarm` relies on this.
        .inspect(|worker| {
            let _ = Arc::as_ptr(worker).expose_provenance();
        })
    }

    /// Where its work runs. May be dropped in a work item, but with another reference behind it:
    /// see [`ProcessUse`](super::process::ProcessUse).
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Enters a section that holds off the grace period of objects looked up in it. May sleep in
    /// it, but not wait for the worker.
    pub(crate) fn read_lock(&self) -> srcu::Guard<'_> {
        self.srcu.read_lock()
    }

    /// The SRCU domain, for C.
    pub(crate) fn srcu(&self) -> *mut bindings::srcu_struct {
        // CAST: `Srcu` is transparent over `srcu_struct`.
        core::ptr::from_ref(&self.srcu).cast_mut().cast()
    }

    /// Retires an object: exactly once, whoever else tries.
    ///
    /// Context: any process context, with any lock held but those of this library. Allocates
    /// nothing, does not sleep.
    ///
    /// # Safety
    ///
    /// `request` is that of an object which the worker's tables of functions are for, and belongs
    /// to no other worker. It is valid during the call, and if it is not retired yet, until
    /// `release` has been called for it. The worker is not shut down during the call.
    pub(crate) unsafe fn retire(this: ArcBorrow<'_, Self>, request: NonNull<Request>) -> Retire {
        // SAFETY: By the safety requirements it is valid during the call.
        let request_ref = unsafe { request.as_ref() };
        let all = || Asked::ALL;
        let mut queues = this.queues.lock();
        if queues.closed && request_ref.state().is_live() {
            return Retire::Closed;
        }
        let kick = match request_ref.retire() {
            Effect::Queue => {
                // INVARIANT: By the safety requirements it is that of an object which the tables
                // are for.
                //
                // SAFETY: This is the answer that is wanted; it had not been retired, so that by
                // the safety requirements it is valid until it is released.
                let kick = unsafe { queues.queue(request) };
                // SAFETY: It was queued just now, and the queues are still locked.
                unsafe { this.trace_request(&mut queues, request, true, all) };
                kick
            }
            Effect::Joined => {
                // SAFETY: It has not been released, and is not while the queues are locked.
                unsafe { this.trace_request(&mut queues, request, false, all) };
                false
            }
            Effect::Deferred => {
                // SAFETY: It has not been released, and is not while the queues are locked.
                unsafe { this.trace_request(&mut queues, request, false, all) };
                return Retire::Queued;
            }
            Effect::NotLive => return Retire::Replaced,
            _ => {
                drop(queues);
                this.stats.coalesced.inc();
                return Retire::Already;
            }
        };
        this.stats.queued.inc();
        if kick {
            Self::wake(this, &queues);
        }
        Retire::Queued
    }

    /// Asks for an object to be changed; `note` writes down how, with the request's lock held, if
    /// the request is accepted. `asked` says it for whoever traces.
    ///
    /// Context: as for [`Worker::retire`].
    ///
    /// # Safety
    ///
    /// As for [`Worker::retire`], and the worker has [`MirrorOps`].
    pub(crate) unsafe fn change(
        this: ArcBorrow<'_, Self>,
        request: NonNull<Request>,
        note: impl FnOnce(),
        asked: impl FnOnce() -> Asked,
    ) -> Changed {
        // SAFETY: By the safety requirements it is valid.
        let request_ref = unsafe { request.as_ref() };
        let mut queues = this.queues.lock();
        if queues.closed {
            return Changed::Closed;
        }
        let effect = request_ref.apply_with(Step::Change, |effect| {
            if matches!(effect, Effect::Queue | Effect::Deferred | Effect::Already) {
                note();
            }
            effect
        });
        let (changed, kick) = match effect {
            Effect::Queue => {
                // INVARIANT: By the safety requirements it is that of an object which the tables
                // are for.
                //
                // SAFETY: This is the answer that is wanted; it has not been retired, so that by
                // the safety requirements it is valid until it is released.
                let kick = unsafe { queues.queue(request) };
                // SAFETY: It was queued just now, and the queues are still locked.
                unsafe { this.trace_request(&mut queues, request, true, asked) };
                (Changed::Queued, kick)
            }
            Effect::Deferred | Effect::Already => {
                // SAFETY: It has not been released, and is not while the queues are locked.
                unsafe { this.trace_request(&mut queues, request, false, asked) };
                match effect {
                    Effect::Deferred => (Changed::Queued, false),
                    _ => (Changed::Joined, false),
                }
            }
            _ => return Changed::NotLive,
        };
        this.stats.changes.inc();
        if kick {
            Self::wake(this, &queues);
        }
        changed
    }

    /// Says that an object is in service now; hands it over if it was retired before that.
    ///
    /// # Safety
    ///
    /// As for [`Worker::retire`], but it may belong to another worker, and is left alone then. It is
    /// valid until it is released if it has been retired, too.
    pub(crate) unsafe fn publish(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        // SAFETY: By the safety requirements it is valid.
        let request_ref = unsafe { request.as_ref() };
        let mut queues = this.queues.lock();
        // Whoever waits for this looks again when the lock is free.
        this.insertion_over(&mut queues);
        if !this.owns(request_ref) || request_ref.apply(Step::Publish) != Effect::Queue {
            return;
        }
        if trace::request::is_on() {
            // SAFETY: `Effect::Queue` was answered, which gives the link to this task.
            unsafe { Self::note_queued(request) };
        }
        // Retired, or to be changed.
        let retired = !request_ref.state().is_live();
        // INVARIANT: By the safety requirements it is that of an object which the tables are for.
        //
        // SAFETY: `Effect::Queue` has just been answered, and by the safety requirements it is
        // valid until it is released.
        let kick = unsafe { queues.queue(request) };
        drop(queues);

        if retired {
            this.stats.queued.inc();
        }
        if kick {
            Self::kick_batch(this);
        }
    }

    /// Begins a long hold; says whether there is one now.
    pub(crate) fn hold(&self, request: &Request) -> bool {
        let held = self.owns(request) && request.apply(Step::Hold) == Effect::None;
        if held {
            self.stats.holds.inc();
        }
        held
    }

    /// Ends a long hold. Context: as for [`Worker::retire`].
    ///
    /// # Safety
    ///
    /// [`Worker::hold`] succeeded, and this is called once for that. The object is not used after
    /// this.
    pub(crate) unsafe fn put(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        this.stats.puts.inc();
        // SAFETY: By the safety requirements there is a hold, and nothing that is held is released.
        if unsafe { request.as_ref() }.apply(Step::Put) != Effect::Release {
            return;
        }
        // SAFETY: `Effect::Release` has just been answered.
        unsafe { Self::release_later(this, request) };
    }

    /// Whether `request` belongs to this worker; one that belongs to none does from now on.
    pub(crate) fn owns(&self, request: &Request) -> bool {
        request.bind(core::ptr::from_ref(self).cast_mut().cast())
    }

    /// Tells lockdep that [`Worker::synchronize`] may be about to be called.
    pub(crate) fn may_synchronize(&self, p: &mut MayBlock<'_>) {
        p.for_readers(&self.srcu);
    }

    /// Waits until nothing that was in a read section before the call is any more.
    pub(crate) fn synchronize(&self) {
        trace::grace_begin::emit(&self.subject());
        if self.expedited {
            self.srcu.synchronize_expedited();
        } else {
            self.srcu.synchronize();
        }
        trace::grace_end::emit(&self.subject());
        self.stats.grace_periods.inc();
    }
}
