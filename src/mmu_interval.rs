// SPDX-License-Identifier: GPL-2.0

//! Interval notifiers of an address space: the blocking interface, as core mm has it.
//!
//! An [`Interval`] watches a span of a process's addresses. When what the process has there
//! changes, [`Invalidate::invalidate`] is called, on several CPUs at once if need be. A device page
//! table is kept consistent with it by the sequence protocol:
//!
//! 1. [`Interval::read_begin`], then look at the process's pages;
//! 2. take the *user lock*, the one that `invalidate` takes, and ask [`Interval::read_retry`];
//! 3. if it says no, install what was found before letting go of the lock; else begin again.
//!
//! Neither insertion nor removal is possible without sleeping, and a removal from within
//! `invalidate` waits for itself. Doing something about that is not this file's business.
//!
//! The bindings have this header by way of those of x86 and arm64 only; on other architectures
//! `rust/bindings/bindings_helper.h` has to include it.
//!
//! C header: [`include/linux/mmu_notifier.h`](srctree/include/linux/mmu_notifier.h)

#![cfg(CONFIG_MMU_NOTIFIER)]

mod error;
mod event;

pub use self::{
    error::{
        InsertError,
        InsertErrorKind, //
    },
    event::{
        Event,
        EventOwner, //
    }, //
};

use super::{
    may_block::{
        InvalidateScope,
        MayBlock, //
    },
    module_ref::{
        ModuleRef,
        Owner, //
    },
    span::Span, //
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    error::to_result,
    ffi::c_ulong,
    mm::{
        Mm,
        MmWithUser,
        MmWithUserAsync, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            atomic_load,
            atomic_store,
            Acquire,
            Atomic,
            Full,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    types::Opaque, //
};

// SAFETY: The prototype is that of helpers.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_interval_notifier_remove(notifier: *mut bindings::mmu_interval_notifier) -> bool;
    fn odp_interval_notifier_remove_start(notifier: *mut bindings::mmu_interval_notifier) -> bool;
    fn odp_interval_notifier_remove_finish(notifier: *mut bindings::mmu_interval_notifier);
}

/// What core mm calls for intervals with data of type `T`, and the module whose text that is, which
/// is kept loaded while one is registered; or nothing, if whoever inserts them sees to that.
///
/// Drivers make it by [`invalidate_ops!`](crate::invalidate_ops), as a static item of the module.
pub struct InvalidateOps<T> {
    ops: bindings::mmu_interval_notifier_ops,
    owner: Owner,
    _data: PhantomData<fn(&T)>,
}

impl<T: Invalidate> InvalidateOps<T> {
    /// Makes the table for `T`. Not to be called but by the macros that make static items.
    ///
    /// # Safety
    ///
    /// For the initialiser of a static item, with `THIS_MODULE` of the crate that has the item.
    #[doc(hidden)]
    pub const unsafe fn new(module: &ThisModule) -> Self {
        // SAFETY: By the safety requirements this is for the initialiser of a static item, and
        // `module` is that of its crate.
        Self::of(unsafe { Owner::new(module) })
    }

    /// Makes the table for `T`, for intervals that need no reference on the module each.
    ///
    /// # Safety
    ///
    /// For the initialiser of a static item. Whoever inserts an interval keeps the module of the
    /// item's crate loaded until the removal has returned.
    pub(crate) const unsafe fn new_kept() -> Self {
        // SAFETY: By the safety requirements the module is kept while an interval is inserted,
        // which is when the owner is used.
        Self::of(unsafe { Owner::kept() })
    }

    const fn of(owner: Owner) -> Self {
        Self {
            ops: bindings::mmu_interval_notifier_ops {
                invalidate: Some(Interval::<T>::invalidate_callback),
                ..pin_init::zeroed()
            },
            owner,
            _data: PhantomData,
        }
    }
}

