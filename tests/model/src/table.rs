// SPDX-License-Identifier: GPL-2.0

//! The state machine state by state, reachable or not: the table as data, and that `state.rs` is
//! exactly that. What a word holds.

use crate::state::{
    Change,
    Effect,
    Stage,
    State, //
    Step,
};

pub(crate) const STAGES: [Stage; 7] = [
    Stage::Building,
    Stage::Live,
    Stage::Dying,
    Stage::Queued,
    Stage::Taken,
    Stage::Removed,
    Stage::Releasing,
];

pub(crate) const CHANGES: [Change; 6] = [
    Change::None,
    Change::Asked,
    Change::Queued,
    Change::Taken,
    Change::Again,
    Change::Replaced,
];

pub(crate) const EVENTS: [Step; 12] = [
    Step::Publish,
    Step::Activate,
    Step::Retire,
    Step::Change,
    Step::Take,
    Step::Claim,
    Step::Plan,
    Step::Unclaim,
    Step::Replace,
    Step::Remove,
    Step::Hold,
    Step::Put,
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
    STAGES.into_iter().flat_map(|stage| {
        CHANGES.into_iter().flat_map(move |change| {
            HOLDS.into_iter().map(move |holds| State {
                stage,
                change,
                holds,
            })
        })
    })
}

/// What a row says of holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// Nothing: any number, which stays.
    Any,
    /// There are none.
    No,
    /// There are some, which stay.
    Some,
    /// There is room for one more, which is there afterwards.
    More,
    /// There are some; one of them less afterwards.
    Less,
    /// There is one, and none afterwards.
    Last,
}

impl Holds {
    fn matches(self, holds: u32) -> bool {
        match self {
            Holds::Any => true,
            Holds::No => holds == 0,
            Holds::Some | Holds::Less => holds > 0,
            Holds::More => holds < State::MAX_HOLDS,
            Holds::Last => holds == 1,
        }
    }

    fn after(self, holds: u32) -> u32 {
        match self {
            Holds::More => holds + 1,
            Holds::Less | Holds::Last => holds - 1,
            _ => holds,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Holds::Any => "",
            Holds::No => ", no holds",
            Holds::Some | Holds::Less => ", held",
            Holds::More => ", room for a hold",
            Holds::Last => ", last hold",
        }
    }
}

/// A row of the table. Where a stage or a change is not given any will do, and where none is given
/// that it becomes it stays. The first row that matches counts.
struct Row {
    event: Step,
    stages: &'static [Stage],
    changes: &'static [Change],
    holds: Holds,
    becomes: (Option<Stage>, Option<Change>),
    effect: Effect,
}

const ANY_CHANGE: &[Change] = &[];
const GOING: &[Stage] = &[
    Stage::Dying,
    Stage::Queued,
    Stage::Taken,
    Stage::Removed,
    Stage::Releasing,
];

const fn row(
    event: Step,
    stages: &'static [Stage],
    changes: &'static [Change],
    becomes: (Option<Stage>, Option<Change>),
    effect: Effect,
) -> Row {
    Row {
        event,
        stages,
        changes,
        holds: Holds::Any,
        becomes,
        effect,
    }
}

const fn with(holds: Holds, row: Row) -> Row {
    Row { holds, ..row }
}

