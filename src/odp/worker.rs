// SPDX-License-Identifier: GPL-2.0

//! The worker: what happens to a request after the callback.
//!
//! One for each mirror. It takes what has been queued as one batch and, for the whole batch,
//!
//! 1. *takes* what there is. What is not to go but to change is left to a work item of its own, so
//!    that nothing waits for it: that one *replaces* it, see
//!    [`ChangeOps`](super::callbacks::ChangeOps), and what has been replaced goes on here, in a later batch;
//! 2. *unpublishes*: from then on no new lookup finds the objects;
//! 3. waits for *one* grace period of its SRCU domain, for lookups that had found them;
//! 4. *removes*: the blocking part. Several lanes do this at the same time, because a removal
//!    sleeps until the invalidations of the address space have ended, and all that sleep in the
//!    same phase wake up together; where removals sleep there are more lanes;
//! 5. *releases* each object once its last hold is gone. Nothing ever waits for a hold: where one
//!    is left, its end queues the release.
//!
//! While a batch is on its way, what comes in meanwhile waits and makes the next one. Nothing here
//! waits for another work item, so that a single thread (the queue's rescuer) is enough.
//!
//! It knows nothing of ranges, notifiers or Rust types: an object is a [`Request`] and a table of C
//! functions, [`RequestOps`].

use super::{
    alarm::{
        Alarm,
        AlarmOps, //
    },
    answer::{
        Changed,
        Retire, //
    },
    callbacks::{
        MirrorOps,
        RequestOps, //
    },
    fifo::Fifo,
    gone::Gone,
    lane::Lane,
    library::Library,
    lists::Lists,
    process_queue::{
        ProcessQueue,
        QueueUse, //
    },
    request::{
        Request,
        Tickets, //
    },
    state::{
        Effect,
        Event, //
    },
    stats::{
        Snapshot,
        Stats, //
    }, //
};
use crate::{
    may_block::{
        MayBlock,
        ReleaseScope,
        WorkerScope, //
    },
    module_ref::ModuleRef,
    wait_queue::{
        self,
        Sleep,
        WaitQueue, //
    }, //
};
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    debugfs::File,
    ffi::c_long,
    mm::Mm,
    new_spinlock,
    prelude::*,
    static_lock_class,
    str::CString,
    sync::{
        aref::ARef,
        lock::spinlock::SpinLockGuard,
        srcu::{
            self,
            new_srcu, //
        },
        Arc,
        ArcBorrow,
        SpinLock,
        Srcu, //
    },
    task::MAX_SCHEDULE_TIMEOUT,
    time::{
        msecs_to_jiffies,
        Delta,
        Msecs, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        HasWork,
        Work,
        WorkItem, //
    }, //
};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// No callback, lookup or access is left. Takes as long as the address space is being
    /// invalidated and lookups last; and as the driver's releases do, which are not waited for, but
    /// may be in the way.
    Removed,
    /// Released, too. Takes as long as the slowest hold: user space can make that long.
    Released,
}

// SAFETY: The prototype is that of helpers.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_mmap_is_locked(mm: *mut bindings::mm_struct) -> bool;
    safe fn odp_srcu_size() -> usize;
}

/// How long a shutdown waits before it says for what, in milliseconds.
const SILENT: Msecs = 10_000;

/// The work behind one mirror.
#[pin_data]
pub(crate) struct Worker {
    /// Set instead of queueing `batch`, where somebody is in the middle of something. The first field, so that
    /// it is cancelled before anything else goes.
    #[pin]
    alarm: Alarm,
    /// The address space that requests come from, where there is one.
    mm: Option<ARef<Mm>>,
    /// Where its work runs.
    queue: Arc<ProcessQueue>,
    #[pin]
    lists: SpinLock<Lists>,
    /// Notified when `lists` has changed for somebody who waits.
    #[pin]
    progress: WaitQueue,
    /// That of its file in debugfs.
    name: CString,
    #[pin]
    srcu: Srcu,
    /// As much memory as `srcu` has for the machine's CPUs, which `init_srcu_struct()` charges to nobody: user
    /// space decides how many of these there are.
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

/// How long after a request the worker is woken up, where nothing else is chosen.
pub(super) const LINGER: Delta = Delta::from_micros(50);

/// How soon a worker does what it is asked for.
pub struct Pace {
    /// About how long after a request it is woken up, see [`Config::linger`](super::Config::linger): zero for
    /// at once, and at most [`Pace::MAX_LINGER`].
    pub linger: Delta,
    /// Whether its grace periods are expedited (`synchronize_srcu_expedited()`).
    pub expedited: bool,
    /// The address space that requests come from, if it is one: the worker is woken up a little later while
    /// its `mmap_lock` is taken. It pins the `mm_struct`.
    pub mm: Option<ARef<Mm>>,
}

impl Pace {
    /// The longest time that a worker may linger.
    pub const MAX_LINGER: Delta = Delta::from_millis(100);

