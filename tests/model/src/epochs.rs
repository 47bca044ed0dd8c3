// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for: every short sequence of tickets, of work on what they stand for, and of
//! flushes.

use crate::epoch::{
    Bundle,
    Epochs, //
};

/// How long the sequences are.
const STEPS: usize = 9;
/// How many tickets may be out.
const TICKETS: usize = 3;

/// What is tested, and its mutants.
trait Count {
    fn new() -> Self;
    fn enter(&mut self) -> u8;
    fn exit(&mut self, ticket: u8);
    fn advance(&mut self) -> u8;
    fn is_over(&self, ticket: u8) -> bool;
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
    fn advance(&mut self) -> u8 {
        self.advance()
    }
    fn is_over(&self, ticket: u8) -> bool {
        self.is_over(ticket)
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
    /// The flush looks whether it is over, and is.
    End,
}

/// Something that is out.
#[derive(Clone, Copy)]
struct Out {
    ticket: u8,
    /// Whether the flush that is going on must wait for it.
    due: bool,
    /// Whether work on it has begun, and if so, whether that was when a flush waited for it: then
    /// what is asked for from then on has nothing to do with that.
    begun: Option<bool>,
}

impl Out {
    fn new(ticket: u8, due: bool) -> Self {
        Self {
            ticket,
            due,
            begun: None,
        }
    }
}

/// What really is out, by when it was queued.
struct World<C> {
    count: C,
    out: Vec<Out>,
    flush: Option<u8>,
}

impl<C: Count> World<C> {
    fn replay(steps: &[Step]) -> Result<Self, String> {
        let mut world = World {
            count: C::new(),
            out: Vec::new(),
            flush: None,
        };
        for step in steps {
            match *step {
                Step::Enter => {
                    let ticket = world.count.enter();
                    world.out.push(Out::new(ticket, false));
                }
                Step::Join(n) => {
                    let of = world.out[n];
                    let ticket = world.count.join(of.ticket);
                    world.out.push(Out::new(ticket, of.due));
                }
                Step::Begin(n) => {
                    let out = &mut world.out[n];
                    out.ticket = world.count.begin(out.ticket);
                    out.begun = Some(out.due);
                }
                Step::Renew(n) => {
                    let out = &mut world.out[n];
                    out.ticket = world.count.renew(out.ticket);
                    out.due &= out.begun != Some(true);
                    out.begun = None;
                }
                Step::Exit(n) => {
                    let out = world.out.remove(n);
                    world.count.exit(out.ticket);
                }
                Step::Flush => {
                    world.flush = Some(world.count.advance());
                    world.out.iter_mut().for_each(|out| out.due = true);
                }
                Step::End => {
                    world.flush = None;
                    world.out.iter_mut().for_each(|out| out.due = false);
                }
            }
        }
        if let Some(ticket) = world.flush {
            let over = world.count.is_over(ticket);
            let old = world.out.iter().any(|out| out.due);
            if over && old {
                return Err(format!("ended too early: {steps:?}"));
            }
            if !over && !old {
                return Err(format!("waits for later ones: {steps:?}"));
            }
        }
        if world.count.outstanding() != world.out.len() {
            return Err(format!("miscounted: {steps:?}"));
        }
        Ok(world)
    }
}

/// Tries every continuation of `steps`; `turns` says whether flushes take turns.
fn explore<C: Count>(steps: &mut Vec<Step>, turns: bool) -> Result<usize, String> {
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
    match world.flush {
        None => next.push(Step::Flush),
        Some(ticket) if world.count.is_over(ticket) => next.push(Step::End),
        Some(_) if !turns => next.push(Step::Flush),
        Some(_) => {}
    }
    let mut sequences = 1;
    for step in next {
        steps.push(step);
        sequences += explore::<C>(steps, turns)?;
        steps.pop();
    }
    Ok(sequences)
}

#[test]
fn every_sequence() {
    let sequences = explore::<Epochs>(&mut Vec::new(), true).unwrap();
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
        assert_eq!(epochs.advance(), 0);
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
        assert_eq!(all.is_over(1), ones == 3);
        assert_eq!(single.outstanding(), all.outstanding());
    }
}

/// That flushes take turns is needed.
#[test]
fn turns() {
    let error = explore::<Epochs>(&mut Vec::new(), false).unwrap_err();
    assert!(error.contains("early"), "{error}");
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
    fn advance(&mut self) -> u8 {
        if WRONG == NEVER_ADVANCES {
            self.0.advance();
        }
        self.0.advance()
    }
    fn is_over(&self, ticket: u8) -> bool {
        match WRONG {
            WAITS_FOR_ALL => self.0.outstanding() == 0,
            WAITS_FOR_OTHERS => self.0.is_over(ticket ^ 1),
            _ => self.0.is_over(ticket),
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
        explore::<Mutant<WRONG>>(&mut Vec::new(), true).unwrap_err()
    }
    assert!(complaint::<NEVER_ADVANCES>().contains("early"));
    assert!(complaint::<EXITS_CURRENT>().contains("miscounted"));
    assert!(complaint::<WAITS_FOR_ALL>().contains("later"));
    assert!(complaint::<WAITS_FOR_OTHERS>().contains("early"));
    assert!(complaint::<JOINS_CURRENT>().contains("early"));
    assert!(complaint::<ALWAYS_RENEWS>().contains("early"));
    assert!(complaint::<NEVER_RENEWS>().contains("later"));
}
