// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for: every short sequence of tickets, of work on what they stand for, and of
//! flushes, of which several may go on at a time, and each may be given up.

use crate::epoch::{
    Bundle,
    Epochs, //
};

/// How long the sequences are.
const STEPS: usize = 8;
/// How many tickets may be out,
const TICKETS: usize = 3;
/// and how many flushes may go on.
const FLUSHES: usize = 2;

/// What is tested, and its mutants.
trait Count {
    fn new() -> Self;
    fn enter(&mut self) -> u8;
    fn exit(&mut self, ticket: u8);
    fn current(&self) -> u64;
    fn is_over(&mut self, epoch: u64) -> bool;
    fn outstanding(&self) -> usize;
    fn join(&mut self, ticket: u8) -> u8;
    fn begin(&self, ticket: u8) -> u8;
    fn renew(&mut self, ticket: u8) -> u8;
}

impl Count for Epochs {
    fn new() -> Self {
        Epochs::new()
    }
    fn enter(&mut self) -> u8 {
        self.enter()
    }
    fn exit(&mut self, ticket: u8) {
        self.exit(ticket)
    }
    fn current(&self) -> u64 {
        self.current()
    }
    fn is_over(&mut self, epoch: u64) -> bool {
        self.is_over(epoch)
    }
    fn outstanding(&self) -> usize {
        self.outstanding()
    }
    fn join(&mut self, ticket: u8) -> u8 {
        self.join(ticket)
    }
    fn begin(&self, ticket: u8) -> u8 {
        self.begin(ticket)
    }
    fn renew(&mut self, ticket: u8) -> u8 {
        self.renew(ticket)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Something is queued.
    Enter,
    /// Something comes of the n-th of what is out, oldest first.
    Join(usize),
    /// Work on it begins.
    Begin(usize),
    /// That is over, and more has been asked for since it began.
    Renew(usize),
    /// It is done.
    Exit(usize),
    /// A flush begins.
    Flush,
    /// The n-th of those that go on looks whether it is over. If so it ends.
    Look(usize),
    /// Its task has been killed.
    GiveUp(usize),
}

/// A flush that goes on, or an age of what is out: those that one flush is allowed to wait for have
/// the same, and what is queued after that has the next.
type Age = usize;

/// Something that is out.
#[derive(Clone)]
struct Out {
    ticket: u8,
    /// The flushes, by number, that must wait for it.
    due: Vec<usize>,
    /// `None` as long as any flush may wait for it, be it one that has yet to begin.
    age: Option<Age>,
    /// Whether work on it has begun, and if so, the flushes that had to wait for it then, and its
    /// age: what is asked for from then on has nothing to do with those.
    begun: Option<(Vec<usize>, Option<Age>)>,
}

/// A flush that goes on.
struct Flush {
    number: usize,
    epoch: u64,
    /// What it is allowed to wait for: this age and earlier ones.
    age: Age,
}

/// What really is out, by when it was queued.
struct World<C> {
    count: C,
    out: Vec<Out>,
    flushes: Vec<Flush>,
    /// How many flushes have begun.
    begun: usize,
    /// The age that what has none gets as soon as all that has one is done: then and not before,
    /// since an earlier flush, even one that was given up, would wait for both otherwise.
    age: Age,
}

impl<C: Count> World<C> {
    fn replay(steps: &[Step]) -> Result<Self, String> {
        let mut world = World {
            count: C::new(),
            out: Vec::new(),
            flushes: Vec::new(),
            begun: 0,
            age: 0,
        };
        for (n, step) in steps.iter().enumerate() {
            world
                .step(*step)
                .map_err(|what| format!("{what}: {:?}", &steps[..=n]))?;
        }
        Ok(world)
    }

