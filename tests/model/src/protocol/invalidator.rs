// SPDX-License-Identifier: GPL-2.0

//! Who changes the process's page tables: munmap(), madvise() or migration, and the end of the
//! process.
//!
//! A callback is one step, although it changes the state of the range at one moment and notes
//! things with the user lock at others. What it records and zaps nobody looks at without the user
//! lock but `read_begin`, which sleeps from then on, and that does not look at what it marks. What
//! is noted with a step of a state nobody uses without the request's lock. In which order the
//! callbacks of an event come is left open.

use super::{
    log::{
        say,
        Log, //
    },
    mutant::Mutant,
    set::Set,
    world::{
        name,
        pages,
        span,
        text,
        Removal,
        Violation,
        World,
        PAGES, //
    },
    Protocol, //
};
use crate::{
    spans::small::span::Span,
    trim::PendingTrim, //
};

/// What it does to the process's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// munmap(): the VMAs are gone before the callbacks, and others come when it is over.
    Unmap,
    /// The pages are gone, and the VMAs stay.
    Clear,
    /// The same, and the callbacks must not sleep.
    TryClear,
    /// The end of the process: `MMU_NOTIFY_RELEASE`.
    Exit,
}

/// What the driver wants when its pages are unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Policy {
    Retire,
    Punch,
    /// Keeps but these pages.
    Keep(usize, usize),
}

/// An event: what happens to which pages, the second number exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) policy: Policy,
}

