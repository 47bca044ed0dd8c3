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
//! From outside of callbacks a range may be asked to grow, too. For that the order matters: what
//! has been asked for before, of the end that is to move outward, does not count any more. So each
//! end of a range is a function of where it is, and what is asked for later is applied later.
//!
//! A range may be asked to become one with its neighbours, too. That is a hint like a hole is: of
//! several the hull, and what is there by then is what is looked at.
//!
//! Free of kernel types; host-side tests compile this very file.

use super::Span;

/// What has been asked for; both ends are exclusive.
///
/// An end is moved inward to its bound if it is not there yet; or, if it is *put*, there from
/// wherever it is. Either is a function of where it is, and so is one after the other.
///
/// # Invariants
///
/// Each bound is [`PendingTrim::NONE`]'s or that of a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PendingTrim {
    start: usize,
    end: usize,
    unmapped: (usize, usize),
    merged: (usize, usize),
    puts_start: bool,
    puts_end: bool,
}

/// A [`PendingTrim`] as a range keeps it, in two words less.
///
/// # Invariants
///
/// The lowest bit of `start` and `end` says whether that end is put, unless `end` is
/// [`PendingTrim::NONE`]'s. A bound has that bit free, for it is a multiple of a page.
#[derive(Clone, Copy)]
pub(super) struct StoredTrim {
    start: usize,
    end: usize,
    unmapped: (usize, usize),
    merged: (usize, usize),
}

impl StoredTrim {
    pub(super) const fn new(trim: PendingTrim) -> Self {
        // INVARIANT: As it is said there.
        Self {
            start: trim.start | trim.puts_start as usize,
            end: trim.end | trim.puts_end as usize,
            unmapped: trim.unmapped,
            merged: trim.merged,
        }
    }

