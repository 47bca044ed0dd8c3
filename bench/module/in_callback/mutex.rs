// SPDX-License-Identifier: GPL-2.0

//! Readers that have the user lock, which the callback takes: so nobody looks at a range that has
//! been removed, and it is freed at the end of the invalidation.

use super::{
    index::Index,
    mirror::{
        Mirror,
        User, //
    },
    piece::Piece,
    readers::Readers, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    container_of,
    prelude::*,
    sync::Mutex,
    types::Opaque, //
};
use odp::Span;

/// Core mm as version 6 of January 2020 had it, and a driver without an index, as the one of
/// version 6 had none.
///
/// The driver stays clear of what was wrong in core mm: it does not remove a range twice (which
/// under an invalidation that lasts would hang the machine), works out what is left of one from
/// bounds of its own, and counts to know when all are gone. So this can be measured; what goes
/// wrong else the tests show.
pub(super) struct Faithful;

/// Core mm as it is repaired, and ranges in an interval tree, as drivers have them that look them
/// up under a lock.
pub(super) struct Mutexed;

/// Frees a piece, and tells its mirror.
///
/// # Safety
///
/// `piece` is what `Piece::new` made, and nobody knows of it any more.
unsafe fn release<R: Readers>(piece: NonNull<Piece<R>>) {
    // SAFETY: By the safety requirements it is valid.
    let mirror = NonNull::from(unsafe { piece.as_ref() }.mirror());
    // SAFETY: By the safety requirements.
    unsafe { Piece::free(piece) };
    // SAFETY: It is not dropped before it has been told that all its pieces are gone.
    let mirror = unsafe { mirror.as_ref() };
    mirror.removed();
    mirror.gone(1);
}

impl Readers for Faithful {
    const AS_POSTED: bool = true;
    type Index = List;
    type Domain = ();
    type Own = ();
    type Visit<'a> = ();

    fn domain() -> Result {
        Ok(())
    }

    fn own() {}

    fn visit((): &()) {}

    fn find<T>(
        _mirror: &Mirror<Self>,
        _addr: usize,
        _f: impl FnOnce(&Piece<Self>) -> T,
    ) -> Option<T> {
        None
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements it is what `Piece::new` made, released once. There are
        // no readers.
        unsafe { release(piece) };
    }
}

impl Readers for Mutexed {
    type Index = IntervalTree;
    type Domain = ();
    type Own = ();
    type Visit<'a> = ();

    fn domain() -> Result {
        Ok(())
    }

    fn own() {}

    fn visit((): &()) {}

    fn find<T>(mirror: &Mirror<Self>, addr: usize, f: impl FnOnce(&Piece<Self>) -> T) -> Option<T> {
        let user = mirror.lock(true)?;
        let (piece, _) = mirror.index.first(&user.guarded, addr, addr)?;
        // SAFETY: What is found is a piece. It leaves the index with the user lock held, before it
        // is released.
        Some(f(unsafe { piece.as_ref() }))
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements it is what `Piece::new` made, released once. Readers
        // have the user lock, under which it has left the index.
        unsafe { release(piece) };
    }
}

/// The kernel's tree of intervals: to take a range out takes no memory, and no walk.
pub(super) struct IntervalTree;

/// Its root.
///
/// # Invariants
///
/// The nodes are those of pieces of type `Piece<Mutexed>` that are valid as long as they are there.
pub(super) struct Root(bindings::rb_root_cached);

// SAFETY: It may be used from any task, by one at a time.
unsafe impl Send for Root {}

impl Root {
    fn insert(&mut self, piece: &Piece<Mutexed>) {
        // SAFETY: The node is initialised, and in no tree. It is taken out before it goes.
        unsafe { bindings::interval_tree_insert(piece.node.get(), &raw mut self.0) };
    }

    fn remove(&mut self, piece: &Piece<Mutexed>) {
        // SAFETY: The node is in the tree.
        unsafe { bindings::interval_tree_remove(piece.node.get(), &raw mut self.0) };
    }
}

impl Index<Mutexed> for IntervalTree {
    type Guarded = Root;
    type Node = Opaque<bindings::interval_tree_node>;

    fn new() -> impl PinInit<Self> {
        Self
    }

    fn guarded() -> Root {
        // INVARIANT: There are none.
        Root(bindings::rb_root_cached::default())
    }

    fn node(span: Span) -> Self::Node {
        Opaque::new(bindings::interval_tree_node {
            start: span.start(),
            last: span.last(),
            ..Default::default()
        })
    }

    fn publish(&self, user: &Mutex<User<Mutexed>>, piece: &Piece<Mutexed>) -> Result {
        self.publish_nowait(&mut user.lock().guarded, piece)
    }

    fn publish_nowait(&self, root: &mut Root, piece: &Piece<Mutexed>) -> Result {
        // INVARIANT: It is valid until it is released, and taken out before that.
        root.insert(piece);
        Ok(())
    }

    fn unpublish(&self, root: &mut Root, piece: &Piece<Mutexed>) {
        root.remove(piece);
    }

