// SPDX-License-Identifier: GPL-2.0

//! Who does what was asked for: src/odp/engine/worker/ and src/odp/mirror/range/split.rs, step by
//! step.
//!
//! There are up to three, as there: the work item that takes what was queued and sees to what is to
//! go, the one that replaces what is to change, and a caller of drain, who does both, but leaves
//! what was replaced to the first.
//!
//! What is on a list is worked off in the order of the ranges' age instead of that of their
//! requests. Removals of a batch go on side by side. An object is released in the same step in
//! which that becomes possible: earlier than it really is, for those who might still touch it.

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
        Owner,
        Removal,
        Swap,
        World, //
    },
    Protocol, //
};
use crate::{
    spans::small::{
        span::Span,
        PAGE_SIZE, //
    },
    state::{
        Effect,
        Stage,
        Step, //
    },
    trim::{
        PendingTrim, //
        TrimPlan,
    },
};

/// What follows when pieces have been taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum After {
    /// Keep the trim for another try.
    GiveUp,
    /// The address space is gone: retire it.
    Retire,
    /// It has been retired.
    Unclaim,
}

/// How far it has come: with which range, and with which of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// There is none.
    Absent,
    /// Waits for a batch.
    Idle,
    /// Between two ranges.
    Next,
    Unpublish(usize),
    Plan(usize, PendingTrim),
    /// It is right as it is, and is to become one with others.
    Claim(usize, PendingTrim),
    /// Mutant: the range is removed before its pieces are inserted.
    RemoveFirst(usize),
    Insert(usize, usize),
    Abandon(usize, usize, After),
    AbandonAsleep(usize, usize, After, u8),
    ReadBegin(usize),
    ReadAsleep(usize, u8),
    Index(usize),
    /// With the index's mutex, from here on.
    Activate(usize, usize),
    /// The old ones leave, and the pieces are there.
    Swap(usize),
    /// Mutant: some have left before that, or these pieces come after it.
    SwapRest(usize, usize),
    /// Mutant: what no piece covers is zapped before the range is marked.
    ZapEarly(usize),
    Replace(usize),
    /// The range has been marked, and these have not; how that was answered, and what was asked.
    ReplaceOthers(usize, Set, Effect, PendingTrim),
    /// Mutant: the pieces are indexed after that.
    IndexLate(usize, Effect, PendingTrim),
    /// The pieces are retired, with the old range.
    Retire(usize, usize, PendingTrim),
    /// What no piece covers is zapped.
    Zap(usize, PendingTrim),
    /// Without the mutex.
    Inherit(usize, usize, PendingTrim),
    /// Several are not to be one after all.
    Decline(usize),
    LetGo(usize, usize),
    Unclaim(usize),
    Synchronize,
    GracePeriod,
    /// Where core mm removes in two steps: between two first ones.
    Start,
    Remove,
}

/// The work item that takes what was queued.
pub(super) const BATCH: usize = 0;
/// The work item that replaces.
pub(super) const CHANGE: usize = 1;
/// The caller of drain.
pub(super) const DRAIN: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Worker {
    pub(super) at: At,
    /// Off the list of what was queued, and nothing more.
    batch: Set,
    /// To be prepared.
    changing: Set,
    /// To be replaced, or settled.
    prepared: Set,
    /// Claimed for that.
    claimed: Set,
    /// To be unpublished.
    expiring: Set,
    /// Unpublished.
    leaving: Set,
    /// Past the grace period.
    removing: Set,
    /// Whether its grace period waits for the reader.
    pub(super) waits: bool,
}

impl Worker {
    pub(super) fn new(present: bool) -> Self {
        Self {
            at: if present { At::Idle } else { At::Absent },
            batch: Set::default(),
            changing: Set::default(),
            prepared: Set::default(),
            claimed: Set::default(),
            expiring: Set::default(),
            leaving: Set::default(),
            removing: Set::default(),
            waits: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.at, At::Absent | At::Idle)
    }

    /// Whether it has a request on one of its lists.
    pub(super) fn has(&self, id: usize) -> bool {
        [
            self.batch,
            self.changing,
            self.prepared,
            self.claimed,
            self.expiring,
            self.leaving,
            self.removing,
        ]
        .iter()
        .any(|list| list.contains(id))
    }
}