    /// Says whether a worker can keep to it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the time to linger is not what it has to be.
    pub(super) fn check(&self) -> Result {
        if self.linger.is_negative() || self.linger > Self::MAX_LINGER {
            return Err(EINVAL);
        }
        Ok(())
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            linger: LINGER,
            expedited: false,
            mm: None,
        }
    }
}

const BATCH: u64 = 0;
const RELEASE: u64 = 1;
const CHANGE: u64 = 2;

/// How many objects a lane takes at a time at most, where removals do not wait.
const MOST_AT_A_TIME: usize = 16;

/// How many lanes a batch begins with, besides its own. There are more only where removals wait for
/// invalidations, and then the process's queue says how many.
const FEW_LANES: usize = 7;

impl_has_work! {
    impl HasWork<Self, 0> for Worker { self.batch }
    impl HasWork<Self, 1> for Worker { self.release }
    impl HasWork<Self, 2> for Worker { self.change }
}

impl WorkItem<BATCH> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some((pending, mut leaving)) = this.take_batch() {
            let (retired, changing) = this.take(pending);
            let left = changing.len();
            if !changing.is_empty() {
                Self::change_later(this.as_arc_borrow(), changing);
            }
            leaving.append(retired);
            this.expire(&leaving);
            let more = leaving.len().saturating_sub(1);
            {
                let mut lists = this.lists.lock();
                // What is to be changed does not come to a lane.
                lists.in_flight = lists.in_flight.saturating_sub(left);
                lists.removing.append(leaving);
            }
            Self::widen(this.as_arc_borrow(), more, FEW_LANES);
            Self::lane(this.as_arc_borrow());
        }
    }
}

impl WorkItem<CHANGE> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let changing = {
                let mut lists = this.lists.lock();
                let changing = lists.changing.take();
                lists.replacing = !changing.is_empty();
                changing
            };
            if changing.is_empty() {
                return;
            }
            let replaced = Self::replace(this.as_arc_borrow(), changing);
            let mut lists = this.lists.lock();
            lists.replaced.append(replaced);
            Self::go_on(this.as_arc_borrow(), lists);
        }
    }
}

impl WorkItem<RELEASE> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut gone = Gone::default();
        loop {
            let mut lists = this.settle_gone(&gone);
            let Some(request) = lists.ready.pop() else {
                lists.releasing = false;
                return;
            };
            drop(lists);
            gone = Gone::default();
            // SAFETY: It was on the list of those that are ready to be released.
            unsafe { this.release(request, &mut gone) };
        }
    }
}

/// What became of an object that was to be removed.
struct Removed {
    /// Whether it is the caller's to release: nobody holds it.
    is_ours: bool,
    /// Whether its notifier had to wait for invalidations of the address space to end.
    has_waited: bool,
}

fn flush_work<const ID: u64>(worker: &Worker)
where
    Worker: HasWork<Worker, ID>,
{
    // SAFETY: A reference is a valid pointer.
    let work = unsafe { Worker::raw_get_work(core::ptr::from_ref(worker).cast_mut()) };
    // SAFETY: As above.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: The work item is initialised, and the caller's reference to the worker keeps it.
    unsafe { bindings::flush_work(work) };
}

impl Worker {
    fn new(
        name: &CStr,
        ops: &'static RequestOps,
        mirror: Option<&'static MirrorOps>,
        pace: Pace,
        queue: Arc<ProcessQueue>,
    ) -> Result<Arc<Self>> {
        let shown = CString::try_from(name)?;
        Arc::pin_init(
            try_pin_init!(Self {
                // SAFETY: The operations are those for the alarms of workers, which live in an Arc.
                alarm <- unsafe { Alarm::new(pace.linger, &Self::ALARM_OPS) },
                mm: pace.mm,
                queue,
                lists <- new_spinlock!(Lists::new(), "odp::Worker::lists"),
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
                expedited: pace.expedited,
            }),
            GFP_KERNEL_ACCOUNT,
        )
        // For `of_alarm`.
        .inspect(|worker| {
            let _ = Arc::as_ptr(worker).expose_provenance();
        })
    }

