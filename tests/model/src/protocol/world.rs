// SPDX-License-Identifier: GPL-2.0

//! Everything there is: an address space of a few pages, the device's table, ranges, the index, and
//! how far everybody has come. And what must be true of it at every step.

use super::{
    invalidator::Invalidator,
    log::{
        say,
        Log, //
    },
    mutant::Mutant,
    reader::Reader,
    set::Set,
    subscriptions::Subscriptions,
    user::User,
    worker::Worker,
    Protocol, //
};
use crate::{
    spans::small::{
        span::Span,
        PAGE_SIZE, //
    },
    state::{
        Change,
        Effect,
        Stage,
        State, //
        Step,
    },
    trim::PendingTrim, //
};

/// How many pages the address space has.
pub(super) const PAGES: usize = 3;
/// How many ranges there can be in the course of a run.
pub(super) const RANGES: usize = 6;

/// A page of the address space, and what the device has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Page {
    /// Whether it lies in a VMA.
    pub(super) mapped: bool,
    /// The frame in the process's page table.
    pub(super) pte: Option<u8>,
    /// The number of the next frame: none is used twice, so that stale entries are known by it.
    pub(super) fresh: u8,
    /// The frame that the device can reach.
    pub(super) device: Option<u8>,
    /// Whether it must be in service: mapped and mirrored since the beginning, or since the last
    /// insertion, and nobody has asked for anything else.
    pub(super) wanted: bool,
}

/// How far a range's removal from the core has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Removal {
    /// Not begun.
    None,
    /// Sleeps until the sequence is another.
    Asleep(u8),
    /// Begun, to be finished when the notifier has left the tree.
    Started,
    /// Over.
    Done,
}

/// What is to take the place of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Swap {
    pub(super) trim: PendingTrim,
    pub(super) pieces: [usize; 2],
    pub(super) len: usize,
    /// Neighbours that the piece, which is one then, is to take the place of, too: claimed.
    pub(super) others: Set,
    /// Whether that is to be tried again, with those that somebody had.
    pub(super) unfinished: bool,
}

impl Swap {
    pub(super) fn pieces(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces[..self.len].iter().copied()
    }
}

/// A range: `struct Range`, and what is remembered of it to judge others by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Range {
    pub(super) span: Span,
    pub(super) state: State,
    pub(super) trim: PendingTrim,
    pub(super) swap: Option<Swap>,
    pub(super) removal: Removal,
    /// The range that it is a piece of.
    pub(super) parent: Option<usize>,
    /// Whether it has been in service, or is going to be: it was published or activated.
    pub(super) served: bool,
    /// Whether the driver knows of it.
    pub(super) known: bool,
    /// Whether a call to retire it was accepted, or to retire the range that it is a piece of
    /// before that was replaced.
    pub(super) retired: bool,
    /// Whether its memory is gone.
    pub(super) freed: bool,
    /// Whether it was inserted in the course of events.
    pub(super) inserted: bool,
}

impl Range {
    pub(super) fn new(span: Span, state: State, parent: Option<usize>) -> Self {
        Self {
            span,
            state,
            trim: PendingTrim::NONE,
            swap: None,
            removal: Removal::None,
            parent,
            served: false,
            known: false,
            retired: false,
            freed: false,
            inserted: false,
        }
    }

    /// `Range::is_replaced()`
    pub(super) fn is_replaced(&self) -> bool {
        self.state.change == Change::Replaced
    }
}

/// What must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Violation {
    /// The device reaches a frame that is not the process's there any more.
    Stale,
    /// The device reaches a page that no notifier covers.
    Uncovered,
    /// Somebody touches a range whose memory is gone.
    UseAfterFree,
    /// A request is put on a list that is on one.
    QueuedTwice,
    /// A range is released twice, or the driver hears of the release of one that it does not know.
    ReleasedTwice,
    /// Core mm is asked twice to remove a notifier.
    RemovedTwice,
    /// The state machine refuses what the protocol has somebody do.
    Refused,
    /// A page that must be in service is not.
    OutOfService,
    /// A lookup does not find a page that is in service all the time.
    Missed,
    /// What was retired is in service after the call has returned.
    NotSticky,
    /// `remove` has returned, and events still reach what it was called for.
    RemovedEarly,
    /// An insertion is refused because of what is retired.
    InTheWay,
    /// All is quiet, and what was asked for has not been done.
    Lost,
    /// All is quiet, and a range covers what is not mapped, though its driver wants no such range.
    Untold,
    /// Somebody waits, and nobody is going to wake him up.
    Stuck,
    /// A fault has to begin again though nothing has happened to its page.
    Starved,
    /// It does not come to an end.
    Endless,
}

