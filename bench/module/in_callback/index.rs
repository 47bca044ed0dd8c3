// SPDX-License-Identifier: GPL-2.0

//! From an address to a range.

use super::{
    piece::Piece,
    readers::Readers, //
};
use core::ptr::NonNull;
use kernel::prelude::*;
use odp::{
    range_tree::{
        Place,
        RangeTree, //
    },
    Span, //
};

/// What the ranges of a mirror are found in. A range that becomes smaller stays where it is.
///
/// A part of it, [`Index::Guarded`], is in what the user lock guards; whether readers need that is
/// for the index to say.
pub(super) trait Index<R: Readers<Index = Self>>: Send + Sync + Sized + 'static {
    /// What of it the user lock guards.
    type Guarded: Send + Unpin + Default;
    /// What a range has for it.
    type Node;

    /// Makes one without a range.
    fn new() -> impl PinInit<Self>;

    /// Makes what a range has for it.
    fn node() -> Self::Node;

    /// Puts a range where it is, in the place of what is still there. Does not sleep.
    ///
    /// # Safety
    ///
    /// The piece is complete, and has not been in the index. It stays valid until it has been taken
    /// out and no reader can be at it.
    unsafe fn publish(&self, guarded: &mut Self::Guarded, piece: NonNull<Piece<R>>);

    /// Takes a range out, if it is still there. Does not sleep.
    ///
    /// # Safety
    ///
    /// The piece is valid, and of this index.
    unsafe fn unpublish(&self, guarded: &mut Self::Guarded, piece: NonNull<Piece<R>>);

    /// The first range that has anything of `span`. The user lock is held.
    ///
    /// # Safety
    ///
    /// The caller visits the ranges ([`Readers::visit`]), and does so as long as it looks at the
    /// answer.
    unsafe fn first(&self, guarded: &Self::Guarded, span: Span) -> Option<NonNull<Piece<R>>>;
}

/// The library's, in which readers find ranges without a lock. Who changes it has its sequence
/// lock, and needs no other.
impl<R: Readers<Index = Self>> Index<R> for RangeTree<Piece<R>> {
    type Guarded = ();
    type Node = Place;

    fn new() -> impl PinInit<Self> {
        RangeTree::new()
    }

    fn node() -> Place {
        Place::new()
    }

    unsafe fn publish(&self, (): &mut (), piece: NonNull<Piece<R>>) {
        // SAFETY: By the safety requirements; a read-side section is whatever makes a reader one.
        unsafe { self.change().put(piece) };
    }

    unsafe fn unpublish(&self, (): &mut (), piece: NonNull<Piece<R>>) {
        // SAFETY: By the safety requirements. A piece is in the index of its mirror or in none.
        unsafe { self.change().take_out(piece) };
    }

    unsafe fn first(&self, (): &(), span: Span) -> Option<NonNull<Piece<R>>> {
        // SAFETY: By the safety requirements the caller is such a reader.
        unsafe { self.first_within(span) }
    }
}
