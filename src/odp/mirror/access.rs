// SPDX-License-Identifier: GPL-2.0

//! Level 2: how a range is used while it is in service.
//!
//! ```text
//! Mirror::lookup --> Lookup --hold()--> Hold --fault()--> Section
//!  (lockless)          |                 |     begin()       |
//!                    access            access             commit
//! ```
//!
//! A [`Lookup`] is short: the grace period of everything that is retired waits for it. A [`Hold`]
//! may be long: only the release of its own range waits for it, and no removal ever does.

use super::{
    driver::Mirrored,
    faults::FaultId,
    range::Range,
    shared::Locked, //
};
use crate::{
    hmm::{
        Access,
        Pages, //
    },
    may_block::MayBlock,
    mmu_interval::{
        Interval,
        Sequence, //
    },
    odp::engine::{
        outcome::{
            Changed,
            Retire, //
        },
        queues::Until,
        state::State,
        worker::Worker, //
    },
    span::Span, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::code,
    prelude::*,
    sync::{
        srcu,
        ArcBorrow, //
    },
    time::Jiffies, //
};

/// The range is retired, or others are in its place. Look the address up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl From<Gone> for Error {
    fn from(_: Gone) -> Self {
        code::ESTALE
    }
}

/// Why nothing was installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// An invalidation came between. Begin a new section.
    Collided,
    /// The range is retired, or others are in its place. Look the address up again.
    Gone,
}

impl From<Retry> for Error {
    fn from(retry: Retry) -> Self {
        match retry {
            Retry::Collided => code::EAGAIN,
            Retry::Gone => code::ESTALE,
        }
    }
}

/// Why no pages were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// The range is retired. Look the address up again.
    Gone,
    /// What [`Interval::fault`] says.
    Failed(Error),
}

impl From<FaultError> for Error {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Gone => Gone.into(),
            FaultError::Failed(error) => error,
        }
    }
}

/// A range that was found, valid for as long as this lives.
///
/// It holds off the grace period of the whole mirror, so it must not live long. It borrows the
/// [`MayBlock`] that it was made with, so that a call that would wait for it does not compile with
/// the same token; with one made anew lockdep reports it.
///
/// # Invariants
///
/// `interval` was found in the index after `_section` had been entered.
pub struct Lookup<'g, T: Mirrored> {
    interval: NonNull<Interval<Range<T>>>,
    _section: srcu::Guard<'g>,
    _may_block: PhantomData<&'g mut MayBlock<'g>>,
}

impl<'g, T: Mirrored> Lookup<'g, T> {
    /// # Safety
    ///
    /// `interval` was found in the index of the mirror that `section` is of, after that had been
    /// entered.
    pub(crate) unsafe fn new(
        interval: NonNull<Interval<Range<T>>>,
        section: srcu::Guard<'g>,
    ) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            interval,
            _section: section,
            _may_block: PhantomData,
        }
    }

    fn interval(&self) -> &Interval<Range<T>> {
        // SAFETY: By the type invariants, and because ranges are freed a grace period after they
        // have left the index.
        unsafe { self.interval.as_ref() }
    }

    /// The addresses of the range.
    pub fn span(&self) -> Span {
        self.interval().span()
    }

    /// The driver's object.
    pub fn data(&self) -> &T {
        self.interval().data().shared().data()
    }

    /// Lets `f` see what is installed, under the user lock.
    ///
    /// It is up to `f` to keep to the range's span, and to remove or use entries, not to add any:
    /// that is what [`Hold::commit`] is for.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the range is retired; `f` has not been called.
    pub fn access<R>(&self, f: impl FnOnce(&mut T::Table) -> R) -> Result<R, Gone> {
        access(self.interval(), f)
    }

    /// Whether it is held as often as it can be.
    pub(crate) fn is_full(&self) -> bool {
        self.interval().data().request().state().holds == State::MAX_HOLDS
    }

    /// Exchanges it for a hold, which may last.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the range is retired.
    pub fn hold(self) -> Result<Hold<T>, Gone> {
        let range = self.interval().data();
        if !range.worker().hold(range.request()) {
            return Err(Gone);
        }
        // INVARIANT: The hold was begun just now, in the section.
        Ok(Hold {
            interval: self.interval,
        })
    }

    /// Retires the range. Context: as for [`Zap::retire`](crate::Zap::retire).
    pub fn retire(&self) -> Retire {
        self.interval().data().retire()
    }

    /// Asks for nothing but `keep` to be mirrored from now on, in bytes; of several such requests,
    /// what is common to all. Where that is nothing the range is retired. If the range is just
    /// becoming one with others, this may count as a punch, see [`Hold::merge`].
    ///
    /// Context: as for [`Zap::resize`](crate::Zap::resize).
    ///
    /// # Errors
    ///
    /// `EINVAL` if `keep` is not part of the range; it is as it was. See also
    /// [`Changed::accepted`].
    pub fn resize(&self, keep: Span) -> Result<Changed> {
        self.interval().data().resize(self.span(), keep)
    }

    /// Says that the process has nothing at `unmapped` any more, in bytes; see
    /// [`Zap::punch`](crate::Zap::punch), also for the context.
    ///
    /// # Errors
    ///
    /// As for `resize`.
    pub fn punch(&self, unmapped: Span) -> Result<Changed> {
        self.interval().data().punch(self.span(), unmapped)
    }
}

