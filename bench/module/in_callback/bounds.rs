// SPDX-License-Identifier: GPL-2.0

//! What a range is for, which callbacks take parts off.

use core::cell::UnsafeCell;
use odp::Span;

/// The bounds of a range. Whoever has no lock may see one of them from before a change, and the
/// other one from after it; that is a span, too.
///
/// # Invariants
///
/// They are the start and the end of a span, of which later ones are parts. They are stored to by
/// one task at a time, and accessed with READ_ONCE() and WRITE_ONCE().
pub(super) struct Bounds {
    start: UnsafeCell<usize>,
    end: UnsafeCell<usize>,
}

impl Bounds {
    pub(super) fn new(span: Span) -> Self {
        // INVARIANT: They are those of a span.
        Self {
            start: UnsafeCell::new(span.start()),
            end: UnsafeCell::new(span.end()),
        }
    }

    /// What they are now. For whoever keeps others from changing them it is exact; for others the
    /// start may be of another time than the end.
    #[inline]
    pub(super) fn get(&self) -> Span {
        // As READ_ONCE(): `Atomic` would call a function, and lookups ask at each step.
        // SAFETY: It is valid, and stored to with WRITE_ONCE().
        let start = unsafe { self.start.get().read_volatile() };
        // SAFETY: As above.
        let end = unsafe { self.end.get().read_volatile() };
        // SAFETY: By the type invariants starts do not go down and ends do not go up, so that each
        // start is below each end; and all of them are bounds of spans.
        unsafe { Span::from_first_and_last(start, end.wrapping_sub(1)) }
    }

    /// Makes it less.
    ///
    /// # Safety
    ///
    /// `span` is a part of what it is now, and nobody else does this.
    pub(super) unsafe fn shrink(&self, span: Span) {
        // As WRITE_ONCE().
        // INVARIANT: By the safety requirements it is not below what it was.
        // SAFETY: It is valid, and by the safety requirements nobody else stores to it.
        unsafe { self.start.get().write_volatile(span.start()) };
        // INVARIANT: By the safety requirements it is not above what it was.
        // SAFETY: As above.
        unsafe { self.end.get().write_volatile(span.end()) };
    }
}