    fn step(&mut self, step: Step) -> Result<(), &'static str> {
        match step {
            Step::Enter => {
                let ticket = self.count.enter();
                self.out.push(Out {
                    ticket,
                    due: Vec::new(),
                    age: None,
                    begun: None,
                });
            }
            Step::Join(n) => {
                let mut out = self.out[n].clone();
                out.ticket = self.count.join(out.ticket);
                out.begun = None;
                self.out.push(out);
            }
            Step::Begin(n) => {
                let out = &mut self.out[n];
                out.ticket = self.count.begin(out.ticket);
                out.begun = Some((out.due.clone(), out.age));
            }
            Step::Renew(n) => {
                let out = &mut self.out[n];
                out.ticket = self.count.renew(out.ticket);
                let (before, age) = out.begun.take().expect("it has begun");
                out.due.retain(|flush| !before.contains(flush));
                // All whom it had been closed for are among those, or have been given up.
                if age.is_some() {
                    out.age = None;
                }
            }
            Step::Exit(n) => {
                let out = self.out.remove(n);
                self.count.exit(out.ticket);
            }
            Step::Flush => {
                let number = self.begun;
                self.begun += 1;
                self.flushes.push(Flush {
                    number,
                    epoch: self.count.current(),
                    age: self.age,
                });
                self.out.iter_mut().for_each(|out| out.due.push(number));
            }
            Step::Look(n) => return self.look(n),
            Step::GiveUp(n) => {
                self.flushes.remove(n);
            }
        }
        if self.count.outstanding() != self.out.len() {
            return Err("miscounted");
        }
        Ok(())
    }

    fn look(&mut self, n: usize) -> Result<(), &'static str> {
        let Flush { number, epoch, age } = self.flushes[n];
        let over = self.count.is_over(epoch);
        if age == self.age && self.out.iter().all(|out| out.age.is_none()) {
            self.out.iter_mut().for_each(|out| out.age = Some(age));
            self.age += 1;
        }
        if over && self.out.iter().any(|out| out.due.contains(&number)) {
            return Err("ended too early");
        }
        let may_wait = |out: &Out| match out.age {
            Some(of) => of <= age,
            None => age == self.age,
        };
        if !over && !self.out.iter().any(may_wait) {
            return Err("waits for later ones");
        }
        if over {
            self.flushes.remove(n);
        }
        Ok(())
    }
}

/// Tries every continuation of `steps`.
fn explore<C: Count>(steps: &mut Vec<Step>) -> Result<usize, String> {
    let world = World::<C>::replay(steps)?;
    if steps.len() == STEPS {
        return Ok(1);
    }
    let mut next = Vec::new();
    if world.out.len() < TICKETS {
        next.push(Step::Enter);
        next.extend((0..world.out.len()).map(Step::Join));
    }
    for (n, out) in world.out.iter().enumerate() {
        next.push(match out.begun {
            None => Step::Begin(n),
            Some(_) => Step::Renew(n),
        });
    }
    next.extend((0..world.out.len()).map(Step::Exit));
    if world.flushes.len() < FLUSHES {
        next.push(Step::Flush);
    }
    next.extend((0..world.flushes.len()).flat_map(|n| [Step::Look(n), Step::GiveUp(n)]));
    let mut sequences = 1;
    for step in next {
        steps.push(step);
        sequences += explore::<C>(steps)?;
        steps.pop();
    }
    Ok(sequences)
}

#[test]
fn every_sequence() {
    let sequences = explore::<Epochs>(&mut Vec::new()).unwrap();
    println!("{sequences} sequences of up to {STEPS} steps");
    assert!(sequences > 10_000);
}

/// Tickets that are given back together are given back as one by one, in whichever order they came.
#[test]
fn together() {
    /// Epochs in which tickets of kinds 0 and 1 are out, three each, and some that are given back.
    fn world() -> Epochs {
        let mut epochs = Epochs::new();
        (0..3).for_each(|_| assert_eq!(epochs.enter(), 0));
        epochs.advance();
        (0..3).for_each(|_| assert_eq!(epochs.enter(), 1));
        epochs
    }
    for (zeros, ones) in (0..=3).flat_map(|zeros| (0..=3).map(move |ones| (zeros, ones))) {
        let (mut single, mut all, mut bundle) = (world(), world(), Bundle::default());
        for ticket in std::iter::repeat_n(0, zeros).chain(std::iter::repeat_n(1, ones)) {
            single.exit(ticket);
            bundle.add(ticket);
        }
        all.exit_all(&bundle);
        assert_eq!(bundle.len(), zeros + ones);
        assert_eq!(bundle.is_empty(), zeros + ones == 0);
        assert_eq!(all.outstanding(), 6 - zeros - ones);
        assert_eq!(all.is_over(0), zeros == 3);
        // Who waits for the later one waits for both.
        assert_eq!(all.is_over(1), zeros == 3 && ones == 3);
        assert_eq!(single.outstanding(), all.outstanding());
    }
}

