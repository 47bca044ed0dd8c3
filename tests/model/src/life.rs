// SPDX-License-Identifier: GPL-2.0

//! The life of a request: every order in which everybody can do what they do.
//!
//! The search knows who may do what when, by the rules that `worker/`, `mirror/mod.rs` and
//! `access.rs` keep to, and nothing of how the state machine does its part. What it checks it
//! counts itself.

use crate::{
    state::{
        Effect,
        State, //
        Step,
    },
    table::EVENTS, //
};
use std::collections::{
    hash_map::Entry,
    HashMap,
    HashSet,
    VecDeque, //
};

const MAX_HOLDS: u8 = 2;

/// Where the request's link is, and with it who has to do something next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Link {
    /// Nowhere: nothing is to be done.
    Idle,
    /// With somebody who got the answer `Queue` and has not queued it yet.
    Answered,
    /// On the worker's list.
    Pending,
    /// In a batch of the worker or of a caller of drain.
    Batch,
    /// Taken to be changed, or claimed by who changes a neighbour.
    Changing,
    /// Adopted, as a piece of another range.
    Adopted,
    /// Taken, on its way through unpublishing, grace period and removal.
    Removing,
    /// With somebody who got the answer `Release` and has not passed it on yet.
    Releasing,
    /// On the list of those that are ready to be released.
    Ready,
}

/// Who inserts it, and how far that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Inserter {
    /// The notifier is being inserted, by `insert` or as a piece. Others may see the object.
    Inserting,
    Done,
    /// The insertion failed: nobody saw to it that it would be removed.
    Failed,
}

/// Everything there is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct World {
    state: State,
    link: Link,
    inserter: Inserter,
    /// Holds that somebody has.
    holds: u8,
    /// Whether a call to retire has been accepted.
    retired: bool,
    /// Whether one of them was told that it was the first.
    first: bool,
    /// Whether a call to change it was accepted, and nobody has begun to do that since.
    asked: bool,
    /// Whether others are in its place.
    replaced: bool,
    removed: u8,
    released: u8,
}

impl World {
    fn new(state: State, inserter: Inserter) -> Self {
        Self {
            state,
            link: Link::Idle,
            inserter,
            holds: state.holds as u8,
            retired: false,
            first: false,
            asked: false,
            replaced: false,
            removed: 0,
            released: 0,
        }
    }

    /// Whether the object's memory is gone, so that nobody can do anything to it.
    fn is_over(&self) -> bool {
        self.released > 0 || self.inserter == Inserter::Failed
    }

    /// Whether somebody has it, who will see to what it is asked for meanwhile.
    fn is_had(&self) -> bool {
        self.inserter == Inserter::Inserting || matches!(self.link, Link::Changing | Link::Adopted)
    }

    /// Whether it is where it may stay.
    fn is_good(&self) -> bool {
        let serves = self.inserter == Inserter::Done && self.link == Link::Idle;
        self.is_over() || serves && !self.retired && !self.asked && !self.replaced
    }
}

/// One step of somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// An event, for the state machine.
    Step(Step),
    /// The insertion fails.
    Fail,
    /// Who got the answer `Queue` queues it.
    Queue,
    /// Worker or drain takes what is pending.
    Batch,
    /// Who got the answer `Release` passes it on, or releases it.
    PassOn,
    /// The worker calls the driver's `release`.
    Release,
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Violation {
    /// Told to queue it though somebody has the link.
    QueuedTwice,
    /// Told to queue it before it was published, while the inserter might still fail.
    QueuedEarly,
    /// Told to queue it though nobody wanted that.
    QueuedUnasked,
    /// Told to release it before its removal.
    ReleasedEarly,
    /// Told to release it while somebody had a hold.
    ReleasedHeld,
    /// In service, or held anew, after a call to retire had returned.
    NotSticky,
    /// In service, or held, before it was published.
    EarlyHold,
    /// Not in service though published and neither retired nor replaced.
    Lost,
    /// The first to retire it was not told so, or more than one was.
    NotFirst,
    /// Whoever replaced it was not told what had been asked for, or something else.
    NotHandedOver,
    /// Asked for a change, and nobody has it who would see to that.
    Forgotten,
    /// A legal step was refused.
    Refused,
    /// Not counted as removed after its removal, or counted so before.
    WrongRemoved,
    /// Retired or asked for a change, and it cannot come to a good end any more.
    Stuck,
}

