// SPDX-License-Identifier: GPL-2.0

//! What to do next: by chance, but from one seed, and depending on nothing but the model.
//!
//! How many accesses a mirror should serve without a fault follows from the numbers here. Of 1000
//! operations, 580 are device accesses that may fault. Four of five of them go to the focus, four
//! pages that stay the same for 128 operations: 59 accesses, and 15 elsewhere. In the focus, each
//! page faults once for a load and once for a store, 8 times. About 18 of 128 operations unmap,
//! map, protect, move, or drop memory. They are 12 pages long on average, and a range that is given
//! up as a whole is another 16 pages, so with 512 pages one hits the focus about once in that time,
//! and costs it 8 faults at most. Forks and mappings of everything, which hit whatever there is,
//! come to one each in 4 such times, and with four threads the forks of the others to 3 more
//! faults. Even if each access elsewhere faults, 74 - 15 - 8 - 8 - 2 - 3 = 38 are served from the
//! mirror. Before something is taken away, and after something was mapped, the device is made to
//! look, 23 times in 128 operations. If each of those faults, too, 38 of 97 accesses are served, 39
//! %. [`FLOOR`] leaves room for what the kernel does on its own, which is reclaim, migration and
//! merging.

use crate::{
    device::{How, Reshape},
    model::{Access, Model, PAGES, WORDS},
    op::{Advice, Disturbance, ForkPlan, Op},
};
use fastrand::Rng;
use std::ops::Range;

/// The least share of device accesses, in percent, that take no fault.
pub const FLOOR: u64 = 35;

/// For how many operations the focus stays, and how many pages it has.
const FOCUS_OPS: u64 = 128;
const FOCUS_PAGES: usize = 4;

/// How long what is changed at once may be.
const LONGEST: usize = 16;

pub struct Choice {
    rng: Rng,
    focus: usize,
    left: u64,
    threads: usize,
    thread: usize,
}

impl Choice {
    /// For one of some threads, each of which makes its own choices of the same seed.
    pub fn new(seed: u64, thread: usize, threads: usize) -> Self {
        let mut seeds = Rng::with_seed(seed);
        let own = (0..=thread).map(|_| seeds.u64(..)).last();
        Self {
            rng: Rng::with_seed(own.unwrap_or(seed)),
            focus: 0,
            left: 0,
            threads,
            thread,
        }
    }

    pub fn next(&mut self, model: &Model) -> Op {
        if self.left == 0 {
            self.left = FOCUS_OPS;
            self.focus = self.usable_page(model).min(PAGES - FOCUS_PAGES);
        }
        self.left -= 1;

        // Thousandths, in the order of the table.
        match self.rng.u32(..1000) {
            0..330 => self.device_load(How::Fault, model),
            330..580 => self.device_store(How::Fault, model),
            580..630 => self.device_load(How::Cached, model),
            630..660 => self.device_store(How::Cached, model),
            660..740 => {
                let (page, word) = self.accessed(model);
                Op::CpuLoad { page, word }
            }
            740..850 => {
                let (page, word) = self.accessed(model);
                Op::CpuStore { page, word }
            }
            850..872 => {
                let pages = self.run(2 * LONGEST);
                self.map(pages)
            }
            872..874 => self.map(0..PAGES),
            874..895 => {
                let (pages, warm) = self.run_and_page(LONGEST);
                Op::Unmap { pages, warm }
            }
            895..925 => {
                let (pages, warm) = self.run_and_page(LONGEST);
                let access = match self.rng.u32(..20) {
                    0..3 => Access::Nothing,
                    3..9 => Access::Load,
                    _ => Access::Store,
                };
                Op::Protect {
                    pages,
                    access,
                    warm,
                }
            }
            925..940 => {
                let (pages, warm) = self.run_and_page(LONGEST);
                Op::Clear { pages, warm }
            }
            940..955 => self.advise(Advice::PageOut),
            955..958 => self.advise(Advice::Cold),
            958..960 => self.reshape(Reshape::Merge),
            960..961 => self.reshape(Reshape::Grow),
            961..965 => self.advise(Advice::Mergeable),
            965..968 => self.advise(Advice::HugePage),
            968..978 => self.relocate(false),
            978..983 => self.relocate(true),
            983..987 => {
                let (pages, warm) = self.run_and_page(LONGEST);
                let left = self.rng.usize(..pages.len()).max(1);
                Op::Shrink { pages, left, warm }
            }
            987..993 => {
                let pages = self.run(LONGEST);
                let more = self.rng.usize(1..=LONGEST);
                Op::Grow { pages, more }
            }
            993..995 => Op::Fork {
                plan: self.fork(model),
            },
            995..999 => Op::Disturb {
                thread: self.another(),
                pages: self.run(LONGEST),
                how: match self.rng.u32(..3) {
                    0 => Disturbance::Cold,
                    1 => Disturbance::PageOut,
                    _ => Disturbance::Migrate,
                },
            },
            _ => Op::Flush {
                released: self.rng.bool(),
            },
        }
    }

