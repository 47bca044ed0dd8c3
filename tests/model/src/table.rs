// SPDX-License-Identifier: GPL-2.0

//! The state machine state by state, reachable or not: what is refused, and what a word holds.

use crate::state::{
    Effect,
    Event,
    Stage,
    State, //
};

pub(crate) const STAGES: [Stage; 7] = [
    Stage::Building,
    Stage::Live,
    Stage::Doomed,
    Stage::Queued,
    Stage::Taken,
    Stage::Removed,
    Stage::Releasing,
];

pub(crate) const EVENTS: [Event; 6] = [
    Event::Publish,
    Event::Retire,
    Event::Take,
    Event::Remove,
    Event::Hold,
    Event::Put,
];

const HOLDS: [u32; 7] = [
    0,
    1,
    2,
    3,
    State::MAX_HOLDS / 2,
    State::MAX_HOLDS - 1,
    State::MAX_HOLDS,
];

fn states() -> impl Iterator<Item = State> {
    STAGES
        .into_iter()
        .flat_map(|stage| HOLDS.into_iter().map(move |holds| State { stage, holds }))
}

/// Whether an event makes sense in a state, as DESIGN.md has it.
fn makes_sense(state: State, event: Event) -> bool {
    match event {
        Event::Publish => matches!(state.stage, Stage::Building | Stage::Doomed),
        Event::Retire => true,
        Event::Take => state.stage == Stage::Queued,
        Event::Remove => state.stage == Stage::Taken,
        Event::Hold => state.stage == Stage::Live && state.holds < State::MAX_HOLDS,
        Event::Put => state.holds > 0,
    }
}

type Step = fn(State, Event) -> (State, Effect);

fn check(step: Step) -> Result<usize, String> {
    let mut cases = 0;
    for state in states() {
        for event in EVENTS {
            cases += 1;
            let (next, effect) = step(state, event);
            let case = format!("{state:?} + {event:?} = {next:?}, {effect:?}");
            if makes_sense(state, event) == (effect == Effect::Refused) {
                return Err(format!("refused wrongly, or wrongly not: {case}"));
            }
            if effect == Effect::Refused && next != state {
                return Err(format!("refused, but changed: {case}"));
            }
            let holds = match (event, effect) {
                (_, Effect::Refused) => state.holds,
                (Event::Hold, _) => state.holds + 1,
                (Event::Put, _) => state.holds - 1,
                _ => state.holds,
            };
            if next.holds != holds {
                return Err(format!("holds: {case}"));
            }
            if next.stage < state.stage {
                return Err(format!("backwards: {case}"));
            }
        }
    }
    Ok(cases)
}

/// Stages only ever increase; the order of the numbers is that of a life.
impl PartialOrd for Stage {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (*self as u32).partial_cmp(&(*other as u32))
    }
}

#[test]
fn refusals() {
    let cases = check(State::step).unwrap();
    println!("{cases} pairs of a state and an event");
}

#[test]
fn refusals_mutants() {
    let mutants: [(&str, Step); 5] = [
        ("refused wrongly", |state, event| {
            match (event, state.stage) {
                (Event::Publish, Stage::Doomed) => (state, Effect::Refused),
                _ => state.step(event),
            }
        }),
        ("wrongly not", |state, event| match event {
            Event::Hold if state.holds == State::MAX_HOLDS => (state, Effect::None),
            _ => state.step(event),
        }),
        ("but changed", |state, event| match (event, state.stage) {
            (Event::Take, Stage::Live) => (
                State {
                    stage: Stage::Taken,
                    ..state
                },
                Effect::Refused,
            ),
            _ => state.step(event),
        }),
        ("holds", |state, event| match event {
            Event::Retire => (State { holds: 0, ..state }, state.step(event).1),
            _ => state.step(event),
        }),
        ("backwards", |state, event| match (event, state.stage) {
            (Event::Put, Stage::Taken) if state.holds > 0 => (
                State {
                    stage: Stage::Queued,
                    holds: state.holds - 1,
                },
                Effect::None,
            ),
            _ => state.step(event),
        }),
    ];
    for (complaint, step) in mutants {
        let error = check(step).expect_err(complaint);
        assert!(error.contains(complaint), "{complaint}: {error}");
    }
}

fn check_packing(pack: fn(State) -> u32, unpack: fn(u32) -> State) -> Result<(), String> {
    let mut words = std::collections::HashSet::new();
    for state in states() {
        let word = pack(state);
        if unpack(word) != state {
            return Err(format!("{state:?} became {:?}", unpack(word)));
        }
        if !words.insert(word) {
            return Err(format!("{state:?} shares {word:#x}"));
        }
    }
    Ok(())
}

#[test]
fn packing() {
    check_packing(State::pack, State::unpack).unwrap();
    // What comes from nowhere must not bring anything back to life.
    for holds in HOLDS {
        let state = State::unpack((holds << 3) | 7);
        assert!(!state.is_live());
        assert_eq!(state.step(Event::Retire).1, Effect::Already);
    }
    // The number of holds is limited such that it never reaches into the stage, or out of the word.
    assert_eq!(State::MAX_HOLDS, (1 << 29) - 1);
}

#[test]
fn packing_mutants() {
    check_packing(
        |state| (state.holds << 2) | state.stage as u32,
        State::unpack,
    )
    .unwrap_err();
    check_packing(|state| state.pack() & !(1 << 31), State::unpack).unwrap_err();
}

#[test]
fn holds_at_the_edge() {
    let mut state = State {
        stage: Stage::Live,
        holds: State::MAX_HOLDS - 1,
    };
    let (full, effect) = state.step(Event::Hold);
    assert_eq!((full.holds, effect), (State::MAX_HOLDS, Effect::None));
    assert_eq!(full.step(Event::Hold), (full, Effect::Refused));
    assert!(full.is_live());
    (state, _) = full.step(Event::Put);
    assert_eq!(state.step(Event::Hold), (full, Effect::None));

    // And no number of holds hinders a retirement.
    let (queued, effect) = full.step(Event::Retire);
    assert_eq!(effect, Effect::Queue);
    assert_eq!(queued.holds, State::MAX_HOLDS);
}