/// The table of `state.rs`, whose docs show it: see [`the_docs`].
#[rustfmt::skip]
static TABLE: &[Row] = {
    use Change as C;
    use Effect as E;
    use Step as Ev;
    use Stage as S;

    &[
        row(Ev::Publish, &[S::Building], &[C::None], (Some(S::Live), None), E::None),
        row(Ev::Publish, &[S::Building], &[C::Asked], (Some(S::Live), Some(C::Queued)), E::Queue),
        row(Ev::Publish, &[S::Dying], &[C::None, C::Asked], (Some(S::Queued), Some(C::None)), E::Queue),
        row(Ev::Activate, &[S::Building], &[C::None], (Some(S::Live), Some(C::Taken)), E::None),
        row(Ev::Activate, &[S::Building], &[C::Asked], (Some(S::Live), Some(C::Again)), E::None),
        row(Ev::Activate, &[S::Dying], &[C::None, C::Asked], (None, Some(C::Taken)), E::None),
        row(Ev::Retire, &[S::Building], ANY_CHANGE, (Some(S::Dying), None), E::Deferred),
        row(Ev::Retire, &[S::Live], &[C::None], (Some(S::Queued), None), E::Queue),
        row(Ev::Retire, &[S::Live], &[C::Queued], (Some(S::Queued), Some(C::None)), E::Joined),
        row(Ev::Retire, &[S::Live], &[C::Taken, C::Again], (Some(S::Dying), None), E::Deferred),
        row(Ev::Retire, &[], &[C::Replaced], (None, None), E::NotLive),
        row(Ev::Retire, GOING, ANY_CHANGE, (None, None), E::Already),
        row(Ev::Change, &[S::Building], &[C::None], (None, Some(C::Asked)), E::Deferred),
        row(Ev::Change, &[S::Live], &[C::None], (None, Some(C::Queued)), E::Queue),
        row(Ev::Change, &[S::Live], &[C::Taken], (None, Some(C::Again)), E::Deferred),
        row(Ev::Change, &[S::Building, S::Live], &[C::Asked, C::Queued, C::Again], (None, None), E::Already),
        row(Ev::Change, GOING, ANY_CHANGE, (None, None), E::NotLive),
        row(Ev::Take, &[S::Queued], ANY_CHANGE, (Some(S::Taken), None), E::None),
        row(Ev::Take, &[S::Live], &[C::Queued], (None, Some(C::Taken)), E::Build),
        row(Ev::Claim, &[S::Live], &[C::None], (None, Some(C::Taken)), E::Build),
        row(Ev::Claim, &[S::Live], &[C::Queued, C::Taken, C::Again], (None, None), E::Already),
        row(Ev::Claim, GOING, ANY_CHANGE, (None, None), E::NotLive),
        row(Ev::Plan, &[S::Live, S::Dying], &[C::Taken, C::Again], (None, Some(C::Taken)), E::None),
        row(Ev::Unclaim, &[S::Live], &[C::Taken], (None, Some(C::None)), E::None),
        row(Ev::Unclaim, &[S::Live], &[C::Again], (None, Some(C::Queued)), E::Queue),
        row(Ev::Unclaim, &[S::Dying], &[C::Taken, C::Again], (Some(S::Queued), Some(C::None)), E::Queue),
        row(Ev::Replace, &[S::Live], &[C::Taken, C::Again], (Some(S::Taken), Some(C::Replaced)), E::HandOver),
        row(Ev::Replace, &[S::Dying], &[C::Taken, C::Again], (Some(S::Taken), Some(C::Replaced)), E::HandOverRetire),
        with(Holds::No, row(Ev::Remove, &[S::Taken], ANY_CHANGE, (Some(S::Releasing), None), E::Release)),
        with(Holds::Some, row(Ev::Remove, &[S::Taken], ANY_CHANGE, (Some(S::Removed), None), E::None)),
        with(Holds::More, row(Ev::Hold, &[S::Live], ANY_CHANGE, (None, None), E::None)),
        with(Holds::Last, row(Ev::Put, &[S::Removed], ANY_CHANGE, (Some(S::Releasing), None), E::Release)),
        with(Holds::Less, row(Ev::Put, &[], ANY_CHANGE, (None, None), E::None)),
    ]
};

impl Row {
    fn matches(&self, state: State, event: Step) -> bool {
        self.event == event
            && (self.stages.is_empty() || self.stages.contains(&state.stage))
            && (self.changes.is_empty() || self.changes.contains(&state.change))
            && self.holds.matches(state.holds)
    }