/// A range that stays for as long as this lives, whatever becomes of it.
///
/// After the range has been retired the hold is good for nothing but to know when its end is.
/// Whoever waits for a release or a shutdown must not have one.
///
/// # Invariants
///
/// A hold of `interval` was begun, and belongs to this.
pub struct Hold<T: Mirrored> {
    interval: NonNull<Interval<Range<T>>>,
}

// SAFETY: A hold may be ended in another task than it was begun in.
unsafe impl<T: Mirrored> Send for Hold<T> {}
// SAFETY: It gives shared access to the range only.
unsafe impl<T: Mirrored> Sync for Hold<T> {}

impl<T: Mirrored> Hold<T> {
    /// # Safety
    ///
    /// A hold of `interval` was begun that belongs to nobody else.
    pub(crate) unsafe fn new(interval: NonNull<Interval<Range<T>>>) -> Self {
        // INVARIANT: By the safety requirements.
        Self { interval }
    }

    pub(crate) fn interval(&self) -> &Interval<Range<T>> {
        // SAFETY: By the type invariants there is a hold, and ranges are freed after the last one.
        unsafe { self.interval.as_ref() }
    }

    /// The addresses of the range.
    pub fn span(&self) -> Span {
        self.interval().span()
    }

    /// The driver's object.
    pub fn data(&self) -> &T {
        self.interval().data().shared().data()
    }

    /// Whether the range was in service at some moment during the call.
    pub fn is_live(&self) -> bool {
        self.interval().data().is_live()
    }

    /// As [`Lookup::access`].
    pub fn access<R>(&self, f: impl FnOnce(&mut T::Table) -> R) -> Result<R, Gone> {
        access(self.interval(), f)
    }

    /// Retires the range. Context: as for [`Zap::retire`](crate::Zap::retire).
    pub fn retire(&self) -> Retire {
        self.interval().data().retire()
    }

    /// Removes the range: returns when no callback, lookup or access is left of it. The hold ends
    /// with this; what others hold delays the range's release, not this.
    ///
    /// Where others had taken the place of the range before, those stay, and [`Retire::Replaced`]
    /// says so.
    ///
    /// Context: may sleep; not in a lookup of any mirror, not in a callback, not under a lock that
    /// one takes, nor `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed. The range is retired all the same, and is removed
    /// later.
    pub fn remove(self, p: &mut MayBlock<'_>) -> Result<Retire> {
        let range = self.interval().data();
        p.for_mmap_lock(range.mm());
        let retire = self.retire();
        Worker::wait_removed(range.worker_borrow(), range.request(), p)?;
        if range.is_replaced() && retire != Retire::Replaced {
            // Pieces that are in its place, and have been retired.
            Worker::flush(range.worker_borrow(), Until::Removed, p)?;
        }
        Ok(retire)
    }

    /// Asks for nothing but `keep` to be mirrored from now on, in bytes; of several such requests,
    /// what is common to all. Where that is nothing the range is retired. If the range is just
    /// becoming one with others, this may count as a punch, see [`Hold::merge`].
    ///
    /// Context: as for [`Zap::resize`](crate::Zap::resize).
    ///
    /// # Errors
    ///
    /// `EINVAL` if `keep` is not part of the range; it is as it was. See also
    /// [`Changed::accepted`].
    pub fn resize(&self, keep: Span) -> Result<Changed> {
        self.interval().data().resize(self.span(), keep)
    }

    /// Asks for just `wanted` to be mirrored from now on, in bytes: part of the range, and what
    /// lies beyond it at one end or both. At an end that moves outward, what has been asked for
    /// before does not count any more.
    ///
    /// The range stays in service until one that covers `wanted` is in its place, so that no
    /// address that both have is without a notifier, or not found, for a moment. That one is a
    /// range that nobody holds; look it up after a [`Mirror::flush`](crate::Mirror::flush). Nothing
    /// tells of what was not mapped of it before: call [`Hold::punch_unmapped`] of it, as after an
    /// insertion.
    ///
    /// Another range may be inserted in what is to be added while the worker is about it. Then the
    /// range stays as it is, which the counter `replace_failed` tells of.
    ///
    /// Context: may sleep; not in a callback, not under the user lock, and not in a lookup.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `wanted` has no part of the range, `EEXIST` if another range has part of what is
    /// to be added. See also [`Changed::accepted`].
    pub fn grow(&self, wanted: Span, p: &mut MayBlock<'_>) -> Result<Changed> {
        self.interval().data().grow(self.span(), wanted, p)
    }

