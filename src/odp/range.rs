// SPDX-License-Identifier: GPL-2.0

//! Level 2: a managed range, from the first callback to its last rites.
//!
//! # Who keeps a range alive
//!
//! Its memory is that of an [`Arc`] of which there is exactly one reference once it is inserted: the
//! notifier's registration has it, from `insert` until the worker takes it back in [`release`].
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
//!       a request                         (spinlock)
//! writers of the index                    (mutex; insert and worker)
//!   reclaim                               (it allocates; nobody waits for the worker there)
//!   user lock
//! ```

use super::{
    answer::{
        Changed,
        Retire, //
    },
    callbacks::{
        MirrorOps,
        RequestOps,
        WorkerContext, //
    },
    fifo::Fifo,
    invalidation::Invalidation,
    request::{
        Guarded,
        Request, //
    },
    shared::{
        Shared,
        UserLock, //
    },
    stalled::Stalled,
    state::{
        Change,
        Effect,
        Event as Step,
        Stage,
        State, //
    },
    swap::Swap,
    wish::{
        Verdict,
        Wish, //
    },
    worker::Worker, //
};
use crate::{
    mappings::Mappings,
    may_block::MayBlock,
    memcg::MemCgroup,
    mmu_interval::{
        self,
        Event,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    range_index::RangeIndex,
    span::Span, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::Flags,
    container_of,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    types::ScopeGuard, //
};

/// What a driver says about the addresses it mirrors.
///
/// A value of the implementing type is the driver's object; any number of ranges can be made from
/// one, and all of them share its table and its lock.
///
/// What has been installed by a [`Hold::commit`] is good until [`Mirrored::invalidate`] or
/// [`Mirrored::zap`] is called for its address, and one of them is before the address is without a
/// notifier, whatever becomes of the range. So a device may walk the table under the user lock without
/// knowing the range, and so does [`Shared::inspect`]. Retiring a range does not end that, but
/// [`Mirrored::zap`].
///
/// [`Hold::commit`]: super::Hold::commit
pub trait Mirrored: Send + Sync + Sized + 'static {
    /// What the library calls for ranges of this type: [`mirrored_ops!`](crate::mirrored_ops) of the type.
    const OPS: &'static MirroredOps<Self>;

    /// What the device may reach, by absolute address: its page table, or what stands for it.
    type Table;

    /// The user lock, with the table in it.
    type Lock: UserLock<Table = Self::Table>;

    /// Stops the device's access to what `inv` names, and answers.
    ///
    /// What is asked for here of a range counts for the smaller ones that take its place, too. During an
    /// invalidation it is not called for those yet: a driver that looks at the size of a range, and asks for
    /// nothing, has said so of them.
    ///
    /// Context: as [`Invalidate::invalidate`] says. Called again and again until the range is
    /// removed, and for a range that is retired, too.
    ///
    /// # Examples
    ///
    /// ```ignore
    /// fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
    ///     let mut zap = match inv.begin() {
    ///         Ok(zap) => zap,
    ///         Err(handled) => return handled,
    ///     };
    ///     let span = zap.span();
    ///     zap.clear(span);
    ///     if zap.event() == Event::Unmap {
    ///         zap.retire();
    ///     }
    ///     zap.done()
    /// }
    /// ```
    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb>;

    /// Stops the device's access to `dead` once more: it leaves coverage, and nothing new can be
    /// installed in it through the range that did cover it. Must not fail.
    ///
    /// Context: the worker, or a caller of drain or of insert, with the mirror's index and the user lock
    /// held; may sleep as far as the latter allows. No insertion, no [`Mirror::retire_all`].
    ///
    /// [`Mirror::retire_all`]: super::Mirror::retire_all
    fn zap(&self, table: &mut Self::Table, dead: Span);

    /// A range at `dead` that has been retired or replaced has been zapped, and the lock is free again: the
    /// place to wait for the device, not to take anything apart: other ranges may be in service at part of
    /// `dead` by now, and smaller ones are where it has been replaced.
    ///
    /// Context: the worker, or a caller of drain; may sleep, but not wait for a worker.
    fn zapped(&self, dead: Span, ctx: &WorkerContext<'_>) {
        let (_, _) = (dead, ctx);
    }

    /// Smaller ranges are in service in the place of the one at `old`: at `pieces`, in order of address.
    /// Nothing has to be done; the table and the lock are theirs as they were the old one's.
    ///
    /// Called before anything else of the pieces is, apart from [`Mirrored::invalidate`].
    ///
    /// Context: the worker, or a caller of drain; may sleep, but not wait for a worker. The old range has
    /// yet to leave: what is not covered any more is zapped after this.
    fn replaced(&self, old: Span, pieces: &[Span], ctx: &WorkerContext<'_>) {
        let (_, _, _) = (old, pieces, ctx);
    }

    /// A range is gone: no callback, no access and no hold is left of it.
    ///
    /// Called once for every range that was in service, also for one that smaller ones are in the place of, and
    /// before the range's share of `self` is dropped. It does not count for `max_ranges` any more.
    ///
    /// Context: the worker; may sleep, but not wait for a worker. How long it takes delays later
    /// removals of the same mirror. `self` must not own the mirror.
    fn released(&self, span: Span, ctx: &WorkerContext<'_>);
}

/// What the library and core mm call for ranges of a driver's, and the module whose text that is, which a
/// mirror keeps loaded.
///
/// Made by [`mirrored_ops!`](crate::mirrored_ops), as a static item of the module.
pub struct MirroredOps<T: Mirrored> {
    /// What a worker calls for a range.
    pub(super) request: RequestOps,
    /// What a mirror's worker calls besides.
    pub(super) mirror: MirrorOps,
    notifier: InvalidateOps<Range<T>>,
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
                change: Range::<T>::CHANGE_OPS,
            },
            // SAFETY: As required here.
            notifier: unsafe { InvalidateOps::new(module) },
        }
    }
}