/// The table for [`Invalidate::OPS`] of a type, in the module that this is written in.
///
/// The type has no parameters that are those of the implementation around it: one table for all
/// types would be in one module, while the code for each type is in the module that uses it.
///
/// # Examples
///
/// ```ignore
/// const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watcher);
/// ```
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "it is the module of the crate that uses this"
)]
macro_rules! invalidate_ops {
    ($type:ty) => {{
        static OPS: $crate::mmu_interval::InvalidateOps<$type> =
            // SAFETY: It is the initialiser of a static item, and the module is that of its crate.
            unsafe {
                $crate::mmu_interval::InvalidateOps::new(
                    &<crate::LocalModule as ::kernel::ModuleMetadata>::THIS_MODULE,
                )
            };
        &OPS
    }};
}

/// What an interval notifier calls.
pub trait Invalidate: Send + Sync + Sized + 'static {
    /// The functions that are registered for it: [`invalidate_ops!`](crate::invalidate_ops) of the
    /// type.
    const OPS: &'static InvalidateOps<Self>;

    /// Stops every access to what `inv` names.
    ///
    /// Context: a task that may hold `mmap_lock` and locks of reverse mappings and may be
    /// reclaiming memory. No allocation that could reclaim, no waiting for another invalidation. If
    /// `inv` is not blockable, no sleeping at all. It may be called concurrently, more than once
    /// for the same addresses, and until a removal has returned.
    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb>;
}

/// One call of [`Invalidate::invalidate`]: what changes, and what may be answered.
pub struct CallbackContext<'cb> {
    notifier: NonNull<bindings::mmu_interval_notifier>,
    range: &'cb bindings::mmu_notifier_range,
    sequence: c_ulong,
    _scope: CallbackScope<'cb>,
}

/// Invariant in `'cb`, so that an answer cannot be given to another call; bound to the task.
type CallbackScope<'cb> = PhantomData<*mut &'cb mut ()>;

impl<'cb> CallbackContext<'cb> {
    /// What happens.
    pub fn event(&self) -> Event {
        Event::from_raw(self.range.event)
    }

    /// Whether the callback may sleep.
    pub fn blockable(&self) -> bool {
        self.range.flags & bindings::MMU_NOTIFIER_RANGE_BLOCKABLE != 0
    }

    /// The bytes that change; the end is exclusive. May reach beyond the interval.
    pub fn bounds(&self) -> (usize, usize) {
        (self.range.start, self.range.end)
    }

    /// Whether the pages migrate, or become exclusive to a device ([`Event::Migrate`],
    /// [`Event::Exclusive`]), and `owner` does that itself.
    pub fn is_own(&self, owner: EventOwner) -> bool {
        // Other events need not have any.
        matches!(self.event(), Event::Migrate | Event::Exclusive) && owner.is(self.range.owner)
    }

    /// Answers, because there is nothing to do: `owner` itself makes the pages exclusive to its
    /// device. They stay what they are. So no read section is told, and none begins again for it,
    /// which would go on for ever where that is what the section is for.
    ///
    /// # Errors
    ///
    /// The token comes back if it is another event, or somebody else's.
    pub fn ignore_exclusive(self, owner: EventOwner) -> Result<Handled<'cb>, Self> {
        if !self.is_own(owner) || self.event() != Event::Exclusive {
            return Err(self);
        }
        Ok(Handled {
            answer: true,
            _scope: PhantomData,
        })
    }

    /// Records the sequence (`mmu_interval_set_seq()`): the event is being handled.
    ///
    /// The caller holds the user lock, and does not let go of it before access has stopped.
    #[inline]
    pub fn record(self) -> Handled<'cb> {
        // SAFETY: The core passed a valid notifier, which stays so during the callback.
        let sequence = unsafe { &raw mut (*self.notifier.as_ptr()).invalidate_seq };
        // SAFETY: The field is valid as the notifier is, and the core accesses it with READ_ONCE()
        // and WRITE_ONCE(), too.
        unsafe { atomic_store(sequence, self.sequence, Relaxed) };
        Handled {
            answer: true,
            _scope: PhantomData,
        }
    }

    /// Gives up, because it would have to sleep: the caller of the core tries elsewhere.
    ///
    /// # Errors
    ///
    /// The token comes back if the callback may sleep: then the core takes no such answer.
    pub fn would_block(self) -> Result<Handled<'cb>, Self> {
        if self.blockable() {
            return Err(self);
        }
        Ok(Handled {
            answer: false,
            _scope: PhantomData,
        })
    }
}

