// SPDX-License-Identifier: GPL-2.0

//! The state machine of a request.
//!
//! A pure function, state × event → state × effect, and nothing else: no kernel types, no
//! locking. [`Request`](super::request::Request) applies it by compare-and-exchange; the
//! host-side tests compile this very file and explore it exhaustively.
//!
//! # The life of a request
//!
//! Its [`Stage`] says how far it has come on its way out:
//!
//! ```text
//!             Publish                        Retire
//!   Building ----------> Live -------------------------------> Queued
//!      |                  |                                      |
//!      | Retire           | Retire, while the worker has it      | Take: the worker, or a drain
//!      v                  v                                      v
//!    Dying <--------------'                                    Taken    unpublish, zap again
//!      |                                                         |      grace period
//!      '--- Publish, Unclaim ---> Queued                         |      blocking remove
//!                                                                v
//!                            it is held:  Removed <---- Remove --+
//!                                            |                   | nobody holds it
//!                                            | the last Put      v
//!                                            '-------------> Releasing    release
//! ```
//!
//! An insertion that fails leaves it in Building or Dying, and whoever tried frees the object.
//!
//! What is to change and not to go has a [`Change`] besides:
//!
//! ```text
//!        Change                  Take                            Replace
//!   None -------> Queued ---------------------> Taken --------------------------> Replaced
//!    |  |                                        ^
//!    |  '------------ Claim ---------------------'
//!    |  ^           ^                            | ^ |                                ^
//!    |  |           |     Change, and back: Plan | | | Unclaim: it stays              |
//!    |  |           |   Unclaim                  v | '------------> None              |
//!    |  |           '------------------------- Again ---------------------------------'
//!    |  |                                        ^           Replace
//!    |  '-- Publish: Queued                      |
//!    v                                           | Activate
//!   Asked, while it is being built --------------'    (None becomes Taken by that)
//! ```
//!
//! Both at once are one state. A retire wins over a change that waits: the worker finds the request
//! retired. It dooms an object that is being changed: whoever has that hands it over. It is for
//! the pieces to be told of it if they are in the object's place by then.
//!
//! Retire is sticky and commutes with itself, so the order of parallel callbacks has no meaning.
//! [`Effect::Queue`] is answered once for each time that the request is taken, and
//! [`Effect::Release`] once in a life.
//!
//! # The transitions
//!
//! A state is written *stage · change*; what is not named is any, or stays as it was. *On its way
//! out* is each stage from Dying on. The first row that fits counts.
//!
//! | event | in | becomes | effect |
//! |---|---|---|---|
//! | Publish | Building · None | Live | None |
//! | Publish | Building · Asked | Live · Queued | Queue |
//! | Publish | Dying · None/Asked | Queued · None | Queue |
//! | Activate | Building · None | Live · Taken | None |
//! | Activate | Building · Asked | Live · Again | None |
//! | Activate | Dying · None/Asked | · Taken | None |
//! | Retire | Building | Dying | Deferred |
//! | Retire | Live · None | Queued | Queue |
//! | Retire | Live · Queued | Queued · None | Joined |
//! | Retire | Live · Taken/Again | Dying | Deferred |
//! | Retire | any · Replaced | same | NotLive |
//! | Retire | on its way out | same | Already |
//! | Change | Building · None | · Asked | Deferred |
//! | Change | Live · None | · Queued | Queue |
//! | Change | Live · Taken | · Again | Deferred |
//! | Change | Building/Live · Asked/Queued/Again | same | Already |
//! | Change | on its way out | same | NotLive |
//! | Take | Queued | Taken | None |
//! | Take | Live · Queued | · Taken | Build |
//! | Claim | Live · None | · Taken | Build |
//! | Claim | Live · Queued/Taken/Again | same | Already |
//! | Claim | on its way out | same | NotLive |
//! | Plan | Live/Dying · Taken/Again | · Taken | None |
//! | Unclaim | Live · Taken | · None | None |
//! | Unclaim | Live · Again | · Queued | Queue |
//! | Unclaim | Dying · Taken/Again | Queued · None | Queue |
//! | Replace | Live · Taken/Again | Taken · Replaced | HandOver |
//! | Replace | Dying · Taken/Again | Taken · Replaced | HandOverRetire |
//! | Remove | Taken, no holds | Releasing | Release |
//! | Remove | Taken, held | Removed | None |
//! | Hold | Live, room for a hold | holds + 1 | None |
//! | Put | Removed, last hold | Releasing, holds − 1 | Release |
//! | Put | any, held | holds − 1 | None |
//!
//! An event that is in no row makes no sense in that state. It leaves the state as it is and is
//! answered with [`Effect::Refused`]: misuse by a driver must not bring the machine down. The
//! host-side tests hold this table, as well as the code, against the same data.

