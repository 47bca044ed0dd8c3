// SPDX-License-Identifier: GPL-2.0

//! Level 2: the faults that are going on, and which of them no invalidation has met.
//!
//! Core mm keeps one sequence for a notifier, whatever its size, so that a thread which unmaps one
//! page again and again would have every fault in the range begin again. Here a fault says which
//! addresses it is about before it looks at them, and every invalidation of those takes the fault
//! off the list. So a fault that is still on it may be committed, whatever became of the sequence.
//!
//! ```text
//! fault:          begin(span)   read_begin(), look at pages           end() -> may commit
//!                 user lock     sleeps while an invalidation that     user lock
//!                               came before begin() is going on
//! invalidation:                            met(span): off the list
//!                                          user lock
//! ```

use crate::span::Span;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// A fault that is going on.
#[derive(Clone, Copy)]
struct Fault {
    id: FaultId,
    span: Span,
}

/// A fault among those of one list; or none, which is on no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct FaultId(u64);

impl FaultId {
    pub(crate) const NONE: Self = Self(0);
}

/// The faults of a driver's object that are going on and that no invalidation has met.
///
/// Guarded by the user lock of the object.
///
/// # Invariants
///
/// - `unmet` is in order of `id`.
/// - For each fault in it, no invalidation of a range of the object, in service when the fault
///   began, has come since that intersects its span.
pub(crate) struct Faults {
    unmet: KVec<Fault>,
    last: u64,
}

impl Faults {
    /// How many are kept at a time. Where there are more, the oldest ones depend on the sequence.
    pub(super) const MAX: usize = 64;

    pub(super) const fn new() -> Self {
        Self {
            unmet: KVec::new(),
            last: 0,
        }
    }

    /// How many there is room for.
    pub(super) fn room(&self) -> usize {
        self.unmet.capacity()
    }

    /// Whether there is room for one more, or as much room as there may be.
    pub(super) fn has_room(&self) -> bool {
        self.unmet.len() < self.unmet.capacity() || self.unmet.capacity() >= Self::MAX
    }

    /// Moves to `larger`, which has more room, and leaves there what is not used any more.
    pub(super) fn move_to(&mut self, larger: &mut RoomForFaults) {
        if larger.0.capacity() <= self.unmet.capacity() {
            return;
        }
        for fault in self.unmet.iter() {
            // There is room.
            let _ = larger.0.push_within_capacity(*fault);
        }
        core::mem::swap(&mut self.unmet, &mut larger.0);
    }

    /// Begins a fault at `span`. What is found there may be used if [`Faults::end`] says so,
    /// provided that the sequence is read after this.
    pub(super) fn begin(&mut self, span: Span) -> FaultId {
        if self.unmet.len() >= Self::MAX {
            let _ = self.unmet.remove(0);
        }
        // OVERFLOW: A fault takes longer than a nanosecond.
        self.last += 1;
        let id = FaultId(self.last);
        match self.unmet.push_within_capacity(Fault { id, span }) {
            Ok(()) => id,
            Err(_) => FaultId::NONE,
        }
    }

    /// An invalidation of `span` has come: what faults found there is not to be used.
    #[inline]
    pub(super) fn met(&mut self, span: Span) {
        if !self.unmet.is_empty() {
            self.drop_met(span);
        }
    }

    #[inline(never)] // For most callbacks there is none.
    fn drop_met(&mut self, span: Span) {
        self.unmet
            .retain(|fault| fault.span.intersect(&span).is_none());
    }

    /// Ends a fault; says whether no invalidation has met it.
    pub(super) fn end(&mut self, id: FaultId) -> bool {
        let Some(position) = self.unmet.iter().position(|fault| fault.id == id) else {
            return false;
        };
        let _ = self.unmet.remove(position);
        if self.unmet.is_empty() && self.unmet.capacity() > 1 {
            // That of one stays: there may be as many of these as there are ranges.
            self.unmet = KVec::new();
        }
        true
    }
}

/// Room for faults, which is allocated without the user lock.
pub(super) struct RoomForFaults(KVec<Fault>);

impl RoomForFaults {
    pub(super) const fn none() -> Self {
        Self(KVec::new())
    }

    /// Makes it more than `room`, so that not every fault has to make some.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn exceed(&mut self, room: usize, flags: Flags) -> Result {
        let wanted = (2 * room).clamp(1, Faults::MAX);
        Ok(self.0.reserve(wanted, flags)?)
    }
}