impl Protocol {
    /// In how many ways it can go on: which removal, and otherwise one, and one more if memory can
    /// run out.
    pub(super) fn worker_ways(&self, world: &World, n: usize) -> Set {
        let worker = &world.workers[n];
        let mut ways = Set::default();
        let can = match worker.at {
            At::Absent => false,
            At::Idle => match n {
                BATCH => !world.pending.is_empty() || !world.replaced.is_empty(),
                CHANGE => !world.changing.is_empty(),
                _ => [world.pending, world.changing, world.replaced]
                    .iter()
                    .any(|list| !list.is_empty()),
            },
            At::Unpublish(id) => {
                let zaps = world.index.contains(id) && !self.is(Mutant::ZapsUnlocked);
                world.index_lock.is_none() && (world.user_lock.is_none() || !zaps)
            }
            At::RemoveFirst(_) => !world.subscriptions.is_invalidating(),
            At::AbandonAsleep(_, _, _, seq) | At::ReadAsleep(_, seq) => {
                world.subscriptions.is_over(seq)
            }
            At::Index(_) | At::Claim(..) => world.index_lock.is_none(),
            // It may have something to zap.
            At::Activate(..) => world.user_lock.is_none() || self.is(Mutant::MakesWayUnlocked),
            At::Zap(..) => world.user_lock.is_none() || self.is(Mutant::ZapsCutUnlocked),
            At::ZapEarly(_) => world.user_lock.is_none(),
            At::GracePeriod => !worker.waits,
            At::Remove => {
                for id in worker.removing.iter() {
                    let sleeps = match world.range(id).removal {
                        Removal::Asleep(seq) => !world.subscriptions.is_over(seq),
                        Removal::Started if self.is(Mutant::FinishDoesNotWait) => false,
                        Removal::Started => !world.subscriptions.is_gone(id),
                        _ => false,
                    };
                    if !sleeps {
                        ways.add(id);
                    }
                }
                return ways;
            }
            _ => true,
        };
        if can {
            ways.add(0);
            let allocates = matches!(worker.at, At::Plan(..) | At::Insert(..));
            if allocates && world.failures > 0 {
                ways.add(1);
            }
        }
        ways
    }