type Machine = fn(State, Step) -> (State, Effect);

/// What can be done in a world.
fn actions(world: &World) -> Vec<Action> {
    let mut actions = Vec::new();
    if world.is_over() {
        return actions;
    }
    if world.inserter == Inserter::Inserting {
        actions.push(Action::Step(Step::Publish));
        actions.push(Action::Step(Step::Activate));
        actions.push(Action::Fail);
    }
    // By a callback or a lookup until it is removed, by a holder until it is released. After that
    // by nobody, because nobody has it.
    if world.removed == 0 || world.holds > 0 {
        actions.push(Action::Step(Step::Retire));
        actions.push(Action::Step(Step::Change));
        // By who finds it in the index, beside another one.
        if world.inserter == Inserter::Done && world.removed == 0 {
            actions.push(Action::Step(Step::Claim));
        }
        if world.holds < MAX_HOLDS {
            actions.push(Action::Step(Step::Hold));
        }
    }
    // The inserter keeps the hold that the object was made with until it has published it.
    let kept = u8::from(world.inserter == Inserter::Inserting);
    if world.holds > kept {
        actions.push(Action::Step(Step::Put));
    }
    match world.link {
        Link::Idle => {}
        Link::Answered => actions.push(Action::Queue),
        Link::Pending => actions.push(Action::Batch),
        Link::Batch => actions.push(Action::Step(Step::Take)),
        Link::Changing => {
            actions.push(Action::Step(Step::Plan));
            actions.push(Action::Step(Step::Unclaim));
            actions.push(Action::Step(Step::Replace));
        }
        Link::Adopted => actions.push(Action::Step(Step::Unclaim)),
        Link::Removing => actions.push(Action::Step(Step::Remove)),
        Link::Releasing => actions.push(Action::PassOn),
        Link::Ready => actions.push(Action::Release),
    }
    actions
}