impl Violation {
    /// All of them, with the property that each is the lack of.
    pub(super) const ALL: [(Self, &'static str); 17] = [
        (
            Self::Stale,
            "the device reaches what the process has, or nothing",
        ),
        (Self::Uncovered, "a notifier covers what the device reaches"),
        (Self::UseAfterFree, "nobody touches what is freed"),
        (Self::QueuedTwice, "a request is on one list"),
        (
            Self::ReleasedTwice,
            "the driver hears once of the release of what it knows",
        ),
        (Self::RemovedTwice, "a notifier is removed once"),
        (
            Self::Refused,
            "the state machine knows every step of the protocol",
        ),
        (Self::OutOfService, "what nobody gave up is in service"),
        (Self::Missed, "lookups find what is in service"),
        (Self::NotSticky, "what is retired is not in service"),
        (
            Self::RemovedEarly,
            "what is removed hears of nothing any more",
        ),
        (Self::InTheWay, "what is retired is in nobody's way"),
        (Self::Lost, "every request is done in the end"),
        (
            Self::Untold,
            "every range that no live mapping backs has been told, or will be",
        ),
        (Self::Stuck, "nobody waits for ever"),
        (
            Self::Starved,
            "a fault is not held up by what happens to other pages",
        ),
        (Self::Endless, "everything comes to an end"),
    ];

    /// The property that it is the lack of.
    pub(super) fn property(self) -> &'static str {
        let (_, property) = Self::ALL
            .into_iter()
            .find(|(violation, _)| *violation == self)
            .expect("all are there");
        property
    }
}

/// Who has the index's mutex or the user lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    Reader,
    User,
    Worker(usize),
}

/// Everything there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) pages: [Page; PAGES],
    pub(super) subscriptions: Subscriptions,
    /// Whether the process is on its way out: `mmget_not_zero()` fails.
    pub(super) exiting: bool,
    pub(super) ranges: [Option<Range>; RANGES],
    /// What lookups find: each at all of its pages, no two at the same. A range stays when it is
    /// freed, if it was forgotten.
    pub(super) index: Set,
    pub(super) index_lock: Option<Owner>,
    pub(super) user_lock: Option<Owner>,
    /// Requests that nobody has taken.
    pub(super) pending: Set,
    /// Those that have been taken to be changed, and nobody has begun to.
    pub(super) changing: Set,
    /// Those that others are in the place of, and that have yet to leave.
    pub(super) replaced: Set,
    pub(super) invalidators: [Invalidator; 2],
    pub(super) remapped: bool,
    pub(super) reader: Reader,
    pub(super) user: User,
    pub(super) workers: [Worker; 3],
    /// How many allocations may yet fail.
    pub(super) failures: u8,
    /// Whether there may be changes that have failed, to be tried again.
    pub(super) stalled: bool,
    /// Whether a range was asked to be cut just when it became part of another, or after that, where
    /// that other has more on both sides.
    pub(super) cut_late: bool,
    /// How many steps have been taken.
    pub(super) steps: u8,
    pub(super) broken: Option<Violation>,
}

/// The span of pages `first..end`.
pub(super) fn span(first: usize, end: usize) -> Span {
    Span::from_bounds(first * PAGE_SIZE, end * PAGE_SIZE).expect("pages in order")
}

/// The numbers of the pages of a span.
pub(super) fn pages(span: Span) -> std::ops::Range<usize> {
    span.start() / PAGE_SIZE..span.end() / PAGE_SIZE
}

/// The name of a range in a trace.
pub(super) fn name(id: usize) -> char {
    char::from(b'A' + id as u8)
}

/// A span in a trace.
pub(super) fn text(span: Span) -> String {
    let pages = pages(span);
    if pages.len() == 1 {
        format!("page {}", pages.start)
    } else {
        format!("pages {}-{}", pages.start, pages.end - 1)
    }
}

impl World {
    /// Remembers the first thing that went wrong.
    pub(super) fn broke(&mut self, violation: Violation) {
        self.broken.get_or_insert(violation);
    }

    /// A range that somebody touches.
    pub(super) fn touch(&mut self, id: usize) -> &mut Range {
        if self.range(id).freed {
            self.broke(Violation::UseAfterFree);
        }
        self.ranges[id].as_mut().expect("made before it is used")
    }

