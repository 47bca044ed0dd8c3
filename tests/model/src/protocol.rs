// SPDX-License-Identifier: GPL-2.0

//! The protocol: everything that can happen around a range that is replaced, or retired.
//!
//! The state machine (`state.rs`) and what follows from a trim (`trim.rs`) are the module's own,
//! unmodified. The rest is written down here by hand, with the same names, and has to be kept like
//! what it is a model of:
//!
//! - `subscriptions`: mm/mmu_notifier.c, function by function;
//! - `invalidator`: who changes page tables, with the callbacks;
//! - `worker`: src/odp/engine/worker/ and src/odp/mirror/range/split.rs;
//! - `reader` and `user`: src/odp/mirror/access.rs and src/odp/mirror/mod.rs.
//!
//! A step is what is done under one lock, or with one access that others can see. The index is a
//! set of ranges that do not meet; lookups see a change of it as a whole, or not at all. The
//! device's table is one frame a page, and a frame is never used twice, so that a stale entry is
//! known by its number. All ranges are of one driver's object. Left out: how lookups go through the
//! index while it changes, what flushes wait for (`epochs`), flags and wake-ups (`handover`),
//! shutdown, the limit of ranges, and memory ordering: steps happen one after the other.
//!
//! Everybody has a certain number of things to do, so that every run comes to an end, and at that
//! end everything must have been done. What must hold at every step is in [`World::check`], what at
//! the end in [`World::verdict`]. For each property there is a mutant of the protocol that lacks
//! it; TRACES.md tells how that goes wrong.

mod invalidator;
mod log;
mod mutant;
mod reader;
mod scenario;
mod set;
mod subscriptions;
mod user;
mod worker;
mod world;

use crate::state::{
    Change,
    Effect,
    State, //
    Step,
};
use invalidator::{
    Invalidator,
    Policy, //
};
use log::Log;
use mutant::{
    Mutant,
    MUTANTS, //
};
use reader::Reader;
use scenario::{
    Scenario,
    SCENARIOS, //
};
use set::Set;
use stateright::{
    Checker,
    HasDiscoveries,
    Model,
    Property, //
};
use subscriptions::Subscriptions;
use user::{
    Op,
    User, //
};
use worker::Worker;
use world::{
    span,
    Page,
    Range,
    Violation,
    World, //
};

/// The protocol in a scenario, right or with one mistake.
#[derive(Clone, Debug)]
struct Protocol {
    scenario: Scenario,
    mutant: Option<Mutant>,
}

/// Whose step it is, and in which of the ways that he has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Invalidator(usize, usize),
    Remap,
    Reader,
    User,
    Worker(usize, usize),
}

impl Protocol {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The state machine, as it is unless the mistake is there.
    fn step(&self, state: State, event: Step) -> (State, Effect) {
        let (next, effect) = state.step(event);
        match (self.mutant, effect) {
            (Some(Mutant::ForgetsRetire), Effect::HandOverRetire) => (next, Effect::HandOver),
            (Some(Mutant::ForgetsAgain), Effect::Queue)
                if event == Step::Unclaim && next.is_live() =>
            {
                (next, Effect::None)
            }
            (Some(Mutant::AlwaysAgain), Effect::None) if event == Step::Unclaim => {
                let change = Change::Queued;
                (State { change, ..next }, Effect::Queue)
            }
            _ => (next, effect),
        }
    }

    /// Whether the driver asks for changes.
    fn changes(&self) -> bool {
        let punches = |plan: &invalidator::Plan| plan.policy != Policy::Retire;
        self.scenario.invalidators.iter().flatten().any(punches)
            || self
                .scenario
                .user
                .iter()
                .any(|op| matches!(op, Op::Keep(..) | Op::KeepSecond(..)))
    }

    /// Whether nobody wants to be rid of a page that is mapped.
    fn keeps(&self, page: usize) -> bool {
        let scenario = &self.scenario;
        let is_of_second = scenario.second && page >= scenario.end;
        scenario.invalidators.iter().flatten().all(|plan| {
            !matches!(plan.policy, Policy::Keep(first, end) if !(first..end).contains(&page))
        }) && scenario.user.iter().all(|op| match *op {
            Op::Keep(first, end) => (first..end).contains(&page) || is_of_second,
            Op::KeepSecond(first, end) => (first..end).contains(&page) || !is_of_second,
            _ => true,
        })
    }

    /// The pages that are one for the driver, with `page` among them.
    fn grain(&self, page: usize) -> impl Iterator<Item = usize> {
        let grain = self.scenario.grain;
        let first = page / grain * grain;
        first..(first + grain).min(self.scenario.end.max(page + 1))
    }

