// SPDX-License-Identifier: GPL-2.0

//! Level 2: a managed range, from the first callback to its last rites.
//!
//! # Who keeps a range alive
//!
//! Its memory is that of an [`Arc`] of which there is exactly one reference once it is inserted:
//! the notifier's registration has it, from `insert` until the worker takes it back in [`release`].
//! Everybody else borrows: callbacks until they return, lookups until their SRCU section ends,
//! holds until they are put, and the worker has all of these behind it when it drops that
//! reference. So the last drop, and with it that of the driver's data, is never in a callback.
//!
//! # Lock order
//!
//! ```text
//! mmap_lock, rmap locks, reclaim          (around callbacks)
//!   user lock                             (callbacks, access, commit, the worker's zap)
//!     a worker's lists                    (spinlock)
//!       a request                         (spinlock, for what is noted with a change)
//! writers of the index                    (mutex; insert and worker)
//!   user lock
//!   changes of the index                  (sequence lock; nothing is taken in it)
//! ```

mod merge;
pub(super) mod space;
mod split;
mod stalled;

use self::{
    space::{
        Room,
        Space, //
    },
    split::Split, //
};
use super::{
    driver::{
        Mirrored,
        MirroredOps, //
    },
    invalidation::Invalidation,
    shared::Shared,
    trim::{
        PendingTrim,
        StoredTrim,
        TrimPlan, //
    },
    InsertErrorKind, //
};
use crate::{
    mappings::Mappings,
    may_block::MayBlock,
    mmu_interval::{
        self,
        Event,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    odp::engine::{
        callbacks::{
            MirrorOps,
            RequestOps,
            WorkerContext, //
        },
        fifo::Fifo,
        outcome::{
            Changed,
            Retire, //
        },
        request::{
            Guarded,
            Request, //
        },
        state::{
            Change,
            Effect,
            Stage,
            State, //
            Step,
        },
        trace::{
            Asked,
            What, //
        },
        worker::Worker, //
    },
    range_tree::{
        Indexed,
        Place, //
    },
    span::Span, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    container_of,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::ScopeGuard, //
};

/// What is in the way of a range in the index, and stays.
pub(super) enum InTheWay {
    /// It is in service.
    Live,
    /// It is about to be.
    Building,
}

/// A range of addresses that a driver mirrors.
///
/// # Invariants
///
/// - `trim` is accessed with the request locked.
/// - `split` is accessed by whoever has taken the request to change the range.
/// - `request` is given to no worker but that of `space`.
/// - `space` counts it until [`release`], or, where it does not come to that, until it is dropped.
#[pin_data(PinnedDrop)]
pub(crate) struct Range<T: Mirrored> {
    #[pin]
    request: Request,
    trim: Guarded<StoredTrim>,
    split: Guarded<Option<KBox<Split<T>>>>,
    /// In the mirror's index.
    place: Place,
    space: Arc<Space<T>>,
    shared: Arc<Shared<T>>,
}

impl<T: Mirrored> Range<T> {
    /// Makes a range that is about to be inserted, and held `holds` times by whoever does that.
    ///
    /// # Errors
    ///
    /// [`InsertErrorKind::AllocError`], [`InsertErrorKind::Full`], and
    /// [`InsertErrorKind::Foreign`].
    pub(super) fn new(
        space: Arc<Space<T>>,
        span: Span,
        shared: Arc<Shared<T>>,
        holds: u32,
        room: Room,
        memory: Flags,
    ) -> Result<Arc<Interval<Self>>, InsertErrorKind> {
        // The notifier, the request, what the two belong to, and the reference count. Locks are
        // larger where they are looked at, and on PREEMPT_RT, where they sleep.
        #[cfg(not(any(CONFIG_DEBUG_SPINLOCK, CONFIG_PREEMPT_RT)))]
        const {
            assert!(size_of::<Interval<Self>>() + size_of::<usize>() <= 256)
        };

        if !shared.bind(Arc::as_ptr(&space).cast_mut().cast()) {
            return Err(InsertErrorKind::Foreign);
        }
        space.count(room)?;
        let counted = ScopeGuard::new_with_data(space, |space| space.uncount());
        let space = (*counted).clone();
        let mm = space.mm.clone();
        Arc::pin_init(
            Interval::new::<Error>(
                mm,
                span,
                try_pin_init!(Self {
                    request <- Request::in_state(State::building(holds)),
                    trim: Guarded::new(StoredTrim::new(PendingTrim::NONE)),
                    split: Guarded::new(None),
                    place: Place::new(),
                    space,
                    shared,
                }),
            ),
            memory,
        )
        // Nothing else can fail.
        .map_err(|_| InsertErrorKind::AllocError(AllocError))
        // From here on `release` counts, or its destructor.
        .inspect(|_| drop(counted.dismiss()))
    }

    /// The driver's object and its lock.
    pub(crate) fn shared(&self) -> &Shared<T> {
        &self.shared
    }

    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.space.worker
    }

    /// The address space that it is part of.
    pub(super) fn mm(&self) -> &Mm {
        &self.space.mm
    }

    /// Whether lookups find it and commits succeed; stable under the user lock for as long as the
    /// worker's zap has not run.
    pub(crate) fn is_live(&self) -> bool {
        self.request.state().is_live()
    }

    /// Whether nobody has asked for it to go.
    fn is_wanted(&self) -> bool {
        matches!(self.request.state().stage, Stage::Building | Stage::Live)
    }

    /// Whether others are in its place.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self.request.state().change, Change::Replaced)
    }

    /// Takes back what may have been installed through the range, which is retired, in `dead`.
    ///
    /// A commit that saw the range live has finished when the lock is ours, and what it installed
    /// is zapped here. One that takes the lock later sees that the range is not live.
    pub(super) fn zap_dead(&self, dead: Span) {
        let mut table = self.shared.locked();
        self.shared.data().zap(&mut table, dead);
    }

    /// Whether it, which is at `span`, may leave the index because another range is to be there.
    /// The index is locked.
    ///
    /// # Errors
    ///
    /// See [`InTheWay`].
    pub(super) fn make_way(&self, span: Span) -> Result<(), InTheWay> {
        match self.request.state().stage {
            Stage::Live => Err(InTheWay::Live),
            Stage::Building => Err(InTheWay::Building),
            _ => {
                // All of it, because it leaves the index, and the worker zaps what it finds there.
                // And now: this must come before anything is installed through the new range.
                self.zap_dead(span);
                Ok(())
            }
        }
    }

    /// Retires it. Context: any process context. `self` must be a range that was inserted.
    pub(crate) fn retire(&self) -> Retire {
        // SAFETY: It is that of a range of the worker's mirror, which the tables of `T::OPS` are
        // for; by the type invariants no other worker is given it. `self` is valid. Once it is in
        // service it will be until `release` is called, which is what ends the registration's
        // reference; until then nobody queues it. The mirror does not shut its worker down before
        // all ranges are released.
        unsafe {
            Worker::retire(
                self.space.worker.as_arc_borrow(),
                NonNull::from(&self.request),
            )
        }
    }

    /// Asks for the range to be changed. Context: any process context. `self` must be a range that
    /// was inserted.
    #[inline(never)] // It would take registers from what a driver does for other events.
    fn change(&self, trim: PendingTrim, asked: impl FnOnce() -> Asked) -> Changed {
        // SAFETY: It is that of a range of the worker's mirror, which has `MirrorOps`; by the type
        // invariants no other worker is given it. `self` is valid, and once it is in service it
        // will be until `release` is called, which nothing is that has not been retired. The mirror
        // does not shut its worker down before all ranges are released.
        unsafe {
            Worker::change(
                self.space.worker.as_arc_borrow(),
                NonNull::from(&self.request),
                || self.add_trim(trim),
                asked,
            )
        }
    }

    /// Asks for no more than `keep`, which is part of `of`, to be mirrored.
    pub(crate) fn resize(&self, of: Span, keep: Span) -> Result<Changed> {
        if !of.covers(&keep) {
            return Err(EINVAL);
        }
        Ok(self.change(PendingTrim::keep(keep), || What::Resize.to(keep)))
    }

    /// Asks for just `wanted` to be mirrored, which has part of `of` and may reach beyond that.
    pub(crate) fn grow(&self, of: Span, wanted: Span, p: &mut MayBlock<'_>) -> Result<Changed> {
        // Who inserts has the index locked, and waits for invalidations.
        p.for_invalidate();
        of.intersect(&wanted).ok_or(EINVAL)?;
        let mut taken = false;
        self.space.index.for_each_within(wanted, |other| {
            taken |= !core::ptr::eq(other.data(), self) && other.data().is_wanted();
        });
        // If pieces have taken its place meanwhile, they are not in its way.
        if taken && self.is_live() {
            return Err(EEXIST);
        }
        Ok(self.change(PendingTrim::resize(of, wanted), || What::Resize.to(wanted)))
    }

    /// Says that `unmapped`, which is part of `of`, is not mapped any more.
    pub(crate) fn punch(&self, of: Span, unmapped: Span) -> Result<Changed> {
        if !of.covers(&unmapped) {
            return Err(EINVAL);
        }
        Ok(self.change(PendingTrim::unmapped(unmapped), || What::Punch.to(unmapped)))
    }

    /// Has what the process has not mapped of `span`, which is all of the range, taken out of it,
    /// or out of those that have taken its place.
    ///
    /// Whatever is unmapped after the look, callbacks are told of: the range has been published, so
    /// that its notifier is in the tree.
    pub(crate) fn punch_unmapped(&self, span: Span, p: &mut MayBlock<'_>) -> Result {
        p.for_mmap_lock(&self.space.mm);
        let mm = self.space.mm.mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here: it calls the
        // driver.
        let mm = MmWithUser::into_mmput_async(mm);
        let planned = {
            let mappings = Mappings::lock(&mm);
            PendingTrim::unmapped(span)
                .plan(span, self.space.grain, mappings.within(span), |_| Err(()))
        };
        match planned {
            Ok(TrimPlan::Unchanged) => Ok(()),
            // None of it is mapped, or it would be cut.
            _ => match self.punch(span, span)? {
                Changed::NotLive if self.is_replaced() => {
                    self.punch_others(span);
                    Ok(())
                }
                changed => changed.accepted(),
            },
        }
    }

    /// Says that `unmapped` is not mapped of whatever ranges there are: those that are in the place
    /// of this one, of which nobody else may tell them, and others, which it does no harm to tell.
    fn punch_others(&self, unmapped: Span) {
        // With the index locked it has either this range or what is in its place. One that is being
        // inserted is left to whoever does that.
        self.space.index.for_each_within(unmapped, |other| {
            let part = other.span().intersect(&unmapped);
            if let Some(part) = part.filter(|_| other.data().is_live()) {
                let _ = other
                    .data()
                    .change(PendingTrim::unmapped(part), || What::Punch.to(part));
            }
        });
    }

    /// Runs `f` with what has been asked for. The request is locked.
    fn with_trim<R>(&self, f: impl FnOnce(&mut PendingTrim) -> R) -> R {
        // SAFETY: By the type invariants nobody else accesses it while the request is locked.
        let stored = unsafe { self.trim.get() };
        let mut trim = stored.get();
        let answer = f(&mut trim);
        *stored = StoredTrim::new(trim);
        answer
    }

    /// Adds to what has been asked for. The request is locked.
    fn add_trim(&self, trim: PendingTrim) {
        self.with_trim(|pending| *pending = pending.then(trim));
    }

    /// Has something been asked for before everything else that has been. The request is locked.
    fn add_earlier_trim(&self, trim: PendingTrim) {
        self.with_trim(|pending| *pending = trim.then(*pending));
    }

    /// Takes over what has been asked for.
    fn take_trim(&self) -> PendingTrim {
        self.request
            .locked(|| self.with_trim(|trim| core::mem::replace(trim, PendingTrim::NONE)))
    }

    /// Has something been asked for before everything else that has been, but does not have it
    /// done.
    fn remember(&self, trim: PendingTrim) {
        self.request.locked(|| self.add_earlier_trim(trim));
    }

    /// Keeps a trim that could not be granted for another try.
    fn give_up(&self, trim: PendingTrim) {
        self.remember(trim);
        let stats = self.worker().stats();
        stats.replace_failed.inc();
        self.space.stalled.add(stats.released.get());
    }

    /// Makes another try of a trim that could not be granted, if there is one and nobody is about
    /// to; says whether it asked for that.
    fn retry(&self, span: Span) -> bool {
        let trim = self.request.locked(|| self.with_trim(|trim| *trim));
        if !trim.concerns(span) {
            return false;
        }
        if self.request.state().change != Change::None {
            // Somebody has it, and may just have found that there is no memory.
            self.space.stalled.again();
            return false;
        }
        self.change(PendingTrim::NONE, || What::Change.to(span)) == Changed::Queued
    }

    /// Has a trim done, before everything else that has been asked for, that another range was
    /// asked for, or this one in vain; says whether it is going to be.
    ///
    /// The caller has taken, claimed or activated the range.
    fn inherit(&self, trim: PendingTrim) -> bool {
        let effect = self.request.apply_with(Step::Change, |effect| {
            if effect != Effect::NotLive {
                self.add_earlier_trim(trim);
            }
            effect
        });
        kernel::warn_on!(effect == Effect::Queue);
        effect != Effect::NotLive
    }

    /// Marks the range replaced, and returns what has been asked for since it was taken.
    fn replaced(&self) -> (Effect, PendingTrim) {
        self.request.apply_with(Step::Replace, |effect| {
            let trim = self.with_trim(|trim| core::mem::replace(trim, PendingTrim::NONE));
            (effect, trim)
        })
    }

    /// Keeps what is to take the range's place.
    ///
    /// # Safety
    ///
    /// The caller has taken the range to change it.
    unsafe fn set_split(&self, split: Option<KBox<Split<T>>>) {
        // SAFETY: By the safety requirements the caller has taken the range to change it, and by
        // the type invariants nobody else accesses this.
        *unsafe { self.split.get() } = split;
    }

    /// Takes back what [`Range::set_split`] kept.
    ///
    /// # Safety
    ///
    /// As there.
    unsafe fn take_split(&self) -> Option<KBox<Split<T>>> {
        // SAFETY: By the safety requirements the caller has taken the range to change it, and by
        // the type invariants nobody else accesses this.
        unsafe { self.split.get() }.take()
    }

    /// What it has in common with others: of its mirror, and of the driver's object.
    pub(super) fn parts(&self) -> (&Arc<Space<T>>, &Arc<Shared<T>>) {
        (&self.space, &self.shared)
    }

    pub(super) fn worker_borrow(&self) -> ArcBorrow<'_, Worker> {
        self.space.worker.as_arc_borrow()
    }

    /// The range and the interval around it that a request belongs to.
    ///
    /// # Safety
    ///
    /// `request` is that of a range of this type, in an interval that has been inserted, and valid
    /// for `'a`.
    unsafe fn of_request<'a>(request: *mut Request) -> &'a Interval<Self> {
        // SAFETY: By the safety requirements it is that of a range in an inserted interval, and
        // valid.
        let interval = unsafe { Self::raw_of_request(request) };
        // SAFETY: By the safety requirements it is valid for `'a`, and whoever is called with a
        // request has but shared references to the interval.
        unsafe { interval.as_ref() }
    }

    /// As [`Range::of_request`], for who takes over the registration's reference.
    ///
    /// # Safety
    ///
    /// `request` is that of a range of this type, in an interval that has been inserted, and valid.
    unsafe fn raw_of_request(request: *mut Request) -> NonNull<Interval<Self>> {
        // SAFETY: By the safety requirements it is the field of a range.
        let range = unsafe { container_of!(request, Self, request) };
        // SAFETY: A field's container is not at address null.
        let range = unsafe { NonNull::new_unchecked(range) };
        // SAFETY: By the safety requirements the range is the data of an interval that has been
        // inserted, and valid.
        unsafe { Interval::from_data(range) }
    }
}