    fn after(&self, state: State) -> State {
        State {
            stage: self.becomes.0.unwrap_or(state.stage),
            change: self.becomes.1.unwrap_or(state.change),
            holds: self.holds.after(state.holds),
        }
    }

    fn markdown(&self) -> String {
        fn list<T: std::fmt::Debug>(of: &[T]) -> String {
            let of: Vec<_> = of.iter().map(|one| format!("{one:?}")).collect();
            of.join("/")
        }
        let stages = match self.stages {
            [] => "any".into(),
            stages if stages == GOING => "on its way out".into(),
            stages => list(stages),
        };
        let changes = match self.changes {
            [] => String::new(),
            changes => format!(" · {}", list(changes)),
        };
        let stage = self.becomes.0.map(|stage| format!("{stage:?}"));
        let change = self.becomes.1.map(|change| format!("· {change:?}"));
        let holds = match self.holds {
            Holds::More => Some("holds + 1".into()),
            Holds::Less | Holds::Last => Some("holds − 1".into()),
            _ => None,
        };
        let state: Vec<String> = [stage, change].into_iter().flatten().collect();
        let state = Some(state.join(" ")).filter(|state| !state.is_empty());
        let becomes: Vec<String> = [state, holds].into_iter().flatten().collect();
        let becomes = if becomes.is_empty() {
            "same".into()
        } else {
            becomes.join(", ")
        };
        let (event, holds, effect) = (self.event, self.holds.text(), self.effect);
        format!("| {event:?} | {stages}{changes}{holds} | {becomes} | {effect:?} |")
    }
}

/// What the table says.
fn expected(state: State, event: Step) -> (State, Effect) {
    TABLE
        .iter()
        .find(|row| row.matches(state, event))
        .map_or((state, Effect::Refused), |row| {
            (row.after(state), row.effect)
        })
}

type Machine = fn(State, Step) -> (State, Effect);

fn check(step: Machine) -> Result<usize, String> {
    let mut cases = 0;
    for state in states() {
        for event in EVENTS {
            cases += 1;
            let (is, should) = (step(state, event), expected(state, event));
            if is != should {
                return Err(format!(
                    "{state:?} + {event:?} is {is:?}, should be {should:?}"
                ));
            }
        }
    }
    Ok(cases)
}

#[test]
fn every_state() {
    println!("| event | in | becomes | effect |\n|---|---|---|---|");
    for row in TABLE {
        println!("{}", row.markdown());
    }
    let cases = check(State::step).unwrap();
    println!("{cases} pairs of a state and an event");
}

/// The docs of `state.rs` have the same table.
#[test]
fn the_docs() {
    let text = include_str!("../../../src/odp/engine/state.rs");
    let shown: Vec<&str> = text
        .lines()
        .skip_while(|line| *line != "//! | event | in | becomes | effect |")
        .skip(2)
        .map_while(|line| line.strip_prefix("//! "))
        .take_while(|line| line.starts_with('|'))
        .collect();
    let rows: Vec<String> = TABLE.iter().map(Row::markdown).collect();
    assert_eq!(shown, rows);
}

/// What the type invariants of [`State`] say.
fn keeps_invariants(state: State) -> bool {
    let changes: &[Change] = match state.stage {
        Stage::Building => &[Change::None, Change::Asked],
        Stage::Live => &[Change::None, Change::Queued, Change::Taken, Change::Again],
        Stage::Dying => &[Change::None, Change::Asked, Change::Taken, Change::Again],
        Stage::Queued => &[Change::None],
        Stage::Taken | Stage::Removed | Stage::Releasing => &[Change::None, Change::Replaced],
    };
    let holds = match state.stage {
        Stage::Releasing => 0,
        _ => State::MAX_HOLDS,
    };
    changes.contains(&state.change) && state.holds <= holds
}