    /// A range that is looked at from outside.
    pub(super) fn range(&self, id: usize) -> &Range {
        self.ranges[id].as_ref().expect("made before it is used")
    }

    /// `Request::state().is_live()`
    pub(super) fn is_live(&mut self, id: usize) -> bool {
        self.touch(id).state.is_live()
    }

    /// Makes a range that is about to be inserted.
    pub(super) fn make(&mut self, span: Span, holds: u32, parent: Option<usize>) -> usize {
        let id = self
            .ranges
            .iter()
            .position(Option::is_none)
            .expect("RANGES is enough");
        self.ranges[id] = Some(Range::new(span, State::building(holds), parent));
        id
    }

    /// `Request::apply()`: the event that the protocol has somebody apply.
    pub(super) fn apply(&mut self, protocol: &Protocol, id: usize, event: Step) -> Effect {
        let state = self.touch(id).state;
        let (next, effect) = protocol.step(state, event);
        self.touch(id).state = next;
        if effect == Effect::Refused && event != Step::Hold {
            self.broke(Violation::Refused);
        }
        effect
    }

    /// What an answer `Queue` is followed by.
    pub(super) fn queue(&mut self, id: usize) {
        let taken = self.workers.iter().any(|worker| worker.has(id));
        let listed = [self.pending, self.changing, self.replaced]
            .iter()
            .any(|list| list.contains(id));
        if listed || taken {
            self.broke(Violation::QueuedTwice);
        }
        self.pending.add(id);
    }

    /// `Worker::retire()`
    pub(super) fn retire(&mut self, protocol: &Protocol, id: usize, log: &mut Log) -> Effect {
        let effect = self.apply(protocol, id, Step::Retire);
        say!(log, "retires {}: {effect:?}", name(id));
        if effect == Effect::Queue || protocol.is(Mutant::JoinedQueues) && effect == Effect::Joined
        {
            self.queue(id);
        }
        if effect != Effect::NotLive {
            self.touch(id).retired = true;
            let range = *self.range(id);
            // A piece that is larger than the range it is for hears of what does not concern that,
            // and before it is in service nobody counts on it.
            let kept = range.parent.map(|parent| self.range(parent).span);
            let kept = kept.filter(|parent| !range.served && !parent.covers(&range.span));
            let kept = kept.map(pages);
            for page in pages(range.span) {
                if !kept.as_ref().is_some_and(|kept| kept.contains(&page)) {
                    self.give_up(span(page, page + 1));
                }
            }
        }
        effect
    }

    /// `Worker::change()`
    pub(super) fn change(
        &mut self,
        protocol: &Protocol,
        id: usize,
        trim: PendingTrim,
        log: &mut Log,
    ) -> Effect {
        let effect = self.apply(protocol, id, Step::Change);
        if effect != Effect::NotLive {
            let range = self.touch(id);
            range.trim = range.trim.then(trim);
        }
        say!(log, "asks for a change of {}: {effect:?}", name(id));
        if effect == Effect::Queue {
            self.queue(id);
        }
        effect
    }

    /// What a lookup finds at a page.
    pub(super) fn found(&self, page: usize) -> Option<usize> {
        let mut there = self.index.iter();
        there.find(|id| pages(self.range(*id).span).contains(&page))
    }

    /// Those in the index that have anything of `span`.
    pub(super) fn at(&self, span: Span) -> Set {
        let mut at = Set::default();
        for id in self.index.iter() {
            if self.range(id).span.intersect(&span).is_some() {
                at.add(id);
            }
        }
        at
    }

    /// A range comes to be in the index, where there must be none.
    pub(super) fn add_to_index(&mut self, id: usize) {
        let there = self.at(self.range(id).span);
        assert!(there.is_empty(), "{there:?} is where {id} is to be");
        self.index.add(id);
    }

    /// Whether the removal of a range's notifier has begun.
    pub(super) fn is_started(&self, id: usize) -> bool {
        self.range(id).removal != Removal::None
    }

    /// Begins to remove a range's notifier.
    pub(super) fn start_removal(&mut self, id: usize, log: &mut Log) {
        say!(log, "mmu_interval_notifier_remove_start({})", name(id));
        let before = std::mem::replace(&mut self.touch(id).removal, Removal::Started);
        if before != Removal::None {
            self.broke(Violation::RemovedTwice);
            return;
        }
        // What it would sleep for is told from the notifier.
        let _ = self.subscriptions.remove(id);
    }