/// The tables for [`Mirrored::OPS`] of a type, in the module that this is written in.
///
/// The type has no parameters that are those of the implementation around it: one table for all types
/// would be in one module, while the code for each type is in the module that uses it. So where a crate
/// implements [`Mirrored`] for a type with parameters, those have to bring the tables.
///
/// # Examples
///
/// ```ignore
/// const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Device);
/// ```
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "it is the module of the crate that uses this"
)]
macro_rules! mirrored_ops {
    ($type:ty) => {{
        static OPS: $crate::MirroredOps<$type> =
            // SAFETY: It is the initialiser of a static item, and the module is that of its crate.
            unsafe {
                $crate::MirroredOps::new(
                    &<crate::LocalModule as ::kernel::ModuleMetadata>::THIS_MODULE,
                )
            };
        &OPS
    }};
}

/// What all ranges of a mirror have in common.
#[pin_data]
pub(super) struct Space<T: Mirrored> {
    pub(super) worker: Arc<Worker>,
    #[pin]
    pub(super) index: RangeIndex<Interval<Range<T>>>,
    pub(super) mm: ARef<Mm>,
    /// That in which the mirror was made: what it keeps is charged to it.
    pub(super) memcg: MemCgroup,
    /// How many ranges there are, retired ones included.
    ranges: Atomic<usize>,
    limit: usize,
    /// What the ends of pieces are rounded to, in bytes: a power of two, a page or more.
    pub(super) grain: usize,
    /// The ranges that could not be changed as they should.
    stalled: Stalled,
}

/// How many ranges a drain looks at, at most, for those that could not be changed, and how many of these it
/// has changed: who inserts a range pays for no more.
const LOOKS: usize = 64;
const TRIES: usize = 8;

/// How many a flush, which tries all of them, looks at before others may change the index.
const LOOKS_AT_A_TIME: usize = 1024;

impl<T: Mirrored> Space<T> {
    pub(super) fn new(
        worker: Arc<Worker>,
        mm: ARef<Mm>,
        memcg: MemCgroup,
        limit: usize,
        grain: usize,
    ) -> impl PinInit<Self> {
        pin_init!(Self {
            worker,
            index <- RangeIndex::new(),
            mm,
            memcg,
            ranges: Atomic::new(0),
            limit,
            grain,
            stalled: Stalled::new(),
        })
    }

