// SPDX-License-Identifier: GPL-2.0

//! Level 2: putting one range in the place of several that lie side by side.
//!
//! It is a replacement like that of one range by a larger one. What differs is that several are to
//! be replaced together, or none of them:
//!
//! ```text
//! prepare   claim the neighbours                     nobody else changes them from here on; what
//!                                                    they are asked for waits until they are let
//!                                                    go of
//! replace   with the index locked:
//!             is each in service, and all of it
//!             wanted?
//!             index the one in their place           lookups find one of them or the one
//!             mark each replaced                     what has been asked of them meanwhile is
//!                                                    asked of the one
//! ```
//!
//! All are of the same object of the driver's. So what was installed through one of them is in the
//! table of the one, and under the same lock.
//!
//! Between the look and the mark they may be asked for something. That counts as asked after the
//! mark, when whoever asks is told to look the address up again and finds the one. So a retire of
//! one is a retire of all. What is to be cut off at an end where a neighbour was is punched, which
//! takes nothing from the neighbour; so what of it is mapped stays, see [`PendingTrim::of_part`].
//!
//! # Those that all ask at once
//!
//! They are all taken before any of them looks for neighbours, so it finds others in the worker's
//! hands. One that finds no other lets go of itself before the index is unlocked, so that those
//! which look later claim it. One that does not get all because of that asks again for the one that
//! it becomes part of. So of two neighbours in the index that have both asked, each with the other
//! in `within`, the one that looks last finds the other let go of and claims it; or the other has
//! become part of something, or is about to, that looks again. And that comes to an end: who looks
//! again without being asked to has become part of another, after which there are fewer, or has
//! lost a neighbour that somebody has asked to go or to be cut.