    /// Where its work runs. May be dropped in a work item, but with another reference behind it: see
    /// [`QueueUse`].
    pub(super) fn queue(&self) -> &ProcessQueue {
        &self.queue
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
    /// `request` is valid during the call, and if it is not retired yet, until `release` has been
    /// called for it. The worker is not shut down during the call.
    pub(crate) unsafe fn retire(this: ArcBorrow<'_, Self>, request: NonNull<Request>) -> Retire {
        // SAFETY: By the safety requirements it is valid.
        let request_ref = unsafe { request.as_ref() };
        if !this.owns(request_ref) {
            return Retire::Foreign;
        }
        let mut lists = this.lists.lock();
        if lists.closed && request_ref.state().is_live() {
            return Retire::Closed;
        }
        let kick = match request_ref.apply(Event::Retire) {
            // SAFETY: By the answer the link is ours; it is valid until it is released.
            Effect::Queue => unsafe { lists.queue(request) },
            Effect::Joined => false,
            Effect::Deferred => return Retire::Queued,
            Effect::Gone => return Retire::Replaced,
            _ => {
                drop(lists);
                this.stats.coalesced.inc();
                return Retire::Already;
            }
        };
        this.stats.queued.inc();
        if kick {
            Self::wake(this, &lists);
        }
        Retire::Queued
    }

    /// Asks for an object to be changed; `note` writes down how, with the request's lock held, if the
    /// request is accepted.
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
    ) -> Changed {
        // SAFETY: By the safety requirements it is valid.
        let request_ref = unsafe { request.as_ref() };
        let mut lists = this.lists.lock();
        if lists.closed {
            return Changed::Closed;
        }
        let effect = request_ref.apply_with(Event::Change, |effect| {
            if matches!(effect, Effect::Queue | Effect::Deferred | Effect::Already) {
                note();
            }
            effect
        });
        let (changed, kick) = match effect {
            // SAFETY: By the answer the link is ours; it is valid until it is released.
            Effect::Queue => (Changed::Queued, unsafe { lists.queue(request) }),
            Effect::Deferred => (Changed::Queued, false),
            Effect::Already => (Changed::Joined, false),
            _ => return Changed::Gone,
        };
        this.stats.changes.inc();
        if kick {
            Self::wake(this, &lists);
        }
        changed
    }

    /// Ends the work on a change of `request`, which is left as it is: if anything has been asked for
    /// meanwhile, it is queued.
    ///
    /// # Safety
    ///
    /// The caller has taken it to change it, or adopted it.
    unsafe fn settle(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        let mut lists = this.lists.lock();
        // SAFETY: By the safety requirements it is valid and the link is the caller's, until:
        let tickets = unsafe { (*request.as_ref().link.get()).tickets };
        // SAFETY: As above.
        let request_ref = unsafe { request.as_ref() };
        if request_ref.apply(Event::Settle) != Effect::Queue {
            lists.removed.exit(tickets.removed);
            lists.released.exit(tickets.released);
            if lists.waiters > 0 {
                this.progress.notify_all();
            }
            return;
        }
        // Nobody takes it before it is on the list.
        if request_ref.state().is_leaving() {
            this.stats.queued.inc();
        } else {
            let tickets = Tickets {
                removed: lists.removed.renew(tickets.removed),
                released: lists.released.renew(tickets.released),
            };
            // SAFETY: By the answer the link is ours.
            unsafe { (*request.as_ref().link.get()).tickets = tickets };
            if lists.waiters > 0 {
                this.progress.notify_all();
            }
        }
        // SAFETY: By the answer the link is ours; it is valid until it is released.
        unsafe { lists.pending.push(request) };
        Self::go_on(this, lists);
    }

    /// Has the next batch taken, if there is anything for one, unless the alarm is set for that. While
    /// somebody waits it is not, see [`Worker::wait`].
    fn go_on(this: ArcBorrow<'_, Self>, mut lists: SpinLockGuard<'_, Lists>) {
        let kick = lists.should_batch();
        drop(lists);
        if kick {
            Self::kick_batch(this);
        }
    }

    /// Ends the work on `piece`, which is in service in the place of `old` from now on.
    ///
    /// What it was asked for meanwhile is queued, and who waits for what was asked of `old` waits
    /// for that.
    ///
    /// # Safety
    ///
    /// The caller has adopted `piece` and taken `old`, and as for [`Worker::retire`].
    pub(crate) unsafe fn settle_piece(
        this: ArcBorrow<'_, Self>,
        piece: NonNull<Request>,
        old: NonNull<Request>,
    ) {
        // SAFETY: By the safety requirements it is valid.
        let owned = this.owns(unsafe { piece.as_ref() });
        kernel::warn_on!(!owned);
        {
            let mut lists = this.lists.lock();
            // SAFETY: By the safety requirements it is valid, and its link the caller's.
            let of = unsafe { (*old.as_ref().link.get()).tickets };
            let tickets = Tickets {
                removed: lists.removed.join(of.removed),
                released: lists.released.join(of.released),
            };
            // SAFETY: As above.
            unsafe { (*piece.as_ref().link.get()).tickets = tickets };
        }
        // SAFETY: By the safety requirements.
        unsafe { Self::settle(this, piece) };
    }