    /// Has another try made for a few of the changes that could not be made, if ranges have been released since;
    /// the next call goes on with others. May sleep.
    pub(super) fn retry_some(&self) {
        if !self.stalled.is_due(self.worker.stats().released.get()) {
            return;
        }
        let index = self.index.lock();
        let (from, mut left) = (self.stalled.step(), TRIES);
        let next = index.look_at(from, LOOKS, |interval| {
            // OVERFLOW: No more than there are left.
            left -= usize::from(interval.data().retry(interval.span()));
            left > 0
        });
        self.stalled.stop(next);
    }

    /// Has another try made for all changes that could not be made before the call. May sleep.
    pub(super) fn retry_all(&self) {
        if !self.stalled.any() {
            return;
        }
        self.stalled.pass(|| {
            let mut next = Some(0);
            while let Some(from) = next {
                let index = self.index.lock();
                if from == 0 {
                    self.stalled.take_all();
                }
                next = index.look_at(from, LOOKS_AT_A_TIME, |interval| {
                    let _ = interval.data().retry(interval.span());
                    true
                });
            }
        });
    }

    /// How many ranges there are that have not been released.
    pub(super) fn ranges(&self) -> usize {
        self.ranges.load(Relaxed)
    }

    /// Counts one more. Where there is no room nothing is, not even for a moment: somebody else might find none
    /// for that.
    fn count(&self, room: Room) -> Result {
        let mut ranges = self.ranges.load(Relaxed);
        while room == Room::Taken || ranges < self.limit {
            // OVERFLOW: There cannot be as many ranges as there are bytes.
            match self.ranges.cmpxchg(ranges, ranges + 1, Full) {
                Ok(_) => return Ok(()),
                Err(others) => ranges = others,
            }
        }
        Err(ENOSPC)
    }

    fn uncount(&self) {
        let _ = self.ranges.fetch_sub(1, Full);
    }
}

/// Whether there must be room for another range.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// In the number of ranges that a mirror may have.
    Limited,
    /// There is: that of a range which is about to leave.
    Taken,
}

/// A range of addresses that a driver mirrors.
///
/// # Invariants
///
/// - `wish` is accessed with the request locked.
/// - `swap` is accessed by whoever has taken the request to change the range.
#[pin_data(PinnedDrop)]
pub struct Range<T: Mirrored> {
    #[pin]
    request: Request,
    wish: Guarded<Wish>,
    swap: Guarded<Option<KBox<Swap<T>>>>,
    /// Whether the driver has not been told of it and never will be.
    disowned: Atomic<bool>,
    /// Whether there have been pieces of it that were disowned.
    has_disowned: Atomic<bool>,
    space: Arc<Space<T>>,
    shared: Arc<Shared<T>>,
}

