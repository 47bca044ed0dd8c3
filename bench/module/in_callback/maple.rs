// SPDX-License-Identifier: GPL-2.0

//! An index in which readers find ranges without a lock, like the library's: a maple tree in RCU
//! mode. But it can be changed by a callback, so nothing but its own spinlock serialises writers.

use super::{
    index::Index,
    mirror::User,
    piece::{
        Piece,
        Stage, //
    },
    readers::Readers, //
};
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
    prelude::*,
    sync::{
        rcu,
        Mutex, //
    },
    types::Opaque, //
};
use odp::Span;

// The prototypes are those of helpers.h.
unsafe extern "C" {
    fn odp_bench_forget(tree: *mut bindings::maple_tree, entry: *const c_void);
    fn odp_bench_take_out(
        tree: *mut bindings::maple_tree,
        first: usize,
        last: usize,
        marker: *mut c_void,
        is_gone: unsafe extern "C" fn(*const c_void) -> bool,
    );
}

/// An entry that means "nothing here", which takes the place of another without needing memory.
const NOTHING_HERE: *mut c_void = ptr::without_provenance_mut(1);

/// How many more marks than ranges there may be before they are cleared away.
const MOST_MARKS: usize = 4096;

/// The index.
///
/// # Invariants
///
/// `tree` is initialised. An entry is [`NOTHING_HERE`] or a piece of type `Piece<R>` that is valid
/// as long as it is there.
#[pin_data(PinnedDrop)]
pub(super) struct MapleTree<R: Readers> {
    #[pin]
    tree: Opaque<bindings::maple_tree>,
    _pieces: PhantomData<*const Piece<R>>,
}

// SAFETY: The tree may be used from any task.
unsafe impl<R: Readers> Send for MapleTree<R> {}
// SAFETY: All of the tree's operations synchronise among themselves.
unsafe impl<R: Readers> Sync for MapleTree<R> {}

/// What the user lock guards: how often something was unpublished since the tree was last cleared
/// of that.
pub(super) struct Marks(usize);

impl<R: Readers> MapleTree<R> {
    fn store(&self, span: Span, entry: *mut c_void, gfp: bindings::gfp_t) -> Result {
        let (first, last) = (span.start(), span.last());
        // SAFETY: The tree is initialised; this takes its lock.
        to_result(unsafe { bindings::mtree_store_range(self.tree.get(), first, last, entry, gfp) })
    }

    /// The piece at an address. Takes no lock.
    ///
    /// What makes it valid to look at is the caller's business.
    pub(super) fn load(&self, addr: usize) -> Option<NonNull<Piece<R>>> {
        // SAFETY: The tree is initialised.
        let entry = unsafe { bindings::mtree_load(self.tree.get(), addr) };
        Some(
            NonNull::new(entry)
                .filter(|entry| entry.as_ptr() != NOTHING_HERE)?
                .cast(),
        )
    }

    /// The first entry between `from` and `last`, inclusive, and where it is.
    fn find(&self, from: usize, last: usize) -> Option<(NonNull<Piece<R>>, usize, usize)> {
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
            // SAFETY: The tree is initialised, and may be read under RCU: its nodes are freed by
            // that.
            let entry = NonNull::new(unsafe { bindings::mas_find(&raw mut state, last) })?;
            if entry.as_ptr() != NOTHING_HERE {
                return Some((entry.cast(), state.index, state.last));
            }
        }
    }

    /// Puts a mark where an entry is.
    fn mark(&self, span: Span) {
        // Storing nothing there would reshape the tree, at a moment when a process waits for it. A
        // mark is one store. The next range to be at these addresses overwrites it, or `forget`
        // does.
        let marked = self.store(span, NOTHING_HERE, bindings::GFP_NOWAIT);
        kernel::warn_on!(marked.is_err());
    }

    /// Takes all entries of `span` out whose stage is [`Stage::Expiring`], several at a time. May
    /// sleep.
    pub(super) fn take_out(&self, span: Span) {
        // SAFETY: The tree is initialised; this takes its lock. By the type invariants the entries
        // are what `is_expiring` takes.
        unsafe {
            odp_bench_take_out(
                self.tree.get(),
                span.start(),
                span.last(),
                NOTHING_HERE,
                Self::is_expiring,
            );
        }
    }

    /// # Safety
    ///
    /// `piece` is an entry of the tree, which is locked.
    unsafe extern "C" fn is_expiring(piece: *const c_void) -> bool {
        // SAFETY: By the safety requirements, and by the type invariants, it is a valid piece.
        unsafe { &*piece.cast::<Piece<R>>() }.is(Stage::Expiring)
    }

    /// Gives back the space of all that was unpublished. May sleep.
    fn forget(&self) {
        // SAFETY: The tree is initialised; this takes its lock.
        unsafe { odp_bench_forget(self.tree.get(), NOTHING_HERE) };
    }
}

