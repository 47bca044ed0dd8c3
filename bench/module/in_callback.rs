// SPDX-License-Identifier: GPL-2.0

//! The arms of the design in which removal happens in the callback: core mm as `bench/in_callback`
//! has it, and a driver like those it was proposed for.
//!
//! A range that is unmapped in whole is removed there and then, one that is unmapped in part gets
//! other bounds, and where a hole makes two of it a second notifier is inserted. There is no work
//! item and no grace period but that of [`Lockless`]. What a range consists of is otherwise as in
//! the library: the notifier, a share of what it was made for, a place in a maple tree by which
//! addresses are looked up, one mutex as the user lock, a count of those that are not gone.
//!
//! How readers are protected is what the three arms differ in; see [`Faithful`], [`Mutexed`] and
//! [`Lockless`].

use super::{
    arm::Arm,
    region::Region,
    spent, //
};
use core::{
    ffi::c_void,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::Flags,
    bindings,
    container_of,
    error::to_result,
    ffi::c_ulong,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_condvar,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            atomic_store,
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        rcu,
        srcu::{
            self,
            new_srcu, //
        },
        Arc,
        CondVar,
        Mutex,
        SpinLock,
        Srcu, //
    },
    types::Opaque, //
};
use odp::{
    mmu_interval,
    MayBlock,
    Span, //
};

type Ops = bindings::mmu_interval_notifier_ops;

// The prototype is that of helpers.h.
unsafe extern "C" {
    fn odp_bench_forget(tree: *mut bindings::maple_tree, entry: *const c_void);
}

/// Makes the arm of that name.
///
/// # Errors
///
/// `EINVAL` if there is none, `ENOMEM`, `EINTR`.
pub(crate) fn choose(arm: &str, mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Arc<dyn Arm>> {
    Ok(match arm {
        "incb-faithful" => Arc::new(InCallback::<Faithful>::new(mm, p)?, GFP_KERNEL)?,
        "incb-mutex" => Arc::new(InCallback::<Mutexed>::new(mm, p)?, GFP_KERNEL)?,
        "incb-srcu" => Arc::new(InCallback::<Lockless<false>>::new(mm, p)?, GFP_KERNEL)?,
        "incb-srcu-exp" => Arc::new(InCallback::<Lockless<true>>::new(mm, p)?, GFP_KERNEL)?,
        _ => return Err(EINVAL),
    })
}

/// How readers are protected from what the callback removes.
trait Readers: Send + Sync + Sized + 'static {
    /// Whether core mm is to behave as it was posted.
    const AS_POSTED: bool;
    /// Whether lookups take no lock, so that what they find must live until a grace period has
    /// ended.
    const LOCKLESS: bool;
    /// What that takes for a mirror,
    type Domain: Send + Sync;
    /// for a range,
    type Head;
    /// and for a reader.
    type Section<'a>;

    fn domain() -> Result<Self::Domain>;
    fn head() -> Self::Head;
    fn enter(domain: &Self::Domain) -> Self::Section<'_>;

    /// All ranges are released, and none will be any more. May sleep.
    fn quiesce(domain: &Self::Domain) {
        let _ = domain;
    }

    /// The invalidation is over: nobody but readers can know of the range any more.
    ///
    /// # Safety
    ///
    /// `piece` is what `Piece::new` made, is not in the index, and this is called once for it.
    unsafe fn release(piece: NonNull<Piece<Self>>);
}

/// Core mm as version 6 of January 2020 had it. Lookups are made, and what they find is used, with
/// the user lock held, which the callback takes; so nobody looks at a range that has been removed,
/// and it is freed at the end of the invalidation.
///
/// The driver stays clear of what was wrong in core mm: it does not remove a range twice (which
/// under an invalidation that lasts would hang the machine), works out what is left of one from
/// bounds of its own, and counts to know when all are gone. So this can be measured; what goes
/// wrong else the tests show.
struct Faithful;