// SAFETY: The place is a field of the data of an interval, and each function goes one step, there
// and back. An interval's span does not change.
unsafe impl<T: Mirrored> Indexed for Interval<Range<T>> {
    fn span(&self) -> Span {
        Interval::span(self)
    }

    unsafe fn place(this: NonNull<Self>) -> NonNull<Place> {
        // SAFETY: By the safety requirements it is valid.
        let range = unsafe { Self::raw_data(this) };
        // SAFETY: The data of a valid interval is valid, and so is its field.
        let place = unsafe { &raw mut (*range.as_ptr()).place };
        // SAFETY: A field of something valid is not at address null.
        unsafe { NonNull::new_unchecked(place) }
    }

    unsafe fn of_place(place: NonNull<Place>) -> NonNull<Self> {
        // SAFETY: By the safety requirements it is the field of a range.
        let range = unsafe { container_of!(place.as_ptr(), Range<T>, place) };
        // SAFETY: A field's container is not at address null.
        let range = unsafe { NonNull::new_unchecked(range) };
        // SAFETY: `place`, which by the safety requirements has returned it, went through
        // `raw_data` for a valid interval.
        unsafe { Self::of_raw_data(range) }
    }
}

#[pinned_drop]
impl<T: Mirrored> PinnedDrop for Range<T> {
    fn drop(self: Pin<&mut Self>) {
        // One that has been released is not counted any more.
        if self.request.state().stage != Stage::Releasing {
            self.space.uncount();
        }
    }
}