    /// Whether `request` belongs to this worker; one that belongs to none does from now on.
    fn owns(&self, request: &Request) -> bool {
        request.bind(core::ptr::from_ref(self).cast_mut().cast())
    }

    /// Says that an object is in service now; hands it over if it was retired before that.
    ///
    /// # Safety
    ///
    /// As for [`Worker::retire`].
    pub(crate) unsafe fn publish(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        // SAFETY: By the safety requirements it is valid.
        let request_ref = unsafe { request.as_ref() };
        let mut lists = this.lists.lock();
        // Whoever waits for this looks again when the lock is free.
        this.insertion_over(&mut lists);
        if !this.owns(request_ref) || request_ref.apply(Event::Publish) != Effect::Queue {
            return;
        }
        // Retired, or to be changed.
        let retired = !request_ref.state().is_live();
        // SAFETY: By the answer the link is ours; it is valid until it is released.
        let kick = unsafe { lists.queue(request) };
        drop(lists);

        if retired {
            this.stats.queued.inc();
        }
        if kick {
            Self::kick_batch(this);
        }
    }

    fn insertion_over(&self, lists: &mut Lists) {
        lists.insertions = lists.insertions.wrapping_add(1);
        if lists.waiters > 0 {
            self.progress.notify_all();
        }
    }

    /// Says that an object is not going to be in service.
    pub(crate) fn insertion_failed(&self) {
        self.insertion_over(&mut self.lists.lock());
    }

    /// How many insertions are over by now, to be compared with later answers.
    pub(crate) fn insertions(&self) -> usize {
        self.lists.lock().insertions
    }

