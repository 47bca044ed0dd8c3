// SPDX-License-Identifier: GPL-2.0

//! Level 2: putting smaller ranges in the place of a range.
//!
//! There is no moment in which a live address is without a notifier, because the new ones are
//! inserted before the old one is removed, and no moment in which something is installed that no
//! notifier covers:
//!
//! ```text
//! prepare   plan: the wish, less what the process has mapped      mmap_lock, for reading
//!           insert the pieces                                     deferred by core mm during an invalidation
//! replace   read_begin(piece): until that invalidation has ended  what reaches the old range from here on
//!                                                                 reaches the pieces, too
//!           adopt the pieces, index them over the old range       lookups find the pieces
//!           mark the old range replaced                           commits through it fail from here on;
//!           hand over what was asked of it meanwhile              what is asked of it later is theirs to be asked
//! and as for any range that leaves: take the rest of it out of the index, zap what is not covered any
//! more, grace period, blocking removal, release.
//! ```
//!
//! Whatever fails on the way, the old range stays as it is: too large, which costs callbacks, and
//! is tried again when somebody asks for a change of it, drains or flushes.
//!
//! Memory is asked for without waiting for it: the worker is what removals of all kinds depend on,
//! and shares a rescuer with those of other mirrors.

use super::{
    range::{
        Mirrored,
        Range,
        Shared,
        Space, //
    },
    request::Request,
    state::{
        Effect,
        Event, //
    },
    wish::{
        Verdict,
        Wish, //
    },
    worker::{
        ChangeOps,
        Worker,
        WorkerContext, //
    }, //
};
use crate::{
    mappings::Mappings,
    may_block::MayBlock,
    mmu_interval::{
        Interval,
        Registration, //
    },
    span::Span, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::{
        AllocError,
        Flags, //
    },
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

/// What is to take the place of a range: inserted, but in nobody's way yet.
pub(super) struct Swap<T: Mirrored> {
    wish: Wish,
    spans: KVec<Span>,
    pieces: KVec<Registration<Range<T>>>,
}

/// Why nothing is to take the place of a range.
enum Outcome {
    /// It is right as it is.
    Unchanged,
    /// It is to go as a whole.
    Retire,
    /// There was no memory, or no room for more ranges.
    Failed,
}

impl From<Error> for Outcome {
    fn from(error: Error) -> Self {
        if error == ESRCH {
            // There is nothing to be mirrored in an address space that is gone.
            Outcome::Retire
        } else {
            Outcome::Failed
        }
    }
}

impl From<AllocError> for Outcome {
    fn from(_: AllocError) -> Self {
        Outcome::Failed
    }
}

fn memory() -> Flags {
    GFP_NOWAIT | __GFP_NOWARN
}

impl<T: Mirrored> Range<T> {
    /// What a worker calls for a range that is to change.
    pub(super) const CHANGE_OPS: ChangeOps = ChangeOps {
        prepare: prepare::<T>,
        replace: replace::<T>,
    };
}

/// Builds what is to take the place of a range.
fn prepare<T: Mirrored>(request: NonNull<Request>) {
    // SAFETY: The worker calls this for requests of ranges of its mirror, which are valid.
    let interval = unsafe { Range::<T>::of_request(request.as_ptr()) };
    let range = interval.data();
    let wish = range.take_wish();
    let outcome = match Swap::build(interval, wish) {
        Ok(swap) => {
            // SAFETY: The worker has taken the range to change it.
            unsafe { range.set_swap(Some(swap)) };
            return;
        }
        Err(outcome) => outcome,
    };
    let stats = range.worker().stats();
    match outcome {
        Outcome::Unchanged => stats.unchanged.inc(),
        Outcome::Retire => {
            // The worker has it, and is going to queue it.
            let _ = range.request().apply(Event::Retire);
        }
        Outcome::Failed => range.give_up(wish),
    }
}

/// Puts what [`prepare`] has built in the place of a range.
fn replace<T: Mirrored>(request: NonNull<Request>) -> bool {
    // SAFETY: As above.
    let interval = unsafe { Range::<T>::of_request(request.as_ptr()) };
    let range = interval.data();
    // SAFETY: The worker has taken the range to change it.
    let Some(swap) = (unsafe { range.take_swap() }) else {
        return false;
    };
    swap.put(interval)
}

impl<T: Mirrored> Swap<T> {
    /// Works out what is to take the place of a range and inserts it.
    fn build(interval: &Interval<Range<T>>, wish: Wish) -> Result<KBox<Self>, Outcome> {
        let range = interval.data();
        let mut swap = KBox::new(
            Self {
                wish,
                spans: KVec::new(),
                pieces: KVec::new(),
            },
            memory(),
        )?;
        let (space, shared) = range.parts();
        let verdict = plan(interval.span(), space, wish, |piece| {
            swap.spans.push(piece, memory())
        })?;
        match verdict {
            Verdict::Unchanged => return Err(Outcome::Unchanged),
            Verdict::Nothing => return Err(Outcome::Retire),
            Verdict::Pieces => {}
        }
        match swap.insert(space, shared) {
            Ok(()) => Ok(swap),
            Err(error) => {
                swap.abandon(interval);
                Err(error.into())
            }
        }
    }

    fn insert(&mut self, space: &Arc<Space<T>>, shared: &Arc<Shared<T>>) -> Result {
        self.pieces.reserve(self.spans.len(), memory())?;
        for span in self.spans.iter() {
            let piece = Range::new(space.clone(), *span, shared.clone(), 0, memory())?;
            let piece = MayBlock::assume(|p| Interval::insert(piece, p))?;
            self.pieces.push(piece, memory())?;
        }
        Ok(())
    }

    /// Takes back what has been inserted. Nobody has seen it but callbacks.
    ///
    /// Sleeps until the invalidations that are going on have ended.
    fn abandon(self: KBox<Self>, interval: &Interval<Range<T>>) {
        drop(self);
        // Somebody may wait for the number of ranges to drop.
        interval.data().worker().notify();
    }

    /// Puts the pieces in the place of the range that they were built for, unless that is not to be
    /// any more; says whether it did.
    fn put(self: KBox<Self>, interval: &Interval<Range<T>>) -> bool {
        let range = interval.data();
        let (space, _) = range.parts();

        // An insertion during an invalidation takes effect at its end, and until then the old range
        // alone hears of it: what that is asked for meanwhile is handed over below.
        for piece in self.pieces.iter() {
            // It cannot fail for what is inserted, and its answer is of no interest.
            let _ = MayBlock::assume(|p| piece.interval().read_begin(p));
        }
        if !range.is_live() {
            // Retired meanwhile, and others may be in its place. What is asked for by then is done
            // by retiring it.
            self.abandon(interval);
            return false;
        }

        for piece in self.pieces.iter() {
            let effect = piece.interval().data().request().apply(Event::Adopt);
            kernel::warn_on!(effect != Effect::None);
        }
        // SAFETY: They are ranges like any other from here on, and kept until a grace period has
        // passed after their `unpublish`, or the end of a retired range.
        let indexed = unsafe {
            space.index.replace(
                NonNull::from(interval),
                self.pieces
                    .iter()
                    .map(|piece| (piece.interval().span(), NonNull::from(piece.interval()))),
            )
        };
        if indexed.is_err() {
            self.disown(interval);
            return false;
        }
        self.take_over(interval);
        true
    }

    /// Gives up pieces that lookups may have found: they leave as any range does.
    fn disown(mut self: KBox<Self>, interval: &Interval<Range<T>>) {
        let range = interval.data();
        range.give_up(self.wish);
        while let Some(piece) = self.pieces.pop() {
            let piece = piece.into_raw();
            // SAFETY: It is inserted, and nobody takes it out before it is settled.
            let request = NonNull::from(unsafe { piece.as_ref() }.data().request());
            // SAFETY: As above.
            let _ = unsafe { request.as_ref() }.apply(Event::Retire);
            range.worker().stats().inserted.inc();
            // SAFETY: We have adopted it, and taken the old one; both are of this worker.
            unsafe { Worker::settle_piece(range.worker_borrow(), request, range.request().into()) };
        }
    }

    /// Marks the range replaced, and gives what was asked of it meanwhile to the pieces, which are
    /// on their own from here on.
    fn take_over(mut self: KBox<Self>, interval: &Interval<Range<T>>) {
        let range = interval.data();
        let stats = range.worker().stats();
        let (effect, wish) = range.replaced();
        kernel::warn_on!(!matches!(effect, Effect::HandOver | Effect::HandOverRetire));

        for piece in self.pieces.drain_all() {
            let raw = piece.into_raw();
            // SAFETY: It is inserted, and nobody takes it out before it is settled.
            let piece = unsafe { raw.as_ref() };
            if effect == Effect::HandOverRetire {
                let _ = piece.data().request().apply(Event::Retire);
            } else if wish.concerns(piece.span()) {
                piece.data().inherit(wish);
            }
            stats.inserted.inc();
            stats.pieces.inc();
            // SAFETY: We have adopted it, and taken the old one; both are of this worker.
            unsafe {
                Worker::settle_piece(
                    range.worker_borrow(),
                    piece.data().request().into(),
                    range.request().into(),
                )
            };
        }
        stats.replaced.inc();
        // SAFETY: A function of a `ChangeOps` is running.
        unsafe {
            WorkerContext::enter(|ctx| {
                range
                    .shared()
                    .data()
                    .replaced(interval.span(), &self.spans, ctx)
            })
        };
    }
}

/// Asks the process what it has mapped, and works out what is to take the place of a range.
///
/// # Errors
///
/// `ESRCH` if the address space is gone, `ENOMEM`.
fn plan<T: Mirrored>(
    span: Span,
    space: &Space<T>,
    wish: Wish,
    piece: impl FnMut(Span) -> Result<(), AllocError>,
) -> Result<Verdict> {
    let Some(doubtful) = wish.doubtful(span) else {
        return Ok(wish.plan(span, space.grain, [], piece)?);
    };
    let mm = space.mm.mmget_not_zero().ok_or(ESRCH)?;
    // If this turns out to be the last user, exit_mmap() must not run here.
    let mm = MmWithUser::into_mmput_async(mm);
    let mappings = Mappings::lock(&mm);
    Ok(wish.plan(span, space.grain, mappings.within(doubtful), piece)?)
}
