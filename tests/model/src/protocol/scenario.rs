// SPDX-License-Identifier: GPL-2.0

//! Who is there and what they are about to do. Each scenario is searched on its own.

use super::{
    invalidator::{
        Kind,
        Plan,
        Policy, //
    },
    reader::Ask,
    user::Op,
    world::PAGES, //
};

#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) invalidators: [Option<Plan>; 2],
    /// The page that is mapped again, once, after it has been unmapped.
    pub(super) remaps: Option<usize>,
    /// The page that a device faults on.
    pub(super) reader: Option<usize>,
    /// What is asked for instead.
    pub(super) asks: Option<Ask>,
    /// A page that is not mapped, and nobody has told the driver.
    pub(super) unmapped: Option<usize>,
    /// What the holder of the first range does.
    pub(super) user: &'static [Op],
    /// Whether there is a caller of drain besides the worker.
    pub(super) drain: bool,
    /// Whether core mm removes notifiers in two steps.
    pub(super) in_steps: bool,
    /// How often memory can run out.
    pub(super) failures: u8,
    /// What pieces are rounded to, in pages.
    pub(super) grain: usize,
    /// The first range is at the pages from 0 to before this.
    pub(super) end: usize,
    /// Whether a second one is at the others.
    pub(super) second: bool,
    /// Whether that is at one of them, and a third one at the rest.
    pub(super) third: bool,
}

impl Scenario {
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            invalidators: [None; 2],
            remaps: None,
            reader: None,
            asks: None,
            unmapped: None,
            user: &[],
            drain: false,
            in_steps: false,
            failures: 0,
            grain: 1,
            end: PAGES,
            second: false,
            third: false,
        }
    }

    pub(super) const fn event(
        mut self,
        kind: Kind,
        first: usize,
        end: usize,
        policy: Policy,
    ) -> Self {
        let n = if self.invalidators[0].is_none() { 0 } else { 1 };
        self.invalidators[n] = Some(Plan {
            kind,
            first,
            end,
            policy,
        });
        self
    }

    /// munmap(), and the driver punches.
    pub(super) const fn punch(self, first: usize, end: usize) -> Self {
        self.event(Kind::Unmap, first, end, Policy::Punch)
    }

    /// munmap(), and the driver retires.
    pub(super) const fn retire(self, first: usize, end: usize) -> Self {
        self.event(Kind::Unmap, first, end, Policy::Retire)
    }

    /// munmap(), and the driver resizes.
    pub(super) const fn keep(self, first: usize, end: usize, keep: (usize, usize)) -> Self {
        self.event(Kind::Unmap, first, end, Policy::Keep(keep.0, keep.1))
    }

    pub(super) const fn clear(self, first: usize, end: usize) -> Self {
        self.event(Kind::Clear, first, end, Policy::Retire)
    }

    pub(super) const fn try_clear(self, first: usize, end: usize) -> Self {
        self.event(Kind::TryClear, first, end, Policy::Retire)
    }

    pub(super) const fn exit(self) -> Self {
        self.event(Kind::Exit, 0, PAGES, Policy::Retire)
    }

    pub(super) const fn remaps(mut self, page: usize) -> Self {
        self.remaps = Some(page);
        self
    }

    pub(super) const fn reader(mut self, page: usize) -> Self {
        self.reader = Some(page);
        self
    }

    /// `page` is not mapped, and nobody has been told.
    pub(super) const fn unmapped(mut self, page: usize) -> Self {
        self.unmapped = Some(page);
        self
    }

    /// The first range is at the pages before this.
    pub(super) const fn end(mut self, end: usize) -> Self {
        self.end = end;
        self
    }

    /// The first range is at the pages before this, and a second one at the others.
    pub(super) const fn two(mut self, end: usize) -> Self {
        self.end = end;
        self.second = true;
        self
    }

    /// Three ranges of a page each.
    pub(super) const fn three(mut self) -> Self {
        self.third = true;
        self.two(1)
    }

    /// Who finds `page` has what he finds retired.
    pub(super) const fn retires(mut self, page: usize) -> Self {
        self.reader = Some(page);
        self.asks = Some(Ask::Retire);
        self
    }

    /// `page` is not mapped, and who finds it punches it.
    pub(super) const fn punches(mut self, page: usize) -> Self {
        self.reader = Some(page);
        self.asks = Some(Ask::Punch);
        self.unmapped = Some(page);
        self
    }

    pub(super) const fn user(mut self, ops: &'static [Op]) -> Self {
        self.user = ops;
        self
    }

    pub(super) const fn drain(mut self) -> Self {
        self.drain = true;
        self
    }

    pub(super) const fn in_steps(mut self) -> Self {
        self.in_steps = true;
        self
    }

    pub(super) const fn failures(mut self, failures: u8) -> Self {
        self.failures = failures;
        self
    }

    pub(super) const fn grain(mut self, grain: usize) -> Self {
        self.grain = grain;
        self
    }
}

