// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for.
//!
//! A flush is for what was queued before it began; waiting until nothing is queued might never
//! end. So what is queued gets a ticket of the current epoch, a flush begins a new epoch, and then
//! waits for the tickets of the old one. Two kinds of ticket are enough as long as flushes take
//! turns. Free of kernel types; host-side tests compile this very file.

/// Counts of tickets that are out, for the current epoch and the one before.
pub(super) struct Epochs {
    current: u8,
    out: [usize; 2],
}

impl Epochs {
    pub(super) const fn new() -> Self {
        Self {
            current: 0,
            out: [0; 2],
        }
    }

    /// Hands out a ticket of the current epoch.
    pub(super) fn enter(&mut self) -> u8 {
        self.join(self.current)
    }

    /// Hands out one more ticket of the kind of one that is out.
    ///
    /// For what comes of something else: who waits for the one waits for both.
    pub(super) fn join(&mut self, ticket: u8) -> u8 {
        let ticket = ticket & 1;
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.out[usize::from(ticket)] += 1;
        ticket
    }

    /// Takes back a ticket that was handed out.
    pub(super) fn exit(&mut self, ticket: u8) {
        let out = &mut self.out[usize::from(ticket & 1)];
        *out = out.saturating_sub(1);
    }

    /// Begins a new epoch and returns the kind of ticket of the old one.
    ///
    /// [`Epochs::is_over`] must have been seen to be true of what the call before this returned.
    pub(super) fn advance(&mut self) -> u8 {
        let old = self.current;
        self.current = old ^ 1;
        old
    }

    /// Whether no ticket of this kind is out.
    pub(super) fn is_over(&self, ticket: u8) -> bool {
        self.out[usize::from(ticket & 1)] == 0
    }

    /// How many tickets are out.
    pub(super) fn outstanding(&self) -> usize {
        self.out[0].saturating_add(self.out[1])
    }
}
