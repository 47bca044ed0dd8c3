// SPDX-License-Identifier: GPL-2.0

//! Level 2: going through the ranges of a span.

use super::{
    access::{
        Hold,
        Lookup, //
    },
    driver::Mirrored,
    Mirror, //
};
use crate::{
    may_block::MayBlock,
    span::Span, //
};

/// Goes through the ranges in service of which any part lies in a span, in order of address; made
/// by [`Mirror::walk`].
///
/// It is no snapshot: between two steps ranges come and go. One that is in service all the time is
/// found, once. Where smaller ranges take the place of one, either that one is found or those are
/// that lie behind what has been found by then, so that no address is passed over that is mirrored
/// all the time. A range that has grown, or that several have become, may begin before that: then
/// part of it was found before, as part of another.
///
/// Nothing is kept between two steps, so that the caller may sleep there, wait for the worker, or
/// leave off.
pub struct Walk<'m, T: Mirrored> {
    mirror: &'m Mirror<T>,
    left: Option<Span>,
}

impl<'m, T: Mirrored> Walk<'m, T> {
    pub(super) fn new(mirror: &'m Mirror<T>, span: Span) -> Self {
        Self {
            mirror,
            left: Some(span),
        }
    }

    /// Finds the next range. Takes no lock.
    ///
    /// Context: as for [`Mirror::lookup`].
    pub fn next<'g>(&mut self, _p: &'g mut MayBlock<'_>) -> Option<Lookup<'g, T>>
    where
        'm: 'g,
    {
        let mirror = self.mirror;
        let section = mirror.worker.read_lock();
        loop {
            let left = self.left?;
            // SAFETY: `section` is of the mirror's worker, and the answer is not used beyond it.
            let look = || unsafe { mirror.space.index.first_within(left) };
            // SAFETY: As above, and `look` looks in the index.
            match unsafe { mirror.in_service(&section, look) } {
                Ok(raw) => {
                    // SAFETY: `in_service` has found it in that section, which is of this mirror.
                    let found = unsafe { Lookup::new(raw, section) };
                    self.pass(found.span());
                    return Some(found);
                }
                Err(stale) => self.pass(stale?),
            }
        }
    }

    /// Finds the next range and holds it. Passes over those that are held as often as they can be.
    ///
    /// Context: as for [`Mirror::lookup`].
    pub fn get_next(&mut self, p: &mut MayBlock<'_>) -> Option<Hold<T>> {
        loop {
            let before = self.left;
            let found = self.next(p)?;
            let full = found.is_full();
            if let Ok(hold) = found.hold() {
                return Some(hold);
            }
            if !full {
                // It has gone, or has been replaced since.
                self.left = before;
            }
        }
    }

    /// Goes on behind `span`.
    fn pass(&mut self, span: Span) {
        self.left = self.left.and_then(|left| left.clip(span.end(), usize::MAX));
    }
}
