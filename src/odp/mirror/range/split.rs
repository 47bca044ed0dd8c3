// SPDX-License-Identifier: GPL-2.0

//! Level 2: putting other ranges in the place of a range: smaller ones, or a larger one.
//!
//! What is said here of the old range is true of several that become one, too.
//!
//! There is no moment in which a live address is without a notifier, because the new ones are
//! inserted before the old one is removed, and no moment in which something is installed that no
//! notifier covers:
//!
//! ```text
//! prepare   plan: the trim, less what the process has mapped      mmap_lock, for reading. What is
//!                                                                 unmapped from here on reaches
//!                                                                 the old range, which is in the
//!                                                                 tree
//!           insert the pieces                                     deferred by core mm during an
//!                                                                 invalidation
//! replace   read_begin(piece): until that invalidation has ended  what reaches the old range from
//!                                                                 here on reaches the pieces, too
//!           with the index locked:
//!             activate the pieces, index them over the old range  lookups find the pieces
//!             mark the old range replaced                         commits through it fail from now
//!             hand over what was asked of it meanwhile            on; what is asked of it later
//!                                                                 is theirs to be asked
//!             zap what no piece covers                            nothing is installed there
//!           tell the driver, let go of the pieces
//! and as for any range that leaves: grace period, blocking removal, release.
//! ```
//!
//! The index is locked because who inserts a range looks there for what is in the way: it must not
//! find a piece that is retired in the place of a range that is not, through which something could
//! still be installed.
//!
//! A range that is to grow is replaced by one that covers it, in the same way. What is added is in
//! nobody's way before the index is locked: if something else is there by then, nothing is added.
//!
//! A range that is to become one with its neighbours, and all of these, are replaced by one that
//! has the addresses of all, see `merge.rs`.
//!
//! Whatever fails on the way, the old range stays as it is: too large, which costs callbacks, and
//! is tried again when somebody asks for a change of it, drains or flushes.
//!
//! Memory is asked for without waiting for it: the worker is what removals of all kinds depend on,
//! and shares a rescuer with those of other mirrors. It is charged to the memory cgroup that the
//! mirror was made in, so that a cgroup at its limit is one more reason for the old range to stay.