/// Whichever events come, in whichever order: what they lead to from where a state begins.
fn check_invariants(step: Machine) -> Result<usize, String> {
    let mut seen = std::collections::HashSet::new();
    let mut new = vec![State::building(0), State::building(1), State::live()];
    while let Some(state) = new.pop() {
        if !keeps_invariants(state) {
            return Err(format!("{state:?}"));
        }
        // More holds make no other difference.
        if state.holds <= 2 && seen.insert(state) {
            new.extend(EVENTS.map(|event| step(state, event).0));
        }
    }
    Ok(seen.len())
}

#[test]
fn invariants() {
    let states = check_invariants(State::step).unwrap();
    println!("{states} states with up to 2 holds");
    check_invariants(|state, event| match (event, state.change) {
        // A retire that forgets to take back the change that waits.
        (Step::Retire, Change::Queued) => (
            State {
                stage: Stage::Queued,
                ..state
            },
            Effect::Joined,
        ),
        _ => state.step(event),
    })
    .unwrap_err();
}

/// No row is there in vain.
#[test]
fn every_row() {
    for row in TABLE {
        let counts = states().any(|state| {
            let first = TABLE.iter().find(|other| other.matches(state, row.event));
            first.is_some_and(|first| std::ptr::eq(first, row))
        });
        assert!(counts, "{}", row.markdown());
    }
}

/// Wherever there is another answer it is noticed.
#[test]
fn every_mutant() {
    let mut found = 0;
    for wrong_state in states() {
        for wrong_event in EVENTS {
            let right = wrong_state.step(wrong_event);
            assert_eq!(right, expected(wrong_state, wrong_event));
            for effect in [Effect::None, Effect::Queue, Effect::Refused] {
                if (right.0, effect) != right {
                    assert_ne!((right.0, effect), expected(wrong_state, wrong_event));
                    found += 1;
                }
            }
        }
    }
    println!("{found} mutants");
    for step in [
        (|state: State, event| match event {
            Step::Unclaim if state.change == Change::Again => (state, Effect::None),
            _ => state.step(event),
        }) as Machine,
        |state, event| match (event, state.holds) {
            (Step::Hold, State::MAX_HOLDS) => (state, Effect::None),
            _ => state.step(event),
        },
    ] {
        check(step).unwrap_err();
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
    for word in 0..1 << 6 {
        let state = State::unpack(word);
        let known = states().any(|state| state.pack() == word);
        if !known {
            assert!(!state.is_live() || state.change == Change::Replaced);
            assert!(matches!(
                state.step(Step::Retire).1,
                Effect::Already | Effect::NotLive | Effect::Deferred
            ));
        }
    }
    // The number of holds is limited such that it never reaches into the rest, or out of the word.
    assert_eq!(State::MAX_HOLDS, (1 << 26) - 1);
}

#[test]
fn packing_mutants() {
    check_packing(
        |state| (state.holds << 5) | ((state.change as u32) << 3) | state.stage as u32,
        State::unpack,
    )
    .unwrap_err();
    check_packing(|state| state.pack() & !(1 << 31), State::unpack).unwrap_err();
}

#[test]
fn holds_at_the_edge() {
    let mut state = State {
        stage: Stage::Live,
        change: Change::None,
        holds: State::MAX_HOLDS - 1,
    };
    let (full, effect) = state.step(Step::Hold);
    assert_eq!((full.holds, effect), (State::MAX_HOLDS, Effect::None));
    assert_eq!(full.step(Step::Hold), (full, Effect::Refused));
    assert!(full.is_live());
    (state, _) = full.step(Step::Put);
    assert_eq!(state.step(Step::Hold), (full, Effect::None));

    // And no number of holds hinders a retirement, or a change.
    let (queued, effect) = full.step(Step::Retire);
    assert_eq!(effect, Effect::Queue);
    assert_eq!(queued.holds, State::MAX_HOLDS);
    let (changing, effect) = full.step(Step::Change);
    assert_eq!(effect, Effect::Queue);
    assert_eq!(changing.holds, State::MAX_HOLDS);
}