/// Wraps the real one, and is wrong in one thing.
struct Mutant<const WRONG: u8>(Epochs);

const NEVER_ADVANCES: u8 = 0;
const EXITS_CURRENT: u8 = 1;
const WAITS_FOR_ALL: u8 = 2;
const WAITS_FOR_OTHERS: u8 = 3;
const JOINS_CURRENT: u8 = 4;
const ALWAYS_RENEWS: u8 = 5;
const NEVER_RENEWS: u8 = 6;
const ADVANCES_AT_ONCE: u8 = 7;
const KNOWS_TWO: u8 = 8;

impl<const WRONG: u8> Count for Mutant<WRONG> {
    fn new() -> Self {
        Self(Epochs::new())
    }
    fn enter(&mut self) -> u8 {
        self.0.enter()
    }
    fn exit(&mut self, ticket: u8) {
        if WRONG == EXITS_CURRENT {
            let current = self.0.enter();
            self.0.exit(current);
            return self.0.exit(current);
        }
        self.0.exit(ticket)
    }
    fn current(&self) -> u64 {
        match WRONG {
            WAITS_FOR_OTHERS => self.0.current() + 1,
            _ => self.0.current(),
        }
    }
    fn is_over(&mut self, epoch: u64) -> bool {
        match WRONG {
            WAITS_FOR_ALL => self.0.outstanding() == 0,
            NEVER_ADVANCES if epoch == self.0.current() => self.0.outstanding() == 0,
            // As if whoever waited for the epoch before had seen its end.
            ADVANCES_AT_ONCE if epoch == self.0.current() => {
                self.0.advance();
                self.0.is_over(epoch)
            }
            // As if there were no other flushes.
            KNOWS_TWO if epoch < self.0.current() => self
                .0
                .is_over(self.0.current() - 1 - ((self.0.current() - 1 - epoch) & 1)),
            _ => self.0.is_over(epoch),
        }
    }
    fn join(&mut self, ticket: u8) -> u8 {
        match WRONG {
            JOINS_CURRENT => self.0.enter(),
            _ => self.0.join(ticket),
        }
    }
    fn begin(&self, ticket: u8) -> u8 {
        match WRONG {
            ALWAYS_RENEWS | NEVER_RENEWS => ticket,
            _ => self.0.begin(ticket),
        }
    }
    fn renew(&mut self, ticket: u8) -> u8 {
        match WRONG {
            ALWAYS_RENEWS => {
                self.0.exit(ticket);
                self.0.enter()
            }
            _ => self.0.renew(ticket),
        }
    }
    fn outstanding(&self) -> usize {
        self.0.outstanding()
    }
}

#[test]
fn mutants() {
    fn complaint<const WRONG: u8>() -> String {
        explore::<Mutant<WRONG>>(&mut Vec::new()).unwrap_err()
    }
    assert!(complaint::<NEVER_ADVANCES>().contains("later"));
    assert!(complaint::<ADVANCES_AT_ONCE>().contains("early"));
    // It takes more steps than are tried.
    let mut steps = vec![Step::Flush];
    for _ in 0..2 {
        steps.extend([Step::Flush, Step::Look(1)]);
    }
    steps.extend([Step::Enter, Step::Flush, Step::Look(1), Step::Look(0)]);
    assert!(World::<Epochs>::replay(&steps).is_ok());
    let error = World::<Mutant<KNOWS_TWO>>::replay(&steps).err();
    assert!(error.is_some_and(|error| error.contains("later")));
    assert!(complaint::<EXITS_CURRENT>().contains("miscounted"));
    assert!(complaint::<WAITS_FOR_ALL>().contains("later"));
    assert!(complaint::<WAITS_FOR_OTHERS>().contains("early"));
    assert!(complaint::<JOINS_CURRENT>().contains("early"));
    assert!(complaint::<ALWAYS_RENEWS>().contains("early"));
    assert!(complaint::<NEVER_RENEWS>().contains("later"));
}
