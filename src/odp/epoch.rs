// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for.
//!
//! A flush is for what was queued before it began; waiting until nothing is queued might never
//! end. So what is queued gets a ticket of the current epoch, a flush begins a new epoch, and then
//! waits for the tickets of the old one. Two kinds of ticket are enough as long as flushes take
//! turns. Free of kernel types; host-side tests compile this very file.

/// Part of a ticket: work on all that it stands for began after the flush did that waits for it.
const RENEWABLE: u8 = 2;

/// Tickets to be given back together.
#[derive(Default)]
pub(super) struct Bundle([usize; 2]);

impl Bundle {
    /// Adds a ticket that is out.
    pub(super) fn add(&mut self, ticket: u8) {
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.0[usize::from(ticket & 1)] += 1;
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0[0].saturating_add(self.0[1])
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

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

    /// Work begins on all that a ticket stands for so far: returns the ticket to go on with.
    pub(super) fn begin(&self, ticket: u8) -> u8 {
        let ticket = ticket & 1;
        // If a flush waits for it, what is asked for from here on came after that.
        if ticket == self.current {
            ticket
        } else {
            ticket | RENEWABLE
        }
    }

    /// More has been asked for since [`Epochs::begin`]: returns the ticket to go on with.
    ///
    /// Of the current epoch, if that is right for all of it; so that what is asked for again and again
    /// does not keep a flush waiting for ever. Not for what is left to do of the same work.
    pub(super) fn renew(&mut self, ticket: u8) -> u8 {
        if ticket & RENEWABLE == 0 {
            return ticket;
        }
        self.exit(ticket);
        self.enter()
    }

    /// Takes back a ticket that was handed out.
    pub(super) fn exit(&mut self, ticket: u8) {
        let mut bundle = Bundle::default();
        bundle.add(ticket);
        self.exit_all(&bundle);
    }

    /// Takes back tickets that were handed out.
    pub(super) fn exit_all(&mut self, bundle: &Bundle) {
        for (out, n) in self.out.iter_mut().zip(bundle.0) {
            *out = out.saturating_sub(n);
        }
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