impl<T: Mirrored> Invalidate for Range<T> {
    const OPS: &'static InvalidateOps<Self> = &T::OPS.notifier;

    fn invalidate<'cb>(
        this: &'cb Interval<Self>,
        inv: mmu_interval::CallbackContext<'cb>,
    ) -> Handled<'cb> {
        let range = this.data();
        let event = inv.event();
        let mut inv = Invalidation::new(this, inv);
        if matches!(event, Event::Migrate | Event::Exclusive) {
            inv = match inv.answer_own() {
                Ok(handled) => return handled,
                Err(inv) => inv,
            };
        }
        let handled = range.shared.data().invalidate(inv);
        if event == Event::Release {
            // The address space goes, and nobody is going to ask for its ranges one by one.
            range.retire();
        }
        handled
    }
}

impl<T: Mirrored> MirroredOps<T> {
    /// Makes the tables for `T`. Not to be called but by the macro.
    ///
    /// # Safety
    ///
    /// For the initialiser of a static item, with `THIS_MODULE` of the crate that has the item.
    #[doc(hidden)]
    pub const unsafe fn new(module: &ThisModule) -> Self {
        Self {
            request: RequestOps {
                owner: module.as_ptr(),
                unpublish: None,
                remove: Some(remove::<T>),
                release: Some(release::<T>),
            },
            mirror: MirrorOps {
                unpublish: unpublish::<T>,
                start_removal: start_removal::<T>,
                change: Range::<T>::CHANGE_OPS,
                span: span::<T>,
            },
            // SAFETY: By the safety requirements this is for the initialiser of a static item. A
            // mirror has a reference on `module`, which is that of the item's crate, by way of its
            // `OwnedWorker`, and does not put it before all ranges that were inserted are removed.
            notifier: unsafe { InvalidateOps::new_kept() },
            same: is_itself::<T>,
        }
    }
}