/// The answer of [`Invalidate::invalidate`].
#[must_use]
pub struct Handled<'cb> {
    answer: bool,
    _scope: CallbackScope<'cb>,
}

/// What [`Interval::read_begin`] saw, for [`Interval::read_retry`] of the same interval.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    sequence: c_ulong,
    /// The interval's `id`.
    of: u64,
}

/// A notifier for a span of a process's addresses, with data of the driver's.
///
/// # Invariants
///
/// - The allocation that `self` lives in is an [`Arc`]'s.
/// - The bounds of `notifier` are those of a [`Span`], and always the same. An insertion writes
///   them once more.
/// - While its phase is [`Phase::INSERTED`], [`Phase::LEAVING`] or [`Phase::REMOVED`], `notifier`
///   has been initialised by a successful insertion into `mm`. While it is [`Phase::LEAVING`], the
///   first half of the removal is over, and the second has not begun.
/// - One reference of the Arc belongs to the [`Registration`] from insertion to removal.
/// - Once an insertion has begun, the provenance of the allocation is exposed.
#[pin_data]
pub struct Interval<T> {
    #[pin]
    notifier: Opaque<bindings::mmu_interval_notifier>,
    mm: ARef<Mm>,
    /// Its [`Phase`], and above that a number that is never used for another one, as its address
    /// and even its sequence numbers may be.
    state: Atomic<u64>,
    #[pin]
    data: T,
}

/// How many intervals there have been.
static INTERVALS: Atomic<u64> = Atomic::new(0);

/// Where an [`Interval`] is between its creation and its end.
struct Phase;

impl Phase {
    const NEW: u64 = 0;
    const INSERTING: u64 = 1;
    const INSERTED: u64 = 2;
    /// Its removal has begun, and is to be finished.
    const LEAVING: u64 = 3;
    const REMOVED: u64 = 4;

    /// In how many bits of an interval's state it is.
    const BITS: u32 = 3;

    /// The phase that is in a state.
    fn of(state: u64) -> u64 {
        state & ((1 << Self::BITS) - 1)
    }
}

// SAFETY: A notifier may be used from any task; `T` is `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for Interval<T> {}
// SAFETY: Shared access to the notifier is by functions of core mm's that lock what they change,
// which is behind `Opaque`. `mm` and `T` are `Sync`, and `state` is atomic.
unsafe impl<T: Send + Sync> Sync for Interval<T> {}

impl<T> Interval<T> {
    /// The data given to [`Interval::new`].
    pub fn data(&self) -> &T {
        &self.data
    }

    /// The span that is watched.
    pub fn span(&self) -> Span {
        // SAFETY: The notifier is part of `self`.
        let node = unsafe { &raw mut (*self.notifier.get()).interval_tree };
        // SAFETY: As above.
        let first = unsafe { &raw mut (*node).start };
        // SAFETY: As above.
        let last = unsafe { &raw mut (*node).last };
        // As READ_ONCE(), for which `atomic_load` calls a function.
        // SAFETY: It is valid. By the type invariants nobody writes anything else there.
        let first = unsafe { first.read_volatile() };
        // SAFETY: As above.
        let last = unsafe { last.read_volatile() };
        // SAFETY: By the type invariants they are those of a span.
        unsafe { Span::from_first_and_last(first, last) }
    }

    /// The address space.
    pub fn mm(&self) -> &Mm {
        &self.mm
    }

    /// The notifier, for what else the kernel does with one. Neither to be inserted nor removed.
    pub fn as_raw(&self) -> *mut bindings::mmu_interval_notifier {
        self.notifier.get()
    }

    /// Whether the notifier has been inserted, and nobody has said that its removal has begun.
    ///
    /// That is stable only for who has an inserted interval's registration: for anybody else the
    /// removal may have begun a moment before it is said. Initialised, by an insertion into
    /// [`Interval::mm`], it stays in any case.
    pub(super) fn is_inserted(&self) -> bool {
        Phase::of(self.state.load(Acquire)) == Phase::INSERTED
    }

    /// What is in its state but the phase; only that of this interval is.
    fn id(&self) -> u64 {
        let state = self.state.load(Relaxed);
        state ^ Phase::of(state)
    }