    /// `way` is that of the ways.
    pub(super) fn worker_step(&self, world: &mut World, n: usize, way: usize, log: &mut Log) {
        let fails = way == 1 && world.workers[n].at != At::Remove;
        if fails {
            world.failures -= 1;
        }
        let at = match world.workers[n].at {
            At::Idle => {
                self.take_lists(world, n, log);
                At::Next
            }
            At::Next => self.next(world, n, log),
            At::Unpublish(id) if self.is(Mutant::StartsFirst) && !world.is_started(id) => {
                world.start_removal(id, log);
                At::Unpublish(id)
            }
            At::Unpublish(id) => {
                self.unpublish(world, id, log);
                world.workers[n].leaving.add(id);
                At::Next
            }
            At::Plan(id, trim) => self.make_plan(world, n, id, trim, fails, log),
            At::Claim(id, trim) => self.claim(world, n, id, trim, log),
            At::RemoveFirst(id) => {
                say!(log, "removes {} first", name(id));
                let _ = world.subscriptions.remove(id);
                At::Insert(id, 0)
            }
            At::Insert(id, i) => self.insert_piece(world, n, id, i, fails, log),
            At::Abandon(id, i, after) => self.abandon(world, n, id, i, after, log),
            At::AbandonAsleep(id, i, after, _) => {
                say!(log, "wakes up");
                self.abandoned(world, id, i, log);
                At::Abandon(id, i + 1, after)
            }
            At::ReadBegin(id) => {
                // All insertions that come before another take effect no later than that.
                let swap = self.swap(world, id);
                let last = swap.pieces[swap.len - 1];
                let (seq, sleeps) = world.subscriptions.read_begin(last);
                say!(log, "read_begin({})", name(last));
                if sleeps && !self.is(Mutant::NoReadBegin) {
                    say!(log, "sleeps");
                    At::ReadAsleep(id, seq)
                } else {
                    At::Index(id)
                }
            }
            At::ReadAsleep(id, _) => {
                say!(log, "wakes up");
                At::Index(id)
            }
            At::Index(id) => self.lock_index(world, n, id, log),
            At::Activate(id, i) => self.activate(world, id, i, log),
            At::Swap(id) => self.change_index(world, id, log),
            At::SwapRest(id, i) => {
                self.store(world, id, i, log);
                At::Replace(id)
            }
            At::ZapEarly(id) => {
                self.zap_cut(world, id, log);
                At::Replace(id)
            }
            At::Replace(id) => {
                let effect = world.apply(self, id, Step::Replace);
                let trim = std::mem::replace(&mut world.touch(id).trim, PendingTrim::NONE);
                say!(log, "marks {} replaced: {effect:?}", name(id));
                let swap = self.swap(world, id);
                if !swap.others.is_empty() {
                    self.note_cut(world, id, trim);
                    let trim = self.of_part(world, id, id, trim);
                    At::ReplaceOthers(id, swap.others, effect, trim)
                } else if self.is(Mutant::ReplacesFirst) {
                    At::IndexLate(id, effect, trim)
                } else {
                    self.replaced(world, id, effect, trim, log)
                }
            }
            At::ReplaceOthers(id, mut left, effect, trim) => {
                let other = left.pop().expect("there are some");
                let its_effect = world.apply(self, other, Step::Replace);
                let asked = std::mem::replace(&mut world.touch(other).trim, PendingTrim::NONE);
                say!(log, "marks {} replaced: {its_effect:?}", name(other));
                self.note_cut(world, other, asked);
                let trim = match self.is(Mutant::ForgetsNeighbour) {
                    true => trim,
                    false => trim.then(self.of_part(world, id, other, asked)),
                };
                let effect = match its_effect {
                    Effect::HandOverRetire if !self.is(Mutant::ForgetsRetiredNeighbour) => {
                        its_effect
                    }
                    _ => effect,
                };
                if left.is_empty() {
                    self.replaced(world, id, effect, trim, log)
                } else {
                    At::ReplaceOthers(id, left, effect, trim)
                }
            }
            At::IndexLate(id, effect, trim) => {
                self.store(world, id, 0, log);
                self.replaced(world, id, effect, trim, log)
            }
            At::Retire(id, i, trim) => {
                let swap = self.swap(world, id);
                let piece = swap.pieces[i];
                let effect = world.apply(self, piece, Step::Retire);
                world.touch(piece).retired = true;
                // Who retires one while they become one has retired all.
                world.give_up(world.range(piece).span);
                say!(log, "retires {}: {effect:?}", name(piece));
                if i + 1 < swap.len {
                    At::Retire(id, i + 1, trim)
                } else {
                    self.marked(world, id, trim, log)
                }
            }
            At::Zap(id, trim) => {
                self.zap_cut(world, id, log);
                self.unlock_index(world, log);
                At::Inherit(id, 0, trim)
            }
            At::Inherit(id, i, trim) => {
                let swap = self.swap(world, id);
                self.inherit(world, id, swap.pieces[i], trim, log);
                if i + 1 < swap.len {
                    At::Inherit(id, i + 1, trim)
                } else {
                    At::LetGo(id, 0)
                }
            }
            At::Decline(id) => self.decline(world, id, log),
            At::LetGo(id, i) => self.let_go(world, n, id, i, log),
            At::Unclaim(id) => {
                if self.let_neighbour_go(world, n, id, log) {
                    At::Unclaim(id)
                } else {
                    world.touch(id).swap = None;
                    world.workers[n].prepared.remove(id);
                    self.settle(world, id, log);
                    At::Next
                }
            }
            At::Synchronize => {
                say!(log, "begins a grace period");
                world.workers[n].waits = world.reader.section;
                At::GracePeriod
            }
            At::GracePeriod => {
                say!(log, "the grace period is over");
                let worker = &mut world.workers[n];
                worker.removing = std::mem::take(&mut worker.leaving);
                if self.scenario.in_steps {
                    At::Start
                } else {
                    At::Remove
                }
            }
            At::Start => {
                let removing = world.workers[n].removing;
                let is_next = |&id: &usize| !world.is_started(id) || self.is(Mutant::StartsTwice);
                match removing.iter().find(is_next) {
                    Some(id) => {
                        world.start_removal(id, log);
                        At::Start
                    }
                    None => {
                        say!(log, "has begun with all");
                        At::Remove
                    }
                }
            }
            At::Remove => self.remove(world, n, way, log),
            At::Absent => unreachable!("it has nothing to do"),
        };
        world.workers[n].at = at;
    }

    /// Takes what there is to do.
    fn take_lists(&self, world: &mut World, n: usize, log: &mut Log) {
        let names = |list: Set| list.iter().map(name).collect::<String>();
        let worker = &mut world.workers[n];
        if n != CHANGE {
            if !world.pending.is_empty() {
                say!(log, "takes {} of what is queued", names(world.pending));
            }
            worker.batch = std::mem::take(&mut world.pending);
            worker.expiring = std::mem::take(&mut world.replaced);
            if !worker.expiring.is_empty() {
                say!(log, "takes {} of what is replaced", names(worker.expiring));
            }
        }
        if n != BATCH {
            if !world.changing.is_empty() {
                say!(log, "takes {} to change", names(world.changing));
            }
            worker.changing = std::mem::take(&mut world.changing);
        }
        if self.is(Mutant::EarlyGracePeriod) {
            say!(log, "begins a grace period");
            worker.waits = world.reader.section;
        }
    }

