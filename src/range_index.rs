// SPDX-License-Identifier: GPL-2.0

//! From an address to the object that is responsible for it.
//!
//! `kernel::maple_tree` owns its entries and reads them under its lock. This index does neither:
//! lookups take no lock, which is what they are for, and entries are pointers to objects that
//! somebody else keeps alive for as long as a reader may still look at them.
//!
//! Writers are serialised by a mutex, so that a look at what is there and the store that depends
//! on it are one step. The mutex is never taken by lookups.
//!
//! Erasing cannot fail. Where there is no memory to give the space back to the tree, a marker
//! takes the entry's place, which needs none; the marker means "nothing here" to everybody and is
//! overwritten by the next entry that wants the space. What is erased together and lies together is
//! one change of the tree: each replaces nodes, which are freed after a grace period of RCU.
//!
//! C header: [`include/linux/maple_tree.h`](srctree/include/linux/maple_tree.h)

mod locked;
mod run;

pub use self::locked::Locked;
use self::run::{
    Entry,
    Extent,
    Run, //
};
use super::span::Span;
use core::{
    ffi::c_void,
    iter::Peekable,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    alloc::AllocError,
    bindings,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        rcu,
        Mutex,
        MutexGuard, //
    },
    types::Opaque, //
};

/// A value entry (lowest bit set), which no aligned pointer equals.
const NOTHING_HERE: *mut c_void = ptr::without_provenance_mut(1);

/// For memory that is charged, and not waited for.
const IMPATIENT: bindings::gfp_t =
    bindings::GFP_NOWAIT | (bindings::GFP_KERNEL_ACCOUNT & !bindings::GFP_KERNEL);

/// How many objects [`RangeIndex::merge`] takes the place of at most: each is an entry, of which
/// one change of the tree takes out so many.
pub const MERGED: usize = run::RUN / 2;

/// How many entries a walk looks at before others may change the index.
const STEPS: usize = 1024;

/// Makes the lock of the writers of an index.
///
/// Not generic and not inlined: what is compiled into a user's module gives a lock a name in that
/// module's text, and lockdep a class with as many names as there are users.
#[inline(never)]
fn new_writers() -> impl PinInit<Mutex<()>> {
    new_mutex!((), "RangeIndex::writers")
}

/// A walk through the tree in order of address, in a read-side section of RCU.
///
/// # Invariants
///
/// `state` is that of a walk through the tree of an index whose `writers` is locked for `'a`.
struct Walk<'a> {
    state: bindings::ma_state,
    _rcu: rcu::Guard,
    _writers: PhantomData<&'a MutexGuard<'a, ()>>,
}

impl Walk<'_> {
    fn next(&mut self) -> Option<Entry> {
        // SAFETY: By the type invariants `state` is that of a walk through an index whose `writers`
        // is locked. So by the invariants of that the tree is initialised and not changed, and it
        // is read under RCU.
        let entry = unsafe { bindings::mas_find(&raw mut self.state, usize::MAX) };
        (!entry.is_null()).then_some(Entry {
            entry,
            first: self.state.index,
            last: self.state.last,
        })
    }
}

/// Why [`RangeIndex::insert`] has put nothing there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError<E> {
    /// An object is in the way and minds, as it says. The index is unchanged.
    InTheWay(E),
    /// There is no memory (`ENOMEM`). Some of what is in the way may not be there any more.
    AllocError(AllocError),
}

impl<E> From<AllocError> for InsertError<E> {
    fn from(error: AllocError) -> Self {
        Self::AllocError(error)
    }
}

impl<E: Into<Error>> From<InsertError<E>> for Error {
    fn from(error: InsertError<E>) -> Self {
        match error {
            InsertError::InTheWay(error) => error.into(),
            InsertError::AllocError(error) => error.into(),
        }
    }
}

/// Why [`RangeIndex::replace`] has left the object where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceError {
    /// It is not wanted any more (`ESTALE`).
    Unwanted,
    /// Something else is in the place of a piece (`EEXIST`).
    Occupied,
    /// There is no memory (`ENOMEM`). The index is as it was, though lookups may have found pieces.
    AllocError(AllocError),
}

