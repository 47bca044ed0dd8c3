// SPDX-License-Identifier: GPL-2.0

//! Level 2: what a driver's `invalidate()` is given, and what it must give back.
//!
//! ```text
//! Invalidation --begin()--> Zap --done()--> Handled
//!                |
//!                '--> Handled     (not blockable, and somebody has the user lock)
//!             --refuse()--> Handled     (not blockable, and the device has to be waited for)
//! ```
//!
//! There is no other way to a [`Handled`], so that a driver can neither answer before the sequence
//! was recorded under the user lock nor answer "try again" where the core does not take that. What
//! the driver does to pages itself does not come here, see [`Config::owner`](super::Config::owner).

use super::{
    driver::Mirrored,
    range::Range,
    shared::Locked, //
};
use crate::{
    mmu_interval::{
        self,
        Event,
        Interval, //
    },
    odp::engine::outcome::{
        Changed,
        Retire, //
    },
    span::Span, //
};
use core::ops::{
    Deref,
    DerefMut, //
};

use kernel::prelude::*;

pub use crate::mmu_interval::Handled;

/// A call of [`Mirrored::invalidate`].
pub struct Invalidation<'cb, T: Mirrored> {
    interval: &'cb Interval<Range<T>>,
    inner: mmu_interval::CallbackContext<'cb>,
}

impl<'cb, T: Mirrored> Invalidation<'cb, T> {
    pub(crate) fn new(
        interval: &'cb Interval<Range<T>>,
        inner: mmu_interval::CallbackContext<'cb>,
    ) -> Self {
        Self { interval, inner }
    }

    /// Answers for the driver if it does this to its pages itself
    /// ([`Config::owner`](super::Config::owner)).
    ///
    /// # Errors
    ///
    /// It comes back if somebody else does it.
    #[cold]
    #[inline(never)] // In the callback it would be in the way of what is usual.
    pub(super) fn answer_own(self) -> Result<Handled<'cb>, Self> {
        let Self { interval, inner } = self;
        let (space, _) = interval.data().parts();
        let Some(owner) = space.owner.filter(|owner| inner.is_own(*owner)) else {
            return Err(Self { interval, inner });
        };
        Ok(match inner.ignore_exclusive(owner) {
            Ok(handled) => handled,
            // Other pages take the place of those: a fault that has found them begins again.
            Err(inner) => match Self::new(interval, inner).begin() {
                Ok(zap) => zap.done(),
                Err(handled) => handled,
            },
        })
    }

    /// What happens to the process's pages.
    pub fn event(&self) -> Event {
        self.inner.event()
    }

    /// Whether the callback may sleep.
    pub fn blockable(&self) -> bool {
        self.inner.blockable()
    }

    /// The addresses that it happens to, as far as this range covers them.
    pub fn span(&self) -> Span {
        let (start, end) = self.inner.bounds();
        let span = self.interval.span();
        // The core calls only for what intersects; if ever not, all of it is never too little.
        span.clip(start, end).unwrap_or(span)
    }

    /// The range, which may be one of several of the driver's object.
    pub fn range(&self) -> Span {
        self.interval.span()
    }

    /// Declines, because handling it would mean to sleep: the device has to be waited for, say.
    ///
    /// # Errors
    ///
    /// It comes back if it may sleep; then it must be handled.
    pub fn refuse(self) -> Result<Handled<'cb>, Self> {
        let Self { interval, inner } = self;
        match inner.would_block() {
            Ok(handled) => {
                interval.data().worker().stats().would_block.inc();
                Ok(handled)
            }
            Err(inner) => Err(Self { interval, inner }),
        }
    }

    /// Takes the user lock, records the sequence, and has faults at these addresses begin again.
    ///
    /// # Errors
    ///
    /// The answer to return, if the callback may not sleep and the user lock is taken.
    #[inline(always)] // What it returns is many words, which the caller takes apart at once.
    pub fn begin(self) -> Result<Zap<'cb, T>, Handled<'cb>> {
        let (event, span) = (self.event(), self.span());
        let Self { interval, inner } = self;
        let shared = interval.data().shared();

        let (inner, mut table) = if inner.blockable() {
            (inner, shared.locked())
        } else if let Some(table) = shared.try_locked() {
            (inner, table)
        } else {
            match (Self { interval, inner }).refuse() {
                Ok(handled) => return Err(handled),
                // It is not blockable, so this cannot be.
                Err(Self { inner, .. }) => (inner, shared.locked()),
            }
        };
        let handled = inner.record();
        table.faults().met(span);
        Ok(Zap {
            table,
            handled,
            interval,
            event,
            span,
        })
    }
}

/// An invalidation that is being handled: the user lock is held, the sequence recorded.
///
/// Dereferences to the driver's table.
pub struct Zap<'cb, T: Mirrored> {
    table: Locked<'cb, T>,
    handled: Handled<'cb>,
    pub(crate) interval: &'cb Interval<Range<T>>,
    event: Event,
    span: Span,
}

impl<'cb, T: Mirrored> Zap<'cb, T> {
    /// What happens to the process's pages.
    pub fn event(&self) -> Event {
        self.event
    }

    /// The addresses that the device must not reach any more when this is done.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The range, which may be one of several of the driver's object.
    pub fn range(&self) -> Span {
        self.interval.span()
    }

    /// The driver's object.
    pub fn data(&self) -> &'cb T {
        self.interval.data().shared().data()
    }

    /// Asks for the range to be removed: it returns at once, and
    /// [`Mirrored::released`] is called later. Lookups, holds and commits fail from here on; while
    /// others are just taking its place, lookups may find those for another moment, until
    /// they are retired as well.
    ///
    /// Allocates nothing and does not sleep.
    pub fn retire(&mut self) -> Retire {
        self.interval.data().retire()
    }

    /// Says that what happens leaves nothing mapped there: part of the range need not be mirrored
    /// any more. The worker looks what the process has mapped by then, so that it does no harm to
    /// say it of what is still there, or there again.
    ///
    /// The range stays in service until smaller ones are in its place. Allocates nothing and does
    /// not sleep.
    pub fn punch(&mut self) -> Changed {
        let range = self.interval.data();
        range
            .punch(self.interval.span(), self.span)
            .unwrap_or(Changed::NotLive)
    }

    /// Asks for nothing but `keep` to be mirrored from now on, in bytes, which is part of the
    /// range; of several such requests, what is common to all. Where that is nothing the range is
    /// retired. If the range is just becoming one with others, this may count as a punch of the
    /// rest, see [`Hold::merge`](crate::Hold::merge).
    ///
    /// The range stays in service until smaller ones are in its place. Allocates nothing and does
    /// not sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `keep` is not part of [`Zap::range`]. See also [`Changed::accepted`].
    pub fn resize(&mut self, keep: Span) -> Result<Changed> {
        self.interval.data().resize(self.interval.span(), keep)
    }

    /// Access has stopped: lets go of the user lock and answers.
    pub fn done(self) -> Handled<'cb> {
        let Self { table, handled, .. } = self;
        drop(table);
        handled
    }
}

impl<T: Mirrored> Deref for Zap<'_, T> {
    type Target = T::Table;

    fn deref(&self) -> &T::Table {
        &self.table
    }
}

impl<T: Mirrored> DerefMut for Zap<'_, T> {
    fn deref_mut(&mut self) -> &mut T::Table {
        &mut self.table
    }
}