    /// The next range of what has been taken: `take`, `replace` and `expire` of `Worker`.
    fn next(&self, world: &mut World, n: usize, log: &mut Log) -> At {
        if let Some(id) = world.workers[n].batch.pop() {
            let effect = world.apply(self, id, Step::Take);
            say!(log, "takes {}: {effect:?}", name(id));
            match (effect, n) {
                (Effect::Build, BATCH) => world.changing.add(id),
                (Effect::Build, _) => world.workers[n].changing.add(id),
                _ => world.workers[n].expiring.add(id),
            }
            return At::Next;
        }
        if let Some(id) = world.workers[n].changing.pop() {
            world.workers[n].prepared.add(id);
            if !self.is(Mutant::PlansTwice) {
                world.apply(self, id, Step::Plan);
            }
            let trim = std::mem::replace(&mut world.touch(id).trim, PendingTrim::NONE);
            say!(log, "prepares {}", name(id));
            return At::Plan(id, trim);
        }
        if let Some(id) = world.workers[n].prepared.first() {
            say!(log, "goes on with {}", name(id));
            return match world.touch(id).swap {
                Some(_) => At::ReadBegin(id),
                None => At::Unclaim(id),
            };
        }
        if let Some(id) = world.workers[n].expiring.pop() {
            say!(log, "comes to {}", name(id));
            return At::Unpublish(id);
        }
        say!(log, "has seen all");
        if world.workers[n].leaving.is_empty() {
            At::Idle
        } else if self.is(Mutant::EarlyGracePeriod) {
            At::GracePeriod
        } else {
            At::Synchronize
        }
    }

    /// `RangeIndex::replace`, up to the look at what else is in the way.
    fn lock_index(&self, world: &mut World, n: usize, id: usize, log: &mut Log) -> At {
        let live = world.is_live(id);
        say!(
            log,
            "locks the index, sees {} {}",
            name(id),
            if live { "live" } else { "not live" }
        );
        world.index_lock = Some(Owner::Worker(n));
        let swap = self.swap(world, id);
        if live && !swap.others.is_empty() {
            let steady = self.is_steady(world, id)
                && (self.is(Mutant::MergesWhatGoes)
                    || swap.others.iter().all(|other| self.is_steady(world, other)));
            if !steady {
                say!(log, "and that one of them is to go, or to be cut");
                self.unlock_index(world, log);
                return At::Decline(id);
            }
            for other in swap.others.iter().chain([id]) {
                // As below.
                let gone = !world.is_live(other);
                world.touch(swap.pieces[0]).retired |= gone;
            }
        }
        if live || self.is(Mutant::IndexesRetired) {
            for piece in self.swap(world, id).pieces() {
                // It must not come into service after a call to retire has returned.
                world.touch(piece).retired |= !live;
            }
            return At::Activate(id, 0);
        }
        self.unlock_index(world, log);
        if swap.others.is_empty() {
            At::Abandon(id, 0, After::Unclaim)
        } else {
            At::Decline(id)
        }
    }

    fn activate(&self, world: &mut World, id: usize, i: usize, log: &mut Log) -> At {
        let swap = self.swap(world, id);
        say!(log, "adopts {}", name(swap.pieces[i]));
        if self.is(Mutant::PublishesPieces) {
            if world.apply(self, swap.pieces[i], Step::Publish) == Effect::Queue {
                world.queue(swap.pieces[i]);
            }
        } else {
            world.apply(self, swap.pieces[i], Step::Activate);
        }
        if i + 1 < swap.len {
            return At::Activate(id, i + 1);
        }
        // What happens beyond the range retires a piece and not the range.
        let whole = world.range(id).span;
        let dying = |piece: usize| {
            let piece = world.range(piece);
            !whole.covers(&piece.span) && !piece.state.is_live()
        };
        if swap.pieces().any(dying) && !self.is(Mutant::GrowsIntoDying) {
            say!(log, "what was to be added has gone");
            self.unlock_index(world, log);
            if !swap.others.is_empty() {
                return At::Decline(id);
            }
            let range = world.touch(id);
            range.trim = swap.trim.only_keep().then(range.trim);
            return At::Abandon(id, 0, After::Unclaim);
        }
        // What is on its way out gives way.
        let mut others = Set::default();
        for piece in swap.pieces() {
            for other in world.at(world.range(piece).span).iter() {
                if other != id && !swap.others.contains(other) {
                    others.add(other);
                }
            }
        }
        let stays = |other: usize| {
            matches!(
                world.range(other).state.stage,
                Stage::Live | Stage::Building
            )
        };
        if others.iter().any(stays) && !self.is(Mutant::GrowsOverOthers) {
            say!(log, "finds others in the place of {}", name(id));
            self.unlock_index(world, log);
            if world.is_live(id) {
                let range = world.touch(id);
                range.trim = swap.trim.only_keep().then(range.trim);
            }
            return At::Abandon(id, 0, After::Unclaim);
        }
        for other in others.iter() {
            let whole = world.range(other).span;
            let dead = if self.is(Mutant::GrowthDoesNotZap) {
                None
            } else if self.is(Mutant::GrowthZapsInPart) {
                // What has others beside it is one piece.
                world.range(swap.pieces[0]).span.intersect(&whole)
            } else {
                Some(whole)
            };
            self.make_way(world, other, dead, log);
        }
        // From here on lookups may find them.
        for piece in swap.pieces() {
            world.touch(piece).served = true;
        }
        if self.is(Mutant::ReplacesFirst) {
            At::Replace(id)
        } else {
            At::Swap(id)
        }
    }