/// Does `action`.
fn act(world: &World, action: Action, step: Machine) -> Result<World, Violation> {
    let mut next = *world;
    let event = match action {
        Action::Step(event) => event,
        Action::Fail => {
            // The callback never ran and the index is left again: the memory is the inserter's.
            next.inserter = Inserter::Failed;
            return Ok(next);
        }
        Action::Queue => {
            next.link = Link::Pending;
            return Ok(next);
        }
        Action::Batch => {
            next.link = Link::Batch;
            return Ok(next);
        }
        Action::PassOn => {
            next.link = Link::Ready;
            return Ok(next);
        }
        Action::Release => {
            next.link = Link::Idle;
            next.released += 1;
            return Ok(next);
        }
    };

    let (state, effect) = step(world.state, event);
    next.state = state;
    match event {
        Step::Publish => next.inserter = Inserter::Done,
        Step::Activate => {
            next.inserter = Inserter::Done;
            next.link = Link::Adopted;
        }
        Step::Retire => {
            if (effect == Effect::NotLive) != world.replaced {
                return Err(Violation::NotHandedOver);
            }
            if effect != Effect::NotLive {
                next.retired = true;
                let first = matches!(effect, Effect::Queue | Effect::Joined | Effect::Deferred);
                if first == world.first {
                    return Err(Violation::NotFirst);
                }
                next.first = true;
            }
        }
        Step::Change => {
            let gone = world.retired || world.replaced;
            if (effect == Effect::NotLive) != gone {
                return Err(Violation::NotHandedOver);
            }
            next.asked |= !gone;
        }
        Step::Take => {
            next.link = if effect == Effect::Build {
                Link::Changing
            } else {
                Link::Removing
            };
            // Who takes it looks what is wanted.
            next.asked = false;
        }
        Step::Claim if effect == Effect::Build => {
            if world.link != Link::Idle {
                return Err(Violation::QueuedTwice);
            }
            next.link = Link::Changing;
        }
        Step::Claim => {}
        Step::Plan => next.asked = false,
        Step::Unclaim => next.link = Link::Idle,
        Step::Replace => {
            next.replaced = true;
            next.link = Link::Removing;
            let handed = match effect {
                Effect::HandOver => false,
                Effect::HandOverRetire => true,
                _ => return Err(Violation::NotHandedOver),
            };
            if handed != world.retired {
                return Err(Violation::NotHandedOver);
            }
            next.asked = false;
        }
        Step::Remove => {
            next.link = Link::Idle;
            next.removed += 1;
        }
        Step::Hold => {
            let allowed = world.inserter == Inserter::Done && !world.retired && !world.replaced;
            match (effect, allowed) {
                (Effect::None, true) => next.holds += 1,
                (Effect::None, false) if world.inserter == Inserter::Done => {
                    return Err(Violation::NotSticky)
                }
                (Effect::None, false) => return Err(Violation::EarlyHold),
                (_, true) => return Err(Violation::Lost),
                (_, false) => {}
            }
        }
        Step::Put => next.holds -= 1,
    }
    match effect {
        Effect::Queue => {
            if next.link != Link::Idle {
                return Err(Violation::QueuedTwice);
            }
            next.link = Link::Answered;
            if next.inserter == Inserter::Inserting {
                return Err(Violation::QueuedEarly);
            }
            if !next.retired && !next.asked {
                return Err(Violation::QueuedUnasked);
            }
        }
        Effect::Release => {
            if next.removed == 0 {
                return Err(Violation::ReleasedEarly);
            }
            if next.holds > 0 {
                return Err(Violation::ReleasedHeld);
            }
            // Nobody has it now, so that there is no event that could answer this again.
            next.link = Link::Releasing;
        }
        Effect::Refused if event != Step::Hold => return Err(Violation::Refused),
        _ => {}
    }
    if next.retired {
        // All of it goes.
        next.asked = false;
    }

    if next.asked && next.link == Link::Idle && next.inserter == Inserter::Done {
        return Err(Violation::Forgotten);
    }
    let live = next.inserter == Inserter::Done && !next.retired && !next.replaced;
    match (next.state.is_live(), live) {
        (true, false) if next.inserter == Inserter::Inserting => return Err(Violation::EarlyHold),
        (true, false) => return Err(Violation::NotSticky),
        (false, true) => return Err(Violation::Lost),
        _ => {}
    }
    // Who waits for its removal asks first whether it is going to come without him.
    let leaving = (next.replaced || next.retired) && !next.is_had();
    if next.state.is_removed() != (next.removed > 0) || next.state.is_leaving() != leaving {
        return Err(Violation::WrongRemoved);
    }
    Ok(next)
}

/// How a world was come by, for those who read a failed test.
#[derive(Debug)]
struct Trace {
    violation: Violation,
    #[allow(dead_code, reason = "for its Debug")]
    steps: Vec<Action>,
}

/// Looks at everything that can happen from `start` on; says how many worlds that makes.
fn explore(start: World, step: Machine) -> Result<usize, Trace> {
    // From each world how it was first come by; and for each whence.
    let mut seen: HashMap<World, Option<(World, Action)>> = HashMap::from([(start, None)]);
    let mut back: HashMap<World, Vec<World>> = HashMap::new();
    let mut todo = VecDeque::from([start]);
    let trace = |seen: &HashMap<World, Option<(World, Action)>>, mut world, last, violation| {
        let mut steps: Vec<Action> = Vec::from_iter(last);
        while let Some((from, action)) = seen[&world] {
            steps.push(action);
            world = from;
        }
        steps.reverse();
        Trace { violation, steps }
    };

    while let Some(world) = todo.pop_front() {
        for action in actions(&world) {
            let next = match act(&world, action, step) {
                Ok(next) => next,
                Err(violation) => return Err(trace(&seen, world, Some(action), violation)),
            };
            back.entry(next).or_default().push(world);
            if let Entry::Vacant(entry) = seen.entry(next) {
                entry.insert(Some((world, action)));
                todo.push_back(next);
            }
        }
    }

    // Whatever has happened: it can still come to a good end.
    let mut ends: HashSet<World> = HashSet::new();
    let mut todo: Vec<World> = seen
        .keys()
        .filter(|world| world.is_good())
        .copied()
        .collect();
    while let Some(world) = todo.pop() {
        if ends.insert(world) {
            todo.extend(back.get(&world).into_iter().flatten());
        }
    }
    if let Some(stuck) = seen.keys().find(|world| !ends.contains(world)) {
        return Err(trace(&seen, *stuck, None, Violation::Stuck));
    }
    for world in seen.keys().filter(|world| world.released > 0) {
        assert_eq!((world.removed, world.released, world.holds), (1, 1, 0));
        assert!(world.retired || world.replaced);
    }
    Ok(seen.len())
}