    /// Waits until [`Worker::insertions`] is not `seen` any more.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed.
    pub(crate) fn wait_for_insertion(this: ArcBorrow<'_, Self>, seen: usize) -> Result {
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |lists| {
            lists.insertions != seen
        })
    }

    /// Begins a long hold; says whether there is one now.
    pub(crate) fn hold(&self, request: &Request) -> bool {
        let held = self.owns(request) && request.apply(Event::Hold) == Effect::None;
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
        // SAFETY: The hold keeps it valid.
        if unsafe { request.as_ref() }.apply(Event::Put) != Effect::Release {
            return;
        }
        // SAFETY: By the answer it is ours to release.
        unsafe { Self::release_later(this, request) };
    }

    /// Has an object released by the worker.
    ///
    /// # Safety
    ///
    /// The caller got the answer [`Effect::Release`].
    unsafe fn release_later(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        let mut lists = this.lists.lock();
        // SAFETY: By the safety requirements the link is the caller's; it is valid until it is
        // released.
        unsafe { lists.ready.push(request) };
        let kick = !core::mem::replace(&mut lists.releasing, true);
        drop(lists);
        if kick {
            // The flag says that it is neither queued nor going to look again. Until it has run, the
            // object is outstanding, which keeps the worker from being shut down.
            let _ = this.queue().enqueue::<Arc<Self>, RELEASE>(this.into());
        }
    }

    fn kick_batch(this: ArcBorrow<'_, Self>) {
        this.stats.kicks.inc();
        // The flag says that it is neither queued nor going to look again.
        let _ = this.queue().enqueue::<Arc<Self>, BATCH>(this.into());
    }

    const ALARM_OPS: AlarmOps = AlarmOps {
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
        // SAFETY: By the safety requirements it is the field of a worker.
        let this = unsafe { kernel::container_of!(alarm.as_ptr(), Self, alarm) };
        // An alarm says `self`, and what comes from a reference to it may not free the worker, as the
        // end of a work item may; what `new` exposed may.
        let this = core::ptr::with_exposed_provenance::<Self>(this.addr());
        // SAFETY: Workers live in an Arc; by the safety requirements it is valid.
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

    /// Has the worker begin when the caller's system call is likely to be over; at once, if somebody waits.
    fn wake(this: ArcBorrow<'_, Self>, lists: &Lists) {
        if lists.waiters > 0 {
            Self::kick_batch(this);
        } else {
            this.alarm.set();
        }
    }

    /// Has the worker begin if it was going to anyway, only later. May sleep for a moment.
    fn hurry(this: ArcBorrow<'_, Self>) {
        if this.alarm.cancel() {
            Self::kick_batch(this);
        }
    }

    /// Has the next batch taken if the lanes are through with this one.
    pub(super) fn kick_batch_if_idle(self: &Arc<Self>) {
        let kick = self.lists.lock().should_batch();
        if kick {
            Self::kick_batch(self.as_arc_borrow());
        }
    }

    /// Takes everything that is pending, and what has been replaced, as the worker's next batch, unless it
    /// still has one.
    fn take_batch(&self) -> Option<(Fifo, Fifo)> {
        let mut lists = self.lists.lock();
        if lists.in_flight > 0 || lists.is_idle() {
            lists.batching = false;
            return None;
        }
        let (pending, replaced) = (lists.pending.take(), lists.replaced.take());
        // OVERFLOW: There cannot be as many requests as there are bytes.
        lists.in_flight = pending.len() + replaced.len();
        Some((pending, replaced))
    }

    /// Takes requests: returns those that are retired, and those that are to be changed.
    fn take(&self, mut batch: Fifo) -> (Fifo, Fifo) {
        let (mut retired, mut changing) = (Fifo::new(), Fifo::new());
        while let Some(request) = batch.pop() {
            // SAFETY: Requests on a list are valid.
            let effect = unsafe { request.as_ref() }.apply(Event::Take);
            let list = if effect == Effect::Build {
                let lists = self.lists.lock();
                // SAFETY: It has just been taken from a list.
                let tickets = unsafe { &mut (*request.as_ref().link.get()).tickets };
                tickets.removed = lists.removed.begin(tickets.removed);
                tickets.released = lists.released.begin(tickets.released);
                &mut changing
            } else {
                kernel::warn_on!(effect != Effect::None);
                &mut retired
            };
            // SAFETY: It has just been taken from a list.
            unsafe { list.push(request) };
        }
        (retired, changing)
    }

    /// Sees to it that nobody can reach objects that have been taken to go.
    fn expire(&self, leaving: &Fifo) {
        if let Some(mirror) = self.mirror {
            let _scope = WorkerScope::enter();
            // SAFETY: They are requests of this worker's, and this is their turn.
            unsafe { (mirror.unpublish)(leaving) };
        } else if let Some(unpublish) = self.ops.unpublish {
            for request in leaving.iter() {
                let _scope = WorkerScope::enter();
                // SAFETY: It is a request of this worker's, and this is its turn.
                unsafe { unpublish(request.as_ptr()) };
            }
        }
        if !leaving.is_empty() {
            // The order is what makes this safe: after the last object was unpublished.
            self.synchronize();
        }
        self.stats.batches.inc();
    }

    /// Leaves what has been taken to be changed to the work item that is for that.
    fn change_later(this: ArcBorrow<'_, Self>, changing: Fifo) {
        let kick = {
            let mut lists = this.lists.lock();
            lists.changing.append(changing);
            !core::mem::replace(&mut lists.replacing, true)
        };
        if kick {
            // The flag says that it is neither queued nor going to look again.
            let _ = this.queue().enqueue::<Arc<Self>, CHANGE>(this.into());
        }
    }

    /// Changes objects, and returns those that others are in the place of.
    fn replace(this: ArcBorrow<'_, Self>, mut changing: Fifo) -> Fifo {
        let mut replaced = Fifo::new();
        let Some(MirrorOps { change: ops, .. }) = this.mirror else {
            kernel::warn_on!(!changing.is_empty());
            return replaced;
        };
        for request in changing.iter() {
            let _scope = WorkerScope::enter();
            // SAFETY: It is a request of this worker's, and has been taken to be changed.
            unsafe { (ops.prepare)(request) };
        }
        while let Some(request) = changing.pop() {
            let done = {
                let _scope = WorkerScope::enter();
                // SAFETY: As above, and it has been prepared.
                unsafe { (ops.replace)(request) }
            };
            if done {
                // SAFETY: It has just been taken from a list.
                unsafe { replaced.push(request) };
            } else {
                // SAFETY: It has been taken to be changed.
                unsafe { Self::settle(this, request) };
            }
        }
        replaced
    }

    /// Removes what there is to remove, until nothing is left.
    ///
    /// Takes several objects at a time, and so takes the lock that all lanes want twice for all of them; but
    /// no more than its part, because a removal may sleep for reasons of the driver's. Where one waits for
    /// invalidations, those that it has not begun with are given back: each of them is likely to wait as well,
    /// and in as many lanes they do that at the same time.
    ///
    /// None is released before all are removed, so that no removal waits for the driver's `release`.
    pub(super) fn lane(this: ArcBorrow<'_, Self>) {
        let (mut gone, mut share) = (Gone::default(), 1);
        loop {
            let mut requests = {
                let mut lists = this.settle_gone(&gone);
                let part = lists.removing.len() / lists.lanes.max(1);
                lists.removing.take_first(share.min(part.max(1)))
            };
            if requests.is_empty() {
                return;
            }
            gone = Gone::default();
            let (mut ours, mut taken, mut waited) = (Fifo::new(), 0, false);
            while let Some(request) = requests.pop() {
                // OVERFLOW: No more than were taken.
                taken += 1;
                // SAFETY: The grace period of what is on this list is over.
                let removed = unsafe { this.remove(request, &mut gone) };
                if removed.is_ours {
                    // SAFETY: By the answer it is ours to release, and so is its link.
                    unsafe { ours.push(request) };
                } else {
                    // Whoever holds it may wait for the removal.
                    drop(this.settle_gone(&core::mem::take(&mut gone)));
                }
                if removed.has_waited {
                    waited = true;
                    break;
                }
            }
            this.settle_gone(&core::mem::take(&mut gone))
                .removing
                .append(requests);
            share = MOST_AT_A_TIME.min(2 * share);
            if waited {
                share = 1;
                Self::widen(this, 2, usize::MAX);
            }
            while let Some(request) = ours.pop() {
                // SAFETY: It was ours to release.
                unsafe { this.release(request, &mut gone) };
            }
            gone.of_batch = taken;
        }
    }

    /// Has `n` more lanes run, as long as there is something to remove, there are fewer than `most`, and the
    /// process has not as many as it may have.
    ///
    /// Where removals wait for invalidations, each lane removes one in the time of an invalidation. So a lane
    /// that has waited brings others along, and as many as there may be are there after a few invalidations.
    /// Where nothing sleeps they would only be in each other's way, and so they would where a removal
    /// sleeps for anything else, such as a lock of the driver's.
    fn widen(this: ArcBorrow<'_, Self>, n: usize, most: usize) {
        for _ in 0..n {
            {
                let mut lists = this.lists.lock();
                if lists.removing.is_empty() || lists.lanes >= most || !this.queue.add_lane() {
                    return;
                }
                // OVERFLOW: The queue's limit is far less.
                lists.lanes += 1;
            }
            if Lane::start(this).is_err() {
                // The batch has its own, which is enough for it to end.
                this.lane_has_ended();
                return;
            }
        }
    }

    /// A lane that `widen` counted is not there any more.
    pub(super) fn lane_has_ended(&self) {
        self.queue.lane_has_ended();
        // OVERFLOW: Incremented by `widen`.
        self.progress_made(|lists| lists.lanes -= 1);
    }

    /// Takes an object away for good. To be followed by [`Worker::settle_gone`].
    ///
    /// # Safety
    ///
    /// The caller has taken `request`, unpublished it, and waited for a grace period.
    #[must_use]
    unsafe fn remove(&self, request: NonNull<Request>, gone: &mut Gone) -> Removed {
        if let Some(remove) = self.ops.remove {
            let _scope = WorkerScope::enter();
            // SAFETY: It is a request of this worker's, and this is its turn.
            unsafe { remove(request.as_ptr()) };
        }
        // SAFETY: The link is ours; we have taken it from a list. It must be looked at now,
        // because once the state has changed somebody else may release the object.
        let link = unsafe { &mut *request.as_ref().link.get() };
        let removed = link.tickets.removed;
        let has_waited = core::mem::take(&mut link.has_waited);
        // Before anybody can see that it is removed, and look at the counters.
        self.stats.removed.inc();
        gone.removed.add(removed);
        // SAFETY: It has not been released.
        let effect = unsafe { request.as_ref() }.apply(Event::Remove);
        let is_ours = effect == Effect::Release;
        if !is_ours {
            kernel::warn_on!(effect != Effect::None);
            self.stats.held_back.inc();
        }
        Removed {
            is_ours,
            has_waited,
        }
    }

    /// Gives an object back to the driver. To be followed by [`Worker::settle_gone`].
    ///
    /// # Safety
    ///
    /// The caller got the answer [`Effect::Release`], or the request from somebody who did.
    unsafe fn release(&self, request: NonNull<Request>, gone: &mut Gone) {
        // SAFETY: By the safety requirements the link is ours.
        let Tickets { released, .. } = unsafe { (*request.as_ref().link.get()).tickets };
        if let Some(release) = self.ops.release {
            let _scope = ReleaseScope::enter();
            // SAFETY: It is a request of this worker's, and this is its turn, its last.
            unsafe { release(request.as_ptr()) };
        }
        gone.released.add(released);
    }

    /// Counts what is gone, and has those who wait for it look again; returns with the lists locked.
    fn settle_gone(&self, gone: &Gone) -> SpinLockGuard<'_, Lists> {
        if !gone.released.is_empty() {
            // Before the tickets: who flushes looks at the counters.
            self.stats.released.add(gone.released.len());
        }
        let mut lists = self.lists.lock();
        lists.settle(gone);
        if lists.waiters > 0 && !gone.is_empty() {
            self.progress.notify_all();
        }
        lists
    }

    /// Has those who wait look again, because something has changed that they look at.
    pub(crate) fn notify(&self) {
        self.progress_made(|_| ());
    }

    fn progress_made(&self, change: impl FnOnce(&mut Lists)) {
        let mut lists = self.lists.lock();
        change(&mut lists);
        if lists.waiters > 0 {
            self.progress.notify_all();
        }
    }

    /// Waits until `until` is so, or for `left` jiffies.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed and the sleep is a killable one, `ETIMEDOUT`.
    fn wait(
        this: ArcBorrow<'_, Self>,
        sleep: Sleep,
        mut left: c_long,
        mut until: impl FnMut(&mut Lists) -> bool,
    ) -> Result {
        // From here on nobody sets the alarm, so after `hurry` it is not set until this has ended: who
        // sets it has the lock and sees that nobody waits. The other way round, a request that comes
        // between the two sets it, and who waits then waits for it to go off.
        //
        // OVERFLOW: There cannot be as many tasks.
        this.lists.lock().waiters += 1;
        Self::hurry(this);
        let mut lists = this.lists.lock();
        let result = loop {
            if until(&mut lists) {
                break Ok(());
            }
            if sleep == Sleep::Killable && wait_queue::is_killed() {
                break Err(EINTR);
            }
            if left == 0 {
                break Err(ETIMEDOUT);
            }
            lists = this.progress.wait(lists, sleep, &mut left);
        };
        // OVERFLOW: Incremented above.
        lists.waiters -= 1;
        result
    }

    /// Removes here what the worker has not begun to remove; returns how many objects that was.
    ///
    /// Never waits for the worker: what that has taken is left to it, and so are all releases. A
    /// fault path calls this before it looks for addresses, with locks held if need be that
    /// `release` takes, too.
    pub(crate) fn drain(this: ArcBorrow<'_, Self>, p: &mut MayBlock<'_>) -> usize {
        p.for_invalidate();
        p.for_readers(&this.srcu);
        let (pending, mut changing, mut batch) = {
            let mut lists = this.lists.lock();
            (
                lists.pending.take(),
                lists.changing.take(),
                lists.replaced.take(),
            )
        };
        // OVERFLOW: There cannot be as many requests as there are bytes.
        let drained = pending.len() + changing.len() + batch.len();
        if drained == 0 {
            return 0;
        }
        this.stats.drained.add(drained);
        let (retired, more) = this.take(pending);
        batch.append(retired);
        changing.append(more);
        // First what is to go: a change may have to wait for `mmap_lock`.
        Self::remove_all(this, batch);
        let replaced = Self::replace(this, changing);
        Self::remove_all(this, replaced);
        drained
    }

    /// Takes objects away for good here, and leaves releases to the worker.
    fn remove_all(this: ArcBorrow<'_, Self>, mut leaving: Fifo) {
        if leaving.is_empty() {
            return;
        }
        this.expire(&leaving);
        while let Some(request) = leaving.pop() {
            let mut gone = Gone::default();
            // SAFETY: It has been taken and unpublished, and a grace period has passed.
            let removed = unsafe { this.remove(request, &mut gone) };
            drop(this.settle_gone(&gone));
            if removed.is_ours {
                // SAFETY: By the answer it is ours to release.
                unsafe { Self::release_later(this, request) };
            }
        }
    }

    /// Waits for everything that was retired, and published, before the call.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed. What was asked for is going on.
    pub(crate) fn flush(this: ArcBorrow<'_, Self>, until: Until, p: &mut MayBlock<'_>) -> Result {
        p.for_worker();
        p.for_readers(&this.srcu);
        let epoch = this.lists.lock().epochs(until).current();
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |lists| {
            lists.epochs(until).is_over(epoch)
        })
    }

    /// Tells lockdep that [`Worker::synchronize`] may be about to be called.
    pub(crate) fn may_synchronize(&self, p: &mut MayBlock<'_>) {
        p.for_readers(&self.srcu);
    }

    /// Waits until nothing that was in a read section before the call is any more.
    pub(crate) fn synchronize(&self) {
        if self.expedited {
            self.srcu.synchronize_expedited();
        } else {
            self.srcu.synchronize();
        }
        self.stats.grace_periods.inc();
    }

    /// Waits until no callback, lookup or access is left of one object that the caller holds, and that is on
    /// its way out.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed.
    pub(crate) fn wait_removed(
        this: ArcBorrow<'_, Self>,
        request: &Request,
        p: &mut MayBlock<'_>,
    ) -> Result {
        p.for_worker();
        p.for_readers(&this.srcu);
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |_| {
            request.state().is_removed()
        })
    }

    /// Waits until `until` is so, however long that takes; after a while it says for what.
    fn wait_for_shutdown(this: ArcBorrow<'_, Self>, mut until: impl FnMut(&mut Lists) -> bool) {
        let sleep = Sleep::Uninterruptible;
        // CAST: Some thousands.
        let silent = msecs_to_jiffies(SILENT) as c_long;
        if Self::wait(this, sleep, silent, &mut until).is_ok() {
            return;
        }
        let left = this.lists.lock().released.outstanding();
        // Read one after the other, so that it may seem that more have ended than begun.
        let (puts, holds) = (this.stats.puts.get(), this.stats.holds.get());
        pr_info!(
            "{}: shutdown still waits: {} not released, {} holds\n",
            &*this.name,
            left,
            holds.saturating_sub(puts)
        );
        // Once is enough: from here on it also counts as a hung task. This cannot fail.
        let _ = Self::wait(this, sleep, MAX_SCHEDULE_TIMEOUT, until);
    }
}