    fn device_load(&mut self, how: How, model: &Model) -> Op {
        let (page, word) = self.accessed(model);
        Op::DeviceLoad { page, word, how }
    }

    fn device_store(&mut self, how: How, model: &Model) -> Op {
        let (page, word) = self.accessed(model);
        Op::DeviceStore { page, word, how }
    }

    /// In the focus, four times of five.
    fn accessed(&mut self, model: &Model) -> (usize, usize) {
        let word = self.rng.usize(..WORDS);
        if self.rng.u32(..5) == 0 {
            return (self.rng.usize(..PAGES), word);
        }
        let page = self.focus + self.rng.usize(..FOCUS_PAGES);
        // What can no longer be accessed is tried a few times, then the focus goes elsewhere.
        if !model.can_load(page) && self.rng.u32(..4) == 0 {
            self.left = 0;
        }
        (page, word)
    }

    /// One that can be stored to, if a few tries find one.
    fn usable_page(&mut self, model: &Model) -> usize {
        for _ in 0..16 {
            let page = self.rng.usize(..PAGES);
            if model.can_store(page) {
                return page;
            }
        }
        self.rng.usize(..PAGES)
    }

    fn run(&mut self, longest: usize) -> Range<usize> {
        let start = self.rng.usize(..PAGES);
        start..(start + self.rng.usize(1..=longest)).min(PAGES)
    }

    /// A run, and a page in it.
    fn run_and_page(&mut self, longest: usize) -> (Range<usize>, usize) {
        let pages = self.run(longest);
        let page = self.rng.usize(pages.clone());
        (pages, page)
    }

    fn map(&mut self, pages: Range<usize>) -> Op {
        Op::Map {
            warm: self.rng.usize(pages.clone()),
            access: if self.rng.u32(..8) == 0 {
                Access::Load
            } else {
                Access::Store
            },
            pages,
        }
    }

    fn advise(&mut self, advice: Advice) -> Op {
        Op::Advise {
            pages: match advice {
                // Which is about all of it.
                Advice::HugePage => 0..PAGES,
                _ => self.run(LONGEST),
            },
            advice,
        }
    }

    /// Of windows, so that there are whole ranges in them.
    fn reshape(&mut self, how: Reshape) -> Op {
        let (pages, page) = self.run_and_page(2 * LONGEST);
        let start = pages.start / LONGEST * LONGEST;
        let end = pages.end.next_multiple_of(LONGEST).min(PAGES);
        Op::Reshape {
            page,
            pages: start..end,
            how,
        }
    }

    fn relocate(&mut self, keep: bool) -> Op {
        let (from, warm) = self.run_and_page(LONGEST);
        // Not onto itself.
        let room = PAGES - 2 * from.len();
        let to = (from.end + self.rng.usize(..=room)) % PAGES;
        let to = if to + from.len() > PAGES { 0 } else { to };
        let (from, to) = if to < from.end && from.start < to + from.len() {
            (0..from.len(), PAGES - from.len())
        } else {
            (from, to)
        };
        Op::Relocate {
            warm: warm.clamp(from.start, from.end - 1),
            from,
            to,
            keep,
        }
    }

    fn fork(&mut self, model: &Model) -> ForkPlan {
        let mut place = || (self.usable_page(model), self.rng.usize(..WORDS));
        ForkPlan {
            by_parent: place(),
            by_device: place(),
            by_child: place(),
            compared: self.run(LONGEST),
        }
    }

    fn another(&mut self) -> usize {
        if self.threads == 1 {
            return self.thread;
        }
        let other = self.rng.usize(..self.threads - 1);
        other + usize::from(other >= self.thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_the_same_choices() {
        let model = Model::new(crate::device::Policy::Retire);
        let ops = |seed, thread| {
            let mut choice = Choice::new(seed, thread, 3);
            (0..1000).map(|_| choice.next(&model)).collect::<Vec<_>>()
        };
        assert_eq!(ops(7, 1), ops(7, 1));
        assert_ne!(ops(7, 1), ops(7, 2));
        assert_ne!(ops(7, 1), ops(8, 1));
    }

    #[test]
    fn what_is_moved_does_not_overlap_itself() {
        let model = Model::new(crate::device::Policy::Retire);
        let mut choice = Choice::new(1, 0, 1);
        let mut moves = 0;
        for _ in 0..100_000 {
            if let Op::Relocate { from, to, warm, .. } = choice.next(&model) {
                moves += 1;
                let target = to..to + from.len();
                assert!(from.contains(&warm) && !from.is_empty());
                assert!(from.end <= PAGES && target.end <= PAGES);
                assert!(target.end <= from.start || from.end <= target.start);
            }
        }
        assert!(moves > 1000);
    }
}