/// From both beginnings: in service at once, and with an insertion first.
fn explore_all(step: Machine) -> Result<usize, Trace> {
    let live = explore(World::new(State::live(), Inserter::Done), step)?;
    let building = explore(World::new(State::building(1), Inserter::Inserting), step)?;
    Ok(live + building)
}

#[test]
fn every_life() {
    let worlds = explore_all(State::step).unwrap_or_else(|trace| panic!("{trace:#?}"));
    println!("{worlds} worlds with up to {MAX_HOLDS} holds");
    // It is noticed if somebody makes the search look at next to nothing.
    assert!(worlds > 50);
}

/// Every stage and every event occurs in the search.
#[test]
fn coverage() {
    use std::sync::Mutex;
    static OCCURRED: Mutex<Vec<(u32, Step)>> = Mutex::new(Vec::new());
    explore_all(|state, event| {
        OCCURRED.lock().unwrap().push((state.stage as u32, event));
        state.step(event)
    })
    .unwrap();
    let occurred: HashSet<_> = OCCURRED.lock().unwrap().drain(..).collect();
    for event in EVENTS {
        assert!(occurred.iter().any(|(_, other)| *other == event));
    }
    let stages: HashSet<_> = occurred.iter().map(|(stage, _)| *stage).collect();
    // Nobody can do anything with the last one but wait for the release.
    assert_eq!(stages.len(), crate::table::STAGES.len() - 1);
}

mod mutants {
    use super::*;
    use crate::state::{
        Change,
        Stage::*, //
    };

    fn at(state: State, stage: crate::state::Stage) -> State {
        State { stage, ..state }
    }