/// A worker with its owner: the one who shuts it down.
///
/// May hold the module that the worker's callbacks are text of. Dropping it shuts the worker down.
///
/// The order of the fields is that of their destruction: the worker's last work item may end after this one's
/// reference, but before the use of the queue does.
pub(crate) struct OwnedWorker {
    worker: Arc<Worker>,
    _queue: QueueUse,
    _module: Option<ModuleRef>,
}

impl OwnedWorker {
    /// Makes a worker that calls `ops`; `name` is that of its file in debugfs. May sleep.
    ///
    /// It keeps the module `ops.owner` loaded, so that even forgetting it does no harm. Where the
    /// owner is null nothing is kept loaded.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the current task is killed meanwhile; `ENODEV` if the module is about to go; and those of
    /// [`Pace::check`].
    pub(crate) fn new(
        name: &CStr,
        ops: &'static RequestOps,
        mirror: Option<&'static MirrorOps>,
        pace: Pace,
    ) -> Result<Self> {
        pace.check()?;
        let module = if ops.owner.is_null() {
            None
        } else {
            // SAFETY: A table of operations belongs to a module that is at least being initialised.
            Some(unsafe { ModuleRef::get(ops.owner) }?)
        };
        let queue = QueueUse::new(pace.mm.as_deref())?;
        Ok(Self {
            worker: Worker::new(name, ops, mirror, pace, queue.queue().clone())?,
            _queue: queue,
            _module: module,
        })
    }