    /// `Range::make_way()`: a range that is on its way out leaves the index, all of it, for another
    /// that has some of its pages. Before that `dead` is zapped, which is to be all of it, too.
    pub(super) fn make_way(&self, world: &mut World, id: usize, dead: Option<Span>, log: &mut Log) {
        world.touch(id);
        if let Some(dead) = dead {
            say!(log, "zaps {}, of {}", text(dead), name(id));
            world.zap(dead);
        }
        say!(log, "{} gives way", name(id));
        world.index.remove(id);
    }

    /// `RangeIndex::replace`, its one change: the old ones leave and the pieces are there.
    fn change_index(&self, world: &mut World, id: usize, log: &mut Log) -> At {
        let swap = self.swap(world, id);
        if self.is(Mutant::MergeClearsFirst) && !swap.others.is_empty() {
            say!(log, "takes its neighbours out of the index");
            for other in swap.others.iter() {
                world.index.remove(other);
            }
            return At::SwapRest(id, 0);
        }
        if self.is(Mutant::SwapsInSteps) && swap.len > 1 {
            say!(
                log,
                "{} leaves the index for {}",
                name(id),
                name(swap.pieces[0])
            );
            world.index.remove(id);
            world.add_to_index(swap.pieces[0]);
            return At::SwapRest(id, 1);
        }
        self.store(world, id, 0, log);
        if self.is(Mutant::UnlocksEarly) {
            self.unlock_index(world, log);
        }
        if self.is(Mutant::ZapsCutEarly) {
            At::ZapEarly(id)
        } else {
            At::Replace(id)
        }
    }

    /// Takes the old ones out of the index and puts the pieces from the `first` on in it.
    fn store(&self, world: &mut World, id: usize, first: usize, log: &mut Log) {
        let swap = self.swap(world, id);
        for old in swap.others.iter().chain([id]) {
            world.index.remove(old);
        }
        for piece in swap.pieces().skip(first) {
            say!(log, "indexes {}", name(piece));
            world.add_to_index(piece);
        }
    }

    /// Zaps what no piece covers of the old range, through which nothing is installed any more.
    fn zap_cut(&self, world: &mut World, id: usize, log: &mut Log) {
        for page in self.cut(world, id) {
            say!(log, "zaps page {page}, of {}", name(id));
            world.zap(span(page, page + 1));
        }
    }

    /// The pages of the old range that no piece covers. One that is in the place of several covers
    /// them all.
    fn cut(&self, world: &mut World, id: usize) -> Vec<usize> {
        let swap = self.swap(world, id);
        let covers = |page| {
            let mut spans = swap.pieces().map(|piece| world.range(piece).span);
            spans.any(|span| pages(span).contains(&page))
        };
        pages(world.range(id).span)
            .filter(|page| !covers(*page))
            .collect()
    }

    /// `Range::is_steady()`
    fn is_steady(&self, world: &mut World, id: usize) -> bool {
        let range = *world.touch(id);
        range.state.is_live() && range.trim.wants_just(range.span)
    }

    /// Claims the neighbours that a range is to become one with.
    fn claim(
        &self,
        world: &mut World,
        n: usize,
        id: usize,
        trim: PendingTrim,
        log: &mut Log,
    ) -> At {
        let mut whole = world.touch(id).span;
        let within = trim.merged_with(whole).expect("that is why");
        let mut others = Set::default();
        let mut busy = false;
        while trim.wants_just(world.touch(id).span) {
            busy = false;
            let beside = [whole.start().checked_sub(1), Some(whole.end())];
            let mut found = None;
            for addr in beside.into_iter().flatten() {
                let Some(other) = world.found(addr / PAGE_SIZE) else {
                    continue;
                };
                if !within.covers(&world.range(other).span) || !self.is_steady(world, other) {
                    continue;
                }
                if !self.is(Mutant::MergesUnclaimed) {
                    let effect = world.apply(self, other, Step::Claim);
                    say!(log, "claims {}: {effect:?}", name(other));
                    busy |= effect == Effect::Already;
                    if effect != Effect::Build {
                        continue;
                    }
                }
                found = Some(other);
                break;
            }
            let Some(other) = found else {
                break;
            };
            world.workers[n].claimed.add(other);
            others.add(other);
            whole = whole.hull(&world.range(other).span);
        }
        if others.is_empty() {
            say!(log, "{} has no neighbour to be one with", name(id));
            let range = world.touch(id);
            range.trim = trim.only_keep().then(range.trim);
            if self.is(Mutant::SettlesLate) {
                return At::Next;
            }
            if self.is(Mutant::SettlesUnlocked) {
                return At::Unclaim(id);
            }
            // The index is locked.
            world.workers[n].prepared.remove(id);
            self.settle(world, id, log);
            return At::Next;
        }
        let piece = world.make(whole, 0, Some(id));
        say!(log, "{} at {}", name(piece), text(whole));
        world.touch(id).swap = Some(Swap {
            trim,
            pieces: [piece, 0],
            len: 1,
            others,
            unfinished: busy && !self.is(Mutant::ForgetsBusy),
        });
        At::Insert(id, 0)
    }