impl Readers for Faithful {
    const AS_POSTED: bool = true;
    const LOCKLESS: bool = false;
    type Domain = ();
    type Head = ();
    type Section<'a> = ();

    fn domain() -> Result {
        Ok(())
    }

    fn head() {}

    fn enter((): &()) {}

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements it is what `Piece::new` made, released once. No reader
        // knows it, because `unpublish` and lookups are under the same lock.
        unsafe { Piece::free(piece, Gone::Both) };
    }
}

/// The same with core mm as it is repaired. Readers are protected as in [`Faithful`]: by the user
/// lock.
struct Mutexed;

impl Readers for Mutexed {
    const AS_POSTED: bool = false;
    const LOCKLESS: bool = false;
    type Domain = ();
    type Head = ();
    type Section<'a> = ();

    fn domain() -> Result {
        Ok(())
    }

    fn head() {}

    fn enter((): &()) {}

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements it is what `Piece::new` made, released once. Readers
        // have the user lock, under which it has left the index.
        unsafe { Piece::free(piece, Gone::Both) };
    }
}

/// The question of 2020: is a grace period not needed anyway? Readers are protected by SRCU, as in
/// the library: a lookup takes no lock. The callback takes the range out of the index, and
/// `release()` leaves freeing it to `call_srcu()`, one for each range; the grace period is
/// expedited if `EXPEDITED`, with `srcu_expedite_current()`, for there is no `call_srcu()` that is.
struct Lockless<const EXPEDITED: bool>;

impl<const EXPEDITED: bool> Lockless<EXPEDITED> {
    /// # Safety
    ///
    /// Called by SRCU, once for a `head` that `release` passed.
    unsafe extern "C" fn after_grace_period(head: *mut bindings::callback_head) {
        // SAFETY: By the safety requirements it is the head of a piece, which nobody frees but
        // this.
        let piece = unsafe { container_of!(Opaque::cast_from(head), Piece<Self>, head) };
        // SAFETY: Not null, as part of an allocation.
        let piece = unsafe { NonNull::new_unchecked(piece.cast_mut()) };
        // SAFETY: The readers that knew it have gone.
        unsafe { Piece::free(piece, Gone::Released) };
    }
}

impl<const EXPEDITED: bool> Readers for Lockless<EXPEDITED> {
    const AS_POSTED: bool = false;
    const LOCKLESS: bool = true;
    type Domain = Pin<KBox<Srcu>>;
    type Head = Opaque<bindings::callback_head>;
    type Section<'a> = srcu::Guard<'a>;

    fn domain() -> Result<Self::Domain> {
        KBox::pin_init(new_srcu!("odp_bench::Lockless"), GFP_KERNEL)
    }

    fn head() -> Self::Head {
        Opaque::uninit()
    }

    fn enter(domain: &Self::Domain) -> srcu::Guard<'_> {
        domain.read_lock()
    }

    fn quiesce(domain: &Self::Domain) {
        if EXPEDITED {
            // CAST: `Srcu` is transparent over `srcu_struct`.
            let srcu = ptr::from_ref::<Srcu>(domain).cast_mut().cast();
            // What expedites a grace period is a callback of SRCU's own, that may have queued
            // itself once more; the barrier in the domain's end sees to the second time.
            //
            // SAFETY: The domain is valid.
            unsafe { bindings::srcu_barrier(srcu) };
        }
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: It is freed after the grace period, which has not begun.
        let piece = unsafe { piece.as_ref() };
        let mirror = piece.mirror();
        mirror.gone(Gone::Removed);
        // CAST: `Srcu` is transparent over `srcu_struct`.
        let srcu = ptr::from_ref::<Srcu>(&mirror.domain).cast_mut().cast();
        // SAFETY: The domain is valid until the mirror goes, which waits for the callbacks. The
        // head is not in use, because this is called once.
        unsafe { bindings::call_srcu(srcu, piece.head.get(), Some(Self::after_grace_period)) };
        if EXPEDITED {
            // SAFETY: The domain is valid until the mirror goes. The piece may be gone by now, but
            // the mirror is not before the invalidation in which this is called has ended: it waits
            // for that.
            unsafe { bindings::srcu_expedite_current(srcu) };
        }
    }
}