use super::{
    space::{
        Room,
        Space, //
    },
    Range, //
};
use crate::{
    mappings::Mappings,
    may_block::MayBlock,
    mmu_interval::{
        Interval,
        Registration, //
    },
    odp::{
        engine::{
            callbacks::{
                ChangeOps,
                WorkerContext, //
            },
            fifo::Fifo,
            request::Request,
            state::{
                Effect,
                Step, //
            },
            worker::Worker, //
        },
        mirror::{
            driver::Mirrored,
            shared::Shared,
            trim::{
                PendingTrim, //
                TrimPlan,
            },
            InsertErrorKind, //
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
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

/// How many pieces there are at most at a time.
///
/// Where more are needed the last one is too large, and changed again.
const MAX_PIECES: usize = 128;

/// What is to take the place of a range: inserted, but in nobody's way yet.
pub(super) struct Split<T: Mirrored> {
    pub(super) trim: PendingTrim,
    spans: KVec<Span>,
    /// Whether the last piece is larger than it should be, or may not be as large.
    pub(super) unfinished: bool,
    pieces: KVec<Registration<Range<T>>>,
    /// What else the pieces, which are one then, are to take the place of: claimed by this.
    pub(super) neighbours: Fifo,
}

/// Why nothing is to take the place of a range.
pub(super) enum Outcome {
    /// It is right as it is.
    Unchanged,
    /// The same, and it has been let go of.
    LetGo,
    /// It is to go as a whole.
    Retire,
    /// There was no memory, or no room for more ranges.
    Failed,
}

impl From<InsertErrorKind> for Outcome {
    fn from(kind: InsertErrorKind) -> Self {
        match kind {
            // There is nothing to be mirrored in an address space that is gone.
            InsertErrorKind::NoUser => Outcome::Retire,
            _ => Outcome::Failed,
        }
    }
}

/// Why a plan was not made to its end.
enum Unplanned {
    /// There are as many pieces as there may be at a time.
    Enough,
    /// There is no memory.
    AllocError,
    /// The address space is gone.
    NoUser,
}

impl From<AllocError> for Outcome {
    fn from(_: AllocError) -> Self {
        Outcome::Failed
    }
}

fn memory() -> Flags {
    let account = GFP_KERNEL_ACCOUNT & !GFP_KERNEL;
    GFP_NOWAIT | __GFP_NOWARN | account
}

impl<T: Mirrored> Range<T> {
    /// Takes over what has been asked for, to do it: what is asked for from here on is for another
    /// time. The caller has taken the range to change it.
    fn begin_change(&self) -> PendingTrim {
        self.request.apply_with(Step::Plan, |effect| {
            kernel::warn_on!(effect != Effect::None);
            self.with_trim(|trim| core::mem::replace(trim, PendingTrim::NONE))
        })
    }

    /// Notes that it is right as it is.
    pub(super) fn stay(&self, trim: PendingTrim) {
        // What is wanted may matter when more goes.
        self.remember(trim.only_keep());
        self.worker().stats().unchanged.inc();
    }

    /// What a worker calls for a range that is to change.
    pub(super) const CHANGE_OPS: ChangeOps = ChangeOps {
        prepare: prepare::<T>,
        replace: replace::<T>,
    };
}

/// Builds what is to take the place of a range; says whether there is anything to be put there. If
/// not, it lets go of the range.
///
/// # Safety
///
/// Called by a worker with [`Range::CHANGE_OPS`], for the request of a range that it has taken to
/// change.
unsafe fn prepare<T: Mirrored>(request: NonNull<Request>) -> bool {
    // SAFETY: By the safety requirements it is that of a range, which is valid until it is
    // released.
    let interval = unsafe { Range::<T>::of_request(request.as_ptr()) };
    let range = interval.data();
    let trim = range.begin_change();
    // The range may be gone when it has been let go of.
    let space = range.parts().0.clone();
    match space.memcg.charged(|| Split::build(interval, &space, trim)) {
        Ok(split) => {
            // SAFETY: By the safety requirements the range is the caller's to change.
            unsafe { range.set_split(Some(split)) };
            return true;
        }
        Err(Outcome::LetGo) => return false,
        Err(Outcome::Unchanged) => range.stay(trim),
        // The worker has it, and is going to queue it.
        Err(Outcome::Retire) => {
            let _ = range.request().apply(Step::Retire);
        }
        Err(Outcome::Failed) => range.give_up(trim),
    }
    // SAFETY: By the safety requirements it has been taken to be changed.
    unsafe { Worker::settle(space.worker.as_arc_borrow(), request) };
    false
}

/// Puts what [`prepare`] has built in the place of a range.
///
/// # Safety
///
/// As for [`prepare`], after that, if it said so.
unsafe fn replace<T: Mirrored>(request: NonNull<Request>, others: &mut Fifo) -> bool {
    // SAFETY: By the safety requirements it is that of a range, which is valid until it is
    // released.
    let interval = unsafe { Range::<T>::of_request(request.as_ptr()) };
    let (space, _) = interval.data().parts();
    // SAFETY: By the safety requirements the range is the caller's to change.
    match unsafe { interval.data().take_split() } {
        Some(split) => space.memcg.charged(|| split.put(interval, others)),
        None => false,
    }
}

impl<T: Mirrored> Split<T> {
    /// Works out what is to take the place of a range and inserts it.
    fn build(
        interval: &Interval<Range<T>>,
        space: &Arc<Space<T>>,
        trim: PendingTrim,
    ) -> Result<KBox<Self>, Outcome> {
        let mut split = KBox::new(
            Self {
                trim,
                spans: KVec::new(),
                unfinished: false,
                pieces: KVec::new(),
                neighbours: Fifo::new(),
            },
            memory(),
        )?;
        match plan(interval.span(), space, trim, |piece| split.note(piece)) {
            Ok(TrimPlan::Pieces) => {}
            Ok(TrimPlan::Unchanged) => {
                // Before it claims what would have to be let go of.
                split.spans.reserve(1, memory())?;
                // Either alone: to grow may fail, and is no reason not to become one.
                let larger = match trim.grown(interval.span()) {
                    Some(grown) => grown,
                    None => split.claim_neighbours(interval, space)?,
                };
                split.spans.push(larger, memory())?;
            }
            Ok(TrimPlan::Nothing) => return Err(Outcome::Retire),
            Err(Unplanned::Enough) => split.leave_the_rest(interval.span(), space.grain),
            Err(Unplanned::AllocError) => return Err(Outcome::Failed),
            // There is nothing to be mirrored in it.
            Err(Unplanned::NoUser) => return Err(Outcome::Retire),
        }
        match split.insert(space, interval.data().parts().1) {
            Ok(()) => Ok(split),
            Err(error) => {
                split.abandon(interval);
                Err(error.into())
            }
        }
    }

    /// Notes where a piece is to be.
    fn note(&mut self, piece: Span) -> Result<(), Unplanned> {
        if self.spans.len() == MAX_PIECES {
            return Err(Unplanned::Enough);
        }
        self.spans
            .push(piece, memory())
            .map_err(|_| Unplanned::AllocError)
    }

    /// Has the last piece reach to the end of what is wanted of the range at `span`, for now.
    fn leave_the_rest(&mut self, span: Span, grain: usize) {
        let wanted = self.trim.wanted_within(span);
        if let (Some(last), Some(wanted)) = (self.spans.last_mut(), wanted) {
            let end = wanted.round_out(grain, &span).end();
            *last = Span::from_bounds(last.start(), end).unwrap_or(*last);
            self.unfinished = true;
        }
    }

    fn insert(
        &mut self,
        space: &Arc<Space<T>>,
        shared: &Arc<Shared<T>>,
    ) -> Result<(), InsertErrorKind> {
        self.pieces.reserve(self.spans.len(), memory())?;
        for span in self.spans.iter() {
            // The first replaces the old range, which is about to leave, in the number of ranges.
            let room = if self.pieces.is_empty() {
                Room::Taken
            } else {
                Room::Limited
            };
            let piece = Range::new(space.clone(), *span, shared.clone(), 0, room, memory())?;
            let piece = MayBlock::assume(|p| Interval::insert(piece, p));
            let piece = piece.map_err(|error| InsertErrorKind::from(error.cause))?;
            self.pieces.push(piece, memory())?;
        }
        Ok(())
    }

    /// The requests of the pieces.
    fn requests(&self) -> impl Iterator<Item = &Request> + '_ {
        self.pieces
            .iter()
            .map(|piece| piece.interval().data().request())
    }

    /// Takes back what has been inserted. Nobody has seen it but callbacks.
    ///
    /// Sleeps until the invalidations that are going on have ended.
    pub(super) fn abandon(mut self: KBox<Self>, interval: &Interval<Range<T>>) {
        let range = interval.data();
        if range.parts().0.split_removal {
            // So that they wait for invalidations once.
            for piece in self.pieces.iter_mut() {
                let _ = piece.start_removal();
            }
        }
        let mut asked = PendingTrim::NONE;
        for piece in self.pieces.drain_all() {
            let piece = MayBlock::assume(|p| piece.remove(p));
            // What callbacks asked of it, its driver has asked of the old range, too, unless it
            // looked at the size.
            let trim = piece.data().take_trim();
            range.remember(trim.unmapped_within(interval.span()));
            if !piece.data().is_wanted() && interval.span().covers(&piece.span()) {
                range.remember(PendingTrim::unmapped(piece.span()));
            }
            asked = asked.then(trim);
        }
        self.for_each_neighbour(|neighbour| {
            let asked = asked.unmapped_within(neighbour.span());
            if asked.concerns(neighbour.span()) {
                let _ = neighbour.data().inherit(asked);
            }
        });
        self.let_neighbours_go(range);
        // Somebody may wait for the number of ranges to drop.
        range.worker().notify();
    }

    /// Puts the pieces in the place of the range that they were built for, unless that is not to be
    /// any more; says whether it did.
    fn put(self: KBox<Self>, interval: &Interval<Range<T>>, others: &mut Fifo) -> bool {
        let range = interval.data();
        let (space, _) = range.parts();

        // An insertion during an invalidation takes effect at its end, and until then the old range
        // alone hears of it: what that is asked for meanwhile is handed over below, also by an
        // event that unmaps what `plan` has seen mapped, or by the end of the address space. All
        // insertions that come before another take effect no later than that.
        if let Some(last) = self.pieces.last() {
            // It cannot fail for what is inserted, and its answer is of no interest.
            let _ = MayBlock::assume(|p| last.interval().read_begin(p));
        }

        if !self.neighbours.is_empty() {
            return self.merge(interval, others);
        }
        let mut handed = PendingTrim::NONE;
        // SAFETY: If it succeeds the pieces are ranges like any other from here on, kept until a
        // grace period has passed after their `unpublish`. If not, nobody has found them.
        let indexed = unsafe {
            space.index.replace(
                self.intervals(),
                || range.is_live() && self.activate(interval),
                |other| ptr::eq(other, interval),
                |other| other.data().make_way(other.span()).is_ok(),
                || {
                    handed = self.mark_replaced(interval);
                    self.zap_the_rest(interval);
                },
            )
        };
        match indexed {
            Ok(()) => {
                self.take_over(interval, handed, others);
                true
            }
            Err(_) => {
                // Retired meanwhile, and others may be in its place. What is asked for by then is
                // done by retiring it. Or it was to grow, and others are there now, or what was to
                // be added has gone: it does not.
                if range.is_live() {
                    range.worker().stats().replace_failed.inc();
                    range.remember(self.trim.only_keep());
                    // It is to become one with others all the same.
                    let left = self.trim.only_merge();
                    if left.concerns(interval.span()) {
                        let _ = range.inherit(left);
                    }
                }
                self.abandon(interval);
                false
            }
        }
    }

    /// Has the pieces be in service, for whoever finds them; says whether they are to be.
    pub(super) fn activate(&self, interval: &Interval<Range<T>>) -> bool {
        for request in self.requests() {
            let effect = request.apply(Step::Activate);
            kernel::warn_on!(effect != Effect::None);
        }
        // What retires a piece retires the old range, too; but not what happens beyond that.
        self.pieces.iter().all(|piece| {
            let piece = piece.interval();
            interval.span().covers(&piece.span()) || piece.data().is_live()
        })
    }

    /// Marks a range as replaced by the pieces, which are in its place. Returns what was asked of
    /// it meanwhile. The index is locked.
    pub(super) fn mark_replaced(&self, interval: &Interval<Range<T>>) -> PendingTrim {
        let (effect, trim) = interval.data().replaced();
        kernel::warn_on!(!matches!(effect, Effect::HandOver | Effect::HandOverRetire));
        if effect == Effect::HandOverRetire {
            for request in self.requests() {
                let _ = request.apply(Step::Retire);
            }
        }
        trim
    }

    /// Takes back what was installed through the old range where no piece is. That range has been
    /// marked, so that nothing is from here on, and the index is locked, so that no other is there.
    fn zap_the_rest(&self, interval: &Interval<Range<T>>) {
        let old = interval.span();
        let mut from = old.start();
        let pieces = self.spans.iter().map(|piece| (piece.start(), piece.end()));
        for (start, end) in Iterator::chain(pieces, iter::once((old.end(), old.end()))) {
            if let Some(rest) = old.clip(from, start) {
                interval.data().zap_dead(rest);
            }
            from = end;
        }
    }

    /// The pieces, as what is put in the index.
    pub(super) fn intervals(
        &self,
    ) -> impl Iterator<Item = NonNull<Interval<Range<T>>>> + Clone + '_ {
        self.pieces
            .iter()
            .map(|piece| NonNull::from(piece.interval()))
    }

    /// Gives what was asked of the old range to the pieces, tells the driver of them, and lets go
    /// of them. Appends neighbours, which they are in the place of as well, to `others`.
    pub(super) fn take_over(
        mut self: KBox<Self>,
        interval: &Interval<Range<T>>,
        handed: PendingTrim,
        others: &mut Fifo,
    ) {
        let range = interval.data();
        let stats = range.worker().stats();
        let merges = !self.neighbours.is_empty();
        // What becomes part of another is wanted as it is, so that no end was to move inward; and
        // an end that has a neighbour is no end of that.
        let kept = match merges {
            true => PendingTrim::NONE,
            false => self.trim.only_keep(),
        };
        let pieces = self.pieces.len();
        for (n, piece) in self.pieces.iter().enumerate() {
            let (span, piece) = (piece.interval().span(), piece.interval().data());
            // What is to grow, grows when it has been split, and becomes one with others after
            // that.
            // OVERFLOW: Small numbers.
            let left = match merges {
                // That is what has been done.
                true => PendingTrim::NONE,
                false => self.trim.only_later(),
            };
            let asked = left.then(handed).of_piece(n == 0, n + 1 == pieces);
            if asked.concerns(span) {
                let _ = piece.inherit(asked);
            }
            // Its ends are rounded, so it may reach beyond what is wanted.
            if kept.concerns(span) {
                piece.remember(kept);
            }
        }
        if let Some(last) = self.pieces.last().filter(|_| self.unfinished) {
            let trim = match merges {
                true => self.trim.without_keep(),
                false => self.trim.of_piece(pieces == 1, true),
            };
            let _ = last.interval().data().inherit(trim);
        }
        let merged = self.neighbours.len();
        stats.merged.add(merged);
        // OVERFLOW: Small numbers.
        stats.replaced.add(1 + merged);
        stats.pieces.add(self.pieces.len());
        self.trace(range);
        // All that they are in the place of.
        let old = match self.spans.first() {
            Some(whole) if merged > 0 => *whole,
            _ => interval.span(),
        };
        // SAFETY: `replace`, which is all that leads here, is called by a worker as
        // `ChangeOps::replace`.
        unsafe {
            WorkerContext::enter(|ctx| range.shared().data().replaced(old, &self.spans, ctx))
        };
        self.let_go(interval);
        others.append(self.neighbours.take());
    }

    /// Tells whoever traces that the pieces are in the place of `old`.
    fn trace(&self, old: &Range<T>) {
        let worker = old.worker();
        // SAFETY: It is of this worker, and we have taken it, so that it has not been released.
        unsafe { worker.trace_replaced(old.request().into(), self.pieces.len()) };
        self.for_each_neighbour(|neighbour| {
            let request = neighbour.data().request();
            // SAFETY: It is of this worker, and we have claimed it, so that it has not been
            // released.
            unsafe { worker.trace_replaced(request.into(), self.pieces.len()) };
        });
        for request in self.requests() {
            // SAFETY: It is of this worker, and inserted; having activated it we have it.
            unsafe { worker.trace_piece(request.into()) };
        }
    }

    /// Lets go of the pieces, which are on their own from here on.
    fn let_go(&mut self, interval: &Interval<Range<T>>) {
        let old = interval.data();
        for piece in self.pieces.drain_all() {
            let piece = piece.into_raw();
            // SAFETY: It is inserted; and having activated it we have it, so that nobody takes it
            // out before it is settled.
            let request = NonNull::from(unsafe { piece.as_ref() }.data().request());
            old.worker().stats().inserted.inc();
            // SAFETY: We have activated it, and taken the old one; both are of this worker.
            unsafe { Worker::unclaim_piece(old.worker_borrow(), request, old.request().into()) };
        }
    }
}

/// Asks the process what it has mapped, and works out what is to take the place of a range.
///
/// # Errors
///
/// [`Unplanned::NoUser`], and those of `piece`.
fn plan<T: Mirrored>(
    span: Span,
    space: &Space<T>,
    trim: PendingTrim,
    piece: impl FnMut(Span) -> Result<(), Unplanned>,
) -> Result<TrimPlan, Unplanned> {
    let Some(doubtful) = trim.doubtful(span, space.grain) else {
        return trim.plan(span, space.grain, [], piece);
    };
    let mm = space.mm.mmget_not_zero();
    let mm = mm.ok_or(Unplanned::NoUser)?;
    // If this turns out to be the last user, exit_mmap() must not run here.
    let mm = MmWithUser::into_mmput_async(mm);
    let mappings = Mappings::lock(&mm);
    trim.plan(span, space.grain, mappings.within(doubtful), piece)
}