    /// It comes to another phase. Called by who has it: whoever inserts it, or its registration.
    fn set_phase(&self, phase: u64) {
        self.state.store(self.id() | phase, Release);
    }

    /// A number that `mmu_interval_read_begin()` returned for this interval.
    pub(super) fn sequence(&self, sequence: c_ulong) -> Sequence {
        Sequence {
            sequence,
            of: self.id(),
        }
    }

    /// The data, for who goes back from it with [`Interval::of_raw_data`].
    ///
    /// # Safety
    ///
    /// `this` is valid.
    pub(crate) unsafe fn raw_data(this: NonNull<Self>) -> NonNull<T> {
        // SAFETY: By the safety requirements it is valid, and so is its field.
        let data = unsafe { &raw mut (*this.as_ptr()).data };
        // SAFETY: A field of something valid is not at address null.
        unsafe { NonNull::new_unchecked(data) }
    }

    /// The interval that `data` is the data of, which may be used as what it was made of.
    ///
    /// # Safety
    ///
    /// [`Interval::raw_data`] has returned it, for an interval that is valid.
    pub(crate) unsafe fn of_raw_data(data: NonNull<T>) -> NonNull<Self> {
        // SAFETY: By the safety requirements it is the field of an interval.
        let this = unsafe { container_of!(data.as_ptr(), Self, data) };
        // SAFETY: A pointer to a valid object is not null.
        unsafe { NonNull::new_unchecked(this) }
    }

    /// The interval that `data` is the data of. The answer may be used for whatever
    /// [`Registration::into_raw`] may be used for, even if `data` comes from a reference.
    ///
    /// # Safety
    ///
    /// `data` must point to what [`Interval::data`] returned, in an interval that is still valid
    /// and whose insertion has at least begun.
    pub(crate) unsafe fn from_data(data: NonNull<T>) -> NonNull<Self> {
        // SAFETY: By the safety requirements it is the field of an interval.
        let this = unsafe { container_of!(data.as_ptr(), Self, data) };
        // What comes from a reference to the data may not free the interval; what `insert` exposed
        // may.
        let this = core::ptr::with_exposed_provenance_mut(this.addr());
        // SAFETY: A pointer to a valid object is not null.
        unsafe { NonNull::new_unchecked(this) }
    }
}

impl<T: Invalidate> Interval<T> {
    /// Makes an interval that watches nothing yet.
    ///
    /// It pins the `mm_struct`, not the address space.
    pub fn new<E>(mm: ARef<Mm>, span: Span, data: impl PinInit<T, E>) -> impl PinInit<Self, E>
    where
        E: From<core::convert::Infallible>,
    {
        let notifier = bindings::mmu_interval_notifier {
            interval_tree: bindings::interval_tree_node {
                start: span.start(),
                last: span.last(),
                ..pin_init::zeroed()
            },
            ..pin_init::zeroed()
        };
        // INVARIANT: Those are the bounds of a span.
        try_pin_init!(Self {
            notifier: Opaque::new(notifier),
            mm,
            // OVERFLOW: There are not going to be as many.
            state: Atomic::new((INTERVALS.fetch_add(1, Relaxed) << Phase::BITS) | Phase::NEW),
            data <- data,
        }? E)
    }

    /// Begins to watch (`mmu_interval_notifier_insert()`).
    ///
    /// Callbacks may come before this returns. They may also come late: while anything that a
    /// notifier watches is being invalidated core mm puts insertions off, and an event that begins
    /// in that time passes by. A sequence that [`Interval::read_begin`] returns is good all the
    /// same; but who draws conclusions from what is mapped wants [`Interval::insert_and_wait`].
    ///
    /// Context: may sleep, takes `mmap_lock` for the first notifier of an address space.
    ///
    /// # Errors
    ///
    /// See [`InsertErrorKind`].
    pub fn insert(
        this: Arc<Self>,
        p: &mut MayBlock<'_>,
    ) -> Result<Registration<T>, InsertError<T>> {
        p.for_invalidate();
        match this.user() {
            Some(mm) => Self::insert_into(this, &mm),
            None => Err(this.not_inserted(InsertErrorKind::NoUser)),
        }
    }

