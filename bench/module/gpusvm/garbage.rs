// SPDX-License-Identifier: GPL-2.0

//! The ranges that callbacks have met and nobody has collected yet: a list, first come, first out.

use super::Range;
use core::ptr::NonNull;

/// The list.
///
/// # Invariants
///
/// What is on it is valid as long as it is there. The tickets of all ranges of an address space are
/// used through an exclusive reference to its list only.
#[derive(Default)]
pub(super) struct Garbage {
    first: Option<NonNull<Range>>,
    last: Option<NonNull<Range>>,
}

// SAFETY: It may be used from any task, by one at a time.
unsafe impl Send for Garbage {}

/// What a range has for it.
#[derive(Default)]
pub(super) struct Ticket {
    /// It is on the list, or has been: nothing goes twice.
    taken: bool,
    next: Option<NonNull<Range>>,
}

/// The ticket of a range.
///
/// # Safety
///
/// The range is valid, and nobody else uses its ticket as long as the answer lives.
unsafe fn ticket<'a>(range: NonNull<Range>) -> &'a mut Ticket {
    // SAFETY: By the safety requirements it is valid.
    let ticket = unsafe { range.as_ref() }.ticket.get();
    // SAFETY: By the safety requirements nobody else uses it.
    unsafe { &mut *ticket }
}

impl Garbage {
    /// Appends a range unless that has been done before; says whether it has not.
    ///
    /// # Safety
    ///
    /// It is of this address space, and stays valid until somebody has taken it from here.
    pub(super) unsafe fn add(&mut self, range: &Range) -> bool {
        let range = NonNull::from(range);
        // SAFETY: It is valid, and by the type invariants `self` is exclusive.
        let own = unsafe { ticket(range) };
        if core::mem::replace(&mut own.taken, true) {
            return false;
        }
        // INVARIANT: By the safety requirements it is valid for as long.
        match self.last.replace(range) {
            // SAFETY: What is on the list is valid, and by the type invariants `self` is exclusive.
            Some(last) => unsafe { ticket(last) }.next = Some(range),
            None => self.first = Some(range),
        }
        true
    }

    /// Takes the first.
    pub(super) fn take(&mut self) -> Option<NonNull<Range>> {
        let range = self.first?;
        // SAFETY: What is on the list is valid, and by the type invariants `self` is exclusive.
        self.first = unsafe { ticket(range) }.next;
        if self.first.is_none() {
            self.last = None;
        }
        Some(range)
    }
}