impl From<ReplaceError> for Error {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Unwanted => ESTALE,
            ReplaceError::Occupied => EEXIST,
            ReplaceError::AllocError(error) => error.into(),
        }
    }
}

/// A map from spans of addresses to objects, with lockless lookups.
///
/// # Invariants
///
/// - `tree` is an initialised maple tree in RCU mode.
/// - An entry is [`NOTHING_HERE`] or was passed to [`RangeIndex::insert`],
///   [`RangeIndex::replace`] or [`RangeIndex::merge`], and no [`RangeIndex::erase`] that it was
///   passed to has returned; or to the second as a piece in vain.
/// - Entries are only changed with `writers` locked.
#[pin_data(PinnedDrop)]
pub struct RangeIndex<T> {
    #[pin]
    tree: Opaque<bindings::maple_tree>,
    #[pin]
    writers: Mutex<()>,
    _entries: PhantomData<*const T>,
}

// SAFETY: The tree may be used from any task; it hands out shared access to `T` only.
unsafe impl<T: Sync> Send for RangeIndex<T> {}
// SAFETY: All of the tree's operations synchronise among themselves, and what they hand out is
// shared access to `T`, which is `Sync`.
unsafe impl<T: Sync> Sync for RangeIndex<T> {}

impl<T> RangeIndex<T> {
    /// Makes an index with nothing in it.
    pub fn new() -> impl PinInit<Self> {
        const { assert!(align_of::<T>() >= 4, "the tree uses the lowest two bits") };

        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and the tree is destroyed in `drop`.
            // INVARIANT: The flag puts the tree into RCU mode.
            tree <- Opaque::ffi_init(|slot| unsafe {
                bindings::mt_init_flags(slot, bindings::MT_FLAGS_USE_RCU)
            }),
            writers <- new_writers(),
            _entries: PhantomData,
        })
    }

    /// The object at `addr`. Takes no lock; any context.
    ///
    /// Only a read-side section entered before the call, of the kind that [`RangeIndex::insert`]
    /// speaks of, makes the answer valid to look at. It may be outdated, and where entries are
    /// being overwritten it may even be that of an address nearby: whether the object has anything
    /// to do with `addr` is for the caller to see, and to ask again.
    pub fn load(&self, addr: usize) -> Option<NonNull<T>> {
        // SAFETY: By the type invariants the tree is initialised.
        as_object(unsafe { bindings::mtree_load(self.tree.get(), addr) })
    }

    /// The first object that has anything of `span`, and where that is; it may begin before `span`
    /// and end behind it. Takes no lock; any context.
    ///
    /// The answer is as good as that of [`RangeIndex::load`]: an address that is an object's all
    /// the time is not passed over. So it asks for one address after the other. `mas_find()` goes
    /// on from the end of a gap, and if the gap is an object's by then, steps over that.
    pub fn first_within(&self, span: Span) -> Option<(NonNull<T>, Span)> {
        let mut from = span.start();
        loop {
            let (entry, first, last) = self.entry_at(from);
            let behind = last.checked_add(1)?;
            if let (Some(object), Ok(piece)) = (as_object(entry), Span::from_bounds(first, behind))
            {
                return Some((object, piece));
            }
            if behind >= span.end() {
                return None;
            }
            from = behind;
        }
    }

    /// Puts `object` at `span`. May sleep; not under a lock that reclaim needs.
    ///
    /// Objects in the way are overwritten if none of them minds: `in_the_way` is asked about each
    /// of them and the span it has in the index, and an error of it is returned.
    ///
    /// # Errors
    ///
    /// See [`InsertError`]; which objects mind is for `in_the_way` to say.
    ///
    /// # Safety
    ///
    /// `object` must stay valid until [`RangeIndex::erase`] has returned for it, and every
    /// read-side section in which it may have been looked up has ended. From that `erase` on it is
    /// passed neither to [`RangeIndex::replace`] nor, as an old one, to [`RangeIndex::merge`].
    pub unsafe fn insert<E>(
        &self,
        span: Span,
        object: NonNull<T>,
        mut in_the_way: impl FnMut(&T, Span) -> Result<(), E>,
    ) -> Result<(), InsertError<E>> {
        let writers = self.writers.lock();

        // Mostly there is nothing, and no need to look twice.
        if self.find_entry(span.start(), span.last()).is_some() {
            for (other, piece) in self.pieces(span.start(), span.last()) {
                // SAFETY: By the type invariants no `erase` has returned for what is in the index,
                // which is locked.
                in_the_way(unsafe { other.as_ref() }, piece).map_err(InsertError::InTheWay)?;
            }
            self.make_room(
                span,
                ptr::null_mut(),
                bindings::GFP_KERNEL_ACCOUNT,
                &writers,
            )?;
        }
        self.store(
            span.start(),
            span.last(),
            object.as_ptr().cast(),
            bindings::GFP_KERNEL_ACCOUNT,
        )?;
        Ok(())
    }

    /// Has so few entries at `span` that one change of the tree may take them out, by putting
    /// `entry` in the place of the first ones.
    fn make_room(
        &self,
        span: Span,
        entry: *mut c_void,
        gfp: bindings::gfp_t,
        writers: &MutexGuard<'_, ()>,
    ) -> Result<(), AllocError> {
        while let Some(behind) = self.too_many(span, writers) {
            // There is an entry behind this, in the span.
            self.store(span.start(), behind.saturating_sub(1), entry, gfp)?;
        }
        Ok(())
    }

    /// If there are more entries at `span` than one change of the tree takes out: where the first
    /// of them that are not too many end.
    fn too_many(&self, span: Span, writers: &MutexGuard<'_, ()>) -> Option<usize> {
        let mut extent = Extent::NONE;
        let mut walk = self.walk(span.start(), writers);
        while let Some(entry) = walk.next().filter(|entry| entry.first <= span.last()) {
            let Some(more) = extent.with(entry) else {
                return Some(extent.behind);
            };
            extent = more;
        }
        None
    }

    /// Puts `pieces` in the place of `object`, all or none, and says to `done` whether they are
    /// there. May sleep, but not for memory.
    ///
    /// `object` is at `at`. A piece may reach beyond that, if it is the only one: what other
    /// objects have of the index there is overwritten if none of them minds, which `gives_way` is
    /// asked, with the span that one has and that of the piece.
    ///
    /// `wanted` is asked first, and if it says no, nothing is done. All are called
    /// with the index locked, so that other changes of the index come before all of this or after
    /// all of it. Lookups find one or the other at any time. Where there are no pieces `object`
    /// stays.
    ///
    /// # Errors
    ///
    /// See [`ReplaceError`]; `done` has been called if it was for want of memory.
    ///
    /// # Safety
    ///
    /// As for [`RangeIndex::insert`], for each piece.
    pub unsafe fn replace(
        &self,
        (at, object): (Span, NonNull<T>),
        pieces: impl Iterator<Item = (Span, NonNull<T>)> + Clone,
        wanted: impl FnOnce() -> bool,
        mut gives_way: impl FnMut(&T, Span, Span) -> bool,
        done: impl FnOnce(bool),
    ) -> Result<(), ReplaceError> {
        let writers = self.writers.lock();

        if !wanted() {
            return Err(ReplaceError::Unwanted);
        }
        for (span, _) in pieces.clone() {
            let mut there = self.pieces(span.start(), span.last());
            let mut gives_way = |other: NonNull<T>, its: Span| {
                // SAFETY: By the type invariants no `erase` has returned for what is in the index,
                // which is locked.
                other == object || gives_way(unsafe { other.as_ref() }, its, span)
            };
            if !there.all(|(other, its)| gives_way(other, its)) {
                return Err(ReplaceError::Occupied);
            }
        }
        let object = object.as_ptr().cast();
        for (stored, (span, piece)) in pieces.clone().enumerate() {
            let (first, last) = (span.start(), span.last());
            let piece = piece.as_ptr().cast();
            // Where this has failed before, the object is there in many entries.
            let replaced = self
                .clear_beyond(span, at, IMPATIENT, &writers)
                .and_then(|()| match span.intersect(&at) {
                    Some(own) => self.make_room(own, object, IMPATIENT, &writers),
                    None => Ok(()),
                })
                .and_then(|()| self.store(first, last, piece, IMPATIENT));
            let Err(error) = replaced else {
                continue;
            };
            for (span, _) in pieces.take(stored) {
                kernel::warn_on!(!at.covers(&span));
                // An entry that takes exactly the place of another needs no memory.
                let restored = self.store(span.start(), span.last(), object, IMPATIENT);
                kernel::warn_on!(restored.is_err());
            }
            done(false);
            return Err(ReplaceError::AllocError(error));
        }
        done(true);
        Ok(())
    }

    /// Puts `object` at `span`, in the place of the objects that are there, and says to `done`
    /// whether it is. May sleep, but not for memory.
    ///
    /// Those are `old`, each with its span: neighbours that have all of `span`, and no more than
    /// [`MERGED`]. `wanted` is asked first, and if it says no, nothing is done. Both are called
    /// with the index locked. Lookups find an old object or the new one at any time. An old one
    /// that was there in many entries, as where a replacement has failed, is there in one before.
    ///
    /// # Errors
    ///
    /// [`ReplaceError::Unwanted`] and [`ReplaceError::AllocError`]; in either case lookups have not
    /// found `object`.
    ///
    /// # Safety
    ///
    /// For `object` as for [`RangeIndex::insert`]. And if `wanted` says yes, at that moment the
    /// index has each of `old` at all of its span, they have `span` together and there are no more
    /// than [`MERGED`] of them, and no [`RangeIndex::erase`] has been called for one.
    pub unsafe fn merge(
        &self,
        old: impl Iterator<Item = (Span, NonNull<T>)>,
        (span, object): (Span, NonNull<T>),
        wanted: impl FnOnce() -> bool,
        done: impl FnOnce(bool),
    ) -> Result<(), ReplaceError> {
        let writers = self.writers.lock();

        if !wanted() {
            return Err(ReplaceError::Unwanted);
        }
        for (span, old) in old {
            // It is there in many entries if what was to replace it was undone.
            let (_, _, last) = self.entry_at(span.start());
            let old = old.as_ptr().cast();
            let one = if last == span.last() {
                Ok(())
            } else {
                self.make_room(span, old, IMPATIENT, &writers)
                    .and_then(|()| self.store(span.start(), span.last(), old, IMPATIENT))
            };
            if let Err(error) = one {
                done(false);
                return Err(ReplaceError::AllocError(error));
            }
        }
        // So few entries that this is one change of the tree.
        let object = object.as_ptr().cast();
        let merged = self.store(span.start(), span.last(), object, IMPATIENT);
        done(merged.is_ok());
        merged.map_err(ReplaceError::AllocError)
    }

    /// Has nothing at `span` but what is within `at`.
    fn clear_beyond(
        &self,
        span: Span,
        at: Span,
        gfp: bindings::gfp_t,
        writers: &MutexGuard<'_, ()>,
    ) -> Result<(), AllocError> {
        let beyond = [span.clip(0, at.start()), span.clip(at.end(), usize::MAX)];
        for part in beyond.into_iter().flatten() {
            if self.find_entry(part.start(), part.last()).is_some() {
                self.make_room(part, ptr::null_mut(), gfp, writers)?;
                self.store(part.start(), part.last(), ptr::null_mut(), gfp)?;
            }
        }
        Ok(())
    }

    /// Takes objects out, each wherever in its span nothing has overwritten it, and says where that
    /// was. May sleep.
    ///
    /// In order of address this is cheapest. `erased` is called with the index locked, soon after
    /// the piece was taken out, and may sleep; the iterator must not.
    ///
    /// Lookups that begin after this has returned do not find them.
    pub fn erase(
        &self,
        objects: impl Iterator<Item = (Span, NonNull<T>)>,
        mut erased: impl FnMut(&T, Span),
    ) {
        let mut left = objects.peekable();
        // What has been erased of the first of them lies before this.
        let mut from = 0;
        while left.peek().is_some() {
            let writers = self.writers.lock();

            let run = self.run(&mut left, &mut from, &writers);
            self.take_out(&run);
            for (object, piece) in run.iter() {
                // SAFETY: It was in the index until just now, and the `erase` that it was passed to
                // has not returned, which is how long `insert` and `replace` want it to be valid at
                // least.
                erased(unsafe { object.as_ref() }, piece);
            }
        }
    }

    /// The next entries to erase: of the objects that are `left`, of the first only what begins at
    /// or behind `from`. Takes those from `left` of which no more is there.
    fn run(
        &self,
        left: &mut Peekable<impl Iterator<Item = (Span, NonNull<T>)>>,
        from: &mut usize,
        writers: &MutexGuard<'_, ()>,
    ) -> Run<T> {
        let mut run = Run::new();
        let Some((span, _)) = left.peek() else {
            return run;
        };
        // All that begins before this has been seen.
        let mut seen = span.start().max(*from);
        let mut walk = self.walk(seen, writers);
        let mut found = walk.next();
        for _ in 0..STEPS {
            let Some(&(span, object)) = left.peek() else {
                break;
            };
            let Some(entry) = found.filter(|entry| entry.first <= span.last()) else {
                *from = 0;
                let _ = left.next();
                let ahead =
                    |next: usize| run.is_empty() && found.is_some_and(|e| e.behind() <= next);
                if left
                    .peek()
                    .is_some_and(|(next, _)| next.start() < seen || ahead(next.start()))
                {
                    // Not in order of address, or to be looked for.
                    break;
                }
                continue;
            };
            *from = entry.first;
            let piece = Span::from_bounds(entry.first, entry.behind());
            let fits = match (as_object(entry.entry), piece) {
                (Some(other), Ok(piece)) if other == object => run.push(object, piece, entry),
                (Some(_), _) => run.is_empty(),
                (None, _) => run.pass(entry),
            };
            if !fits {
                break;
            }
            *from = entry.behind();
            seen = *from;
            found = walk.next();
        }
        run
    }

    /// Takes the entries of a run out.
    fn take_out(&self, run: &Run<T>) {
        let (Some((_, first)), Some((_, last))) = (run.iter().next(), run.last()) else {
            return;
        };
        let nothing = ptr::null_mut();
        // Charged to nobody: at a cgroup's limit this would leave markers behind, as many as its
        // processes like.
        if self
            .store(first.start(), last.last(), nothing, bindings::GFP_NOWAIT)
            .is_ok()
        {
            return;
        }
        for (_, piece) in run.iter() {
            // An entry that takes exactly the place of another needs no memory.
            let (first, last) = (piece.start(), piece.last());
            let marked = self.store(first, last, NOTHING_HERE, bindings::GFP_NOWAIT);
            kernel::warn_on!(marked.is_err());
        }
    }

    /// Locks the index: nobody changes it for as long as the answer lives. May sleep.
    pub fn lock(&self) -> Locked<'_, T> {
        Locked {
            index: self,
            writers: self.writers.lock(),
        }
    }

    /// Calls `f` for the objects of the index in order of address; for one with several pieces
    /// left, once a piece. May sleep, and so may `f`, which must not change the index.
    pub fn for_each(&self, mut f: impl FnMut(&T)) {
        let _writers = self.writers.lock();

        for (object, _) in self.pieces(0, usize::MAX) {
            // SAFETY: By the type invariants no `erase` has returned for what is in the index,
            // which is locked.
            f(unsafe { object.as_ref() });
        }
    }

    /// As [`RangeIndex::for_each`], for the objects that have anything of `span`.
    pub fn for_each_within(&self, span: Span, mut f: impl FnMut(&T)) {
        let _writers = self.writers.lock();

        for (object, _) in self.pieces(span.start(), span.last()) {
            // SAFETY: By the type invariants no `erase` has returned for what is in the index,
            // which is locked.
            f(unsafe { object.as_ref() });
        }
    }

    /// The objects between `first` and `last`, inclusive, and the spans they have in the index.
    ///
    /// The index may be changed at what has been returned while the iterator lives.
    fn pieces(&self, first: usize, last: usize) -> impl Iterator<Item = (NonNull<T>, Span)> + '_ {
        let mut from = Some(first);
        core::iter::from_fn(move || loop {
            let (entry, first, end) = self.find_entry(from?, last)?;
            from = end.checked_add(1).filter(|&from| from <= last);
            let behind = end.checked_add(1)?;
            // What was stored were spans, and what is left of them when others are stored is, too.
            if let (Some(object), Ok(piece)) = (as_object(entry), Span::from_bounds(first, behind))
            {
                return Some((object, piece));
            }
        })
    }

    /// The state of a walk through the tree that begins at `from`.
    fn state(&self, from: usize) -> bindings::ma_state {
        bindings::ma_state {
            tree: self.tree.get(),
            index: from,
            last: from,
            status: bindings::maple_status_ma_start,
            min: 0,
            max: usize::MAX,
            store_type: bindings::store_type_wr_invalid,
            ..Default::default()
        }
    }

    /// A walk through the tree from `from` on.
    fn walk<'a>(&self, from: usize, _writers: &'a MutexGuard<'_, ()>) -> Walk<'a> {
        // INVARIANT: `writers` is locked as long as its guard is borrowed.
        Walk {
            state: self.state(from),
            _rcu: rcu::read_lock(),
            _writers: PhantomData,
        }
    }

    /// What there is at an address, which may be nothing, and the bytes of which that is so,
    /// inclusive.
    fn entry_at(&self, addr: usize) -> (*mut c_void, usize, usize) {
        let mut state = self.state(addr);

        let _rcu = rcu::read_lock();
        // SAFETY: By the type invariants the tree is initialised, and it may be read under RCU.
        let entry = unsafe { bindings::mas_walk(&raw mut state) };
        (entry, state.index, state.last)
    }

    fn find_entry(&self, from: usize, last: usize) -> Option<(*mut c_void, usize, usize)> {
        let mut state = self.state(from);

        let _rcu = rcu::read_lock();
        // SAFETY: By the type invariants the tree is initialised, and it may be read under RCU.
        let entry = unsafe { bindings::mas_find(&raw mut state, last) };
        (!entry.is_null()).then_some((entry, state.index, state.last))
    }

    fn store(
        &self,
        first: usize,
        last: usize,
        entry: *mut c_void,
        gfp: bindings::gfp_t,
    ) -> Result<(), AllocError> {
        // SAFETY: By the type invariants the tree is initialised; this takes its lock.
        let stored =
            unsafe { bindings::mtree_store_range(self.tree.get(), first, last, entry, gfp) };
        // There is no other reason: the bounds are in order, and no entry is one of the tree's own.
        to_result(stored).map_err(|_| AllocError)
    }
}

fn as_object<T>(entry: *mut c_void) -> Option<NonNull<T>> {
    if entry == NOTHING_HERE {
        None
    } else {
        NonNull::new(entry.cast())
    }
}

#[pinned_drop]
impl<T> PinnedDrop for RangeIndex<T> {
    fn drop(self: Pin<&mut Self>) {
        // Markers, which were left where there was no memory: what is destroyed is empty, see
        // `RUN`.
        while let Some((_, first, last)) = self.find_entry(0, usize::MAX) {
            let erased = self.store(first, last, ptr::null_mut(), bindings::GFP_KERNEL);
            if erased.is_err() {
                // Rather lose its nodes.
                return;
            }
        }
        // SAFETY: By the type invariants the tree is initialised; nobody else can use it now.
        unsafe { bindings::mtree_destroy(self.tree.get()) };
    }
}