/// How far a range has come on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Stage {
    /// Its notifier is being inserted. Lookups do not find it yet.
    Building = 0,
    /// In service.
    Live = 1,
    /// Retired while somebody has it (who inserts it, or the worker), who hands it over.
    Dying = 2,
    /// Retired: lookups, holds and commits fail from here on. Waits for the worker.
    Queued = 3,
    /// Somebody (the worker, or the caller of drain) takes it out.
    Taken = 4,
    /// No callback, lookup or access is left, but somebody still holds it.
    Removed = 5,
    /// The last hold is gone and the release is on its way. Final.
    Releasing = 6,
}

/// How far a request to put others in the place of a range has come.
///
/// What exactly is asked for is not the state machine's business: it adds up, in whatever
/// order they come (see [`PendingTrim`](crate::odp::mirror::trim::PendingTrim)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub(crate) enum Change {
    /// There is none.
    None = 0,
    /// Asked for before the insertion has returned; whoever inserts it queues it.
    Asked = 1,
    /// Waits for the worker.
    Queued = 2,
    /// Somebody (the worker, or the caller of drain) works on it.
    Taken = 3,
    /// The same, and more has been asked for since.
    Again = 4,
    /// Others are in the place of this one: smaller ranges, or a larger one. Final.
    Replaced = 5,
}

/// Something that happens to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The insertion of the notifier has returned.
    Publish,
    /// It is a piece of another range, and whoever puts it in that one's place has it until
    /// [`Step::Unclaim`].
    Activate,
    /// Somebody wants it gone.
    Retire,
    /// Somebody wants part of it gone.
    Change,
    /// Somebody begins to take it out, or to change it.
    Take,
    /// Whoever has taken another one to change it takes this one as well, to replace both by one.
    Claim,
    /// Whoever took it to change it takes over what has been asked for so far.
    Plan,
    /// Whoever took it to change it leaves it as it is.
    Unclaim,
    /// Others have taken its place.
    Replace,
    /// Its grace period and its blocking removal are over.
    Remove,
    /// A long hold begins.
    Hold,
    /// A long hold ends.
    Put,
}

/// What the caller of [`State::step`] has to do, exactly once for each answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Queue the request for the worker: it is the caller's until then.
    Queue,
    /// Nothing: it waits for the worker already, which will see that this is wanted, too.
    Joined,
    /// Nothing: the same had been asked for before.
    Already,
    /// Nothing: it will be queued by whoever has it.
    Deferred,
    /// Nothing can be done: it is on its way out, or others are in its place.
    NotLive,
    /// It is to be changed: build what takes its place, then [`Step::Replace`] or
    /// [`Step::Unclaim`] it.
    Build,
    /// Others are in its place. What has been asked for meanwhile is theirs: the trim.
    HandOver,
    /// The same, and it has been retired meanwhile: so are they to be.
    HandOverRetire,
    /// Release it: the caller now owns it, nobody else can reach it.
    Release,
    /// The event makes no sense in this state, or the number of holds would not fit.
    Refused,
}