    /// Begins to watch, and returns when the notifier is in the tree: no event passes by any more.
    ///
    /// So whatever the process has mapped when that is looked at after this, callbacks tell of its
    /// end. That includes the end of the address space, which is kept from ending before.
    ///
    /// Context: as for [`Interval::insert`], and as for [`Interval::read_begin`]: sleeps until the
    /// invalidations of the address space that are going on have ended, of whatever addresses, if
    /// one of them has met a notifier.
    ///
    /// # Errors
    ///
    /// As for [`Interval::insert`].
    pub fn insert_and_wait(
        this: Arc<Self>,
        p: &mut MayBlock<'_>,
    ) -> Result<Registration<T>, InsertError<T>> {
        p.for_invalidate();
        // Put when this returns: mn_itree_release() looks at the tree, and not at what is put off.
        let Some(mm) = this.user() else {
            return Err(this.not_inserted(InsertErrorKind::NoUser));
        };
        let registration = Self::insert_into(this, &mm)?;
        // An insertion is put off to the end of the phase that it was made in, and its number is
        // that of the phase. It cannot fail for what is inserted, and what it answers has to be
        // asked for anew anyway.
        let _ = registration.interval().read_begin(p);
        Ok(registration)
    }

    /// The address space, unless it is gone.
    fn user(&self) -> Option<ARef<MmWithUserAsync>> {
        // If this turns out to be the last user, exit_mmap() must not run here.
        self.mm.mmget_not_zero().map(MmWithUser::into_mmput_async)
    }

    fn not_inserted(self: Arc<Self>, cause: InsertErrorKind) -> InsertError<T> {
        InsertError { value: self, cause }
    }

    /// `mm` is [`Interval::user`]'s.
    fn insert_into(
        this: Arc<Self>,
        mm: &MmWithUserAsync,
    ) -> Result<Registration<T>, InsertError<T>> {
        let Ok(module) = ModuleRef::of(&T::OPS.owner) else {
            return Err(this.not_inserted(InsertErrorKind::ModuleGoing));
        };

        let id = this.id();
        let new = (this.state).cmpxchg(id | Phase::NEW, id | Phase::INSERTING, Full);
        if new.is_err() {
            return Err(this.not_inserted(InsertErrorKind::InsertedBefore));
        }

        let span = this.span();
        // Not from a reference: the last reference of the Arc is dropped by way of this.
        let raw = Arc::into_raw(this).cast_mut();
        // INVARIANT: No other pointer to it is used before this.
        let _ = raw.expose_provenance();
        // SAFETY: The reference that was leaked just now keeps it valid.
        let interval = unsafe { &*raw };
        // SAFETY: As `raw` is valid, so is its field.
        let notifier = unsafe { &raw const (*raw).notifier };
        // SAFETY: The notifier is pinned in the Arc, a reference of which has just been leaked; it
        // is valid until `Registration::remove` takes that back. `mm_users` is not zero.
        let inserted = to_result(unsafe {
            bindings::mmu_interval_notifier_insert(
                Opaque::cast_into(notifier),
                mm.as_raw(),
                span.start(),
                span.size(),
                &T::OPS.ops,
            )
        });

        match inserted {
            Ok(()) => {
                // INVARIANT: The insertion was successful.
                interval.set_phase(Phase::INSERTED);
                module.leak();
                // INVARIANT: The references that were leaked belong to the registration.
                //
                // SAFETY: A pointer to a valid object is not null.
                Ok(Registration(unsafe { NonNull::new_unchecked(raw) }))
            }
            Err(error) => {
                interval.set_phase(Phase::NEW);
                // SAFETY: `into_raw` leaked the reference above, and nobody else has taken it over.
                let this = unsafe { Arc::from_raw(raw) };
                Err(this.not_inserted(InsertErrorKind::from_core(error)))
            }
        }
    }