impl<T: Mirrored> Range<T> {
    /// Makes a range that is about to be inserted, and held `holds` times by whoever does that.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENOSPC` if the mirror has as many ranges as it may have, `EXDEV` if `shared` is used
    /// with another mirror.
    pub(super) fn new(
        space: Arc<Space<T>>,
        span: Span,
        shared: Arc<Shared<T>>,
        holds: u32,
        room: Room,
        memory: Flags,
    ) -> Result<Arc<Interval<Self>>> {
        // The notifier, the request, what the two belong to, and the reference count.
        #[cfg(not(CONFIG_DEBUG_SPINLOCK))]
        const {
            assert!(size_of::<Interval<Self>>() + size_of::<usize>() <= 256)
        };

        if !shared.bind(Arc::as_ptr(&space).cast_mut().cast()) {
            return Err(EXDEV);
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
                    wish: Guarded::new(Wish::NONE),
                    swap: Guarded::new(None),
                    disowned: Atomic::new(false),
                    has_disowned: Atomic::new(false),
                    space,
                    shared,
                }),
            ),
            memory,
        )
        // From here on its destructor counts.
        .inspect(|_| drop(counted.dismiss()))
    }

    /// The driver's object and its lock.
    pub fn shared(&self) -> &Shared<T> {
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
    pub(super) fn is_live(&self) -> bool {
        self.request.state().is_live()
    }

    /// Whether nobody has asked for it to go.
    pub(super) fn is_wanted(&self) -> bool {
        matches!(self.request.state().stage, Stage::Building | Stage::Live)
    }

    /// Whether smaller ranges are in its place.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self.request.state().change, Change::Replaced)
    }

    /// Takes back what may have been installed through the range, which is retired, in `dead`.
    ///
    /// A commit that saw the range live has finished when the lock is ours, and what it installed is
    /// zapped here. One that takes the lock later sees that the range is not live.
    pub(super) fn zap_dead(&self, dead: Span) {
        let mut table = self.shared.locked();
        self.shared.data().zap(&mut table, dead);
    }

    /// Retires it. Context: any process context. `self` must be a range that was inserted.
    pub(super) fn retire(&self) -> Retire {
        // SAFETY: `self` is valid. Once it is in service it will be until `release` is called, which
        // is what ends the registration's reference; until then nobody queues it.
        unsafe {
            Worker::retire(
                self.space.worker.as_arc_borrow(),
                NonNull::from(&self.request),
            )
        }
    }

    /// Asks for the range to be changed. Context: any process context. `self` must be a range that was
    /// inserted.
    fn change(&self, wish: Wish) -> Changed {
        // SAFETY: As for `retire`, and the workers of mirrors have `MirrorOps`.
        unsafe {
            Worker::change(
                self.space.worker.as_arc_borrow(),
                NonNull::from(&self.request),
                || self.add_wish(wish),
            )
        }
    }

    /// Asks for no more than `keep`, which is part of `of`, to be mirrored.
    pub(super) fn resize(&self, of: Span, keep: Span) -> Result<Changed> {
        if !of.covers(&keep) {
            return Err(EINVAL);
        }
        Ok(self.change(Wish::keep(keep)))
    }

    /// Says that `unmapped`, which is part of `of`, is not mapped any more.
    pub(super) fn punch(&self, of: Span, unmapped: Span) -> Result<Changed> {
        if !of.covers(&unmapped) {
            return Err(EINVAL);
        }
        Ok(self.change(Wish::unmapped(unmapped)))
    }

    /// Has what the process has not mapped of `span`, which is all of the range, taken out of it, or out of
    /// those that have taken its place.
    ///
    /// Whatever is unmapped after the look, callbacks are told of: the range has been published, so that its
    /// notifier is in the tree.
    pub(super) fn punch_unmapped(&self, span: Span, p: &mut MayBlock<'_>) -> Result {
        p.for_mmap_lock(&self.space.mm);
        let mm = self.space.mm.mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here: it calls the driver.
        let mm = MmWithUser::into_mmput_async(mm);
        let planned = {
            let mappings = Mappings::lock(&mm);
            Wish::unmapped(span).plan(span, self.space.grain, mappings.within(span), |_| Err(()))
        };
        match planned {
            Ok(Verdict::Unchanged) => Ok(()),
            // None of it is mapped, or it would be cut.
            _ => match self.punch(span, span)? {
                Changed::Gone if self.is_replaced() => {
                    self.punch_others(span);
                    Ok(())
                }
                changed => changed.accepted(),
            },
        }
    }

    /// Says that `unmapped` is not mapped of whatever ranges there are: those that are in the place of this
    /// one, of which nobody else may tell them, and others, which it does no harm to tell.
    fn punch_others(&self, unmapped: Span) {
        // With the index locked it has either this range or what is in its place. One that is being inserted
        // is left to whoever does that.
        self.space.index.for_each_within(unmapped, |other| {
            let part = other.span().intersect(&unmapped);
            if let Some(part) = part.filter(|_| other.data().is_live()) {
                let _ = other.data().change(Wish::unmapped(part));
            }
        });
    }

    /// Runs `f` with what has been asked for. The request is locked.
    fn with_wish<R>(&self, f: impl FnOnce(&mut Wish) -> R) -> R {
        // SAFETY: By the type invariants nobody else accesses it while the request is locked.
        f(unsafe { self.wish.get() })
    }

    /// Adds to what has been asked for. The request is locked.
    fn add_wish(&self, wish: Wish) {
        self.with_wish(|pending| *pending = pending.and(wish));
    }

    /// Takes over what has been asked for.
    pub(super) fn take_wish(&self) -> Wish {
        self.request
            .locked(|| self.with_wish(|wish| core::mem::replace(wish, Wish::NONE)))
    }

    /// Adds to what has been asked for, but does not have it done.
    pub(super) fn remember(&self, wish: Wish) {
        self.request.locked(|| self.add_wish(wish));
    }

    /// Keeps a wish that could not be granted for another try.
    pub(super) fn give_up(&self, wish: Wish) {
        self.remember(wish);
        let stats = self.worker().stats();
        stats.replace_failed.inc();
        self.space.stalled.add(stats.released.get());
    }

    /// Makes another try of a wish that could not be granted, if there is one and nobody is about to; says
    /// whether it asked for that.
    fn retry(&self, span: Span) -> bool {
        let wish = self.request.locked(|| self.with_wish(|wish| *wish));
        if !wish.concerns(span) {
            return false;
        }
        if self.request.state().change != Change::None {
            // Somebody has it, and may just have found that there is no memory.
            self.space.stalled.again();
            return false;
        }
        self.change(Wish::NONE) == Changed::Queued
    }

    /// A wish that another range, of which this is a piece, was asked for.
    ///
    /// The caller has adopted the range.
    pub(super) fn inherit(&self, wish: Wish) {
        let effect = self.request.apply_with(Step::Change, |effect| {
            if effect != Effect::Gone {
                self.add_wish(wish);
            }
            effect
        });
        kernel::warn_on!(effect == Effect::Queue);
    }

    /// Gives up the range, which has been adopted and is not going to be a piece. Returns whether nobody had
    /// retired it, and what else it was asked for.
    pub(super) fn disown(&self) -> (bool, Wish) {
        self.disowned.store(true, Relaxed);
        self.request.apply_with(Step::Disown, |effect| {
            let wish = self.with_wish(|wish| core::mem::replace(wish, Wish::NONE));
            (effect != Effect::GiveBackRetire, wish)
        })
    }

    /// Remembers that pieces of it have been disowned, which leave in the same batches.
    pub(super) fn note_disowned(&self) {
        self.has_disowned.store(true, Relaxed);
    }

    /// Whether what leaves with it may be more than itself.
    pub(super) fn leaves_with_others(&self) -> bool {
        self.is_replaced() || self.has_disowned.load(Relaxed)
    }

    /// Marks the range replaced, and returns what has been asked for since it was taken.
    pub(super) fn replaced(&self) -> (Effect, Wish) {
        self.request.apply_with(Step::Replace, |effect| {
            let wish = self.with_wish(|wish| core::mem::replace(wish, Wish::NONE));
            (effect, wish)
        })
    }

    /// Keeps what is to take the range's place.
    ///
    /// # Safety
    ///
    /// The caller has taken the range to change it.
    pub(super) unsafe fn set_swap(&self, swap: Option<KBox<Swap<T>>>) {
        // SAFETY: By the safety requirements and the type invariants nobody else accesses it.
        *unsafe { self.swap.get() } = swap;
    }

    /// Takes back what [`Range::set_swap`] kept.
    ///
    /// # Safety
    ///
    /// As there.
    pub(super) unsafe fn take_swap(&self) -> Option<KBox<Swap<T>>> {
        // SAFETY: By the safety requirements and the type invariants nobody else accesses it.
        unsafe { self.swap.get() }.take()
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
    /// `request` is that of a range of this type, in an interval that has been inserted, and valid for `'a`.
    pub(super) unsafe fn of_request<'a>(request: *mut Request) -> &'a Interval<Self> {
        // SAFETY: As required here.
        let interval = unsafe { Self::raw_of_request(request) };
        // SAFETY: By the safety requirements; only shared references to it exist.
        unsafe { interval.as_ref() }
    }

    /// As [`Range::of_request`], for who takes over the registration's reference.
    ///
    /// # Safety
    ///
    /// `request` is that of a range of this type, in an interval that has been inserted, and valid.
    unsafe fn raw_of_request(request: *mut Request) -> NonNull<Interval<Self>> {
        // SAFETY: By the safety requirements.
        let range = unsafe { container_of!(request, Self, request) };
        // SAFETY: A field's container is not at address null.
        let range = unsafe { NonNull::new_unchecked(range) };
        // SAFETY: By the safety requirements.
        unsafe { Interval::from_data(range) }
    }
}