/// A range: a notifier, and what the driver knows.
///
/// # Invariants
///
/// `mirror` is valid for as long as the piece is.
#[pin_data]
struct Piece<R: Readers> {
    #[pin]
    notifier: Opaque<bindings::mmu_interval_notifier>,
    #[pin]
    head: R::Head,
    mirror: NonNull<Mirror<R>>,
    region: Arc<Region>,
    /// Where it was put in the index; it is nowhere else in it.
    indexed: Span,
    /// What it is for now. Changed with the user lock held.
    start: Atomic<usize>,
    end: Atomic<usize>,
    stage: Atomic<u32>,
}

/// Where a piece is between its creation and its end. Changed with the user lock held.
struct Stage;

impl Stage {
    const BUILDING: u32 = 0;
    const LIVE: u32 = 1;
    const REMOVED: u32 = 2;
}

impl<R: Readers> Piece<R> {
    const OPS: Ops = Self::ops(0);
    const OPS_WAKE_FIRST: Ops =
        Self::ops(bindings::mmu_interval_notifier_flags_MMU_INTERVAL_WAKE_FIRST);

    const fn ops(flags: u32) -> Ops {
        let as_posted = bindings::mmu_interval_notifier_flags_MMU_INTERVAL_AS_POSTED;
        Ops {
            invalidate: Some(Self::invalidate_callback),
            release: Some(Self::release_callback),
            flags: if R::AS_POSTED {
                flags | as_posted
            } else {
                flags
            },
            ..pin_init::zeroed()
        }
    }

    fn new(
        mirror: &Mirror<R>,
        region: Arc<Region>,
        span: Span,
        gfp: Flags,
    ) -> Result<NonNull<Self>> {
        let piece = KBox::pin_init(
            pin_init!(Self {
                notifier: Opaque::zeroed(),
                head: R::head(),
                // INVARIANT: A mirror is not dropped before all its pieces are.
                mirror: NonNull::from(mirror),
                region,
                indexed: span,
                start: Atomic::new(span.start()),
                end: Atomic::new(span.end()),
                stage: Atomic::new(Stage::BUILDING),
            }),
            gfp,
        )?;
        // SAFETY: It is not moved out of there.
        let piece = KBox::into_raw(unsafe { Pin::into_inner_unchecked(piece) });
        mirror.counts.lock().add();
        // SAFETY: Not null, as a box.
        Ok(unsafe { NonNull::new_unchecked(piece) })
    }

    /// # Safety
    ///
    /// `piece` is what [`Piece::new`] made, and nobody knows of it any more.
    unsafe fn free(piece: NonNull<Self>, gone: Gone) {
        // SAFETY: By the safety requirements it is the box that `Piece::new` gave away, and ours
        // now.
        let piece = unsafe { KBox::from_raw(piece.as_ptr()) };
        // SAFETY: By the type invariants it is valid, and stays so until `gone` has been called.
        let mirror = unsafe { piece.mirror.as_ref() };
        piece.region.released(piece.indexed, piece.region.now());
        drop(piece);
        mirror.gone(gone);
    }

    fn mirror(&self) -> &Mirror<R> {
        // SAFETY: By the type invariants the mirror is valid for as long as `self` is.
        unsafe { self.mirror.as_ref() }
    }

    /// The bounds that core mm has it in the tree with, the end excluded.
    ///
    /// Only in a callback for it: then they do not change.
    fn tree_bounds(&self) -> (usize, usize) {
        // SAFETY: The notifier is initialised, and nobody writes to the node now.
        let node = unsafe { &(*self.notifier.get()).interval_tree };
        (node.start, node.last.saturating_add(1))
    }