    /// Begins a read section (`mmu_interval_read_begin()`).
    ///
    /// Sleeps until invalidations that began before and touch the interval have ended.
    ///
    /// Context: may sleep; not under the user lock, nor any other lock a callback takes.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the interval is not inserted: nothing may be installed through it.
    pub fn read_begin(&self, p: &mut MayBlock<'_>) -> Result<Sequence> {
        p.for_invalidate();
        if !self.is_inserted() {
            return Err(ESRCH);
        }
        // SAFETY: By the type invariants the notifier was inserted into `self.mm`, whose
        // subscriptions live as long as the `mm_struct`, which we hold. That it may be removed
        // meanwhile does no harm.
        let sequence = unsafe { bindings::mmu_interval_read_begin(self.notifier.get()) };
        Ok(self.sequence(sequence))
    }

    /// Whether `sequence` was read from this interval, and it has not been removed.
    pub(super) fn is_of(&self, sequence: Sequence) -> bool {
        self.state.load(Relaxed) == sequence.of | Phase::INSERTED
    }

    /// Whether what was found since `sequence` must not be installed
    /// (`mmu_interval_read_retry()`).
    ///
    /// The answer holds as long as the user lock, which the caller has taken before, unless the
    /// interval is removed meanwhile: against that the caller has to have something of its own.
    pub fn read_retry(&self, sequence: Sequence) -> bool {
        if !self.is_of(sequence) {
            return true;
        }
        // SAFETY: The notifier is part of `self`.
        let current = unsafe { &raw mut (*self.notifier.get()).invalidate_seq };
        // SAFETY: The field is valid as `self` is, and the core accesses it with READ_ONCE() and
        // WRITE_ONCE(), too.
        unsafe { atomic_load(current, Relaxed) != sequence.sequence }
    }

    /// # Safety
    ///
    /// Called by core mm, for a notifier that was inserted with [`Invalidate::OPS`].
    unsafe extern "C" fn invalidate_callback(
        notifier: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        sequence: c_ulong,
    ) -> bool {
        // SAFETY: The core calls this with a notifier that was inserted with these ops, so it is
        // part of an `Interval<T>`.
        let this = unsafe { container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: The registration's reference keeps it valid until a removal has returned, which
        // it does not before this callback has. Only shared access ever happens.
        let this = unsafe { &*this };
        // SAFETY: The core passes a range that is valid during the call and does not change.
        let range = unsafe { &*range };

        let inv = CallbackContext {
            notifier: NonNull::from(&this.notifier).cast(),
            range,
            sequence,
            _scope: PhantomData,
        };
        let _scope = InvalidateScope::enter(inv.blockable());
        T::invalidate(this, inv).answer
    }
}

/// Removes a notifier that C has inserted; says whether that had to wait for invalidations.
///
/// Context: as for [`Registration::remove`].
///
/// # Safety
///
/// It is inserted, and nobody else removes it.
pub(crate) unsafe fn remove_raw(
    notifier: *mut bindings::mmu_interval_notifier,
    p: &mut MayBlock<'_>,
) -> bool {
    p.for_invalidate();
    // SAFETY: By the safety requirements the notifier is inserted, and this is the only call that
    // removes it.
    unsafe { odp_interval_notifier_remove(notifier) }
}

/// A notifier that is being watched through.
///
/// Dropping it removes it, which sleeps; a driver that may come to drop one in a callback wants
/// [`Registration::into_raw`] and somebody else to remove it.
///
/// # Invariants
///
/// The interval has been inserted, and its removal has not ended: its phase is
/// [`Phase::INSERTED`] or [`Phase::LEAVING`]. One reference of its Arc belongs to this, and one of
/// the owner of `T::OPS`, see [`ModuleRef`].
pub struct Registration<T: Invalidate>(NonNull<Interval<T>>);

// SAFETY: An insertion may be undone from any task.
unsafe impl<T: Invalidate> Send for Registration<T> {}
// SAFETY: Shared access gives shared access to the interval, which is `Sync`.
unsafe impl<T: Invalidate> Sync for Registration<T> {}

impl<T: Invalidate> Registration<T> {
    /// The interval that is being watched.
    pub fn interval(&self) -> &Interval<T> {
        // SAFETY: By the type invariants we have a reference, so that it is valid.
        unsafe { self.0.as_ref() }
    }