    /// The end of a range's life.
    pub(super) fn release(&mut self, id: usize, log: &mut Log) {
        say!(log, "releases {}", name(id));
        let range = self.touch(id);
        let wrong = range.freed || !range.known;
        range.freed = true;
        if wrong {
            self.broke(Violation::ReleasedTwice);
        }
    }

    /// Nobody counts on these pages being in service any more.
    pub(super) fn give_up(&mut self, span: Span) {
        for page in pages(span).filter(|page| *page < PAGES) {
            self.pages[page].wanted = false;
            self.reader.give_up(page);
        }
    }

    /// Stops the device's access.
    pub(super) fn zap(&mut self, span: Span) {
        for page in pages(span) {
            self.pages[page].device = None;
        }
    }

    /// Whether the user lock and the index's mutex are free.
    pub(super) fn is_unlocked(&self) -> bool {
        self.user_lock.is_none() && self.index_lock.is_none()
    }

    /// What must be true at every step, and is not.
    pub(super) fn check(&mut self) {
        for (at, page) in self.pages.into_iter().enumerate() {
            let covers = |id: usize| {
                self.subscriptions.notifiers[id].in_tree && pages(self.range(id).span).contains(&at)
            };
            if page.device.is_some() && !(0..RANGES).any(covers) {
                self.broke(Violation::Uncovered);
            }
            if page.device.is_some() && page.device != page.pte {
                self.broke(Violation::Stale);
            }
            if page.wanted {
                match self.found(at) {
                    Some(id) if self.range(id).state.is_live() => {}
                    _ => self.broke(Violation::OutOfService),
                }
            }
            if let Some(id) = self.found(at) {
                let range = self.range(id);
                if range.state.is_live() && range.retired {
                    self.broke(Violation::NotSticky);
                }
            }
        }
        if self.steps == u8::MAX {
            self.broke(Violation::Endless);
        }
    }

    /// What must be true when nothing can happen any more, and is not.
    pub(super) fn verdict(&self, protocol: &Protocol) -> Option<Violation> {
        let all_done = self.invalidators.iter().all(Invalidator::is_done)
            && self.reader.is_done()
            && self.user.is_done(protocol)
            && self.workers.iter().all(Worker::is_done)
            && [self.pending, self.changing, self.replaced]
                .iter()
                .all(|list| list.is_empty())
            && self.is_unlocked();
        if !all_done {
            return Some(Violation::Stuck);
        }
        for (id, range) in self.ranges.iter().enumerate() {
            let Some(range) = range else { continue };
            let notifier = self.subscriptions.notifiers[id];
            if range.freed {
                if notifier.is_registered() || range.state.holds > 0 {
                    return Some(Violation::Lost);
                }
                continue;
            }
            let parent = range.parent.map(|parent| self.range(parent));
            let settled = range.state.stage == Stage::Live
                && range.state.change == Change::None
                && notifier.in_tree
                && !notifier.deferred
                && !range.retired
                && !parent.is_some_and(|parent| parent.retired && !parent.state.is_live());
            // What could not be done is remembered, and so is what is wanted, for when more goes.
            let asked = range.trim != range.trim.only_keep() && !self.stalled;
            if !settled || asked {
                return Some(Violation::Lost);
            }
            if protocol.merges() && range.span != span(0, PAGES) {
                return Some(Violation::Lost);
            }
            if !self.index.contains(id) {
                return Some(Violation::Lost);
            }
            for page in pages(range.span) {
                if self.reader.is_ignored(protocol, range, page, self.stalled) {
                    return Some(Violation::Lost);
                }
            }
            if self.is_untold(protocol, id) {
                return Some(Violation::Untold);
            }
        }
        None
    }

    /// Whether a range that is still there, when nothing can happen any more, covers what is not
    /// mapped, or not wanted, in vain.
    ///
    /// A driver that retires wherever anything is unmapped says itself what is to become of the
    /// rest.
    fn is_untold(&self, protocol: &Protocol, id: usize) -> bool {
        let range = self.range(id);
        // All ranges go with the process.
        if self.exiting {
            return true;
        }
        let asked = !range.inserted || protocol.looks();
        asked
            && protocol.changes()
            && !self.stalled
            && pages(range.span).any(|page| {
                protocol
                    .grain(page)
                    .all(|page| !self.pages[page].mapped || !self.cut_late && !protocol.keeps(page))
            })
    }
}