#[pinned_drop]
impl<T: Mirrored> PinnedDrop for Range<T> {
    fn drop(self: Pin<&mut Self>) {
        self.space.uncount();
    }
}

impl<T: Mirrored> Invalidate for Range<T> {
    const OPS: &'static InvalidateOps<Self> = &T::OPS.notifier;

    fn invalidate<'cb>(
        this: &'cb Interval<Self>,
        inv: mmu_interval::Invalidation<'cb>,
    ) -> Handled<'cb> {
        let event = inv.event();
        let range = this.data();
        let handled = range.shared.data().invalidate(Invalidation::new(this, inv));
        if event == Event::Release {
            // The address space goes, and nobody is going to ask for its ranges one by one.
            range.retire();
        }
        handled
    }
}

/// First: nobody finds the ranges any more, and what was installed since the callbacks is taken back.
///
/// # Safety
///
/// Called by the worker of a mirror, with [`MirroredOps::mirror`], for requests of the mirror's ranges, before it calls
/// any function of [`MirroredOps::request`] for them.
unsafe fn unpublish<T: Mirrored>(leaving: &Fifo) {
    // SAFETY: The worker passes requests of ranges of its mirror, which are valid until `release`.
    let interval = |request: NonNull<Request>| unsafe { Range::<T>::of_request(request.as_ptr()) };
    let intervals = || leaving.iter().map(interval);
    // The ranges of a mirror have one space.
    let Some(first) = intervals().next() else {
        return;
    };
    first.data().space.index.erase(
        intervals().map(|interval| (interval.span(), NonNull::from(interval))),
        // What has been overwritten is the business of the new range, and has been zapped for it.
        |interval, piece| interval.data().zap_dead(piece),
    );
    for interval in intervals().filter(|interval| !interval.data().disowned.load(Relaxed)) {
        let data = interval.data().shared.data();
        // SAFETY: This is a function of a `MirrorOps`.
        unsafe { WorkerContext::enter(|ctx| data.zapped(interval.span(), ctx)) };
    }
}