    /// Whether it is in service for that address.
    fn covers(&self, addr: usize) -> bool {
        self.stage.load(Acquire) == Stage::LIVE
            && (self.start.load(Relaxed)..self.end.load(Relaxed)).contains(&addr)
    }

    /// # Safety
    ///
    /// Called by core mm, for a notifier that was inserted with these ops.
    unsafe extern "C" fn invalidate_callback(
        notifier: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        sequence: c_ulong,
    ) -> bool {
        let _spent = spent::callback();
        // SAFETY: It is part of a piece.
        let piece = unsafe { container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: It is not released before this callback has returned.
        let piece = unsafe { &*piece };
        // SAFETY: The core passes a range that is valid during the call and does not change.
        let range = unsafe { &*range };

        let mirror = piece.mirror();
        let mut user = match mirror.user.try_lock() {
            Some(user) => user,
            None if range.flags & bindings::MMU_NOTIFIER_RANGE_BLOCKABLE == 0 => return false,
            None => mirror.user.lock(),
        };
        // SAFETY: The notifier is valid; the core accesses the field with READ_ONCE() and
        // WRITE_ONCE() too.
        unsafe { atomic_store(&raw mut (*notifier).invalidate_seq, sequence, Relaxed) };
        match range.event {
            bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP
            | bindings::mmu_notifier_event_MMU_NOTIFY_RELEASE => {
                mirror.unmapped(&mut user, piece, range.start, range.end, sequence);
            }
            _ => {}
        }
        drop(user);
        true
    }

    /// # Safety
    ///
    /// Called by core mm, once for a notifier that was inserted with these ops.
    unsafe extern "C" fn release_callback(notifier: *mut bindings::mmu_interval_notifier) {
        // SAFETY: It is part of a piece.
        let piece = unsafe { container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: Not null, as part of an allocation.
        let piece = unsafe { NonNull::new_unchecked(piece.cast_mut()) };
        // SAFETY: It was taken out of the index before it was removed, and is released once.
        unsafe { R::release(piece) };
    }
}

/// From an address to a piece, like the library's index: a maple tree, in RCU mode if lookups are
/// lockless. But it can be changed by a callback, so nothing but its own spinlock serialises
/// writers.
#[pin_data(PinnedDrop)]
struct Index {
    #[pin]
    tree: Opaque<bindings::maple_tree>,
}

// SAFETY: The tree may be used from any task.
unsafe impl Send for Index {}
// SAFETY: All of the tree's operations synchronise among themselves.
unsafe impl Sync for Index {}

/// An entry that means "nothing here", which takes the place of another without needing memory.
const NOTHING_HERE: *mut c_void = ptr::without_provenance_mut(1);

impl Index {
    fn new(lockless: bool) -> impl PinInit<Self> {
        let flags = if lockless {
            bindings::MT_FLAGS_USE_RCU
        } else {
            0
        };
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and the tree is destroyed in `drop`.
            tree <- Opaque::ffi_init(move |slot| unsafe { bindings::mt_init_flags(slot, flags) }),
        })
    }

    fn load(&self, addr: usize) -> Option<NonNull<c_void>> {
        // SAFETY: The tree is initialised.
        let entry = unsafe { bindings::mtree_load(self.tree.get(), addr) };
        NonNull::new(entry).filter(|entry| entry.as_ptr() != NOTHING_HERE)
    }

    fn store(&self, first: usize, last: usize, entry: *mut c_void, gfp: bindings::gfp_t) -> Result {
        // SAFETY: The tree is initialised; this takes its lock.
        to_result(unsafe { bindings::mtree_store_range(self.tree.get(), first, last, entry, gfp) })
    }