    /// Refuses requests, waits until everything that was accepted is released and `until` holds, and
    /// until the worker does nothing any more. May be called again.
    pub(crate) fn shutdown(&self, p: &mut MayBlock<'_>, until: impl Fn() -> bool) -> Snapshot {
        p.for_worker();
        p.for_readers(&self.worker.srcu);
        let worker = self.worker.as_arc_borrow();
        // After this nobody sets the alarm any more.
        worker.lists.lock().closed = true;
        Worker::wait_for_shutdown(worker, |lists| lists.released.outstanding() == 0 && until());
        // What has been counted may still be on its way out of the work function. A batch may have handed
        // something over, and so may a change.
        flush_work::<BATCH>(&self.worker);
        flush_work::<CHANGE>(&self.worker);
        flush_work::<BATCH>(&self.worker);
        Worker::wait_for_shutdown(worker, |lists| lists.lanes == 0);
        flush_work::<RELEASE>(&self.worker);
        self.worker.stats().snapshot()
    }
}

impl Deref for OwnedWorker {
    type Target = Arc<Worker>;

    fn deref(&self) -> &Arc<Worker> {
        &self.worker
    }
}

impl Drop for OwnedWorker {
    fn drop(&mut self) {
        MayBlock::enter(|p| self.shutdown(p, || true));
    }
}
