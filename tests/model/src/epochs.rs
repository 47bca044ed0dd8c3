// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for: every short sequence of tickets and flushes.

use crate::epoch::Epochs;

/// How long the sequences are.
const STEPS: usize = 13;
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
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Something is queued.
    Enter,
    /// The n-th of what is out, oldest first, is done.
    Exit(usize),
    /// A flush begins.
    Flush,
    /// The flush looks whether it is over, and is.
    End,
}

/// What really is out, by when it was queued.
struct World<C> {
    count: C,
    /// The ticket, and whether the flush that is going on must wait for it.
    out: Vec<(u8, bool)>,
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
                    world.out.push((ticket, false));
                }
                Step::Exit(n) => {
                    let (ticket, _) = world.out.remove(n);
                    world.count.exit(ticket);
                }
                Step::Flush => {
                    world.flush = Some(world.count.advance());
                    world.out.iter_mut().for_each(|(_, old)| *old = true);
                }
                Step::End => {
                    world.flush = None;
                    world.out.iter_mut().for_each(|(_, old)| *old = false);
                }
            }
        }
        if let Some(ticket) = world.flush {
            let over = world.count.is_over(ticket);
            let old = world.out.iter().any(|(_, old)| *old);
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
}