    /// Ends watching (`mmu_interval_notifier_remove()`) and returns the registration's reference.
    ///
    /// No callback runs any more when this has returned. Sleeps until the invalidations of the
    /// address space that are going on have ended, of whatever addresses.
    ///
    /// Context: may sleep; not in a callback, and not under a lock that a callback takes. The
    /// module may lose its last reference here, so its exit has to wait for the caller.
    pub fn remove(self, p: &mut MayBlock<'_>) -> Arc<Interval<T>> {
        self.remove_observed(p).0
    }

    /// As [`Registration::remove`]; says also whether it had to wait for invalidations, unless the
    /// removal has been begun before.
    pub(crate) fn remove_observed(self, p: &mut MayBlock<'_>) -> (Arc<Interval<T>>, bool) {
        p.for_invalidate();
        ManuallyDrop::new(self).remove_inner()
    }

    /// Begins the removal, in a kernel where that is a step of its own
    /// (`mmu_interval_notifier_remove_start()`); says whether it did.
    ///
    /// [`Registration::remove`] then finishes it. Who has begun with several of an address space
    /// waits for all of them by that of one: they leave core mm's tree together. Until then
    /// callbacks may come.
    ///
    /// Context: process context; spinlocks may be held that interrupts do not take.
    pub(crate) fn start_removal(&mut self) -> bool {
        let interval = self.interval();
        if Phase::of(interval.state.load(Relaxed)) != Phase::INSERTED {
            return true;
        }
        // SAFETY: The phase says that it is inserted, and that its removal has not begun. Only the
        // owner of the registration begins it.
        let started = unsafe { odp_interval_notifier_remove_start(interval.notifier.get()) };
        if started {
            // INVARIANT: That is what has been answered.
            interval.set_phase(Phase::LEAVING);
        }
        started
    }

    fn remove_inner(&self) -> (Arc<Interval<T>>, bool) {
        let interval = self.interval();
        let started = Phase::of(interval.state.load(Relaxed)) == Phase::LEAVING;
        interval.set_phase(Phase::REMOVED);
        let has_waited = if started {
            // SAFETY: By the type invariants of the interval the removal has begun. Only the owner
            // of the registration finishes it, which it can do once.
            unsafe { odp_interval_notifier_remove_finish(interval.notifier.get()) };
            false
        } else {
            // SAFETY: By the type invariants it is inserted, since the phase says that its removal
            // has not begun. Only the owner of the registration removes it, which it can do once.
            unsafe { odp_interval_notifier_remove(interval.notifier.get()) }
        };
        // SAFETY: By the type invariants the reference is ours to give away.
        let interval = unsafe { Arc::from_raw(self.0.as_ptr()) };
        // SAFETY: By the type invariants a reference was leaked, and this is the end of it.
        drop(unsafe { ModuleRef::reclaim(&T::OPS.owner) });
        (interval, has_waited)
    }

    /// Gives up the ability to remove it, for [`Registration::from_raw`] to restore.
    pub fn into_raw(self) -> NonNull<Interval<T>> {
        ManuallyDrop::new(self).0
    }

    /// Restores a registration.
    ///
    /// # Safety
    ///
    /// `interval` must come from [`Registration::into_raw`], and be used for this only once.
    pub unsafe fn from_raw(interval: NonNull<Interval<T>>) -> Self {
        // INVARIANT: By the safety requirements what `into_raw` gave up is taken over.
        Self(interval)
    }
}

impl<T: Invalidate> Drop for Registration<T> {
    fn drop(&mut self) {
        MayBlock::enter(|_| drop(self.remove_inner()));
    }
}

/// Prepares an address space for notifiers (`mmu_notifier_register()` of none).
///
/// After this an insertion takes no `mmap_lock` and fails only if the address space is gone.
///
/// Context: may sleep, takes `mmap_lock` for writing.
///
/// # Errors
///
/// `ENOMEM`, or `EINTR` if a signal arrived.
pub fn prepare(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result {
    p.for_invalidate();
    // SAFETY: `mm_users` is not zero by the type's invariants, and no notifier is passed.
    to_result(unsafe { bindings::mmu_notifier_register(core::ptr::null_mut(), mm.as_raw()) })
}