/// The state of a request: two stages and a number of holds.
///
/// # Invariants
///
/// - `holds` is at most [`State::MAX_HOLDS`], and 0 in [`Stage::Releasing`].
/// - `change` is one that the stage can have:
///
/// | stage | change |
/// |---|---|
/// | Building | None, Asked |
/// | Live | None, Queued, Taken, Again |
/// | Dying | None, Asked, Taken, Again |
/// | Queued | None |
/// | Taken, Removed, Releasing | None, Replaced |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// How far it has come.
    pub(crate) stage: Stage,
    /// Whether others are to be in its place.
    pub(crate) change: Change,
    /// How many long holds there are; at most [`State::MAX_HOLDS`].
    pub(crate) holds: u32,
}

impl State {
    const STAGE_BITS: u32 = 3;
    const CHANGE_BITS: u32 = 3;

    /// The largest number of holds a state can have.
    pub(crate) const MAX_HOLDS: u32 = u32::MAX >> (Self::STAGE_BITS + Self::CHANGE_BITS);

    /// The state of a range whose notifier is about to be inserted, held `holds` times.
    ///
    /// `holds` is a small number.
    pub(crate) const fn building(holds: u32) -> Self {
        // INVARIANT: So few holds are not too many, and nothing has been asked for.
        Self {
            stage: Stage::Building,
            change: Change::None,
            holds,
        }
    }

    /// The state of a range in service that nobody holds.
    pub(crate) const fn live() -> Self {
        // INVARIANT: There are no holds, and nothing has been asked for.
        Self {
            stage: Stage::Live,
            change: Change::None,
            holds: 0,
        }
    }

    /// The state as one word.
    pub(crate) const fn pack(self) -> u32 {
        // CAST: The enums are `repr(u32)` with at most eight values, which fit in three bits. By
        // the type invariants the holds fit in the others.
        (self.holds << (Self::STAGE_BITS + Self::CHANGE_BITS))
            | ((self.change as u32) << Self::STAGE_BITS)
            | self.stage as u32
    }

    /// The state that [`State::pack`] made `word` from.
    pub(crate) const fn unpack(word: u32) -> Self {
        let stage = match word & ((1 << Self::STAGE_BITS) - 1) {
            0 => Stage::Building,
            1 => Stage::Live,
            2 => Stage::Dying,
            3 => Stage::Queued,
            4 => Stage::Taken,
            5 => Stage::Removed,
            _ => Stage::Releasing,
        };
        let change = match (word >> Self::STAGE_BITS) & ((1 << Self::CHANGE_BITS) - 1) {
            0 => Change::None,
            1 => Change::Asked,
            2 => Change::Queued,
            3 => Change::Taken,
            4 => Change::Again,
            _ => Change::Replaced,
        };
        // INVARIANT: Those that hold for the state that `word` was made from. From any other word
        // comes no more than the largest number of holds, because the shift leaves as many bits as
        // that has.
        Self {
            stage,
            change,
            holds: word >> (Self::STAGE_BITS + Self::CHANGE_BITS),
        }
    }

    /// Whether lookups find it and commits succeed.
    pub(crate) const fn is_live(self) -> bool {
        matches!(self.stage, Stage::Live)
    }

    /// Whether it is on its way out and nothing but the worker is needed for that.
    pub(crate) const fn is_leaving(self) -> bool {
        !matches!(self.stage, Stage::Building | Stage::Live | Stage::Dying)
    }

    /// Whether no callback, lookup or access is left.
    pub(crate) const fn is_removed(self) -> bool {
        matches!(self.stage, Stage::Removed | Stage::Releasing)
    }