/// Where a range is.
///
/// # Safety
///
/// `request` is that of a range of this type, which has been inserted and not been released.
unsafe fn span<T: Mirrored>(request: NonNull<Request>) -> Span {
    // SAFETY: By the safety requirements it is that of a range, which is valid until it is
    // released.
    unsafe { Range::<T>::of_request(request.as_ptr()) }.span()
}

/// Whether two are one, in Rust.
fn is_itself<T: Mirrored>(one: &Shared<T>, other: &Shared<T>) -> bool {
    core::ptr::eq(one, other)
}

/// First: nobody finds the ranges any more, and what was installed since the callbacks is taken
/// back.
///
/// # Safety
///
/// Called by the worker of a mirror, with [`MirroredOps::mirror`], for requests of the mirror's
/// ranges, before it calls any function of [`MirroredOps::request`] for them.
unsafe fn unpublish<T: Mirrored>(leaving: &Fifo) {
    // SAFETY: By the safety requirements they are requests of ranges, which have been inserted and
    // are valid until `release`.
    let interval = |request: NonNull<Request>| unsafe { Range::<T>::of_request(request.as_ptr()) };
    let intervals = || leaving.iter().map(interval);
    // The ranges of a mirror have one space.
    let Some(first) = intervals().next() else {
        return;
    };
    // SAFETY: They are valid, and of one mirror, which has one index.
    unsafe {
        first.data().space.index.erase(
            intervals().map(NonNull::from),
            // What has left it before was zapped then.
            |interval| interval.data().zap_dead(interval.span()),
        )
    };
    for interval in intervals() {
        let data = interval.data().shared.data();
        // SAFETY: By the safety requirements a worker is calling this, as `MirrorOps::unpublish`.
        unsafe { WorkerContext::enter(|ctx| data.zapped(interval.span(), ctx)) };
    }
}