impl<R: Readers<Index = Self>> Index<R> for MapleTree<R> {
    type Guarded = Marks;
    type Node = ();

    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: `slot` is valid for writes, and the tree is destroyed in `drop`.
            // INVARIANT: There is no entry.
            tree <- Opaque::ffi_init(|slot| unsafe {
                bindings::mt_init_flags(slot, bindings::MT_FLAGS_USE_RCU)
            }),
            _pieces: PhantomData,
        })
    }

    fn guarded() -> Marks {
        Marks(0)
    }

    fn node(_span: Span) {}

    fn publish(&self, _user: &Mutex<User<R>>, piece: &Piece<R>) -> Result {
        let entry = ptr::from_ref(piece).cast_mut().cast();
        // INVARIANT: It is valid until it is released, and taken out before that.
        self.store(piece.indexed, entry, bindings::GFP_KERNEL)
    }

    fn publish_nowait(&self, _marks: &mut Marks, piece: &Piece<R>) -> Result {
        let entry = ptr::from_ref(piece).cast_mut().cast();
        // INVARIANT: As above.
        self.store(piece.indexed, entry, bindings::GFP_NOWAIT)
    }

    fn unpublish(&self, marks: &mut Marks, piece: &Piece<R>) {
        let indexed = piece.indexed;
        if piece.bounds() == (indexed.start(), indexed.end()) {
            // It is certainly there in all of it.
            self.mark(indexed);
            marks.0 += 1;
            return;
        }
        let mut from = Some(indexed.start());
        while let Some(first) = from.filter(|&from| from <= indexed.last()) {
            let Some((found, first, last)) = self.find(first, indexed.last()) else {
                return;
            };
            from = last.checked_add(1);
            let behind = from.unwrap_or(last);
            if let (true, Ok(span)) = (
                ptr::eq(found.as_ptr(), piece),
                Span::from_bounds(first, behind),
            ) {
                self.mark(span);
                marks.0 += 1;
            }
        }
    }

    fn first(
        &self,
        _marks: &Marks,
        from: usize,
        last: usize,
    ) -> Option<(NonNull<Piece<R>>, usize)> {
        self.find(from, last).map(|(piece, _, last)| (piece, last))
    }

    fn tidy(&self, user: &Mutex<User<R>>) {
        let mut user = user.lock();
        // OVERFLOW: There cannot be as many pieces as there are bytes.
        if user.guarded.0 > user.live + MOST_MARKS {
            user.guarded.0 = 0;
            drop(user);
            self.forget();
        }
    }

    fn end(&self) {
        // So that there is nothing to destroy: mt_free_walk() takes the metadata of an inner node
        // that has all but one of its slots in use for a child, where a tree in RCU mode has four
        // levels.
        self.forget();
    }
}

#[pinned_drop]
impl<R: Readers> PinnedDrop for MapleTree<R> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The tree is initialised; nobody else can use it now.
        unsafe { bindings::mtree_destroy(self.tree.get()) };
    }
}