impl Plan {
    pub(super) fn span(&self) -> Span {
        span(self.first, self.end)
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Invalidator {
    /// There is none, or it is over.
    Done,
    Begins,
    Starts,
    /// Calls those that are left, with the sequence of its beginning.
    Calls(Set, u8),
    /// Mutant: a callback waits until the range is removed.
    Waits(Set, u8, usize),
    Changes,
    Ends,
}

impl Invalidator {
    pub(super) fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Whether it has said that it is going to, and not that it is over.
    pub(super) fn is_going_on(&self) -> bool {
        !matches!(self, Self::Done | Self::Begins | Self::Starts)
    }

    /// Whether it has a lock of the address space that keeps new mappings out of `plan`.
    fn excludes_mapping(&self, plan: &Plan) -> bool {
        plan.kind == Kind::Unmap && !matches!(self, Self::Done | Self::Begins)
    }
}

impl Protocol {
    fn plan(&self, n: usize) -> &Plan {
        self.scenario.invalidators[n]
            .as_ref()
            .expect("there is one")
    }

    /// In how many ways it can go on.
    pub(super) fn invalidator_ways(&self, world: &World, n: usize) -> Set {
        let mut ways = Set::default();
        match world.invalidators[n] {
            Invalidator::Done => {}
            Invalidator::Begins => {
                // The process does not end while somebody uses its address space.
                if self.plan(n).kind != Kind::Exit || !world.user.has_mm(self) {
                    ways.add(0);
                }
            }
            Invalidator::Calls(left, _) => {
                let sleeps = self.plan(n).kind != Kind::TryClear;
                if world.user_lock.is_none() || !sleeps {
                    ways = left;
                }
            }
            Invalidator::Waits(_, _, id) => {
                if world.range(id).removal == Removal::Done {
                    ways.add(0);
                }
            }
            _ => ways.add(0),
        }
        ways
    }

    pub(super) fn invalidator_step(&self, world: &mut World, n: usize, way: usize, log: &mut Log) {
        let plan = *self.plan(n);
        let at = text(plan.span());
        world.invalidators[n] = match world.invalidators[n] {
            Invalidator::Begins => {
                match plan.kind {
                    Kind::Unmap => {
                        say!(log, "takes {at} out of the VMAs");
                        for page in pages(plan.span()) {
                            world.pages[page].mapped = false;
                        }
                        world.give_up(plan.span());
                    }
                    Kind::Exit => {
                        say!(log, "the last user of the address space goes");
                        world.exiting = true;
                        world.give_up(plan.span());
                    }
                    Kind::Clear | Kind::TryClear => say!(log, "is about to clear {at}"),
                }
                Invalidator::Starts
            }
            Invalidator::Starts => {
                world.reader.is_disturbed(plan.span());
                let ranges = world.ranges;
                let (found, seq) = world.subscriptions.inv_start(|id| {
                    ranges[id].is_some_and(|range| range.span.intersect(&plan.span()).is_some())
                });
                say!(
                    log,
                    "invalidate_range_start({at}), sequence {seq}, finds {}",
                    found.iter().map(name).collect::<String>()
                );
                if found.is_empty() {
                    Invalidator::Changes
                } else {
                    Invalidator::Calls(found, seq)
                }
            }
            Invalidator::Calls(mut left, seq) => {
                left.remove(way);
                say!(log, "callback of {}", name(way));
                if world.user_lock.is_some() {
                    say!(
                        log,
                        "which would have to wait for the user lock, invalidate_range_end()"
                    );
                    world.subscriptions.inv_end();
                    world.invalidators[n] = Invalidator::Done;
                    return;
                }
                self.callback(world, &plan, way, seq, log);
                if self.is(Mutant::CallbackRemoves) && world.range(way).state.is_leaving() {
                    say!(log, "and waits for its removal");
                    Invalidator::Waits(left, seq, way)
                } else if left.is_empty() {
                    Invalidator::Changes
                } else {
                    Invalidator::Calls(left, seq)
                }
            }
            Invalidator::Waits(left, seq, _) if left.is_empty() => {
                let _ = seq;
                Invalidator::Changes
            }
            Invalidator::Waits(left, seq, _) => Invalidator::Calls(left, seq),
            Invalidator::Changes => {
                say!(log, "takes {at} out of the page tables");
                for page in pages(plan.span()) {
                    world.pages[page].pte = None;
                    world.pages[page].mapped &= plan.kind != Kind::Exit;
                }
                Invalidator::Ends
            }
            Invalidator::Ends => {
                world.subscriptions.inv_end();
                say!(
                    log,
                    "invalidate_range_end(), sequence {}",
                    world.subscriptions.seq
                );
                Invalidator::Done
            }
            Invalidator::Done => unreachable!("it has nothing to do"),
        };
    }

    /// `Mirrored::invalidate()`, with `set_seq` and all that it asks for.
    fn callback(&self, world: &mut World, plan: &Plan, id: usize, seq: u8, log: &mut Log) {
        let range = world.touch(id).span;
        let span = range.intersect(&plan.span()).expect("it was found");
        if !self.is(Mutant::NoSequence) {
            world.subscriptions.set_seq(id, seq);
        }
        if !self.is(Mutant::FaultsAreNotMet) {
            world.reader.is_met(span);
        }
        world.zap(span);
        match (plan.kind, plan.policy) {
            (Kind::Clear | Kind::TryClear, _) => {}
            (Kind::Exit, _) | (Kind::Unmap, Policy::Retire) => {
                // So it says of all in service that it is called for.
                for other in world.ranges.into_iter().flatten() {
                    if other.served && other.span.intersect(&plan.span()).is_some() {
                        world.give_up(other.span);
                    }
                }
                self.retire_at(world, id, log);
            }
            (Kind::Unmap, Policy::Punch) => {
                world.change(self, id, PendingTrim::unmapped(span), log);
            }
            (Kind::Unmap, Policy::Keep(first, end)) => {
                let keep = super::world::span(first, end);
                world.give_up(super::world::span(0, PAGES));
                match range.intersect(&keep) {
                    Some(keep) => world.change(self, id, PendingTrim::keep(keep), log),
                    None => world.retire(self, id, log),
                };
            }
        }
    }

    fn retire_at(&self, world: &mut World, id: usize, log: &mut Log) {
        world.retire(self, id, log);
        if world.broken == Some(Violation::Refused) {
            say!(log, "which makes no sense");
        }
    }

    /// mmap() of what has been unmapped: whether it can happen.
    pub(super) fn can_remap(&self, world: &World) -> bool {
        let Some(page) = self.scenario.remaps else {
            return false;
        };
        let excluded = (0..world.invalidators.len()).any(|n| {
            self.scenario.invalidators[n].as_ref().is_some_and(|plan| {
                pages(plan.span()).contains(&page) && world.invalidators[n].excludes_mapping(plan)
            })
        });
        !world.remapped && !world.pages[page].mapped && !world.exiting && !excluded
    }

    /// mmap() of what has been unmapped.
    pub(super) fn remap(&self, world: &mut World, log: &mut Log) {
        let page = self.scenario.remaps.expect("it can");
        say!(log, "maps {} again", text(span(page, page + 1)));
        world.remapped = true;
        world.pages[page].mapped = true;
    }
}