    /// Asks for one range in the place of this one and of those beside it, as far as they lie in
    /// `within`, in bytes: of those on either side that follow each other without a gap and are of
    /// the same [`Shared`](super::shared::Shared).
    ///
    /// They stay in service until one that has the addresses of all is in their places, so that no
    /// address is without a notifier, or not found, for a moment. What was installed stays, and
    /// [`Mirrored::replaced`](crate::Mirrored::replaced) is called once, with the span of all. It
    /// needs no room in the number of ranges. If all are asked to, they become one whatever the
    /// order.
    ///
    /// The worker leaves out a range that it has for another request, or of which less is wanted
    /// than there is, and what lies beyond that range; ask again. The counter `merged` tells how
    /// many ranges have become part of another.
    ///
    /// Requests for one of them that come meanwhile are done. A range that is retired or resized in
    /// time is left out, and what [`Hold::punch`] says counts for the one. For a moment, just
    /// before the one is in their places, it is too late for that: then [`Hold::retire`] of one of
    /// them retires all, and [`Hold::resize`] counts as [`Hold::punch`] of what was to be cut off.
    ///
    /// Context: as for [`Zap::punch`](crate::Zap::punch).
    ///
    /// # Errors
    ///
    /// `EINVAL` if the range is not part of `within`. See also [`Changed::accepted`].
    pub fn merge(&self, within: Span) -> Result<Changed> {
        self.interval().data().merge(self.span(), within)
    }

    /// Says that the process has nothing at `unmapped` any more, in bytes; see
    /// [`Zap::punch`](crate::Zap::punch), also for the context.
    ///
    /// # Errors
    ///
    /// As for `resize`.
    pub fn punch(&self, unmapped: Span) -> Result<Changed> {
        self.interval().data().punch(self.span(), unmapped)
    }

    /// Has the worker take out of the range what the process has not mapped of it, if there is any;
    /// or out of those that are in its place.
    ///
    /// Callbacks tell of what is unmapped while the range is in service, and nobody of what was
    /// unmapped before. So whoever inserts a range because of a fault calls this once after that,
    /// or the range may stay for ever where there is nothing, be it because of a munmap() at the
    /// same time.
    ///
    /// Context: may sleep; takes `mmap_lock` for reading, so not under that, nor under the user
    /// lock, nor in a lookup.
    ///
    /// # Errors
    ///
    /// `ESRCH` if the address space is gone; see also [`Changed::accepted`].
    pub fn punch_unmapped(&self, p: &mut MayBlock<'_>) -> Result {
        self.interval().data().punch_unmapped(self.span(), p)
    }

    /// Begins a read section: what is seen of the process's pages in `span` from now on can be
    /// committed, unless an invalidation of part of that comes between. Sleeps until those of the
    /// range that are going on have ended.
    ///
    /// A section that is not going to be committed is for [`Hold::abandon`].
    ///
    /// Context: may sleep; not under the user lock, nor any other lock that a callback takes.
    ///
    /// # Errors
    ///
    /// [`FaultError::Gone`] if the range is retired, [`FaultError::Failed`] with `EINVAL` if `span`
    /// is not part of it.
    pub fn begin(&self, span: Span, p: &mut MayBlock<'_>) -> Result<Section, FaultError> {
        let interval = self.interval();
        Section::of_fault(interval, span, p, |p| interval.read_begin(p))
    }

    /// Begins a read section and finds the process's pages in `span` in it, faulting them in as
    /// needed ([`Interval::fault`], with the range's notifier).
    ///
    /// They are left in `pages`, which is the caller's own. Nothing is installed; that is for
    /// [`Hold::commit`].
    ///
    /// Context: may sleep, for as long as user space likes if it handles the fault, which is what
    /// the hold is for; takes `mmap_lock` for reading. Not under the user lock, nor any other lock
    /// that a callback takes.
    ///
    /// # Errors
    ///
    /// [`FaultError::Gone`] if the range is retired, [`FaultError::Failed`] otherwise.
    pub fn fault(
        &self,
        pages: &mut Pages,
        span: Span,
        access: Access,
        timeout: Jiffies,
        p: &mut MayBlock<'_>,
    ) -> Result<Section, FaultError> {
        let interval = self.interval();
        Section::of_fault(interval, span, p, |p| {
            interval.fault(pages, span, access, timeout, p)
        })
    }

