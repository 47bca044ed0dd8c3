// SPDX-License-Identifier: GPL-2.0

//! Page-aligned ranges of user addresses.
//!
//! Half open, never empty, and every operation is checked: in the kernel an arithmetic overflow is
//! a BUG. Free of kernel types, so that host-side tests compile this very file.

use super::PAGE_SIZE;

/// Why three numbers do not make a [`Span`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanError {
    /// The length is zero, or the end does not lie behind the start.
    Empty,
    /// A bound is not a multiple of the page size.
    Unaligned,
    /// The span would reach beyond the last address.
    Overflow,
}

/// A range of addresses in bytes, `start..end`, both multiples of the page size.
///
/// # Invariants
///
/// `start < end`, and both are multiples of [`PAGE_SIZE`].
// Arrays of it are shown to C.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    start: usize,
    end: usize,
}

impl Span {
    /// Every page that a span can have: all but the last one of the addresses.
    // INVARIANT: Not empty, and the end is rounded down.
    pub const ALL: Self = Self {
        start: 0,
        end: usize::MAX - usize::MAX % PAGE_SIZE,
    };

    /// Makes the span of `len` bytes at `start`.
    ///
    /// # Errors
    ///
    /// [`SpanError::Empty`] for a length of zero, [`SpanError::Unaligned`] unless both numbers are
    /// multiples of the page size, [`SpanError::Overflow`] if the end is not an address.
    pub fn new(start: usize, len: usize) -> Result<Self, SpanError> {
        let end = start.checked_add(len).ok_or(SpanError::Overflow)?;
        Self::from_bounds(start, end)
    }

    /// Makes the span `start..end`; the end is exclusive.
    ///
    /// # Errors
    ///
    /// As for [`Span::new`].
    pub fn from_bounds(start: usize, end: usize) -> Result<Self, SpanError> {
        if start >= end {
            return Err(SpanError::Empty);
        }
        if start % PAGE_SIZE != 0 || end % PAGE_SIZE != 0 {
            return Err(SpanError::Unaligned);
        }
        // INVARIANT: Both conditions have just been tested.
        Ok(Self { start, end })
    }

    /// Makes the span from byte `first` to byte `last`, inclusive.
    ///
    /// # Safety
    ///
    /// They are [`Span::start`] and [`Span::last`] of a span.
    #[inline]
    pub unsafe fn from_first_and_last(first: usize, last: usize) -> Self {
        // INVARIANT: By the safety requirements this is a copy.
        Self {
            start: first,
            // No span has the last address; a check would be a call where callbacks want none.
            end: last.wrapping_add(1),
        }
    }

    /// The first byte.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The first byte behind the span.
    pub fn end(&self) -> usize {
        self.end
    }

    /// The last byte of the span, as the interval tree wants it.
    pub fn last(&self) -> usize {
        // OVERFLOW: `end > start >= 0` by the type invariants.
        self.end - 1
    }

    /// The length in bytes; at least one page.
    pub fn size(&self) -> usize {
        // OVERFLOW: `end > start` by the type invariants.
        self.end - self.start
    }

    /// The length in pages; at least one.
    pub fn pages(&self) -> usize {
        self.size() / PAGE_SIZE
    }

    /// Whether `addr` lies in the span.
    pub fn contains(&self, addr: usize) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Whether all of `other` lies in the span.
    pub fn covers(&self, other: &Span) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// What both spans have in common.
    pub fn intersect(&self, other: &Span) -> Option<Span> {
        self.clip(other.start, other.end)
    }

    /// What the span has in common with the bytes `start..end`, in whole pages.
    ///
    /// The bounds need not be aligned (`MMU_NOTIFY_RELEASE` ends at `ULONG_MAX`); a page of which
    /// any byte is named is part of the answer.
    #[inline] // Callbacks do this.
    pub fn clip(&self, start: usize, end: usize) -> Option<Span> {
        let first = start.max(self.start);
        let behind = end.min(self.end);
        if first >= behind {
            return None;
        }
        // INVARIANT: Rounding down keeps `start` at or above `self.start`, which is aligned.
        // Rounding up cannot pass `self.end`, which is aligned, so it does not overflow either.
        Some(Span {
            start: first - first % PAGE_SIZE,
            end: behind.next_multiple_of(PAGE_SIZE),
        })
    }

    /// The smallest span that covers both.
    pub fn hull(&self, other: &Span) -> Span {
        // INVARIANT: Bounds of spans, and the start is no greater, the end no smaller than before.
        Span {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }

    /// The span with its ends moved outward to multiples of `grain`, as far as `limit` goes, which
    /// covers the span.
    ///
    /// `grain` is a power of two and no smaller than a page; for anything else the answer covers
    /// the span and lies within `limit` all the same.
    pub fn round_out(&self, grain: usize, limit: &Span) -> Span {
        let mask = grain.wrapping_sub(1);
        let start = (self.start & !mask).clamp(limit.start.min(self.start), self.start);
        // What would wrap lies beyond every limit.
        let end = self
            .end
            .checked_add(mask)
            .map_or(usize::MAX, |end| end & !mask);
        let end = end.clamp(self.end, limit.end.max(self.end));
        // INVARIANT: `start <= self.start < self.end <= end`. A multiple of a grain that is a
        // multiple of the page size is one of that; other grains are rounded below.
        Span {
            start: start - start % PAGE_SIZE,
            end: end - end % PAGE_SIZE,
        }
    }
}