    fn shrink(&self, root: &mut Root, piece: &Piece<Mutexed>, span: Span) {
        root.remove(piece);
        // SAFETY: The node is in no tree, and the user lock is held, so that nobody else has it.
        let node = unsafe { &mut *piece.node.get() };
        node.start = span.start();
        node.last = span.last();
        root.insert(piece);
    }

    fn first(
        &self,
        root: &Root,
        from: usize,
        last: usize,
    ) -> Option<(NonNull<Piece<Mutexed>>, usize)> {
        let raw = ptr::from_ref(&root.0).cast_mut();
        // SAFETY: The tree is initialised, and is not changed by this; the user lock is held.
        let node = NonNull::new(unsafe { bindings::interval_tree_iter_first(raw, from, last) })?;
        // SAFETY: It is in the tree, so that it is valid.
        let end = unsafe { node.as_ref() }.last;
        // SAFETY: By the type invariants of the root it is that of a piece.
        let piece =
            unsafe { container_of!(Opaque::cast_from(node.as_ptr()), Piece<Mutexed>, node) };
        Some((NonNull::new(piece.cast_mut())?, end))
    }
}

/// What a driver has that looks nothing up: a list, to know what there is when it ends.
pub(super) struct List;

/// The first of the list.
///
/// # Invariants
///
/// What is on the list is valid as long as it is there. The links are changed with the user lock
/// held.
pub(super) struct Head(*mut Piece<Faithful>);

// SAFETY: It may be used from any task, by one at a time.
unsafe impl Send for Head {}

/// The neighbours of a piece on the list, null at the ends.
pub(super) struct Links {
    before: *mut Piece<Faithful>,
    behind: *mut Piece<Faithful>,
}

impl Head {
    /// The links of a piece.
    ///
    /// # Safety
    ///
    /// The piece is valid, and the user lock is held as long as the answer lives.
    unsafe fn links<'a>(piece: *mut Piece<Faithful>) -> Option<&'a mut Links> {
        // SAFETY: By the safety requirements the piece is valid if it is one, and nobody else has
        // the links.
        Some(unsafe { &mut *(*NonNull::new(piece)?.as_ptr()).node.get() })
    }
}

impl Index<Faithful> for List {
    type Guarded = Head;
    type Node = Opaque<Links>;

    fn new() -> impl PinInit<Self> {
        Self
    }

    fn guarded() -> Head {
        // INVARIANT: There are none.
        Head(ptr::null_mut())
    }

    fn node(_span: Span) -> Opaque<Links> {
        Opaque::new(Links {
            before: ptr::null_mut(),
            behind: ptr::null_mut(),
        })
    }

    fn publish(&self, user: &Mutex<User<Faithful>>, piece: &Piece<Faithful>) -> Result {
        self.publish_nowait(&mut user.lock().guarded, piece)
    }

    fn publish_nowait(&self, head: &mut Head, piece: &Piece<Faithful>) -> Result {
        let raw = ptr::from_ref(piece).cast_mut();
        // SAFETY: The piece is valid, and the user lock is held.
        if let Some(links) = unsafe { Head::links(raw) } {
            links.behind = head.0;
        }
        // SAFETY: What is on the list is valid, and the user lock is held.
        if let Some(links) = unsafe { Head::links(head.0) } {
            links.before = raw;
        }
        // INVARIANT: It is valid until it is released, and taken out before that.
        head.0 = raw;
        Ok(())
    }

    fn unpublish(&self, head: &mut Head, piece: &Piece<Faithful>) {
        let raw = ptr::from_ref(piece).cast_mut();
        // SAFETY: The piece is valid, and the user lock is held.
        let Some(&mut Links { before, behind }) = (unsafe { Head::links(raw) }) else {
            return;
        };
        // SAFETY: What is on the list is valid, and the user lock is held.
        match unsafe { Head::links(before) } {
            Some(links) => links.behind = behind,
            None => head.0 = behind,
        }
        // SAFETY: As above.
        if let Some(links) = unsafe { Head::links(behind) } {
            links.before = before;
        }
    }

    // Only for what was inserted during an invalidation, and at the end of a process that did not
    // unmap what it had mirrored.
    fn first(
        &self,
        head: &Head,
        from: usize,
        last: usize,
    ) -> Option<(NonNull<Piece<Faithful>>, usize)> {
        let mut found: Option<(NonNull<Piece<Faithful>>, usize, usize)> = None;
        let mut next = NonNull::new(head.0);
        while let Some(raw) = next {
            // SAFETY: What is on the list is valid.
            let (start, end) = unsafe { raw.as_ref() }.bounds();
            if start <= last && from < end && found.is_none_or(|(_, least, _)| start < least) {
                found = Some((raw, start, end - 1));
            }
            // SAFETY: As above, and the user lock is held.
            next = unsafe { Head::links(raw.as_ptr()) }.and_then(|l| NonNull::new(l.behind));
        }
        found.map(|(piece, _, last)| (piece, last))
    }
}
