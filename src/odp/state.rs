// SPDX-License-Identifier: GPL-2.0

//! The state machine of a removal request.
//!
//! A pure function, state × event → state × effect, and nothing else: no kernel types, no
//! locking. [`Request`](super::request::Request) applies it under its spinlock; the host-side
//! tests compile this very file and explore it exhaustively. DESIGN.md has the same table in
//! words.
//!
//! An event that makes no sense in a state leaves the state as it is and answers
//! [`Effect::Refused`]: misuse by a driver must not bring the machine down.

/// How far a range has come on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(super) enum Stage {
    /// Its notifier is being inserted. Lookups do not find it yet.
    Building = 0,
    /// In service.
    Live = 1,
    /// Retired before its insertion had returned; whoever inserts it hands it over.
    Doomed = 2,
    /// Retired: lookups, holds and commits fail from here on. Waits for the worker.
    Queued = 3,
    /// Somebody (the worker, or the caller of drain) takes it out.
    Taken = 4,
    /// No callback, lookup or access is left, but somebody still holds it.
    Removed = 5,
    /// The last hold is gone and the release is on its way. Final.
    Releasing = 6,
}

/// Something that happens to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    /// The insertion of the notifier has returned.
    Publish,
    /// Somebody wants it gone.
    Retire,
    /// Somebody begins to take it out.
    Take,
    /// Its grace period and its blocking removal are over.
    Remove,
    /// A long hold begins.
    Hold,
    /// A long hold ends.
    Put,
}

/// What the caller of [`State::step`] has to do, exactly once for each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// Queue the request for the worker: it is the caller's until then.
    Queue,
    /// Nothing: it had been retired before.
    Already,
    /// Nothing: it will be queued by whoever inserts it.
    Deferred,
    /// Release it: the caller now owns it, nobody else can reach it.
    Release,
    /// The event makes no sense in this state, or the number of holds would not fit.
    Refused,
}

/// The state of a request: a stage and a number of holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// How far it has come.
    pub(super) stage: Stage,
    /// How many long holds there are; at most [`State::MAX_HOLDS`].
    pub(super) holds: u32,
}

impl State {
    const STAGE_BITS: u32 = 3;

    /// The largest number of holds a state can have.
    pub(super) const MAX_HOLDS: u32 = u32::MAX >> Self::STAGE_BITS;

    /// The state of a range whose notifier is about to be inserted, held `holds` times.
    pub(super) const fn building(holds: u32) -> Self {
        Self {
            stage: Stage::Building,
            holds,
        }
    }

    /// The state of a range in service that nobody holds.
    pub(super) const fn live() -> Self {
        Self {
            stage: Stage::Live,
            holds: 0,
        }
    }

    /// The state as one word.
    pub(super) const fn pack(self) -> u32 {
        // CAST: The enum is `repr(u32)` with seven values, which fit in three bits.
        (self.holds << Self::STAGE_BITS) | self.stage as u32
    }

    /// The state that [`State::pack`] made `word` from.
    pub(super) const fn unpack(word: u32) -> Self {
        let stage = match word & ((1 << Self::STAGE_BITS) - 1) {
            0 => Stage::Building,
            1 => Stage::Live,
            2 => Stage::Doomed,
            3 => Stage::Queued,
            4 => Stage::Taken,
            5 => Stage::Removed,
            _ => Stage::Releasing,
        };
        Self {
            stage,
            holds: word >> Self::STAGE_BITS,
        }
    }

    /// Whether lookups find it and commits succeed.
    pub(super) const fn is_live(self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    /// Whether it is on its way out and nothing but the worker is needed for that.
    pub(super) const fn is_leaving(self) -> bool {
        !matches!(self.stage, Stage::Building | Stage::Live | Stage::Doomed)
    }

    /// Whether no callback, lookup or access is left.
    pub(super) const fn is_removed(self) -> bool {
        matches!(self.stage, Stage::Removed | Stage::Releasing)
    }

    /// The state after `event`, and what follows from it.
    #[must_use]
    pub(super) const fn step(self, event: Event) -> (Self, Effect) {
        use Stage::*;

        let (stage, effect) = match (event, self.stage) {
            (Event::Publish, Building) => (Live, Effect::None),
            (Event::Publish, Doomed) => (Queued, Effect::Queue),

            (Event::Retire, Building) => (Doomed, Effect::Deferred),
            (Event::Retire, Live) => (Queued, Effect::Queue),
            (Event::Retire, Doomed | Queued | Taken | Removed | Releasing) => {
                (self.stage, Effect::Already)
            }

            (Event::Take, Queued) => (Taken, Effect::None),

            (Event::Remove, Taken) if self.holds == 0 => (Releasing, Effect::Release),
            (Event::Remove, Taken) => (Removed, Effect::None),

            (Event::Hold, Live) if self.holds < Self::MAX_HOLDS => {
                return (
                    Self {
                        // OVERFLOW: Less than `MAX_HOLDS`.
                        holds: self.holds + 1,
                        ..self
                    },
                    Effect::None,
                );
            }

            (Event::Put, stage) if self.holds > 0 => {
                // OVERFLOW: Greater than zero.
                let holds = self.holds - 1;
                return match (stage, holds) {
                    (Removed, 0) => (
                        Self {
                            stage: Releasing,
                            holds,
                        },
                        Effect::Release,
                    ),
                    _ => (Self { holds, ..self }, Effect::None),
                };
            }

            _ => (self.stage, Effect::Refused),
        };
        (Self { stage, ..self }, effect)
    }
}
