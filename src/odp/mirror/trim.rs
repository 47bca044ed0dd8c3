// SPDX-License-Identifier: GPL-2.0

//! What is to become of a range that is not to go altogether.
//!
//! A callback allocates nothing and several run at the same time, so what they ask for is kept in a
//! form of fixed size in which neither order nor repetition matters: of what the driver wants to
//! keep, the intersection; of what is said to be unmapped, the hull. The hull is only a hint where
//! to look, for there may be live memory between two holes, and what was unmapped may be mapped
//! again by the time that somebody looks. So [`PendingTrim::plan`] takes out of it what the process
//! has mapped.
//!
//! Free of kernel types; host-side tests compile this very file.

use super::Span;

/// What has been asked for; both ends are exclusive.
///
/// # Invariants
///
/// Each bound is [`PendingTrim::NONE`]'s or that of a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingTrim {
    keep: (usize, usize),
    unmapped: (usize, usize),
}

/// What follows from a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrimPlan {
    /// The range is right as it is.
    Unchanged,
    /// None of it is wanted any more.
    Nothing,
    /// Pieces are to take its place.
    Pieces,
}

impl PendingTrim {
    /// Asks for nothing.
    pub(super) const NONE: Self = Self {
        keep: (0, usize::MAX),
        unmapped: (usize::MAX, 0),
    };

    /// Wants no more than `span`.
    pub(super) fn keep(span: Span) -> Self {
        Self {
            keep: (span.start(), span.end()),
            ..Self::NONE
        }
    }

    /// Knows of `span` that it has been unmapped.
    pub(super) fn unmapped(span: Span) -> Self {
        Self {
            unmapped: (span.start(), span.end()),
            ..Self::NONE
        }
    }

    /// Both trims.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            keep: (self.keep.0.max(other.keep.0), self.keep.1.min(other.keep.1)),
            unmapped: (
                self.unmapped.0.min(other.unmapped.0),
                self.unmapped.1.max(other.unmapped.1),
            ),
        }
    }

    /// Whether it has anything to do with `span`.
    pub(super) fn concerns(&self, span: Span) -> bool {
        let (start, end) = self.keep;
        start > span.start()
            || end < span.end()
            || span.clip(self.unmapped.0, self.unmapped.1).is_some()
    }

    /// The part of a range at `span` that it wants to keep.
    pub(super) fn wanted(&self, span: Span) -> Option<Span> {
        span.clip(self.keep.0, self.keep.1)
    }

    /// What it wants to keep, alone.
    pub(super) fn only_keep(self) -> Self {
        Self {
            keep: self.keep,
            ..Self::NONE
        }
    }

    /// What it knows to be unmapped, alone.
    pub(super) fn only_unmapped(self) -> Self {
        Self {
            unmapped: self.unmapped,
            ..Self::NONE
        }
    }

    /// The part of a range at `span` that may be given up because it is not mapped: where
    /// [`PendingTrim::plan`] wants to know what is.
    ///
    /// That is all of each grain of which any page has been unmapped, for the others may have been
    /// before.
    pub(super) fn doubtful(&self, span: Span, grain: usize) -> Option<Span> {
        let wanted = self.wanted(span)?;
        let unmapped = wanted.clip(self.unmapped.0, self.unmapped.1)?;
        Some(unmapped.round_out(grain, &wanted))
    }

    /// Works out what is to take the place of a range at `span`, and says it to `piece`, in order
    /// of address.
    ///
    /// `mapped` are the parts of [`PendingTrim::doubtful`] that are mapped, in order of address;
    /// they may reach beyond it. Pieces are as large as they must be: rounded outward to multiples
    /// of `grain`, a power of two that is no smaller than a page, but never beyond `span`. Pieces
    /// that meet are one.
    ///
    /// # Errors
    ///
    /// Those of `piece`, after which nothing is to be done.
    pub(super) fn plan<E>(
        &self,
        span: Span,
        grain: usize,
        mapped: impl IntoIterator<Item = Span>,
        mut piece: impl FnMut(Span) -> Result<(), E>,
    ) -> Result<TrimPlan, E> {
        let Some(wanted) = self.wanted(span) else {
            return Ok(TrimPlan::Nothing);
        };
        let doubtful = self.doubtful(span, grain);
        let (before, behind) = match doubtful {
            Some(doubtful) => (
                wanted.clip(0, doubtful.start()),
                wanted.clip(doubtful.end(), usize::MAX),
            ),
            None => (Some(wanted), None),
        };
        let within = mapped
            .into_iter()
            .filter_map(|mapped| doubtful?.intersect(&mapped));

        let mut last: Option<Span> = None;
        let mut first = true;
        for part in before.into_iter().chain(within).chain(behind) {
            let part = part.round_out(grain, &span);
            last = Some(match last {
                Some(last) if part.start() <= last.end() => last.hull(&part),
                Some(last) => {
                    first = false;
                    piece(last)?;
                    part
                }
                None => part,
            });
        }
        match last {
            None => Ok(TrimPlan::Nothing),
            Some(last) if first && last == span => Ok(TrimPlan::Unchanged),
            Some(last) => piece(last).map(|()| TrimPlan::Pieces),
        }
    }
}