    /// Leaves a neighbour of a range as it is; says whether there was one.
    fn let_neighbour_go(&self, world: &mut World, n: usize, id: usize, log: &mut Log) -> bool {
        let Some(Swap { mut others, .. }) = world.touch(id).swap else {
            return false;
        };
        let Some(other) = others.pop() else {
            return false;
        };
        world.touch(id).swap.as_mut().expect("it is there").others = others;
        world.workers[n].claimed.remove(other);
        self.settle(world, other, log);
        true
    }

    /// Does not have several become one, and has that tried again with those that are left.
    fn decline(&self, world: &mut World, id: usize, log: &mut Log) -> At {
        let swap = self.swap(world, id);
        if !self.ask_earlier(world, id, swap.trim, log) {
            // On either side of it.
            for before in [true, false] {
                let at = world.range(id).span.start();
                for other in swap.others.iter() {
                    let is_there = (world.range(other).span.start() < at) == before;
                    if is_there && self.ask_earlier(world, other, swap.trim.only_merge(), log) {
                        break;
                    }
                }
            }
        }
        At::Abandon(id, 0, After::Unclaim)
    }

    /// `Range::inherit()`
    fn ask_earlier(&self, world: &mut World, id: usize, trim: PendingTrim, log: &mut Log) -> bool {
        let later = std::mem::replace(&mut world.touch(id).trim, PendingTrim::NONE);
        let effect = world.change(self, id, trim, log);
        let range = world.touch(id);
        range.trim = range.trim.then(later);
        effect != Effect::NotLive
    }

    /// What was asked of `old`, for the one that takes its place and that of others.
    fn of_part(&self, world: &mut World, id: usize, old: usize, trim: PendingTrim) -> PendingTrim {
        let piece = self.swap(world, id).pieces[0];
        trim.of_part(world.range(old).span, world.range(piece).span)
    }

    /// Notes that a range that becomes part of another has been asked to be cut since the look:
    /// that says no more than that something may be unmapped.
    fn note_cut(&self, world: &mut World, old: usize, asked: PendingTrim) {
        let span = world.range(old).span;
        world.cut_late |= !asked.wants_just(span);
    }

    fn unlock_index(&self, world: &mut World, log: &mut Log) {
        say!(log, "unlocks the index");
        world.index_lock = None;
    }

    /// What follows from the answer to [`Step::Replace`].
    fn replaced(
        &self,
        world: &mut World,
        id: usize,
        effect: Effect,
        trim: PendingTrim,
        log: &mut Log,
    ) -> At {
        let swap = self.swap(world, id);
        let whole = swap
            .others
            .iter()
            .fold(world.range(id).span, |whole, other| {
                whole.hull(&world.range(other).span)
            });
        let whole = pages(whole);
        for piece in self.swap(world, id).pieces() {
            world.touch(piece).known = true;
            let live = world.is_live(piece) && effect == Effect::HandOver;
            for page in pages(world.range(piece).span) {
                if !whole.contains(&page) && live && world.pages[page].mapped {
                    world.pages[page].wanted = true;
                }
            }
        }
        if effect == Effect::HandOverRetire && !self.is(Mutant::NoHandOver) {
            return At::Retire(id, 0, trim);
        }
        self.marked(world, id, trim, log)
    }

    /// All old ones are marked, and their pieces know if they were retired. What is left to do with
    /// the index locked is to zap what no piece covers.
    fn marked(&self, world: &mut World, id: usize, trim: PendingTrim, log: &mut Log) -> At {
        let zapped = self.is(Mutant::NoCutZap) || self.is(Mutant::ZapsCutEarly);
        if !zapped && !self.cut(world, id).is_empty() {
            return At::Zap(id, trim);
        }
        self.unlock_index(world, log);
        At::Inherit(id, 0, trim)
    }

    fn swap(&self, world: &mut World, id: usize) -> Swap {
        world.touch(id).swap.expect("it has been prepared")
    }

    /// `RangeIndex::erase`: what is still in the index leaves, and all of it is zapped. One step,
    /// for the reason that an insertion is one.
    fn unpublish(&self, world: &mut World, id: usize, log: &mut Log) {
        let whole = world.touch(id).span;
        say!(log, "unpublishes {}", name(id));
        let mut leaving = Set::default();
        if self.is(Mutant::ErasesOthers) {
            leaving = world.at(whole);
        } else if world.index.contains(id) {
            leaving.add(id);
        }
        for erased in leaving.iter() {
            world.index.remove(erased);
            if !self.is(Mutant::NoZap) {
                say!(log, "zaps {}", text(whole));
                world.zap(whole);
            }
        }
    }

