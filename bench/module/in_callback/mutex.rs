// SPDX-License-Identifier: GPL-2.0

//! Readers that have the user lock, which the callback takes: so nobody looks at a range that has
//! been removed, and it is freed at the end of the invalidation.

use super::{
    super::tree::{
        Member,
        Node,
        Tree, //
    },
    index::Index,
    mirror::Mirror,
    piece::Piece,
    readers::Readers, //
};
use core::{
    mem::offset_of,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
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

/// Core mm as it is repaired, and ranges in a tree that is looked at with the user lock held, so
/// that it needs nothing for lookups without one.
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
    type Index = UnderLock;
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
        // It leaves the index with the user lock held, before it is released.
        Some(f(user.guarded.get(addr)?))
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements it is what `Piece::new` made, released once. Readers
        // have the user lock, under which it has left the index.
        unsafe { release(piece) };
    }
}

/// What can only be looked at with the user lock, which guards all of it.
pub(super) struct UnderLock;

// SAFETY: There is a node at that place, and the span only becomes less, with the user lock held,
// which guards the tree, too.
unsafe impl Member for Piece<Mutexed> {
    const NODE: usize = offset_of!(Self, node);

    fn span(&self) -> Span {
        Piece::span(self)
    }
}

impl Index<Mutexed> for UnderLock {
    type Guarded = Tree<Piece<Mutexed>>;
    type Node = Node;

    fn new() -> impl PinInit<Self> {
        Self
    }

    fn node() -> Node {
        Node::new()
    }

    unsafe fn publish(&self, tree: &mut Self::Guarded, piece: NonNull<Piece<Mutexed>>) {
        // One that is removed leaves at once, and a benchmark mirrors one region at a time: so
        // there is none.
        // SAFETY: By the safety requirements it is in no tree, and valid until it is taken out.
        while let Err(other) = unsafe { tree.put(piece) } {
            // SAFETY: It is in the tree, and so valid.
            unsafe { tree.take_out(other) };
        }
    }

    unsafe fn unpublish(&self, tree: &mut Self::Guarded, piece: NonNull<Piece<Mutexed>>) {
        // SAFETY: By the safety requirements it is valid, and in no other tree.
        unsafe { tree.take_out(piece) };
    }

    unsafe fn first(&self, tree: &Self::Guarded, span: Span) -> Option<NonNull<Piece<Mutexed>>> {
        let piece = tree.first_from(span.start())?;
        (piece.span().start() < span.end()).then(|| NonNull::from(piece))
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

impl Default for Head {
    fn default() -> Self {
        // INVARIANT: There are none.
        Self(ptr::null_mut())
    }
}

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

    fn node() -> Opaque<Links> {
        Opaque::new(Links {
            before: ptr::null_mut(),
            behind: ptr::null_mut(),
        })
    }

    unsafe fn publish(&self, head: &mut Head, piece: NonNull<Piece<Faithful>>) {
        let raw = piece.as_ptr();
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
    }

    unsafe fn unpublish(&self, head: &mut Head, piece: NonNull<Piece<Faithful>>) {
        // SAFETY: The piece is valid, and the user lock is held.
        let Some(&mut Links { before, behind }) = (unsafe { Head::links(piece.as_ptr()) }) else {
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
    unsafe fn first(&self, head: &Head, span: Span) -> Option<NonNull<Piece<Faithful>>> {
        let mut found: Option<(NonNull<Piece<Faithful>>, Span)> = None;
        let mut next = NonNull::new(head.0);
        while let Some(raw) = next {
            // SAFETY: What is on the list is valid.
            let there = unsafe { raw.as_ref() }.span();
            let is_first = found.is_none_or(|(_, first)| there.start() < first.start());
            if is_first && there.intersect(&span).is_some() {
                found = Some((raw, there));
            }
            // SAFETY: As above, and the user lock is held.
            next = unsafe { Head::links(raw.as_ptr()) }.and_then(|l| NonNull::new(l.behind));
        }
        found.map(|(piece, _)| piece)
    }
}
