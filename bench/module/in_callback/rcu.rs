// SPDX-License-Identifier: GPL-2.0

//! Readers that find a range under RCU and take a reference, if there is one left: nobody waits for
//! them, and no grace period is between the end of the invalidation and the range's.
//!
//! The callback takes the range out of the index. `release()` gives back the first reference; the
//! last one ends the range, and leaves its memory to `kfree_rcu()`.

use super::{
    super::references::References,
    mirror::Mirror,
    piece::Piece,
    readers::Readers, //
};
use core::{
    ffi::c_void,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::rcu,
    types::Opaque, //
};
use odp::range_tree::RangeTree;

/// The way.
pub(super) struct EachRcu;

/// What a range has for it. This is looked at until the memory is freed, as its bounds are and its
/// place in the index.
pub(super) struct Own {
    head: Opaque<bindings::kvfree_rcu_head>,
    references: References,
}

/// Takes a reference to the piece at an address, if it is not gone.
fn get(mirror: &Mirror<EachRcu>, addr: usize) -> Option<NonNull<Piece<EachRcu>>> {
    let _section = rcu::read_lock();
    // SAFETY: The memory of what is in the index is freed a grace period after it has left, and
    // this is a section. Until then there is all that a lookup looks at.
    let piece = unsafe { mirror.index.load(addr) }?;
    // SAFETY: As above.
    let own = unsafe { &(*piece.as_ptr()).own };
    own.references.get().then_some(piece)
}

/// Gives a reference back.
///
/// # Safety
///
/// The reference is the caller's, who does not use the piece after this.
unsafe fn put(piece: NonNull<Piece<EachRcu>>) {
    // SAFETY: By the safety requirements there is a reference, which keeps it valid.
    let shared = unsafe { piece.as_ref() };
    let mirror = NonNull::from(shared.mirror());
    if !shared.own.references.put() {
        return;
    }
    let head = shared.own.head.get();
    // SAFETY: That was the last reference, and nobody can take another one: readers that find the
    // piece look at the number of references.
    unsafe { Piece::dismantle(piece) };
    let memory: *mut c_void = piece.as_ptr().cast();
    // SAFETY: It was allocated by `kmalloc()`, as the memory of a `KBox`. The head is part of it
    // and not in use. Only readers that began before this still look at it.
    unsafe { bindings::kvfree_call_rcu(head, memory) };
    // SAFETY: It is not dropped before it has been told that all its pieces are gone.
    unsafe { mirror.as_ref() }.gone(1);
}

impl Readers for EachRcu {
    type Index = RangeTree<Piece<Self>>;
    type Domain = ();
    type Own = Own;
    type Visit<'a> = ();

    fn domain() -> Result {
        Ok(())
    }

    fn own() -> Own {
        Own {
            head: Opaque::uninit(),
            references: References::new(),
        }
    }

    // What is in the index leaves it with the user lock held, before it is released.
    fn visit((): &()) {}

    fn find<T>(mirror: &Mirror<Self>, addr: usize, f: impl FnOnce(&Piece<Self>) -> T) -> Option<T> {
        let piece = get(mirror, addr)?;
        // SAFETY: The reference keeps it.
        let found = f(unsafe { piece.as_ref() });
        // SAFETY: The reference was taken above.
        unsafe { put(piece) };
        Some(found)
    }

    fn hold(mirror: &Mirror<Self>, addr: usize, f: &mut dyn FnMut() -> Result) -> Result {
        // It may sleep here, where readers have a reference and nothing else.
        let held = |piece: &Piece<Self>| piece.covers(addr).then(f);
        Self::find(mirror, addr, held).flatten().ok_or(ENOENT)?
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: The first reference keeps it.
        unsafe { piece.as_ref() }.mirror().removed();
        // SAFETY: The first reference is given back here only.
        unsafe { put(piece) };
    }
}