    /// Works out what is to take the place of a range.
    fn make_plan(
        &self,
        world: &mut World,
        n: usize,
        id: usize,
        trim: PendingTrim,
        fails: bool,
        log: &mut Log,
    ) -> At {
        if fails {
            say!(log, "no memory");
            self.keep_trim(world, id, trim, log);
            return At::Unclaim(id);
        }
        let _ = n;
        let whole = world.touch(id).span;
        let grain = self.scenario.grain * PAGE_SIZE;
        let doubtful = trim.doubtful(whole, grain);
        if doubtful.is_some() && world.exiting {
            say!(log, "plans {}: ESRCH", name(id));
            self.retire_taken(world, id, log);
            return At::Unclaim(id);
        }
        let mapped: Vec<Span> = (0..world.pages.len())
            .filter(|&page| world.pages[page].mapped && !self.is(Mutant::TrustsTheHull))
            .map(|page| span(page, page + 1))
            .collect();
        let mut spans = Vec::new();
        let verdict = trim.plan(whole, grain, mapped, |piece| {
            spans.push(piece);
            Ok::<(), ()>(())
        });
        say!(
            log,
            "plans {}: {:?}",
            name(id),
            verdict.expect("nothing fails")
        );
        match verdict {
            Ok(TrimPlan::Unchanged)
                if trim.grown(whole).is_none() && trim.merged_with(whole).is_some() =>
            {
                At::Claim(id, trim)
            }
            Ok(TrimPlan::Unchanged) if trim.grown(whole).is_none() => {
                let range = world.touch(id);
                range.trim = trim.only_keep().then(range.trim);
                At::Unclaim(id)
            }
            Ok(TrimPlan::Nothing) => {
                self.retire_taken(world, id, log);
                At::Unclaim(id)
            }
            _ => {
                if let (Ok(TrimPlan::Unchanged), Some(grown)) = (verdict, trim.grown(whole)) {
                    say!(log, "has it grow");
                    spans.push(grown);
                }
                let mut swap = Swap {
                    trim,
                    pieces: [0; 2],
                    len: spans.len(),
                    others: Set::default(),
                    unfinished: false,
                };
                for (i, piece) in spans.into_iter().enumerate() {
                    swap.pieces[i] = world.make(piece, 0, Some(id));
                    say!(log, "{} at {}", name(swap.pieces[i]), text(piece));
                }
                world.touch(id).swap = Some(swap);
                if self.is(Mutant::RemovesFirst) {
                    At::RemoveFirst(id)
                } else {
                    At::Insert(id, 0)
                }
            }
        }
    }

    /// Retires a range that is to be settled.
    fn retire_taken(&self, world: &mut World, id: usize, log: &mut Log) {
        let effect = world.apply(self, id, Step::Retire);
        world.touch(id).retired = true;
        say!(log, "retires {}: {effect:?}", name(id));
    }

    fn insert_piece(
        &self,
        world: &mut World,
        n: usize,
        id: usize,
        i: usize,
        fails: bool,
        log: &mut Log,
    ) -> At {
        let _ = n;
        let swap = self.swap(world, id);
        if world.exiting {
            say!(log, "insertion of {}: ESRCH", name(swap.pieces[i]));
            return At::Abandon(id, 0, After::Retire);
        }
        if fails {
            say!(log, "no memory for {}", name(swap.pieces[i]));
            return At::Abandon(id, 0, After::GiveUp);
        }
        world.subscriptions.insert(swap.pieces[i]);
        let deferred = world.subscriptions.notifiers[swap.pieces[i]].deferred;
        let when = if deferred { ", deferred" } else { "" };
        say!(
            log,
            "mmu_interval_notifier_insert({}){when}",
            name(swap.pieces[i])
        );
        if i + 1 < swap.len {
            At::Insert(id, i + 1)
        } else {
            At::Next
        }
    }

    /// Takes back the pieces from the `i`-th on.
    fn abandon(
        &self,
        world: &mut World,
        n: usize,
        id: usize,
        i: usize,
        after: After,
        log: &mut Log,
    ) -> At {
        let swap = self.swap(world, id);
        if i < swap.len {
            let piece = swap.pieces[i];
            if world.subscriptions.notifiers[piece].is_registered() {
                say!(log, "mmu_interval_notifier_remove({})", name(piece));
                if let Some(seq) = world.subscriptions.remove(piece) {
                    say!(log, "sleeps");
                    return At::AbandonAsleep(id, i, after, seq);
                }
            } else {
                say!(log, "frees {}", name(piece));
            }
            self.abandoned(world, id, i, log);
            return At::Abandon(id, i + 1, after);
        }
        if self.let_neighbour_go(world, n, id, log) {
            return At::Abandon(id, i, after);
        }
        world.touch(id).swap = None;
        match after {
            After::GiveUp => {
                self.keep_trim(world, id, swap.trim, log);
                At::Unclaim(id)
            }
            After::Retire => {
                self.retire_taken(world, id, log);
                At::Unclaim(id)
            }
            After::Unclaim => {
                say!(log, "leaves {} as it is", name(id));
                At::Unclaim(id)
            }
        }
    }