    /// The first entry between `from` and `last`, inclusive, and where it is.
    fn find(&self, from: usize, last: usize) -> Option<(NonNull<c_void>, usize, usize)> {
        let mut state = bindings::ma_state {
            tree: self.tree.get(),
            index: from,
            last: from,
            status: bindings::maple_status_ma_start,
            min: 0,
            max: usize::MAX,
            store_type: bindings::store_type_wr_invalid,
            ..Default::default()
        };
        let _rcu = rcu::read_lock();
        loop {
            // SAFETY: The tree is initialised, and may be read under RCU: in either mode its nodes
            // are freed by that.
            let entry = NonNull::new(unsafe { bindings::mas_find(&raw mut state, last) })?;
            if entry.as_ptr() != NOTHING_HERE {
                return Some((entry, state.index, state.last));
            }
        }
    }

    /// Takes `entry` out of `span`, wherever it is there, and says in how many places that was.
    /// Does not sleep, and does not fail.
    ///
    /// `whole` if it is certainly there in all of it.
    fn unpublish(&self, span: Span, entry: NonNull<c_void>, whole: bool) -> usize {
        let mark = |first, last| {
            // Storing nothing there would reshape the tree, at a moment when a process waits for
            // it. A mark is one store. The next range to be at these addresses overwrites it, or
            // `forget` does.
            let marked = self.store(first, last, NOTHING_HERE, bindings::GFP_NOWAIT);
            kernel::warn_on!(marked.is_err());
        };
        if whole {
            mark(span.start(), span.last());
            return 1;
        }
        let mut places = 0;
        let mut from = span.start();
        while let Some((found, first, last)) = self.find(from, span.last()) {
            if found == entry {
                mark(first, last);
                places += 1;
            }
            match last.checked_add(1) {
                Some(next) if next <= span.last() => from = next,
                _ => break,
            }
        }
        places
    }

    /// Gives back the space of all that was unpublished. May sleep.
    fn forget(&self) {
        // SAFETY: The tree is initialised; this takes its lock.
        unsafe { odp_bench_forget(self.tree.get(), NOTHING_HERE) };
    }
}

#[pinned_drop]
impl PinnedDrop for Index {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The tree is initialised; nobody else can use it now.
        unsafe { bindings::mtree_destroy(self.tree.get()) };
    }
}

/// What the user lock guards.
struct User {
    /// How many pieces have not been removed.
    live: usize,
    /// How often something was unpublished since the index was last cleared of that.
    marks: usize,
    /// The invalidations during which a piece was inserted last.
    young: c_ulong,
    /// How many remainders there was no memory for.
    lost: usize,
}

/// What has happened to a piece.
enum Gone {
    Removed,
    Released,
    Both,
}

/// How many pieces there are that are not removed, or not released.
struct Counts {
    removed: usize,
    released: usize,
}

impl Counts {
    fn add(&mut self) {
        self.removed += 1;
        self.released += 1;
    }
}

/// What all pieces of an address space have in common.
#[pin_data]
struct Mirror<R: Readers> {
    mm: ARef<Mm>,
    ops: &'static Ops,
    #[pin]
    index: Index,
    #[pin]
    user: Mutex<User>,
    #[pin]
    counts: SpinLock<Counts>,
    #[pin]
    changed: CondVar,
    domain: R::Domain,
}

impl<R: Readers> Mirror<R> {
    fn new(mm: &MmWithUser, ops: &'static Ops) -> Result<Pin<KBox<Self>>> {
        let domain = R::domain()?;
        KBox::pin_init(
            pin_init!(Self {
                mm: ARef::from(&**mm),
                ops,
                index <- Index::new(R::LOCKLESS),
                user <- new_mutex!(
                    User { live: 0, marks: 0, young: 0, lost: 0 },
                    "odp_bench::in_callback::Mirror::user"
                ),
                counts <- new_spinlock!(
                    Counts { removed: 0, released: 0 },
                    "odp_bench::in_callback::Mirror::counts"
                ),
                changed <- new_condvar!("odp_bench::in_callback::Mirror::changed"),
                domain,
            }),
            GFP_KERNEL,
        )
    }

