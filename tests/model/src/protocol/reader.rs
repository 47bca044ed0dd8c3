// SPDX-License-Identifier: GPL-2.0

//! A device's page fault: `lookup`, `hold`, a note of the page that it is about, `read_begin`, a
//! look at the process's pages, `commit`. Or somebody who asks for something, in the section, of
//! what he has found.
//!
//! The end of the SRCU section is part of the step that takes the hold: later, it could only hold
//! off more.

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
        Owner,
        Range,
        Violation,
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
        Step, //
    },
    trim::PendingTrim, //
};

/// What it asks for instead of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// That what it finds is retired.
    Retire,
    /// That the page is given up, which is not mapped.
    Punch,
}

/// How far it has come; the range that it has to do with, and a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum At {
    /// There is none, or it is over.
    Done,
    Looks,
    Found(usize),
    Asks(usize),
    Holds(usize),
    Begins(usize),
    Notes(usize),
    Begun(usize),
    /// Mutant: notes it after the sequence.
    NotesLate(usize, u8),
    Asleep(usize, u8),
    Faults(usize, u8),
    Commits(usize, u8, u8),
    /// With the user lock.
    Installs(usize, u8),
    Puts(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reader {
    pub(super) at: At,
    /// Whether it is in its SRCU section.
    pub(super) section: bool,
    /// The page.
    page: usize,
    /// Whether the page has been in service since it began to look.
    steady: bool,
    /// Whether what it has asked for was accepted.
    accepted: bool,
    /// Whether its fault is on the list of those that no invalidation has met.
    unmet: bool,
    /// Whether something has happened to its page since the fault began, or was going on then.
    disturbed: bool,
}

impl Reader {
    pub(super) fn new(page: Option<usize>) -> Self {
        Self {
            at: if page.is_some() { At::Looks } else { At::Done },
            section: false,
            page: page.unwrap_or(0),
            steady: false,
            accepted: false,
            unmet: false,
            disturbed: false,
        }
    }

    /// `Faults::met()`
    pub(super) fn is_met(&mut self, span: Span) {
        self.unmet &= !pages(span).contains(&self.page);
    }

    /// Something begins to happen to `span`.
    pub(super) fn is_disturbed(&mut self, span: Span) {
        self.disturbed |= pages(span).contains(&self.page);
    }

    /// Whether what it has asked for `page` has not been done in the end, and `range`, which is
    /// there, does not know.
    pub(super) fn is_ignored(
        &self,
        protocol: &Protocol,
        range: &Range,
        page: usize,
        stalled: bool,
    ) -> bool {
        let remembered = match protocol.scenario.asks {
            None => return false,
            Some(Ask::Retire) => false,
            Some(Ask::Punch) => range
                .trim
                .doubtful(range.span, protocol.scenario.grain * PAGE_SIZE)
                .is_some_and(|doubtful| pages(doubtful).contains(&page)),
        };
        self.accepted && page == self.page && !range.inserted && !(remembered && stalled)
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Nobody counts on `page` being in service any more.
    pub(super) fn give_up(&mut self, page: usize) {
        self.steady &= page != self.page;
    }
}

impl Protocol {
    /// Whether it can go on.
    pub(super) fn reader_can(&self, world: &World) -> bool {
        match world.reader.at {
            At::Done => false,
            At::Asleep(_, seq) => world.subscriptions.is_over(seq),
            At::Notes(..) | At::NotesLate(..) | At::Commits(..) => world.user_lock.is_none(),
            _ => true,
        }
    }

    /// Ends the section that it looked up in.
    fn leave(&self, world: &mut World) {
        world.reader.section = false;
        for worker in &mut world.workers {
            worker.waits = false;
        }
    }

    /// The lookup has not found anything.
    fn nothing(&self, world: &mut World, log: &mut Log) -> At {
        say!(log, "finds nothing");
        if world.reader.steady {
            world.broke(Violation::Missed);
        }
        self.leave(world);
        At::Done
    }

    pub(super) fn reader_step(&self, world: &mut World, log: &mut Log) {
        let page = world.reader.page;
        world.reader.at = match world.reader.at {
            At::Looks => {
                say!(log, "looks page {page} up");
                world.reader.section = true;
                world.reader.steady = world.pages[page].wanted;
                match world.found(page) {
                    Some(id) => {
                        say!(log, "finds {}", name(id));
                        At::Found(id)
                    }
                    None => self.nothing(world, log),
                }
            }
            At::Found(id) => {
                let live = world.is_live(id);
                say!(
                    log,
                    "sees {} {}",
                    name(id),
                    if live { "live" } else { "not live" }
                );
                if live && self.scenario.asks.is_some() {
                    At::Asks(id)
                } else if live {
                    At::Holds(id)
                } else {
                    // Who is not live any more may have left the place to others.
                    if !self.is(Mutant::LooksOnce) && world.found(page) != Some(id) {
                        say!(log, "and in the index no more: looks again");
                        At::Looks
                    } else {
                        self.nothing(world, log)
                    }
                }
            }
            At::Asks(id) => {
                let effect = match self.scenario.asks {
                    Some(Ask::Punch) => {
                        let page = span(page, page + 1);
                        world.change(self, id, PendingTrim::unmapped(page), log)
                    }
                    _ => world.retire(self, id, log),
                };
                self.leave(world);
                if effect == Effect::NotLive {
                    At::Looks
                } else {
                    world.reader.accepted = true;
                    At::Done
                }
            }
            At::Holds(id) => {
                let held = world.apply(self, id, Step::Hold) == Effect::None;
                say!(
                    log,
                    "{} {}",
                    if held { "holds" } else { "cannot hold" },
                    name(id)
                );
                self.leave(world);
                if held {
                    At::Begins(id)
                } else if self.is(Mutant::LooksOnce) {
                    self.nothing(world, log)
                } else {
                    At::Looks
                }
            }
            At::Begins(id) => {
                let live = world.is_live(id);
                say!(
                    log,
                    "begins: sees {} {}",
                    name(id),
                    if live { "live" } else { "not live" }
                );
                if !live {
                    At::Puts(id)
                } else if self.is(Mutant::NotesFaultsLate) {
                    At::Begun(id)
                } else {
                    At::Notes(id)
                }
            }
            At::Notes(id) => {
                say!(log, "user lock: notes that it is about page {page}");
                self.note(world);
                if self.is(Mutant::FaultsDoNotWait) {
                    At::Faults(id, world.subscriptions.read_begin(id).0)
                } else {
                    At::Begun(id)
                }
            }
            At::NotesLate(id, seq) => {
                say!(log, "user lock: notes that it is about page {page}");
                self.note(world);
                At::Faults(id, seq)
            }
            At::Begun(id) => {
                world.touch(id);
                let (seq, sleeps) = world.subscriptions.read_begin(id);
                say!(log, "read_begin({}) = {seq}", name(id));
                if sleeps {
                    say!(log, "sleeps");
                    At::Asleep(id, seq)
                } else if self.is(Mutant::NotesFaultsLate) {
                    At::NotesLate(id, seq)
                } else {
                    At::Faults(id, seq)
                }
            }
            At::Asleep(id, seq) => {
                say!(log, "wakes up");
                if self.is(Mutant::NotesFaultsLate) {
                    At::NotesLate(id, seq)
                } else {
                    At::Faults(id, seq)
                }
            }
            At::Faults(id, seq) => {
                let page = &mut world.pages[page];
                if !page.mapped {
                    say!(log, "fault: EFAULT");
                    At::Puts(id)
                } else {
                    let frame = page.pte.unwrap_or(page.fresh);
                    if page.pte.is_none() {
                        page.fresh += 1;
                        page.pte = Some(frame);
                    }
                    say!(log, "fault: finds frame {frame}");
                    At::Commits(id, seq, frame)
                }
            }
            At::Commits(id, seq, frame) => {
                let gone = !world.is_live(id) && !self.is(Mutant::CommitIgnoresState);
                let unmet = world.reader.unmet && !self.is(Mutant::CommitWantsSequence);
                let collided = world.subscriptions.read_retry(id, seq)
                    && !unmet
                    && !self.is(Mutant::CommitIgnoresRetry);
                world.reader.unmet = false;
                if gone || collided {
                    say!(log, "commit: {}", if gone { "Gone" } else { "Collided" });
                    if !gone && !world.reader.disturbed {
                        world.broke(Violation::Starved);
                    }
                    At::Puts(id)
                } else {
                    say!(
                        log,
                        "commit: user lock, {} is live, nothing has happened to page {page}",
                        name(id)
                    );
                    world.user_lock = Some(Owner::Reader);
                    At::Installs(id, frame)
                }
            }
            At::Installs(id, frame) => {
                say!(log, "installs frame {frame}, unlocks");
                world.touch(id);
                world.pages[page].device = Some(frame);
                world.user_lock = None;
                At::Puts(id)
            }
            At::Puts(id) => {
                say!(log, "puts {}", name(id));
                self.put(world, id, log);
                At::Done
            }
            At::Done => unreachable!("it has nothing to do"),
        };
    }

    /// `Faults::begin()`
    fn note(&self, world: &mut World) {
        let page = world.reader.page;
        world.reader.unmet = true;
        world.reader.disturbed = (0..world.invalidators.len()).any(|n| {
            let plan = self.scenario.invalidators[n].as_ref();
            plan.is_some_and(|plan| pages(plan.span()).contains(&page))
                && world.invalidators[n].is_going_on()
        });
    }

    /// `Worker::put()`
    pub(super) fn put(&self, world: &mut World, id: usize, log: &mut Log) {
        if world.apply(self, id, Step::Put) == Effect::Release {
            world.release(id, log);
        }
    }
}
