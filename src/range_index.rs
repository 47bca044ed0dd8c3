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
//! overwritten by the next entry that wants the space.
//!
//! C header: [`include/linux/maple_tree.h`](srctree/include/linux/maple_tree.h)

use super::span::Span;
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    error::to_result,
    new_mutex,
    prelude::*,
    sync::{
        rcu,
        Mutex, //
    },
    types::Opaque, //
};

/// A value entry (lowest bit set), which no aligned pointer equals.
const NOTHING_HERE: *mut c_void = ptr::without_provenance_mut(1);

/// A map from spans of addresses to objects, with lockless lookups.
///
/// # Invariants
///
/// - `tree` is an initialised maple tree in RCU mode.
/// - An entry is [`NOTHING_HERE`] or was passed to [`RangeIndex::insert`] or [`RangeIndex::replace`] and not
///   yet to [`RangeIndex::erase`], or to the latter as a piece in vain.
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
// SAFETY: As above, and all of the tree's operations synchronise among themselves.
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
            writers <- new_mutex!((), "RangeIndex::writers"),
            _entries: PhantomData,
        })
    }

    /// The object at `addr`. Takes no lock; any context.
    ///
    /// Only a read-side section entered before the call, of the kind that [`RangeIndex::insert`] speaks
    /// of, makes the answer valid to look at. It may be outdated, and where entries are being
    /// overwritten it may even be that of an address nearby: whether the object has anything to do
    /// with `addr` is for the caller to see, and to ask again.
    pub fn load(&self, addr: usize) -> Option<NonNull<T>> {
        // SAFETY: By the type invariants the tree is initialised.
        as_object(unsafe { bindings::mtree_load(self.tree.get(), addr) })
    }

    /// Puts `object` at `span`. May sleep; not under a lock that reclaim needs.
    ///
    /// Objects in the way are overwritten, all or none: `in_the_way` is asked about each of them and
    /// the span it has in the index, and an error of it is returned.
    ///
    /// # Errors
    ///
    /// Those of `in_the_way`, `ENOMEM`; the index is unchanged.
    ///
    /// # Safety
    ///
    /// `object` must stay valid until [`RangeIndex::erase`] has returned for it, and is not passed to
    /// [`RangeIndex::replace`] from then on, and after that
    /// every read-side section in which it may have been looked up has ended.
    pub unsafe fn insert(
        &self,
        span: Span,
        object: NonNull<T>,
        mut in_the_way: impl FnMut(&T, Span) -> Result,
    ) -> Result {
        let _writers = self.writers.lock();

        for (other, piece) in self.pieces(span.start(), span.last()) {
            // SAFETY: It has not been erased, because that needs the mutex, so it is valid.
            in_the_way(unsafe { other.as_ref() }, piece)?;
        }

        self.store(
            span.start(),
            span.last(),
            object.as_ptr().cast(),
            bindings::GFP_KERNEL_ACCOUNT,
        )
    }

    /// Puts `pieces` in the place of `object`, all or none, and says to `done` whether they are there. May
    /// sleep, but not for memory.
    ///
    /// `wanted` is asked first, and if it says no, nothing is done and the answer is `ESTALE`. Both are called
    /// with the index locked, so that other changes of the index come before all of this or after all of it.
    /// Lookups find one or the other at any time. Where there are no pieces `object` stays.
    ///
    /// # Errors
    ///
    /// `ESTALE`, `EEXIST` if anything else is in the place of a piece: `done` has not been called. `ENOMEM`:
    /// the index is as it was, though lookups may have found pieces.
    ///
    /// # Safety
    ///
    /// As for [`RangeIndex::insert`], for each piece.
    pub unsafe fn replace(
        &self,
        object: NonNull<T>,
        pieces: impl Iterator<Item = (Span, NonNull<T>)> + Clone,
        wanted: impl FnOnce() -> bool,
        done: impl FnOnce(bool),
    ) -> Result {
        let _writers = self.writers.lock();

        if !wanted() {
            return Err(ESTALE);
        }
        for (span, _) in pieces.clone() {
            let mut there = self.pieces(span.start(), span.last());
            if !there.all(|(other, _)| other == object) {
                return Err(EEXIST);
            }
        }
        for (stored, (span, piece)) in pieces.clone().enumerate() {
            let (first, last) = (span.start(), span.last());
            let piece = piece.as_ptr().cast();
            let Err(error) = self.store(first, last, piece, bindings::GFP_NOWAIT) else {
                continue;
            };
            for (span, _) in pieces.take(stored) {
                let object = object.as_ptr().cast();
                // An entry that takes exactly the place of another needs no memory.
                let restored = self.store(span.start(), span.last(), object, bindings::GFP_NOWAIT);
                kernel::warn_on!(restored.is_err());
            }
            done(false);
            return Err(error);
        }
        done(true);
        Ok(())
    }

    /// Takes `object` out, wherever in `span` nothing has overwritten it, and says where that was.
    /// May sleep.
    ///
    /// Lookups that begin after this has returned do not find it.
    pub fn erase(&self, span: Span, object: NonNull<T>, mut erased: impl FnMut(Span)) {
        let _writers = self.writers.lock();

        let own = self.pieces(span.start(), span.last());
        for (_, piece) in own.filter(|(other, _)| *other == object) {
            let (first, last) = (piece.start(), piece.last());
            if self
                .store(first, last, ptr::null_mut(), bindings::GFP_NOWAIT)
                .is_err()
            {
                // An entry that takes exactly the place of another needs no memory.
                let marked = self.store(first, last, NOTHING_HERE, bindings::GFP_NOWAIT);
                kernel::warn_on!(marked.is_err());
            }
            erased(piece);
        }
    }

    /// Calls `f` for the objects of the index in order of address; for one with several pieces left,
    /// once a piece. May sleep, and so may `f`, which must not change the index.
    pub fn for_each(&self, mut f: impl FnMut(&T)) {
        let _writers = self.writers.lock();

        for (object, _) in self.pieces(0, usize::MAX) {
            // SAFETY: It has not been erased, because that needs the mutex, so it is valid.
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

    fn find_entry(&self, from: usize, last: usize) -> Option<(*mut c_void, usize, usize)> {
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
        // SAFETY: By the type invariants the tree is initialised, and it may be read under RCU.
        let entry = unsafe { bindings::mas_find(&raw mut state, last) };
        (!entry.is_null()).then_some((entry, state.index, state.last))
    }

    fn store(&self, first: usize, last: usize, entry: *mut c_void, gfp: bindings::gfp_t) -> Result {
        // SAFETY: By the type invariants the tree is initialised; this takes its lock.
        to_result(unsafe { bindings::mtree_store_range(self.tree.get(), first, last, entry, gfp) })
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
        // Marks, which were left where there was no memory. 7.3's mt_destroy_walk() may take the metadata
        // of a full node for a pointer in a tree of four levels, so what is destroyed is empty.
        while let Some((_, first, last)) = self.find_entry(0, usize::MAX) {
            let erased = self.store(first, last, ptr::null_mut(), bindings::GFP_KERNEL);
            if erased.is_err() {
                break;
            }
        }
        // SAFETY: By the type invariants the tree is initialised; nobody else can use it now.
        unsafe { bindings::mtree_destroy(self.tree.get()) };
    }
}