    /// Something has happened to a piece. If it was the last, the mirror may be gone after this.
    fn gone(&self, gone: Gone) {
        let mut counts = self.counts.lock();
        if !matches!(gone, Gone::Released) {
            counts.removed -= 1;
        }
        if !matches!(gone, Gone::Removed) {
            counts.released -= 1;
        }
        // With the lock held: who waits may free the mirror.
        if counts.removed == 0 || counts.released == 0 {
            self.changed.notify_all();
        }
    }

    fn wait(&self, until: impl Fn(&Counts) -> bool) {
        let mut counts = self.counts.lock();
        while !until(&counts) {
            self.changed.wait(&mut counts);
        }
    }

    /// Whether there is a range at `addr`.
    ///
    /// This is what the arms differ in; see [`Faithful`], [`Mutexed`], [`Lockless`].
    fn covers(&self, addr: usize) -> bool {
        let _section = R::enter(&self.domain);
        let _user = (!R::LOCKLESS).then(|| self.user.lock());
        self.index.load(addr).is_some_and(|entry| {
            // SAFETY: What is found in the index is a piece, and valid while the user lock is held,
            // or else during the section.
            let piece: &Piece<R> = unsafe { entry.cast().as_ref() };
            piece.covers(addr)
        })
    }

    /// Lets `f` run while a reader has the range at `addr`; only where readers take no lock, for
    /// others would hold up the callback.
    fn access(&self, addr: usize, f: &mut dyn FnMut() -> Result) -> Result {
        if !R::LOCKLESS {
            return Err(EOPNOTSUPP);
        }
        let _section = R::enter(&self.domain);
        let entry = self.index.load(addr).ok_or(ENOENT)?;
        // SAFETY: What is found in the index is a piece. Readers take no lock here, so that it is
        // freed a grace period after it has left the index, and the section was entered before the
        // look.
        let piece: &Piece<R> = unsafe { entry.cast().as_ref() };
        if !piece.covers(addr) {
            return Err(ENOENT);
        }
        f()
    }

    /// Sees to it that the index does not grow with what is gone.
    fn tidy(&self) {
        let mut user = self.user.lock();
        if user.marks > user.live + 4096 {
            user.marks = 0;
            drop(user);
            self.index.forget();
        }
    }

    /// Mirrors a span from now on.
    fn insert(&self, region: &Arc<Region>, span: Span, mm: &MmWithUser) -> Result {
        let piece = Piece::new(self, region.clone(), span, GFP_KERNEL)?;
        self.user.lock().live += 1;
        // In the index first, since that may fail. Lookups see that it is being built.
        let inserted = self
            .index
            .store(
                span.start(),
                span.last(),
                piece.as_ptr().cast(),
                bindings::GFP_KERNEL,
            )
            .and_then(|()| {
                // SAFETY: It is valid until it has been removed, which it has not been inserted
                // for.
                let notifier = unsafe { piece.as_ref() }.notifier.get();
                // SAFETY: It stays valid until its release. `mm_users` is not zero.
                to_result(unsafe {
                    bindings::mmu_interval_notifier_insert(
                        notifier,
                        mm.as_raw(),
                        span.start(),
                        span.size(),
                        self.ops,
                    )
                })
            });
        let mut user = self.user.lock();
        if let Err(error) = inserted {
            user.live -= 1;
            user.marks += self.index.unpublish(span, piece.cast(), false);
            drop(user);
            // SAFETY: It has no notifier, and is not in the index.
            unsafe { R::release(piece) };
            return Err(error);
        }
        // A callback may have removed it by now, and then it may be gone.
        let mut from = Some(span.start());
        while let Some((entry, _, last)) = from.and_then(|from| self.index.find(from, span.last()))
        {
            if entry == piece.cast() {
                // SAFETY: It has not been removed, which needs the lock.
                let piece = unsafe { piece.as_ref() };
                piece.stage.store(Stage::LIVE, Release);
                break;
            }
            from = last.checked_add(1).filter(|&next| next <= span.last());
        }
        Ok(())
    }