    /// Whether whoever inserts a range has it lose what is not mapped.
    fn looks(&self) -> bool {
        let looks = |op: &Op| matches!(op, Op::InsertMapped(..));
        self.scenario.user.iter().any(looks)
    }

    /// Whether two ranges are to be one in the end: nothing else is asked of them, nor is there a
    /// reason for which it could not be done.
    fn merges(&self) -> bool {
        let asks = |plan: &invalidator::Plan| {
            !matches!(
                plan.kind,
                invalidator::Kind::Clear | invalidator::Kind::TryClear
            )
        };
        let ops = &self.scenario.user;
        self.scenario.second
            && ops
                .iter()
                .all(|op| matches!(op, Op::Merge | Op::MergeAt(_) | Op::Put))
            && !self.scenario.invalidators.iter().flatten().any(asks)
            && self.scenario.asks.is_none()
            && self.scenario.failures == 0
    }

    /// Does a step, and looks at what has come of it.
    fn act(&self, world: &World, action: Action, log: &mut Log) -> World {
        let mut next = *world;
        match action {
            Action::Invalidator(n, way) => self.invalidator_step(&mut next, n, way, log),
            Action::Remap => self.remap(&mut next, log),
            Action::Reader => self.reader_step(&mut next, log),
            Action::User => self.user_step(&mut next, log),
            Action::Worker(n, way) => self.worker_step(&mut next, n, way, log),
        }
        next.steps = next.steps.saturating_add(1);
        next.check();
        let mut more = Vec::new();
        self.actions(&next, &mut more);
        if more.is_empty() {
            if let Some(violation) = next.verdict(self) {
                next.broke(violation);
            }
        }
        next
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let end = self.scenario.end;
        let mut subscriptions = Subscriptions::new();
        subscriptions.insert(0);
        let mut ranges = [None; world::RANGES];
        let holds = u32::from(!self.scenario.user.is_empty());
        let mut first = Range::new(span(0, end), State::building(holds), None);
        first.state = first.state.step(Step::Publish).0;
        first.served = true;
        first.known = true;
        ranges[0] = Some(first);
        let ends = match (self.scenario.second, self.scenario.third) {
            (false, _) => vec![end],
            (true, false) => vec![end, world::PAGES],
            (true, true) => vec![end, end + 1, world::PAGES],
        };
        let mut index = Set::default();
        index.add(0);
        for (id, ends) in ends.windows(2).enumerate() {
            let id = id + 1;
            index.add(id);
            subscriptions.insert(id);
            let mut other = Range::new(span(ends[0], ends[1]), State::live(), None);
            other.served = true;
            other.known = true;
            ranges[id] = Some(other);
        }
        let mirrored = |page| page < end || self.scenario.second;
        vec![World {
            pages: std::array::from_fn(|page| {
                let mapped = self.scenario.unmapped != Some(page);
                Page {
                    mapped,
                    pte: mapped.then_some(0),
                    fresh: 1,
                    device: (mapped && mirrored(page)).then_some(0),
                    wanted: mapped && mirrored(page),
                }
            }),
            subscriptions,
            exiting: false,
            ranges,
            index,
            index_lock: None,
            user_lock: None,
            pending: Default::default(),
            changing: Default::default(),
            replaced: Default::default(),
            invalidators: std::array::from_fn(|n| match self.scenario.invalidators[n] {
                Some(_) => Invalidator::Begins,
                None => Invalidator::Done,
            }),
            remapped: false,
            reader: Reader::new(self.scenario.reader),
            user: User::new(),
            workers: [
                Worker::new(true),
                Worker::new(true),
                Worker::new(self.scenario.drain),
            ],
            failures: self.scenario.failures,
            stalled: false,
            cut_late: false,
            steps: 0,
            broken: None,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for n in 0..world.invalidators.len() {
            let ways = self.invalidator_ways(world, n);
            actions.extend(ways.iter().map(|way| Action::Invalidator(n, way)));
        }
        if self.can_remap(world) {
            actions.push(Action::Remap);
        }
        if self.reader_can(world) {
            actions.push(Action::Reader);
        }
        if self.user_can(world) {
            actions.push(Action::User);
        }
        for n in 0..world.workers.len() {
            let ways = self.worker_ways(world, n);
            actions.extend(ways.iter().map(|way| Action::Worker(n, way)));
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(self.act(world, action, &mut Log::deaf()))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        macro_rules! property {
            ($violation:ident) => {
                Property::always(Violation::$violation.property(), |_, world: &World| {
                    world.broken != Some(Violation::$violation)
                })
            };
        }
        vec![
            property!(Stale),
            property!(Uncovered),
            property!(UseAfterFree),
            property!(QueuedTwice),
            property!(ReleasedTwice),
            property!(RemovedTwice),
            property!(Refused),
            property!(OutOfService),
            property!(Missed),
            property!(NotSticky),
            property!(RemovedEarly),
            property!(InTheWay),
            property!(Lost),
            property!(Untold),
            property!(Stuck),
            property!(Starved),
            property!(Endless),
        ]
    }
}

/// How it came to something that must not happen.
struct Trace {
    violation: Violation,
    /// Who, and what.
    steps: Vec<(String, String)>,
}

/// Looks at everything that can happen.
fn search(protocol: Protocol) -> Result<(usize, usize), Trace> {
    let checker = protocol
        .clone()
        .checker()
        // With one the first way that is found is a shortest.
        .threads(1)
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let Some(path) = checker.discoveries().into_values().next() else {
        return Ok((checker.unique_state_count(), checker.max_depth()));
    };
    let mut steps = Vec::new();
    let mut violation = None;
    for (world, action) in path.into_vec() {
        violation = world.broken;
        if let Some(action) = action {
            let mut log = Log::listening();
            protocol.act(&world, action, &mut log);
            let who = match action {
                Action::Invalidator(n, _) => format!("invalidator {}", n + 1),
                Action::Remap => "process".into(),
                Action::Reader => "reader".into(),
                Action::User => "user".into(),
                Action::Worker(worker::BATCH, _) => "worker".into(),
                Action::Worker(worker::CHANGE, _) => "changes".into(),
                Action::Worker(worker::DRAIN, _) => "drain".into(),
                Action::Worker(..) => unreachable!("there are no others"),
            };
            steps.push((who, log.text()));
        }
    }
    Err(Trace {
        violation: violation.expect("that is what the properties are about"),
        steps,
    })
}

impl std::fmt::Display for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "| | |\n|---|---|")?;
        for (who, what) in &self.steps {
            writeln!(f, "| {who} | {what} |")?;
        }
        Ok(())
    }
}