    /// Each lacks one property, and is right in everything else.
    const MUTANTS: &[(&str, Violation, Machine)] = &[
        (
            "a retire during a change queues what the worker has",
            Violation::QueuedTwice,
            |state, event| match (event, state.stage, state.change) {
                (Step::Retire, Live, Change::Taken) => (at(state, Queued), Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "what waits for a change is claimed",
            Violation::QueuedTwice,
            |state, event| match (event, state.stage, state.change) {
                (Step::Claim, Live, Change::Queued) => {
                    let change = Change::Taken;
                    (State { change, ..state }, Effect::Build)
                }
                _ => state.step(event),
            },
        ),
        (
            "a change queues again what waits for one",
            Violation::QueuedTwice,
            |state, event| match (event, state.stage, state.change) {
                (Step::Change, Live, Change::Queued) => (state, Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "a change during a change is forgotten",
            Violation::Forgotten,
            |state, event| match (event, state.stage, state.change) {
                (Step::Change, Live, Change::Taken) => (state, Effect::Already),
                _ => state.step(event),
            },
        ),
        (
            "a change before it is published is forgotten",
            Violation::Forgotten,
            |state, event| match (event, state.stage, state.change) {
                (Step::Publish, Building, Change::Asked) => (
                    State {
                        stage: Live,
                        change: Change::None,
                        ..state
                    },
                    Effect::None,
                ),
                _ => state.step(event),
            },
        ),
        (
            "a retire during a change is not handed over",
            Violation::NotHandedOver,
            |state, event| match (event, state.step(event)) {
                (Step::Replace, (next, Effect::HandOverRetire)) => (next, Effect::HandOver),
                (_, next) => next,
            },
        ),
        (
            "a retire of what is replaced is accepted",
            Violation::NotHandedOver,
            |state, event| match (event, state.change) {
                (Step::Retire, Change::Replaced) => (state, Effect::Already),
                _ => state.step(event),
            },
        ),
        (
            "the end of a change forgets that it was retired",
            Violation::NotSticky,
            |state, event| match (event, state.stage) {
                (Step::Unclaim, Dying) => (
                    State {
                        stage: Live,
                        change: Change::None,
                        ..state
                    },
                    Effect::None,
                ),
                _ => state.step(event),
            },
        ),
        (
            "retire queues again what is being removed",
            Violation::NotFirst,
            |state, event| match (event, state.stage, state.change) {
                (Step::Retire, Taken, Change::None) => (at(state, Queued), Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "the first to retire is told that it was not",
            Violation::NotFirst,
            |state, event| match (event, state.stage) {
                (Step::Retire, Building) => (at(state, Dying), Effect::Already),
                _ => state.step(event),
            },
        ),
        (
            "retire and publish both queue it",
            Violation::QueuedEarly,
            |state, event| match (event, state.stage) {
                (Step::Retire, Building) => (at(state, Dying), Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "the end of a hold queues it again",
            Violation::QueuedTwice,
            |state, event| match (event, state.stage) {
                (Step::Put, Queued) => (state.step(event).0, Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "publish queues what nobody has retired",
            Violation::QueuedUnasked,
            |state, event| match (event, state.stage) {
                (Step::Publish, Building) => (at(state, Queued), Effect::Queue),
                _ => state.step(event),
            },
        ),
        (
            "publish forgets that it was retired",
            Violation::NotSticky,
            |state, event| match (event, state.stage) {
                (Step::Publish, Dying) => (at(state, Live), Effect::None),
                _ => state.step(event),
            },
        ),
        (
            "a hold begins after it was retired",
            Violation::NotSticky,
            |state, event| match (event, state.stage) {
                (Step::Hold, Queued) => (
                    State {
                        holds: state.holds + 1,
                        ..state
                    },
                    Effect::None,
                ),
                _ => state.step(event),
            },
        ),
        (
            "a hold begins before it is published",
            Violation::EarlyHold,
            |state, event| match (event, state.stage) {
                (Step::Hold, Building) => (
                    State {
                        holds: state.holds + 1,
                        ..state
                    },
                    Effect::None,
                ),
                _ => state.step(event),
            },
        ),
        (
            "publish leaves it building",
            Violation::Lost,
            |state, event| match (event, state.stage) {
                (Step::Publish, Building) => (state, Effect::None),
                _ => state.step(event),
            },
        ),
        (
            "publish refuses what was retired",
            Violation::Refused,
            |state, event| match (event, state.stage) {
                (Step::Publish, Dying) => (state, Effect::Refused),
                _ => state.step(event),
            },
        ),
        (
            "removal releases what is held",
            Violation::ReleasedHeld,
            |state, event| match (event, state.stage) {
                (Step::Remove, Taken) => (at(state, Releasing), Effect::Release),
                _ => state.step(event),
            },
        ),
        (
            "the last hold releases what is still being removed",
            Violation::ReleasedEarly,
            |state, event| match (event, state.stage) {
                (Step::Put, Taken) if state.holds == 1 => {
                    (State { holds: 0, ..state }, Effect::Release)
                }
                _ => state.step(event),
            },
        ),
        (
            "removal is not recorded",
            Violation::WrongRemoved,
            |state, event| match (event, state.stage) {
                (Step::Remove, Taken) if state.holds > 0 => (state, Effect::None),
                _ => state.step(event),
            },
        ),
        (
            "the end of the last hold does not release",
            Violation::Stuck,
            |state, event| match (event, state.stage) {
                (Step::Put, Removed) if state.holds == 1 => {
                    (State { holds: 0, ..state }, Effect::None)
                }
                _ => state.step(event),
            },
        ),
        (
            "removal does not release what nobody holds",
            Violation::Stuck,
            |state, event| match (event, state.stage) {
                (Step::Remove, Taken) if state.holds == 0 => (at(state, Removed), Effect::None),
                _ => state.step(event),
            },
        ),
    ];

    #[test]
    fn all_are_found() {
        for (name, violation, step) in MUTANTS {
            let trace = explore_all(*step).expect_err(name);
            assert_eq!(trace.violation, *violation, "{name}: {trace:#?}");
        }
        println!("{} mutants", MUTANTS.len());
    }
}