    /// `start..end` is being unmapped, and the callback is that of `told`.
    fn unmapped(
        &self,
        user: &mut User,
        told: &Piece<R>,
        start: usize,
        end: usize,
        sequence: c_ulong,
    ) {
        let (tree_start, tree_end) = told.tree_bounds();
        self.punch(user, told, start, end, sequence);
        if user.young != sequence {
            return;
        }
        // What has been inserted during these invalidations is not told. But what it was made of
        // is, because that stays in the tree, with the bounds it had.
        let until = end.min(tree_end);
        let mut from = Some(start.max(tree_start));
        while let Some(first) = from.filter(|&from| from < until) {
            let Some((entry, _, last)) = self.index.find(first, until - 1) else {
                return;
            };
            // SAFETY: What is found in the index is a piece, and valid while the user lock is held.
            let piece: &Piece<R> = unsafe { entry.cast().as_ref() };
            self.punch(user, piece, start, end, sequence);
            from = last.checked_add(1);
        }
    }

    /// Takes `start..end` out of a piece, which may be gone after this.
    fn punch(
        &self,
        user: &mut User,
        piece: &Piece<R>,
        start: usize,
        end: usize,
        sequence: c_ulong,
    ) {
        let (first, behind) = (piece.start.load(Relaxed), piece.end.load(Relaxed));
        if piece.stage.load(Relaxed) == Stage::REMOVED || end <= first || behind <= start {
            return;
        }
        match (first < start, end < behind) {
            (false, false) => self.remove(user, piece),
            (false, true) => self.shrink(piece, end, behind),
            (true, false) => self.shrink(piece, first, start),
            (true, true) => {
                self.shrink(piece, first, start);
                let remainder = self.insert_remainder(user, piece.region.clone(), end, behind);
                match remainder {
                    Ok(()) => user.young = sequence,
                    // Nobody mirrors that part then. A device would fault, and have it mirrored
                    // again.
                    Err(_) => user.lost += 1,
                }
            }
        }
    }

    fn shrink(&self, piece: &Piece<R>, start: usize, end: usize) {
        let clear = |from: usize, to: usize| {
            if from < to {
                // If there is no memory the index says more than there is; `covers` does not.
                let _ = self
                    .index
                    .store(from, to - 1, ptr::null_mut(), bindings::GFP_NOWAIT);
            }
        };
        clear(piece.start.load(Relaxed), start);
        clear(end, piece.end.load(Relaxed));
        piece.start.store(start, Relaxed);
        piece.end.store(end, Relaxed);
        // SAFETY: The notifier was inserted, and has not been removed, as the stage says.
        unsafe { bindings::mmu_interval_notifier_update(piece.notifier.get(), start, end - 1) };
    }

    fn insert_remainder(
        &self,
        user: &mut User,
        region: Arc<Region>,
        start: usize,
        end: usize,
    ) -> Result {
        let span = Span::from_bounds(start, end)?;
        let piece = Piece::new(self, region, span, GFP_NOWAIT)?;
        let inserted = self
            .index
            .store(
                span.start(),
                span.last(),
                piece.as_ptr().cast(),
                bindings::GFP_NOWAIT,
            )
            .and_then(|()| {
                // SAFETY: It is valid until it has been removed, which it has not been inserted
                // for.
                let notifier = unsafe { piece.as_ref() }.notifier.get();
                // SAFETY: It stays valid until its release.
                to_result(unsafe {
                    bindings::mmu_interval_notifier_insert_from_callback(
                        notifier,
                        self.mm.as_raw(),
                        span.start(),
                        span.size(),
                        self.ops,
                    )
                })
            });
        if let Err(error) = inserted {
            user.marks += self.index.unpublish(span, piece.cast(), false);
            // SAFETY: It has no notifier, and is not in the index.
            unsafe { R::release(piece) };
            return Err(error);
        }
        // SAFETY: To remove it takes the user lock.
        unsafe { piece.as_ref() }.stage.store(Stage::LIVE, Release);
        user.live += 1;
        Ok(())
    }