/// Then, after the grace period, for all: their notifiers leave core mm's tree with the end of the
/// phase. Says whether core mm can do that.
///
/// # Safety
///
/// As for [`unpublish`], after a call of that, once.
unsafe fn start_removal<T: Mirrored>(leaving: &Fifo) -> bool {
    for request in leaving.iter() {
        // SAFETY: By the safety requirements it is the request of a range, which has been inserted
        // and is valid until `release`.
        let interval = unsafe { Range::<T>::raw_of_request(request.as_ptr()) };
        // SAFETY: Who put the range in service called `into_raw`, and `into_raw` below gives this
        // back before `remove` takes it.
        let mut registration = unsafe { Registration::from_raw(interval) };
        let can_split = registration.interval().data().space.split_removal;
        let started = can_split && registration.start_removal();
        let _ = registration.into_raw();
        if !started {
            return false;
        }
    }
    true
}

/// Then, for each: no callback any more. Sleeps while the address space is invalidated.
///
/// # Safety
///
/// Called by a worker with [`MirroredOps::request`], for the request of a range, in the order of
/// the table.
unsafe extern "C" fn remove<T: Mirrored>(request: *mut Request) {
    // SAFETY: By the safety requirements it is the request of a range, which has been inserted and
    // is valid until `release`.
    let interval = unsafe { Range::<T>::raw_of_request(request) };
    // SAFETY: Who put the range in service called `into_raw`, `start_removal` gave back what it
    // took, and by the safety requirements this is called in the order of the table, once for a
    // range.
    let registration = unsafe { Registration::from_raw(interval) };
    let (interval, has_waited) = MayBlock::assume(|p| registration.remove_observed(p));
    // SAFETY: By the safety requirements a worker is calling `RequestOps::remove` for this request.
    unsafe { interval.data().request.note_wait(has_waited) };
    // The reference stays with whoever is going to call `release`.
    let _ = Arc::into_raw(interval);
}

/// Last: the driver is told, and the memory is freed.
///
/// # Safety
///
/// As for [`remove`].
unsafe extern "C" fn release<T: Mirrored>(request: *mut Request) {
    // SAFETY: By the safety requirements it is the request of a range, which has been inserted and
    // is valid until this.
    let interval = unsafe { Range::<T>::raw_of_request(request) };
    // SAFETY: `remove`, which by the order of the table has been called, left us the reference that
    // the registration had.
    let interval = unsafe { Arc::from_raw(interval.as_ptr()) };
    let range = interval.data();
    // First, so that there is room for another range when the driver hears of it.
    range.space.uncount();
    let data = range.shared.data();
    // SAFETY: By the safety requirements a worker is calling this, as `RequestOps::release`.
    unsafe { WorkerContext::enter(|ctx| data.released(interval.span(), ctx)) };
}