    /// A piece that nobody has seen but callbacks is freed.
    fn abandoned(&self, world: &mut World, id: usize, i: usize, log: &mut Log) {
        let swap = self.swap(world, id);
        let piece = swap.pieces[i];
        if self.is(Mutant::AbandonedReleased) {
            world.release(piece, log);
        }
        let asked = world.range(piece).trim;
        for other in swap.others.iter() {
            let span = world.range(other).span;
            let asked = asked.unmapped_within(span);
            if asked.concerns(span) {
                self.ask_earlier(world, other, asked, log);
            }
        }
        world.ranges[piece] = None;
    }

    /// What was asked of a range before it was marked is its pieces' to be asked.
    fn inherit(
        &self,
        world: &mut World,
        id: usize,
        piece: usize,
        trim: PendingTrim,
        log: &mut Log,
    ) {
        let at = world.touch(piece).span;
        let swap = self.swap(world, id);
        let (first, last) = (swap.pieces[0], swap.pieces[swap.len - 1]);
        let merges = !swap.others.is_empty();
        let later = match merges {
            true => PendingTrim::NONE,
            false => swap.trim.only_later(),
        };
        let trim = later.then(trim).of_piece(piece == first, piece == last);
        if trim.concerns(at) && !self.is(Mutant::NoHandOver) {
            self.ask_earlier(world, piece, trim, log);
        } else {
            say!(log, "nothing for {}", name(piece));
        }
        let kept = match merges && !self.is(Mutant::KeepsOfPart) {
            true => PendingTrim::NONE,
            false => swap.trim.only_keep(),
        };
        if kept.concerns(at) {
            let range = world.touch(piece);
            range.trim = kept.then(range.trim);
        }
        if swap.unfinished {
            self.ask_earlier(world, piece, swap.trim.without_keep(), log);
        }
    }

    /// `Worker::unclaim_piece`; after the last, what becomes of the old range.
    fn let_go(&self, world: &mut World, n: usize, id: usize, i: usize, log: &mut Log) -> At {
        let swap = self.swap(world, id);
        self.settle(world, swap.pieces[i], log);
        if i + 1 < swap.len {
            return At::LetGo(id, i + 1);
        }
        world.touch(id).swap = None;
        world.workers[n].prepared.remove(id);
        for old in swap.others.iter().chain([id]) {
            world.workers[n].claimed.remove(old);
            world.replaced.add(old);
        }
        At::Next
    }

    /// `Range::give_up`
    fn keep_trim(&self, world: &mut World, id: usize, trim: PendingTrim, log: &mut Log) {
        say!(log, "keeps what was asked of {} for another try", name(id));
        let range = world.touch(id);
        range.trim = trim.then(range.trim);
        world.stalled = true;
    }

    /// `Worker::settle`
    fn settle(&self, world: &mut World, id: usize, log: &mut Log) {
        let effect = world.apply(self, id, Step::Unclaim);
        say!(log, "settles {}: {effect:?}", name(id));
        if effect == Effect::Queue {
            // It is on none of the lists, though it may be that the batch's are not cleared yet.
            world.queue(id);
        }
    }

    /// A step of a lane: `Worker::remove`.
    fn remove(&self, world: &mut World, n: usize, id: usize, log: &mut Log) -> At {
        match world.touch(id).removal {
            Removal::None => {
                say!(log, "mmu_interval_notifier_remove({})", name(id));
                match world.subscriptions.remove(id) {
                    Some(seq) if !self.is(Mutant::RemoveDoesNotWait) => {
                        say!(log, "sleeps");
                        world.touch(id).removal = Removal::Asleep(seq);
                        return At::Remove;
                    }
                    _ => {}
                }
            }
            Removal::Asleep(_) => say!(log, "wakes up"),
            Removal::Started => say!(log, "mmu_interval_notifier_remove_finish({})", name(id)),
            Removal::Done => {}
        }
        world.touch(id).removal = Removal::Done;
        let effect = world.apply(self, id, Step::Remove);
        say!(log, "{} is removed: {effect:?}", name(id));
        world.workers[n].removing.remove(id);
        if effect == Effect::Release || self.is(Mutant::ReleaseIgnoresHolds) {
            world.release(id, log);
        }
        if world.workers[n].removing.is_empty() {
            At::Idle
        } else {
            At::Remove
        }
    }
}