    /// Ends a section that is not going to be committed. It may be left alone, but then every
    /// invalidation looks at it, until one meets it or 64 others have begun.
    ///
    /// Context: as the user lock wants it; not under it.
    pub fn abandon(&self, section: Section) {
        section.abandon(self.interval());
    }

    /// Calls `f`, under the user lock, if no invalidation of the section's span has come since it
    /// began: to install what was found, or to submit what relies on what was installed.
    ///
    /// Invalidations of other addresses of the range do not matter, as long as the driver does not
    /// answer them by retiring or replacing the range; unless there was no memory to note the
    /// fault, or 64 or more others of the same [`Shared`](super::shared::Shared) have begun since.
    /// `f` installs within the section's span, and nothing that was found before the section began.
    ///
    /// # Errors
    ///
    /// [`Retry`] says why `f` has not been called. The section of another range has collided.
    pub fn commit<R>(
        &self,
        section: Section,
        f: impl FnOnce(&mut T::Table) -> R,
    ) -> Result<R, Retry> {
        let mut table = section.commit(self.interval())?;
        Ok(f(&mut table))
    }
}

impl<T: Mirrored> Drop for Hold<T> {
    fn drop(&mut self) {
        let range = self.interval().data();
        let request = NonNull::from(range.request());
        let worker = kernel::sync::Arc::as_ptr(range.worker());
        // SAFETY: The worker belongs to a mirror, which waits for the end of all holds.
        let worker = unsafe { ArcBorrow::from_raw(worker) };
        // SAFETY: By the type invariants a hold was begun, which ends here.
        unsafe { Worker::put(worker, request) };
    }
}

/// A moment in the life of a range, for [`Hold::commit`].
///
/// It may be kept, and used again. From the second commit on every invalidation of the range comes
/// between.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub(crate) sequence: Sequence,
    pub(crate) fault: FaultId,
}

impl Section {
    /// Begins one for what `look` finds in `span` of the range, which reads the sequence before it
    /// looks.
    ///
    /// Context: may sleep; not under the user lock, nor any other lock that a callback takes.
    ///
    /// # Errors
    ///
    /// [`FaultError::Gone`] if the range is retired, [`FaultError::Failed`] with `EINVAL` if `span`
    /// is not part of it, and with whatever `look` says.
    pub(crate) fn of_fault<T: Mirrored>(
        interval: &Interval<Range<T>>,
        span: Span,
        p: &mut MayBlock<'_>,
        look: impl FnOnce(&mut MayBlock<'_>) -> Result<Sequence>,
    ) -> Result<Self, FaultError> {
        // Before the user lock is waited for.
        p.for_invalidate();
        // No callback tells of what is not part of the range.
        if !interval.span().covers(&span) {
            return Err(FaultError::Failed(EINVAL));
        }
        let range = interval.data();
        if !range.is_live() {
            return Err(FaultError::Gone);
        }
        let (space, shared) = range.parts();
        let fault = space.memcg.charged(|| shared.begin_fault(span));
        look(p)
            .map(|sequence| Self { sequence, fault })
            .map_err(|error| {
                shared.abandon_fault(fault);
                if range.is_live() {
                    FaultError::Failed(error)
                } else {
                    // There may be another range by now, and another thing to be said.
                    FaultError::Gone
                }
            })
    }

    /// Takes the user lock, to install what was found in the section.
    ///
    /// # Errors
    ///
    /// Those of [`Hold::commit`].
    pub(crate) fn commit<T: Mirrored>(
        self,
        interval: &Interval<Range<T>>,
    ) -> Result<Locked<'_, T>, Retry> {
        let mut table = interval.data().shared().locked();
        // Another range's fault may be another one's on this list.
        let unmet = interval.is_of(self.sequence) && table.faults().end(self.fault);
        if !interval.data().is_live() {
            return Err(Retry::Gone);
        }
        // The range has been in the tree all the time. Invalidations that were going on when the
        // fault began have been waited for since, and any other one of its pages has met it.
        if !unmet && interval.read_retry(self.sequence) {
            return Err(Retry::Collided);
        }
        Ok(table)
    }

    /// [`Hold::abandon`]
    pub(crate) fn abandon<T: Mirrored>(self, interval: &Interval<Range<T>>) {
        if interval.is_of(self.sequence) {
            interval.data().shared().abandon_fault(self.fault);
        }
    }
}

fn access<T: Mirrored, R>(
    interval: &Interval<Range<T>>,
    f: impl FnOnce(&mut T::Table) -> R,
) -> Result<R, Gone> {
    let range = interval.data();
    let mut table = range.shared().locked();
    // The worker zaps under the same lock after the range is marked: either it is still live, or
    // what was installed through it must not be looked at any more.
    if !range.is_live() {
        return Err(Gone);
    }
    Ok(f(&mut table))
}