/// Then, after the grace period: no callback any more. Sleeps while the address space is invalidated.
///
/// # Safety
///
/// Called by a worker with [`MirroredOps::request`], for the request of a range, in the order of the table.
unsafe extern "C" fn remove<T: Mirrored>(request: *mut Request) {
    // SAFETY: The worker passes requests of ranges of its mirror, which are valid until `release`.
    let interval = unsafe { Range::<T>::raw_of_request(request) };
    // SAFETY: Who put the range in service called `into_raw`, and the worker calls this once for a range.
    let registration = unsafe { Registration::from_raw(interval) };
    let (interval, has_waited) = MayBlock::assume(|p| registration.remove_observed(p));
    // SAFETY: The worker has taken it, and removes it just now.
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
    // SAFETY: The worker passes requests of ranges of its mirror, which are valid until this.
    let interval = unsafe { Range::<T>::raw_of_request(request) };
    // SAFETY: `remove` left the reference that the registration had to us.
    let interval = unsafe { Arc::from_raw(interval.as_ptr()) };
    if interval.data().disowned.load(Relaxed) {
        return;
    }
    let (span, shared) = (interval.span(), interval.data().shared.clone());
    // First, so that there is room for another range when the driver hears of it.
    drop(interval);
    // SAFETY: This is a function of a `RequestOps`.
    unsafe { WorkerContext::enter(|ctx| shared.data().released(span, ctx)) };
}