#[test]
fn scenarios() {
    for scenario in SCENARIOS {
        let start = std::time::Instant::now();
        let protocol = Protocol {
            scenario: scenario.clone(),
            mutant: None,
        };
        match search(protocol) {
            Ok((states, depth)) => println!(
                "{}: {states} states, up to {depth} steps, {:?}",
                scenario.name,
                start.elapsed()
            ),
            Err(trace) => panic!("{}: {:?}\n{trace}", scenario.name, trace.violation),
        }
    }
}

/// How TRACES.md begins.
const PREFACE: &str = "\
<!-- SPDX-License-Identifier: GPL-2.0 -->

# What each rule of the protocol is for

For each mistake the shortest way to what must not happen, as `protocol.rs` finds it. The range A is at pages 0
to 2 in the beginning, and the device can reach them all. B, C and so on are made later. Written by

    ODP_TRACES=write cargo test traces
";

/// Every mutant is found out, and how is in TRACES.md.
#[test]
fn traces() {
    let mut text = PREFACE.to_string();
    for &(mutant, what, scenario, violation) in MUTANTS {
        let scenario = SCENARIOS
            .iter()
            .find(|other| other.name == scenario)
            .unwrap_or_else(|| panic!("there is no scenario {scenario:?}"));
        let name = scenario.name;
        let protocol = Protocol {
            scenario: scenario.clone(),
            mutant: Some(mutant),
        };
        let Err(trace) = search(protocol) else {
            panic!("{mutant:?} is not found out in {name:?}");
        };
        assert_eq!(trace.violation, violation, "{mutant:?}:\n{trace}");
        let steps = trace.steps.len();
        text += &format!("\n## {what}\n\n");
        text +=
            &format!("In the scenario *{name}*, after {steps} steps it is not true any more that ");
        text += &format!("{}.\n\n{trace}", violation.property());
    }
    println!("{} mutants", MUTANTS.len());

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TRACES.md");
    if std::env::var_os("ODP_TRACES").is_some_and(|what| what == "write") {
        std::fs::write(path, &text).expect("TRACES.md can be written");
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == text,
        "TRACES.md is out of date; it says how it is written"
    );
}

/// There is a mutant for each property.
#[test]
fn properties() {
    for (violation, property) in Violation::ALL {
        assert!(
            MUTANTS.iter().any(|(_, _, _, lacks)| *lacks == violation),
            "nothing lacks {property:?}"
        );
    }
}