    pub(super) fn get(&self) -> PendingTrim {
        let no_end = self.end == PendingTrim::NONE.end;
        PendingTrim {
            start: self.start & !1,
            end: if no_end { self.end } else { self.end & !1 },
            unmapped: self.unmapped,
            merged: self.merged,
            puts_start: self.start & 1 != 0,
            puts_end: !no_end && self.end & 1 != 0,
        }
    }
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
        start: 0,
        end: usize::MAX,
        unmapped: (usize::MAX, 0),
        merged: (usize::MAX, 0),
        puts_start: false,
        puts_end: false,
    };

    /// Wants no more than `span`.
    pub(super) fn keep(span: Span) -> Self {
        Self {
            start: span.start(),
            end: span.end(),
            ..Self::NONE
        }
    }

    /// Wants just `wanted` of a range at `span`: no more than that at either end, and all of it,
    /// whatever has been asked for before, where it lies beyond that end.
    pub(super) fn resize(span: Span, wanted: Span) -> Self {
        Self {
            puts_start: wanted.start() < span.start(),
            puts_end: wanted.end() > span.end(),
            ..Self::keep(wanted)
        }
    }

    /// Knows of `span` that it has been unmapped.
    pub(super) fn unmapped(span: Span) -> Self {
        Self {
            unmapped: (span.start(), span.end()),
            ..Self::NONE
        }
    }

    /// Wants a range to become one with its neighbours, as far as these are in `within`.
    pub(super) fn merge(within: Span) -> Self {
        Self {
            merged: (within.start(), within.end()),
            ..Self::NONE
        }
    }

    /// This trim, and `later` after it. Which one is later matters where that puts an end
    /// somewhere.
    pub(super) fn then(self, later: Self) -> Self {
        let (start, puts_start) = match later.puts_start {
            true => (later.start, true),
            false => (self.start.max(later.start), self.puts_start),
        };
        let (end, puts_end) = match later.puts_end {
            true => (later.end, true),
            false => (self.end.min(later.end), self.puts_end),
        };
        Self {
            start,
            end,
            unmapped: (
                self.unmapped.0.min(later.unmapped.0),
                self.unmapped.1.max(later.unmapped.1),
            ),
            merged: (
                self.merged.0.min(later.merged.0),
                self.merged.1.max(later.merged.1),
            ),
            puts_start,
            puts_end,
        }
    }

    /// Whether it has anything to do with a range at `span`.
    pub(super) fn concerns(&self, span: Span) -> bool {
        !self.wants_just(span)
            || span.clip(self.unmapped.0, self.unmapped.1).is_some()
            || self.merged_with(span).is_some()
    }

    /// Whether of a range at `span` no less is wanted, and nothing beyond.
    pub(super) fn wants_just(&self, span: Span) -> bool {
        self.wanted(span) == Some(span)
    }

    /// Within which a range at `span` is to become one with its neighbours, if it is to.
    pub(super) fn merged_with(&self, span: Span) -> Option<Span> {
        let within = Span::from_bounds(self.merged.0, self.merged.1).ok()?;
        (!span.covers(&within)).then_some(within)
    }

    /// What is wanted of a range at `span`, and what beyond.
    pub(super) fn wanted(&self, span: Span) -> Option<Span> {
        let start = match self.puts_start {
            true => self.start,
            false => self.start.max(span.start()),
        };
        let end = match self.puts_end {
            true => self.end,
            false => self.end.min(span.end()),
        };
        Span::from_bounds(start, end).ok()
    }

    /// What is wanted of a range at `span`, and of nothing else.
    pub(super) fn wanted_within(&self, span: Span) -> Option<Span> {
        self.wanted(span)?.intersect(&span)
    }

    /// Where a range at `span` is to grow to, of which [`PendingTrim::plan`] says that it is right
    /// as it is.
    pub(super) fn grown(&self, span: Span) -> Option<Span> {
        let grown = self.wanted(span)?.hull(&span);
        (grown != span).then_some(grown)
    }

    /// What can be done when holes have been made, alone: where it puts the ends, and what is to
    /// become one.
    pub(super) fn only_later(self) -> Self {
        let mut put = self.only_merge();
        if self.puts_start {
            (put.start, put.puts_start) = (self.start, true);
        }
        if self.puts_end {
            (put.end, put.puts_end) = (self.end, true);
        }
        put
    }

    /// What is to become one, alone.
    pub(super) fn only_merge(self) -> Self {
        Self {
            merged: self.merged,
            ..Self::NONE
        }
    }

    /// The same, but for where it moves and puts the ends.
    pub(super) fn without_keep(self) -> Self {
        Self {
            unmapped: self.unmapped,
            ..self.only_merge()
        }
    }

    /// What it asks of one of several pieces, which are in the place of a range that it was asked
    /// of: an end is put by the piece that has it, which is also the one that has a neighbour
    /// there.
    pub(super) fn of_piece(mut self, first: bool, last: bool) -> Self {
        self.puts_start &= first;
        self.puts_end &= last;
        if !first && !last {
            self.merged = Self::NONE.merged;
        }
        self
    }

    /// What it knows of a range at `span` to be unmapped, alone.
    pub(super) fn unmapped_within(self, span: Span) -> Self {
        Self::unmapped_between(span, self.unmapped.0, self.unmapped.1)
    }

    /// What it asks of a range at `whole`, if it was asked of one at `span` that has become part of
    /// that: an end that both have is the same one. Of what it does not want at another end, the
    /// neighbour of that may be in the place by now; so that is known to be unmapped, and no more.
    pub(super) fn of_part(self, span: Span, whole: Span) -> Self {
        let mut of_part = self;
        let mut cut = Self::NONE;
        if span.start() != whole.start() {
            (of_part.start, of_part.puts_start) = (0, false);
            cut = cut.then(Self::unmapped_between(span, span.start(), self.start));
        }
        if span.end() != whole.end() {
            (of_part.end, of_part.puts_end) = (usize::MAX, false);
            cut = cut.then(Self::unmapped_between(span, self.end, span.end()));
        }
        of_part.then(cut)
    }

    /// Knows of the part `start..end` of `span`, if there is one, that it has been unmapped.
    fn unmapped_between(span: Span, start: usize, end: usize) -> Self {
        span.clip(start, end).map_or(Self::NONE, Self::unmapped)
    }

    /// How far inward it moves the ends, alone.
    pub(super) fn only_keep(self) -> Self {
        Self {
            start: self.start,
            end: self.end,
            ..Self::NONE
        }
    }

    /// The part of a range at `span` that may be given up because it is not mapped: where
    /// [`PendingTrim::plan`] wants to know what is.
    ///
    /// That is all of each grain of which any page has been unmapped, for the others may have been
    /// before.
    pub(super) fn doubtful(&self, span: Span, grain: usize) -> Option<Span> {
        let wanted = self.wanted_within(span)?;
        let unmapped = wanted.clip(self.unmapped.0, self.unmapped.1)?;
        Some(unmapped.round_out(grain, &wanted))
    }

    /// Works out what is to take the place of a range at `span`, and says it to `piece`, in order
    /// of address; what is wanted beyond that is for later, see [`PendingTrim::grown`].
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
        let Some(wanted) = self.wanted_within(span) else {
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
