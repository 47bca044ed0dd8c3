// SPDX-License-Identifier: GPL-2.0

//! A task of the driver's, which has a hold of the first range: what it does with that, and
//! `insert`.
//!
//! An insertion has the index's mutex while it looks who is in the way, zaps what gives way, has it
//! leave, and takes the place: one step, because whoever could come between needs the mutex, or
//! finds what is retired. It keeps the process from ending until its notifier is in the tree.
//! `punch_unmapped` looks at all mappings in one step, because nobody changes them with `mmap_lock`
//! taken, and so it asks all that are in the index.

use super::{
    log::{
        say,
        Log, //
    },
    mutant::Mutant,
    world::{
        name,
        pages,
        span,
        text,
        Owner,
        Violation,
        World,
        PAGES, //
    },
    Protocol, //
};
use crate::{
    spans::small::span::Span,
    state::{
        Change,
        Effect,
        Stage, //
        Step,
    },
    trim::PendingTrim, //
};

/// The first range.
const FIRST: usize = 0;

/// What it does, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    /// Retires the first range, or what is in its place.
    Retire,
    /// Retires whatever is in the index, as a shutdown does.
    RetireAll,
    /// Wants no more than these pages of the first range, or of what is in its place.
    Keep(usize, usize),
    /// Has the first range grow to these pages, if nobody is there.
    Grow(usize, usize),
    /// The same; and when that has been done, `Hold::punch_unmapped` of what is there then.
    GrowMapped(usize, usize),
    /// Has the first range become one with the others.
    Merge,
    /// The same, of whatever is found at a page.
    MergeAt(usize),
    /// Wants no more than these pages of the second range, or of what is in its place.
    KeepSecond(usize, usize),
    /// Ends its hold.
    Put,
    /// `Mirror::remove`, with its hold.
    Remove,
    /// `Mirror::insert` of these pages, until it does not fail.
    Insert(usize, usize),
    /// `Mirror::insert` of these pages, if nobody is there.
    TryInsert(usize, usize),
    /// The same, and `Hold::punch_unmapped` of the range.
    InsertMapped(usize, usize),
    /// Has changes that failed tried again, as a flush does.
    Retry,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// Between two calls.
    Calls,
    /// `remove` waits.
    Removes(Effect),
    /// Waits until the first range has grown, or has not.
    Grows,
    /// Mutant: what is where an insertion is to be has been zapped. With the index's mutex.
    Zapped,
    /// The range is in the index and nowhere else.
    Inserts(usize),
    /// Its notifier is inserted, or on the list of those that are to be.
    ReadBegin(usize),
    ReadAsleep(usize, u8),
    /// Its notifier is in the tree.
    Publishes(usize),
    /// It is in service; the mappings are to be looked at.
    Looks(usize),
    /// Some of it is not mapped.
    Punches(usize),
    /// Others have taken its place.
    PunchesPieces(usize),
    /// There is a hold to put.
    Inserted(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct User {
    pub(super) at: At,
    /// How many calls are over.
    op: usize,
    /// Whether an insertion has failed: it begins anew only when something has changed.
    failed_at: Option<[Option<usize>; super::world::PAGES]>,
}

impl User {
    pub(super) fn new() -> Self {
        Self {
            at: At::Calls,
            op: 0,
            failed_at: None,
        }
    }

    pub(super) fn is_done(&self, protocol: &Protocol) -> bool {
        self.op == protocol.scenario.user.len()
    }

    /// Whether it is a user of the address space (`mmget_not_zero()`).
    pub(super) fn has_mm(&self, protocol: &Protocol) -> bool {
        match self.at {
            At::Inserts(_) => true,
            At::ReadBegin(_) | At::ReadAsleep(..) => !protocol.is(Mutant::PutsUserEarly),
            _ => false,
        }
    }
}

impl Protocol {
    pub(super) fn user_can(&self, world: &World) -> bool {
        let Some(op) = self.scenario.user.get(world.user.op) else {
            return false;
        };
        match (&world.user.at, op) {
            (At::Calls, Op::Insert(first, end) | Op::InsertMapped(first, end)) => {
                self.can_insert(world, *first, *end)
                    && world.user.failed_at != Some(self.in_the_way(world, *first, *end))
            }
            (At::Calls, Op::TryInsert(first, end)) => self.can_insert(world, *first, *end),
            (At::Grows, _) => {
                let change = world.range(FIRST).state.change;
                let settled = matches!(change, Change::None | Change::Replaced);
                settled && world.index_lock.is_none()
            }
            (At::Calls, Op::Retry | Op::RetireAll | Op::Grow(..) | Op::GrowMapped(..))
            | (At::PunchesPieces(_), _) => world.index_lock.is_none(),
            (At::ReadAsleep(_, seq), _) => world.subscriptions.is_over(*seq),
            (At::Calls, Op::Retire | Op::Keep(..)) => {
                world.index_lock.is_none() || !world.range(FIRST).is_replaced()
            }
            (At::Removes(effect), _) => {
                let accepted = *effect != Effect::NotLive && !self.is(Mutant::RemoveForgetsPieces);
                let replaced = accepted && world.range(FIRST).is_replaced();
                let waits_for_pieces = world.ranges.iter().flatten().any(|range| {
                    let of_first = range.parent == Some(FIRST) && range.served;
                    replaced && of_first && !range.state.is_removed()
                });
                world.range(FIRST).state.is_removed() && !waits_for_pieces
            }
            _ => true,
        }
    }

    /// Whether an insertion can go on. It needs the user lock if it finds something.
    fn can_insert(&self, world: &World, first: usize, end: usize) -> bool {
        let zaps = !world.at(span(first, end)).is_empty() && !self.is(Mutant::MakesWayUnlocked);
        world.index_lock.is_none() && (world.user_lock.is_none() || !zaps)
    }

    /// What an insertion looks at: of each page, whose it is, and whether that is in the way.
    fn in_the_way(
        &self,
        world: &World,
        first: usize,
        end: usize,
    ) -> [Option<usize>; super::world::PAGES] {
        std::array::from_fn(|page| {
            let id = world.found(page).filter(|_| (first..end).contains(&page))?;
            matches!(world.range(id).state.stage, Stage::Live | Stage::Building).then_some(id)
        })
    }

    fn user_next(&self, world: &mut World) {
        world.user.op += 1;
        world.user.at = At::Calls;
        world.user.failed_at = None;
    }

    pub(super) fn user_step(&self, world: &mut World, log: &mut Log) {
        let op = self.scenario.user[world.user.op];
        match (world.user.at, op) {
            (At::Calls, Op::Retire) => {
                if world.retire(self, FIRST, log) == Effect::NotLive {
                    for id in world.index.iter() {
                        world.retire(self, id, log);
                    }
                }
                self.user_next(world);
            }
            (At::Calls, Op::RetireAll) => {
                for id in world.index.iter() {
                    world.retire(self, id, log);
                }
                self.user_next(world);
            }
            (At::Calls, Op::Keep(first, end)) => {
                if self.keep(world, FIRST, span(first, end), log) == Effect::NotLive {
                    for id in world.index.iter() {
                        self.keep(world, id, span(first, end), log);
                    }
                }
                self.user_next(world);
            }
            (At::Calls, Op::Merge) => {
                world.change(self, FIRST, PendingTrim::merge(span(0, PAGES)), log);
                self.user_next(world);
            }
            (At::Calls, Op::MergeAt(page)) => {
                if let Some(id) = world.found(page) {
                    world.change(self, id, PendingTrim::merge(span(0, PAGES)), log);
                }
                self.user_next(world);
            }
            (At::Calls, Op::KeepSecond(first, end)) => {
                if let Some(id) = world.found(PAGES - 1) {
                    // Who finds the one takes nothing from the first, nor from its middle.
                    let start = pages(world.range(id).span).start;
                    let finds_one = start < self.scenario.end;
                    world.cut_late |= finds_one && first > self.scenario.end;
                    let first = if finds_one { start } else { first };
                    self.keep(world, id, span(first, end), log);
                }
                self.user_next(world);
            }
            (At::Calls, Op::Grow(first, end) | Op::GrowMapped(first, end)) => {
                let way = self.in_the_way(world, first, end);
                if way.into_iter().flatten().any(|id| id != FIRST) && world.is_live(FIRST) {
                    say!(log, "growth to {}: EEXIST", text(span(first, end)));
                    return self.user_next(world);
                }
                let trim = PendingTrim::resize(world.touch(FIRST).span, span(first, end));
                let effect = world.change(self, FIRST, trim, log);
                if effect == Effect::NotLive || matches!(op, Op::Grow(..)) {
                    return self.user_next(world);
                }
                world.user.at = At::Grows;
            }
            (At::Grows, _) => {
                // The first page stays what it is.
                let found = world.found(0).filter(|id| world.range(*id).state.is_live());
                match found {
                    Some(id) if !self.is(Mutant::GrowthIsNotLookedAt) => {
                        say!(log, "finds {}", name(id));
                        world.apply(self, id, Step::Hold);
                        world.user.at = At::Looks(id);
                    }
                    _ => self.user_next(world),
                }
            }
            (At::Calls, Op::TryInsert(first, end)) => {
                if self
                    .in_the_way(world, first, end)
                    .iter()
                    .any(Option::is_some)
                {
                    say!(log, "insertion at {}: EEXIST", text(span(first, end)));
                    self.user_next(world);
                } else {
                    self.insert(world, first, end, log);
                }
            }
            (At::Calls, Op::Put) => {
                say!(log, "puts {}", name(FIRST));
                self.put(world, FIRST, log);
                self.user_next(world);
            }
            (At::Calls, Op::Remove) => {
                say!(log, "remove({})", name(FIRST));
                world.user.at = At::Removes(world.retire(self, FIRST, log));
            }
            (At::Removes(effect), _) => {
                say!(log, "remove({}) returns", name(FIRST));
                if effect != Effect::NotLive {
                    self.check_removed(world);
                }
                self.put(world, FIRST, log);
                self.user_next(world);
            }
            (At::Calls, Op::Insert(first, end) | Op::InsertMapped(first, end)) => {
                if world.exiting {
                    say!(log, "insertion at {}: ESRCH", text(span(first, end)));
                    self.user_next(world);
                } else if self.is(Mutant::MakesWayEarly) {
                    say!(log, "locks the index");
                    world.index_lock = Some(Owner::User);
                    for other in world.at(span(first, end)).iter() {
                        let whole = world.touch(other).span;
                        say!(log, "zaps {}, of {}", text(whole), name(other));
                        world.zap(whole);
                    }
                    world.user.at = At::Zapped;
                } else {
                    self.insert(world, first, end, log);
                }
            }
            (At::Zapped, Op::Insert(first, end) | Op::InsertMapped(first, end)) => {
                world.index_lock = None;
                world.user.at = At::Calls;
                self.insert(world, first, end, log);
            }
            (At::Zapped, _) => unreachable!("nobody else comes there"),
            (At::Inserts(id), _) => {
                world.subscriptions.insert(id);
                let deferred = world.subscriptions.notifiers[id].deferred;
                let when = if deferred { ", deferred" } else { "" };
                say!(log, "mmu_interval_notifier_insert({}){when}", name(id));
                world.user.at = if self.is(Mutant::PublishesDeferred) {
                    At::Publishes(id)
                } else {
                    At::ReadBegin(id)
                };
            }
            (At::ReadBegin(id), _) => {
                let (seq, sleeps) = world.subscriptions.read_begin(id);
                say!(log, "read_begin({})", name(id));
                world.user.at = if sleeps {
                    say!(log, "sleeps");
                    At::ReadAsleep(id, seq)
                } else {
                    At::Publishes(id)
                };
            }
            (At::ReadAsleep(id, _), _) => {
                say!(log, "wakes up");
                world.user.at = At::Publishes(id);
            }
            (At::Publishes(id), _) => {
                world.touch(id).served = true;
                world.touch(id).known = true;
                if world.apply(self, id, Step::Publish) == Effect::Queue {
                    world.queue(id);
                }
                say!(log, "publishes {}", name(id));
                let range = *world.range(id);
                for page in pages(range.span) {
                    if range.state.is_live() && world.pages[page].mapped {
                        world.pages[page].wanted = true;
                    }
                }
                world.user.at = match op {
                    Op::InsertMapped(..) if !self.is(Mutant::LooksBeforeOnly) => At::Looks(id),
                    _ => At::Inserted(id),
                };
            }
            (At::Looks(id), _) => {
                let whole = world.touch(id).span;
                let mapped = pages(whole).all(|page| world.pages[page].mapped);
                let found = match (world.exiting, mapped) {
                    (true, _) => "ESRCH",
                    (false, true) => "all is mapped",
                    (false, false) => "not all is mapped",
                };
                say!(log, "punch_unmapped({}): {found}", name(id));
                world.user.at = if world.exiting || mapped {
                    At::Inserted(id)
                } else {
                    At::Punches(id)
                };
            }
            (At::Punches(id), _) => {
                let trim = PendingTrim::unmapped(world.touch(id).span);
                let effect = world.change(self, id, trim, log);
                let replaced = effect == Effect::NotLive && world.range(id).is_replaced();
                world.user.at = if replaced && !self.is(Mutant::PunchForgetsPieces) {
                    At::PunchesPieces(id)
                } else {
                    At::Inserted(id)
                };
            }
            (At::PunchesPieces(id), _) => {
                let whole = world.touch(id).span;
                for piece in world.index.iter() {
                    if let Some(part) = world.touch(piece).span.intersect(&whole) {
                        world.change(self, piece, PendingTrim::unmapped(part), log);
                    }
                }
                world.user.at = At::Inserted(id);
            }
            (At::Inserted(id), _) => {
                say!(log, "puts {}", name(id));
                self.put(world, id, log);
                self.user_next(world);
            }
            (At::Calls, Op::Retry) => {
                say!(log, "has failed changes tried again");
                if std::mem::replace(&mut world.stalled, false) {
                    for id in world.index.iter() {
                        if world.touch(id).trim != PendingTrim::NONE {
                            world.change(self, id, PendingTrim::NONE, log);
                        }
                    }
                }
                self.user_next(world);
            }
        }
    }

    /// Wants no more than `keep` of a range.
    fn keep(&self, world: &mut World, id: usize, keep: Span, log: &mut Log) -> Effect {
        let whole = world.touch(id).span;
        let Some(keep) = whole.intersect(&keep) else {
            return world.retire(self, id, log);
        };
        let effect = world.change(self, id, PendingTrim::keep(keep), log);
        if effect != Effect::NotLive {
            for page in pages(whole).filter(|page| !pages(keep).contains(page)) {
                world.give_up(span(page, page + 1));
            }
        }
        effect
    }

    fn insert(&self, world: &mut World, first: usize, end: usize, log: &mut Log) {
        let way = self.in_the_way(world, first, end);
        if way.iter().any(Option::is_some) {
            say!(log, "insertion at {}: EEXIST", text(span(first, end)));
            for id in way.into_iter().flatten() {
                let range = *world.range(id);
                let parent = range.parent.map(|parent| world.range(parent).retired);
                if range.retired || parent == Some(true) {
                    world.broke(Violation::InTheWay);
                }
            }
            world.user.failed_at = Some(way);
            return;
        }
        let new = span(first, end);
        for other in world.at(new).iter() {
            let whole = world.range(other).span;
            let dead = if self.is(Mutant::InsertDoesNotZap) || self.is(Mutant::MakesWayEarly) {
                None
            } else if self.is(Mutant::MakesWayInPart) {
                whole.intersect(&new)
            } else {
                Some(whole)
            };
            self.make_way(world, other, dead, log);
        }
        let id = world.make(new, 1, None);
        world.touch(id).inserted = true;
        say!(log, "indexes {} at {}", name(id), text(new));
        world.add_to_index(id);
        world.user.at = At::Inserts(id);
    }

    /// `remove` was accepted and has returned: no event may reach the range, nor what has taken its
    /// place.
    fn check_removed(&self, world: &mut World) {
        for id in 0..world.ranges.len() {
            let Some(range) = world.ranges[id] else {
                continue;
            };
            let of_first = id == FIRST || range.served && range.parent == Some(FIRST);
            if of_first && world.subscriptions.notifiers[id].is_registered() {
                world.broke(Violation::RemovedEarly);
            }
        }
    }
}