use super::{
    space::Space,
    split::{
        Outcome,
        Split, //
    },
    Range, //
};
use crate::{
    mmu_interval::Interval,
    odp::{
        engine::{
            fifo::Fifo,
            outcome::Changed,
            request::Request,
            state::Effect,
            trace::What,
            worker::Worker, //
        },
        mirror::{
            driver::Mirrored,
            trim::PendingTrim, //
        }, //
    },
    span::Span, //
};
use core::{
    iter,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::prelude::*;

/// How many ranges become one at a time: for so long the index is locked.
const MERGED: usize = 16;

impl<T: Mirrored> Range<T> {
    /// Asks for it to become one with its neighbours in `within`, which has all of `of`.
    pub(crate) fn merge(&self, of: Span, within: Span) -> Result<Changed> {
        if !within.covers(&of) {
            return Err(EINVAL);
        }
        Ok(self.change(PendingTrim::merge(within), || What::Merge.to(within)))
    }

    /// Whether it may be replaced together with others: it is in service, and no less of it is
    /// wanted, nor anything beyond it.
    fn is_steady(&self, span: Span) -> bool {
        self.is_live()
            && self
                .request
                .locked(|| self.with_trim(|trim| trim.wants_just(span)))
    }

    /// Whether the two are of one object of the driver's.
    fn is_of_same(&self, other: &Self) -> bool {
        (T::OPS.same)(&self.shared, &other.shared)
    }
}

impl<T: Mirrored> Split<T> {
    /// Claims the ranges beside the one at `interval` that it is to become one with; returns the
    /// span of all.
    ///
    /// The caller has taken the range to change it.
    ///
    /// # Errors
    ///
    /// [`Outcome::Unchanged`] if it is not to, and [`Outcome::LetGo`] if there is no other.
    pub(super) fn claim_neighbours(
        &mut self,
        interval: &Interval<Range<T>>,
        space: &Space<T>,
    ) -> Result<Span, Outcome> {
        let range = interval.data();
        let mut whole = interval.span();
        let within = self.trim.merged_with(whole).ok_or(Outcome::Unchanged)?;
        if !self.trim.wants_just(whole) {
            return Err(Outcome::Unchanged);
        }
        let index = space.index.lock();
        // The range itself is one of those that are replaced.
        while self.neighbours.len() + 1 < MERGED {
            let beside = [whole.start().checked_sub(1), Some(whole.end())];
            let mut busy = false;
            let claimed = beside
                .into_iter()
                .flatten()
                .filter_map(|addr| index.get(addr))
                .filter(|other| within.covers(&other.span()))
                .find(|other| {
                    let effect = self.claim(interval, other);
                    busy |= effect == Effect::Already;
                    effect == Effect::Build
                });
            if let Some(other) = claimed {
                whole = whole.hull(&other.span());
                continue;
            }
            if self.neighbours.is_empty() {
                range.stay(self.trim);
                // With the index locked, so that whoever has found it taken is behind it.
                // SAFETY: The caller has taken it to change it. It is not used after this, but for
                // what the index being locked keeps from going.
                unsafe { Worker::settle(space.worker.as_arc_borrow(), range.request().into()) };
                return Err(Outcome::LetGo);
            }
            // Who has the other may find nothing to do.
            self.unfinished |= busy;
            return Ok(whole);
        }
        self.unfinished = true;
        Ok(whole)
    }

    /// Claims a range beside another one that the caller has taken. The index is locked, and has
    /// it.
    ///
    /// Returns [`Effect::Build`] if it did, and [`Effect::Already`] if somebody else has it, or has
    /// asked for it to change.
    fn claim(&mut self, interval: &Interval<Range<T>>, other: &Interval<Range<T>>) -> Effect {
        let (range, other_range) = (interval.data(), other.data());
        if !other_range.is_steady(other.span()) || !range.is_of_same(other_range) {
            return Effect::NotLive;
        }
        let request = NonNull::from(other_range.request());
        // SAFETY: It is that of a range of the worker's mirror, which has `MirrorOps`; by the type
        // invariants of `Range` no other worker is given it. The caller has taken that of
        // `interval`. It is valid as long as it is in the index, which is locked; and while it is
        // in service, until it is released, which nothing is that has been claimed. The mirror does
        // not shut its worker down before all ranges are released.
        let effect =
            unsafe { Worker::claim(range.worker_borrow(), request, range.request().into()) };
        if effect == Effect::Build {
            // SAFETY: Having claimed it we have its link, and it stays valid until we let go of it.
            unsafe { self.neighbours.push(request) };
        }
        effect
    }

    /// The neighbours that have been claimed.
    fn claimed(&self) -> impl Iterator<Item = &Interval<Range<T>>> + '_ {
        // SAFETY: `claim` has put requests of ranges on the list that were in the index and in
        // service, so that they have been inserted; and they are valid for as long as they are
        // claimed, or are on a list of what is replaced, which is when they leave this one.
        let interval = |request: NonNull<Request>| unsafe { Range::of_request(request.as_ptr()) };
        self.neighbours.iter().map(interval)
    }

    /// Calls `f` for the neighbours that have been claimed.
    pub(super) fn for_each_neighbour(&self, f: impl FnMut(&Interval<Range<T>>)) {
        self.claimed().for_each(f);
    }

    /// Leaves the neighbours as they are, those of `range`.
    pub(super) fn let_neighbours_go(&mut self, range: &Range<T>) {
        while let Some(request) = self.neighbours.pop() {
            // SAFETY: It has been claimed, and not let go of.
            unsafe { Worker::settle(range.worker_borrow(), request) };
        }
    }

    /// Has the neighbours of a range at `span`, which is not in service any more, become one: those
    /// on either side of it.
    fn leave_to_neighbours(&self, span: Span) {
        let left = self.trim.only_merge();
        for before in [true, false] {
            let mut there = self
                .claimed()
                .filter(|other| (other.span().start() < span.start()) == before);
            let _ = there.any(|other| other.data().inherit(left));
        }
    }

    /// Puts the one piece that there is in the place of the range and its neighbours, unless that
    /// is not to be any more; says whether it did, and appends the neighbours to `others` then.
    ///
    /// Invalidations that reach them and not the piece have ended.
    pub(super) fn merge(
        self: KBox<Self>,
        interval: &Interval<Range<T>>,
        others: &mut Fifo,
    ) -> bool {
        let range = interval.data();
        let all = || Iterator::chain(iter::once(interval), self.claimed());
        let whole = all().fold(interval.span(), |whole, old| whole.hull(&old.span()));
        let mut handed = PendingTrim::NONE;
        // SAFETY: If it succeeds the piece is a range like any other from here on, kept until a
        // grace period has passed after its `unpublish`. If not, nobody has found it.
        let merged = unsafe {
            range.parts().0.index.replace(
                self.intervals(),
                || all().all(|old| old.data().is_steady(old.span())) && self.activate(interval),
                |other| all().any(|old| ptr::eq(old, other)),
                // Those in service are in the index, and have all of the piece's addresses.
                |_| false,
                || {
                    for old in all() {
                        let asked = self.mark_replaced(old).of_part(old.span(), whole);
                        handed = handed.then(asked);
                    }
                },
            )
        };
        match merged {
            Ok(()) => {
                self.take_over(interval, handed, others);
                true
            }
            Err(_) => {
                // With those that are left.
                if range.inherit(self.trim) {
                    range.worker().stats().replace_failed.inc();
                } else {
                    self.leave_to_neighbours(interval.span());
                }
                self.abandon(interval);
                false
            }
        }
    }
}
