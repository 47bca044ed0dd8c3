// SPDX-License-Identifier: GPL-2.0

//! From an address to a range.

use super::{
    mirror::User,
    piece::Piece,
    readers::Readers, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::Mutex, //
};
use odp::Span;

/// What the ranges of a mirror are found in.
///
/// A part of it, [`Index::Guarded`], is in what the user lock guards; whether readers need that is
/// for the index to say.
pub(super) trait Index<R: Readers<Index = Self>>: Send + Sync + Sized + 'static {
    /// What of it the user lock guards.
    type Guarded: Send + Unpin;
    /// What a range has for it.
    type Node;

    /// Makes one without a range.
    fn new() -> impl PinInit<Self>;

    /// Makes that part of it that the user lock guards.
    fn guarded() -> Self::Guarded;

    /// Makes what a range at `span` has for it.
    fn node(span: Span) -> Self::Node;

    /// Puts a range where it is. The caller does not have the user lock. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn publish(&self, user: &Mutex<User<R>>, piece: &Piece<R>) -> Result;

    /// Puts a range where it is, from within a callback.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn publish_nowait(&self, guarded: &mut Self::Guarded, piece: &Piece<R>) -> Result;

    /// Takes a range out that is in it. Does not sleep, and does not fail.
    fn unpublish(&self, guarded: &mut Self::Guarded, piece: &Piece<R>);

    /// A range is smaller from now on; nobody finds it at the rest, or whoever does sees that from
    /// its bounds.
    fn shrink(&self, guarded: &mut Self::Guarded, piece: &Piece<R>, span: Span) {
        let (_, _, _) = (guarded, piece, span);
    }

    /// The first range that has anything between `from` and `last`, inclusive, and where it ends,
    /// inclusive. The user lock is held.
    fn first(
        &self,
        guarded: &Self::Guarded,
        from: usize,
        last: usize,
    ) -> Option<(NonNull<Piece<R>>, usize)>;

    /// Sees to it that it does not grow with what is gone. May sleep.
    fn tidy(&self, user: &Mutex<User<R>>) {
        let _ = user;
    }

    /// There is no range any more, and there will be none. May sleep.
    fn end(&self) {}
}