/// What is searched.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario::new("a hole, and a fault beside it")
        .punch(1, 2)
        .reader(0),
    Scenario::new("a hole that is mapped again, and a fault in it")
        .punch(1, 2)
        .reader(1)
        .remaps(1),
    Scenario::new("a hole, and its edge is wanted no more")
        .punch(1, 2)
        .grain(2)
        .reader(0),
    Scenario::new("a hole, and memory runs out")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Retry, Op::Put])
        .failures(1),
    Scenario::new("a hole, memory runs out, and a retire")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Retire, Op::Put])
        .failures(1),
    Scenario::new("a hole, memory runs out, and what is found is retired")
        .punch(1, 2)
        .retires(0)
        .failures(1),
    Scenario::new("a hole, memory runs out, and what is found is punched")
        .punch(1, 2)
        .punches(0)
        .user(&[Op::Retry, Op::Put])
        .failures(1),
    Scenario::new("a hole, memory runs out, and another takes the place of what is found")
        .punch(1, 2)
        .retires(0)
        .user(&[Op::Put, Op::Insert(0, 1)])
        .failures(1),
    Scenario::new("a hole, pages that are cleared, and memory runs out")
        .punch(1, 2)
        .clear(0, 1)
        .reader(0)
        .failures(1),
    Scenario::new("a hole, memory runs out, and the range is removed")
        .punch(1, 2)
        .clear(0, 1)
        .user(&[Op::Remove])
        .failures(1),
    Scenario::new("two holes that meet, and a fault in one")
        .punch(1, 2)
        .punch(0, 1)
        .reader(0),
    Scenario::new("two holes, and a fault between them")
        .punch(0, 1)
        .punch(2, 3)
        .reader(1),
    Scenario::new("two holes that are all, and a fault")
        .punch(0, 2)
        .punch(2, 3)
        .reader(2),
    Scenario::new("two holes, one is mapped again, and a fault in it")
        .punch(1, 2)
        .punch(0, 1)
        .reader(0)
        .remaps(0),
    Scenario::new("two holes, and a drain")
        .punch(1, 2)
        .punch(0, 1)
        .drain(),
    Scenario::new("two holes, a drain, and a fault")
        .punch(1, 2)
        .punch(0, 1)
        .reader(2)
        .drain(),
    Scenario::new("two holes, and memory runs out")
        .punch(1, 2)
        .punch(0, 1)
        .failures(1)
        .user(&[Op::Retry, Op::Put]),
    Scenario::new("a hole, and the range is retired in a callback")
        .punch(1, 2)
        .retire(0, 1)
        .reader(0),
    Scenario::new("a hole, and the range is retired from outside")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Retire, Op::Put]),
    Scenario::new("a hole, and everything is retired")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::RetireAll, Op::Put]),
    Scenario::new("a hole, and the range is removed")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Remove]),
    Scenario::new("a hole, and another range takes the place")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Retire, Op::Put, Op::Insert(0, 2)]),
    Scenario::new("a hole, and pages that are cleared")
        .punch(1, 2)
        .clear(0, 2)
        .reader(0),
    Scenario::new("a hole, and pages that are cleared without a sleep")
        .punch(1, 2)
        .try_clear(0, 2)
        .reader(0),
    Scenario::new("pages that are cleared, and a fault on one")
        .clear(0, 2)
        .try_clear(1, 3)
        .reader(1),
    Scenario::new("pages on both sides of a fault that are cleared")
        .clear(0, 1)
        .clear(2, 3)
        .reader(1),
    Scenario::new("a hole beside a fault, and pages that are cleared on its other side")
        .clear(0, 1)
        .punch(2, 3)
        .reader(1),
    Scenario::new("a hole, and the end of the process")
        .punch(1, 2)
        .exit()
        .reader(0),
    Scenario::new("the range is resized from two sides")
        .keep(2, 3, (0, 2))
        .reader(0)
        .user(&[Op::Keep(1, 3), Op::Put]),
    Scenario::new("the range is retired, and a fault")
        .retire(0, 1)
        .reader(0),
    Scenario::new("the range is retired, mapped again, and a fault")
        .retire(0, 1)
        .reader(0)
        .remaps(0),
    Scenario::new("the range is retired, and another takes the place")
        .retire(0, 1)
        .clear(1, 2)
        .reader(1)
        .user(&[Op::Put, Op::Insert(0, 2)]),
    Scenario::new("the range is retired, and another takes all of the place")
        .retire(0, 1)
        .reader(1)
        .user(&[Op::Put, Op::Insert(0, PAGES)]),
    Scenario::new("the range is retired twice, and a drain")
        .retire(0, 1)
        .retire(1, 2)
        .reader(1)
        .drain(),
    Scenario::new("the range is retired twice, and a drain, in steps")
        .retire(0, 1)
        .retire(1, 2)
        .reader(1)
        .drain()
        .in_steps(),
    Scenario::new("a hole, and the range is retired from outside, in steps")
        .punch(1, 2)
        .reader(0)
        .user(&[Op::Retire, Op::Put])
        .in_steps(),
    Scenario::new("two holes, and a drain, in steps")
        .punch(1, 2)
        .punch(0, 1)
        .drain()
        .in_steps(),
    Scenario::new("an insertion while pages are cleared, and all that is inserted is unmapped")
        .end(1)
        .clear(0, 1)
        .punch(1, 3)
        .reader(2)
        .user(&[Op::InsertMapped(1, 3), Op::Put]),
    Scenario::new("an insertion while pages are cleared, and a hole in what is inserted")
        .end(1)
        .clear(0, 1)
        .punch(1, 2)
        .user(&[Op::InsertMapped(1, 3), Op::Put]),
    Scenario::new("an insertion beside a hole, and a hole in what is inserted")
        .end(1)
        .punch(0, 1)
        .punch(1, 2)
        .user(&[Op::InsertMapped(1, 3), Op::Put]),
    Scenario::new("an insertion where a page was never mapped, and a hole beside that")
        .end(1)
        .unmapped(2)
        .clear(0, 1)
        .punch(1, 2)
        .user(&[Op::InsertMapped(1, 3), Op::Put]),
    Scenario::new("an insertion where a page was never mapped, and memory runs out")
        .end(1)
        .unmapped(2)
        .punch(1, 2)
        .user(&[Op::InsertMapped(1, 3), Op::Retry, Op::Put])
        .failures(1),
    Scenario::new("growth, and a fault in what is added")
        .end(2)
        .clear(1, 3)
        .reader(2)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("growth while pages are cleared, and what is added is unmapped")
        .end(2)
        .clear(0, 1)
        .punch(2, 3)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("growth, and a hole")
        .end(2)
        .punch(0, 1)
        .reader(1)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("growth, and another where it is to grow")
        .end(1)
        .clear(0, 1)
        .reader(1)
        .user(&[Op::Grow(0, 2), Op::TryInsert(1, 3), Op::Put]),
    Scenario::new("growth to where another is that is retired")
        .two(1)
        .retire(1, 2)
        .reader(2)
        .user(&[Op::Grow(0, 2), Op::Put]),
    Scenario::new("growth, and another where it is to grow is retired before it is published")
        .end(1)
        .retire(2, 3)
        .reader(1)
        .user(&[Op::Grow(0, 2), Op::TryInsert(1, 3), Op::Put]),
    Scenario::new("growth, and the range is retired in a callback")
        .end(2)
        .retire(0, 1)
        .reader(1)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("growth, and what is added is retired in a callback")
        .end(2)
        .retire(2, 3)
        .reader(1)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("growth, and memory runs out")
        .end(2)
        .clear(0, 1)
        .reader(2)
        .user(&[Op::GrowMapped(0, 3), Op::Retry, Op::Put])
        .failures(1),
    Scenario::new("growth, and the end of the process")
        .end(2)
        .exit()
        .reader(0)
        .user(&[Op::GrowMapped(0, 3), Op::Put]),
    Scenario::new("two become one, and a fault")
        .two(1)
        .clear(1, 3)
        .reader(1)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one while pages are cleared, and a hole in the second")
        .two(1)
        .clear(0, 1)
        .punch(1, 2)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one, and a hole in the first")
        .two(2)
        .punch(0, 1)
        .reader(2)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one, and the second is retired from outside")
        .two(1)
        .clear(0, 2)
        .retires(2)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one, and the first is retired from outside")
        .two(1)
        .clear(0, 2)
        .reader(2)
        .user(&[Op::Merge, Op::Retire, Op::Put]),
    Scenario::new("two become one, and the second is retired in a callback")
        .two(1)
        .retire(2, 3)
        .reader(0)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one, and the second loses its edge")
        .two(1)
        .clear(0, 1)
        .user(&[Op::Merge, Op::KeepSecond(1, 2), Op::Put]),
    Scenario::new("two become one, and the second loses the edge beside the first")
        .two(1)
        .clear(0, 1)
        .user(&[Op::Merge, Op::KeepSecond(2, 3), Op::Put]),
    Scenario::new("two become one, and the first was to keep what it has")
        .two(1)
        .punch(2, 3)
        .user(&[Op::Keep(0, 1), Op::Merge, Op::Put]),
    Scenario::new("two that both ask become one, and a drain")
        .two(1)
        .user(&[Op::Merge, Op::MergeAt(2), Op::Put])
        .drain(),
    Scenario::new("two that both ask become one while pages are cleared")
        .two(1)
        .clear(0, 3)
        .reader(2)
        .user(&[Op::MergeAt(2), Op::Merge, Op::Put]),
    Scenario::new("three that all ask become one")
        .three()
        .user(&[Op::Merge, Op::MergeAt(1), Op::MergeAt(2), Op::Put])
        .drain(),
    Scenario::new("three become one, and who asked is retired")
        .three()
        .retires(1)
        .user(&[Op::MergeAt(1), Op::Put]),
    Scenario::new("two become one, and memory runs out")
        .two(1)
        .punch(2, 3)
        .user(&[Op::Merge, Op::Retry, Op::Put])
        .failures(1),
    Scenario::new("two become one, and a drain")
        .two(1)
        .punch(1, 2)
        .user(&[Op::Merge, Op::Put])
        .drain(),
    Scenario::new("two become one, and the end of the process")
        .two(1)
        .exit()
        .reader(2)
        .user(&[Op::Merge, Op::Put]),
    Scenario::new("two become one, and the first is removed")
        .two(1)
        .clear(0, 2)
        .user(&[Op::Merge, Op::Remove]),
    Scenario::new("an insertion while pages are cleared, and the end of the process")
        .end(1)
        .clear(0, 1)
        .exit()
        .user(&[Op::InsertMapped(1, 3), Op::Put]),
];
