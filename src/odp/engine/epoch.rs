// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for.
//!
//! A flush is for what was queued before it began; waiting until nothing is queued might never
//! end. So what is queued gets a ticket of the current epoch, and a flush waits for the tickets of
//! the epoch that was the current one when it began. Whoever looks begins the next epoch, as soon
//! as nothing older than the current one is left; so two kinds of ticket are enough.
//!
//! A flush leaves nothing here that it would have to take back: however many there are, they share
//! epochs, and one that gives up does not matter to the others. Free of kernel types; host-side
//! tests compile this very file.

/// Part of a ticket: work on all that it stands for began after the flush did that waits for it.
const RENEWABLE: u8 = 2;

/// Tickets to be given back together.
#[derive(Default)]
pub(crate) struct Bundle([usize; 2]);

impl Bundle {
    /// Adds a ticket that is out.
    pub(crate) fn add(&mut self, ticket: u8) {
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.0[usize::from(ticket & 1)] += 1;
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0[0].saturating_add(self.0[1])
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Counts of tickets that are out.
///
/// # Invariants
///
/// Those are of the current epoch, or of the one before.
pub(crate) struct Epochs {
    current: u64,
    /// By the last bit of the epoch, which is the ticket's.
    out: [usize; 2],
}

impl Epochs {
    pub(crate) const fn new() -> Self {
        Self {
            current: 0,
            out: [0; 2],
        }
    }

    /// The ticket of an epoch.
    fn ticket(epoch: u64) -> u8 {
        u8::from(epoch & 1 != 0)
    }

    /// Hands out a ticket of the current epoch.
    pub(crate) fn enter(&mut self) -> u8 {
        self.join(Self::ticket(self.current))
    }

    /// Hands out one more ticket of the kind of one that is out.
    ///
    /// For what comes of something else: who waits for the one waits for both.
    pub(crate) fn join(&mut self, ticket: u8) -> u8 {
        let ticket = ticket & 1;
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.out[usize::from(ticket)] += 1;
        ticket
    }

    /// Work begins on all that a ticket stands for so far: returns the ticket to go on with.
    pub(crate) fn begin(&self, ticket: u8) -> u8 {
        let ticket = ticket & 1;
        // Who waits for an epoch before the current one has begun to before this: what is asked for
        // from here on came after that.
        if ticket == Self::ticket(self.current) {
            ticket
        } else {
            ticket | RENEWABLE
        }
    }

    /// More has been asked for since [`Epochs::begin`]: returns the ticket to go on with.
    ///
    /// Of the current epoch, if that is right for all of it; so that what is asked for again and
    /// again does not keep a flush waiting for ever. Not for what is left to do of the same work.
    pub(crate) fn renew(&mut self, ticket: u8) -> u8 {
        if ticket & RENEWABLE == 0 {
            return ticket;
        }
        self.exit(ticket);
        self.enter()
    }

    /// Takes back a ticket that was handed out.
    pub(crate) fn exit(&mut self, ticket: u8) {
        let mut bundle = Bundle::default();
        bundle.add(ticket);
        self.exit_all(&bundle);
    }

    /// Takes back tickets that were handed out.
    pub(crate) fn exit_all(&mut self, bundle: &Bundle) {
        for (out, n) in self.out.iter_mut().zip(bundle.0) {
            *out = out.saturating_sub(n);
        }
    }

    /// The epoch of what is queued now: to be passed to [`Epochs::is_over`] by who waits for that.
    pub(crate) fn current(&self) -> u64 {
        self.current
    }

    /// Begins a new epoch.
    ///
    /// No ticket of the epoch before the current one may be out.
    pub(crate) fn advance(&mut self) {
        // INVARIANT: By what is required what is out is of what was the current epoch up to here.
        // OVERFLOW: It would take centuries.
        self.current += 1;
    }

    /// Whether nothing is out that was queued in `epoch` or before, and nothing that came of that.
    ///
    /// Begins a new epoch if this one is asked for and the one before is over. So what is asked
    /// again and again is true in the end, whatever is queued meanwhile.
    pub(crate) fn is_over(&mut self, epoch: u64) -> bool {
        let none = |of: u64| self.out[usize::from(Self::ticket(of))] == 0;
        if epoch == self.current && none(epoch ^ 1) {
            self.advance();
        }
        match self.current.wrapping_sub(epoch) {
            0 => false,
            1 => self.out[usize::from(Self::ticket(epoch))] == 0,
            // A third epoch begins only when the first is over.
            _ => true,
        }
    }

    /// How many tickets are out.
    pub(crate) fn outstanding(&self) -> usize {
        self.out[0].saturating_add(self.out[1])
    }
}