    /// The state after `event`, and what follows from it.
    #[must_use]
    pub(crate) const fn step(self, event: Step) -> (Self, Effect) {
        use Stage::*;

        let (stage, change, effect) = match (event, self.stage, self.change) {
            (Step::Publish, Building, Change::None) => (Live, Change::None, Effect::None),
            (Step::Publish, Building, Change::Asked) => (Live, Change::Queued, Effect::Queue),
            (Step::Publish, Dying, Change::None | Change::Asked) => {
                (Queued, Change::None, Effect::Queue)
            }

            (Step::Activate, Building, Change::None) => (Live, Change::Taken, Effect::None),
            (Step::Activate, Building, Change::Asked) => (Live, Change::Again, Effect::None),
            (Step::Activate, Dying, Change::None | Change::Asked) => {
                (Dying, Change::Taken, Effect::None)
            }

            (Step::Retire, Building, change) => (Dying, change, Effect::Deferred),
            (Step::Retire, Live, Change::None) => (Queued, Change::None, Effect::Queue),
            (Step::Retire, Live, Change::Queued) => (Queued, Change::None, Effect::Joined),
            (Step::Retire, Live, Change::Taken | Change::Again) => {
                (Dying, self.change, Effect::Deferred)
            }
            (Step::Retire, stage, Change::Replaced) => (stage, Change::Replaced, Effect::NotLive),
            (Step::Retire, stage @ (Dying | Queued | Taken | Removed | Releasing), change) => {
                (stage, change, Effect::Already)
            }

            (Step::Change, Building, Change::None) => (Building, Change::Asked, Effect::Deferred),
            (Step::Change, Live, Change::None) => (Live, Change::Queued, Effect::Queue),
            (Step::Change, Live, Change::Taken) => (Live, Change::Again, Effect::Deferred),
            (
                Step::Change,
                stage @ (Building | Live),
                change @ (Change::Asked | Change::Queued | Change::Again),
            ) => (stage, change, Effect::Already),
            (Step::Change, stage @ (Dying | Queued | Taken | Removed | Releasing), change) => {
                (stage, change, Effect::NotLive)
            }

            (Step::Take, Queued, change) => (Taken, change, Effect::None),
            (Step::Take, Live, Change::Queued) => (Live, Change::Taken, Effect::Build),

            (Step::Claim, Live, Change::None) => (Live, Change::Taken, Effect::Build),
            (Step::Claim, Live, change @ (Change::Queued | Change::Taken | Change::Again)) => {
                (Live, change, Effect::Already)
            }
            (Step::Claim, stage @ (Dying | Queued | Taken | Removed | Releasing), change) => {
                (stage, change, Effect::NotLive)
            }

            (Step::Plan, stage @ (Live | Dying), Change::Taken | Change::Again) => {
                (stage, Change::Taken, Effect::None)
            }

            (Step::Unclaim, Live, Change::Taken) => (Live, Change::None, Effect::None),
            (Step::Unclaim, Live, Change::Again) => (Live, Change::Queued, Effect::Queue),
            (Step::Unclaim, Dying, Change::Taken | Change::Again) => {
                (Queued, Change::None, Effect::Queue)
            }

            (Step::Replace, Live, Change::Taken | Change::Again) => {
                (Taken, Change::Replaced, Effect::HandOver)
            }
            (Step::Replace, Dying, Change::Taken | Change::Again) => {
                (Taken, Change::Replaced, Effect::HandOverRetire)
            }

            (Step::Remove, Taken, change) if self.holds == 0 => {
                (Releasing, change, Effect::Release)
            }
            (Step::Remove, Taken, change) => (Removed, change, Effect::None),

            (Step::Hold, Live, _) if self.holds < Self::MAX_HOLDS => {
                return (
                    Self {
                        // OVERFLOW: Less than `MAX_HOLDS`.
                        holds: self.holds + 1,
                        ..self
                    },
                    Effect::None,
                );
            }

            (Step::Put, stage, _) if self.holds > 0 => {
                // OVERFLOW: Greater than zero.
                let holds = self.holds - 1;
                return match (stage, holds) {
                    (Removed, 0) => (
                        Self {
                            stage: Releasing,
                            holds,
                            ..self
                        },
                        Effect::Release,
                    ),
                    _ => (Self { holds, ..self }, Effect::None),
                };
            }

            _ => (self.stage, self.change, Effect::Refused),
        };
        (
            Self {
                stage,
                change,
                ..self
            },
            effect,
        )
    }
}