    /// Removes a piece, which may be gone after this.
    fn remove(&self, user: &mut User, piece: &Piece<R>) {
        piece.stage.store(Stage::REMOVED, Release);
        user.live -= 1;
        piece.region.retired(piece.indexed, piece.region.now());
        let whole = piece.start.load(Relaxed) == piece.indexed.start()
            && piece.end.load(Relaxed) == piece.indexed.end();
        user.marks += self
            .index
            .unpublish(piece.indexed, NonNull::from(piece).cast(), whole);
        // SAFETY: The notifier was inserted, and has not been removed, as the stage said.
        unsafe { bindings::mmu_interval_notifier_remove_deferred(piece.notifier.get()) };
    }

    /// Removes all that there is.
    fn remove_all(&self) {
        let mut user = self.user.lock();
        let mut from = Some(0);
        while let Some((entry, _, last)) = from.and_then(|from| self.index.find(from, usize::MAX)) {
            // SAFETY: What is found in the index is a piece, and valid while the user lock is held.
            let piece: &Piece<R> = unsafe { entry.cast().as_ref() };
            if piece.stage.load(Relaxed) != Stage::REMOVED {
                self.remove(&mut user, piece);
            }
            from = last.checked_add(1);
        }
        if user.lost != 0 {
            pr_info!("no memory for {} remainders\n", user.lost);
        }
    }
}

/// An arm of the design, with readers protected in one way.
struct InCallback<R: Readers> {
    mirror: Pin<KBox<Mirror<R>>>,
}

impl<R: Readers> InCallback<R> {
    fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        let wake_first = crate::module_parameters::wake_first.value();
        let ops = if wake_first {
            &Piece::<R>::OPS_WAKE_FIRST
        } else {
            &Piece::<R>::OPS
        };
        Ok(Self {
            mirror: Mirror::new(mm, ops)?,
        })
    }
}

impl<R: Readers> Arm for InCallback<R> {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        p.for_invalidate();
        self.mirror.tidy();
        let mm = self.mirror.mm.mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here.
        let mm = MmWithUser::into_mmput_async(mm);
        for span in region.ranges() {
            self.mirror.insert(region, span?, &mm)?;
        }
        Ok(())
    }

    fn finish(&self, region: &Region, p: &mut MayBlock<'_>) -> Result {
        p.for_invalidate();
        if self.mirror.user.lock().live != 0 {
            return Err(EBUSY);
        }
        self.mirror.wait(|counts| counts.removed == 0);
        region.removed(region.now());
        self.mirror.wait(|counts| counts.released == 0);
        Ok(())
    }

    // Nothing is to be settled: a hole is made by the callback, and the remainder's notifier is in
    // the tree when the unmapping returns, unless some other invalidation is in progress.

    fn lookup(&self, addr: usize, _p: &mut MayBlock<'_>) -> bool {
        self.mirror.covers(addr)
    }

    fn access(&self, addr: usize, _p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        self.mirror.access(addr, f)
    }
}

impl<R: Readers> Drop for InCallback<R> {
    fn drop(&mut self) {
        let mirror = &*self.mirror;
        mirror.remove_all();
        // In faithful mode this waits for less, but that is all there is.
        // SAFETY: The mirror holds the mm. It may sleep.
        unsafe { bindings::mmu_interval_notifier_synchronize(mirror.mm.as_raw()) };
        mirror.wait(|counts| counts.released == 0);
        R::quiesce(&mirror.domain);
        // So that there is nothing to destroy: mt_free_walk() takes the metadata of an inner node
        // that has all but one of its slots in use for a child, where a tree in RCU mode has four
        // levels.
        mirror.index.forget();
    }
}
