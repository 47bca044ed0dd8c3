// SPDX-License-Identifier: GPL-2.0

//! The tree of the index, with objects that give up addresses while they are in it.

use kernel::prelude::*;

#[kunit_tests(odp_range_tree)]
mod tests {
    use crate::{
        check::check_eq,
        tally::Tally,
        thread::{
            give_way,
            Thread, //
        }, //
    };
    use core::ptr::NonNull;
    use kernel::{
        container_of,
        page::PAGE_SIZE,
        prelude::*,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        }, //
    };
    use odp::{
        range_tree::{
            Indexed,
            Place,
            RangeTree, //
        },
        Span, //
    };

    /// Pages, of which it gives up some at either end.
    struct Pages {
        place: Place,
        number: usize,
        first: Atomic<usize>,
        behind: Atomic<usize>,
    }

    // SAFETY: The place is a field, and each function goes one step, there and back. A test stores
    // a later first page or an earlier end only, and leaves a page between them. So whichever of
    // them are loaded, they are the bounds of a span, and of no more than before.
    unsafe impl Indexed for Pages {
        fn span(&self) -> Span {
            let (first, behind) = (self.first.load(Relaxed), self.behind.load(Relaxed));
            Span::from_bounds(first * PAGE_SIZE, behind * PAGE_SIZE).unwrap_or(Span::ALL)
        }

        unsafe fn place(this: NonNull<Self>) -> NonNull<Place> {
            // SAFETY: By the safety requirements it is valid, and so is its field.
            let place = unsafe { &raw mut (*this.as_ptr()).place };
            // SAFETY: A field of something valid is not at address null.
            unsafe { NonNull::new_unchecked(place) }
        }

        unsafe fn of_place(place: NonNull<Place>) -> NonNull<Self> {
            // SAFETY: By the safety requirements it is a field of an object.
            let this = unsafe { container_of!(place.as_ptr(), Self, place) };
            // SAFETY: What a field is part of is not at address null.
            unsafe { NonNull::new_unchecked(this) }
        }
    }

    /// A tree of them, which they outlive.
    struct Forest {
        tree: Pin<KBox<RangeTree<Pages>>>,
        all: KVVec<Pages>,
    }

    impl Forest {
        /// None in the tree, and one for each first page and page behind it.
        fn new(all: impl Iterator<Item = (usize, usize)>) -> Result<Self> {
            let mut objects = KVVec::new();
            for (number, (first, behind)) in all.enumerate() {
                let object = Pages {
                    place: Place::new(),
                    number,
                    first: Atomic::new(first),
                    behind: Atomic::new(behind),
                };
                objects.push(object, GFP_KERNEL)?;
            }
            Ok(Self {
                tree: KBox::pin_init(RangeTree::new(), GFP_KERNEL)?,
                all: objects,
            })
        }

        fn object(&self, n: usize) -> Result<&Pages> {
            self.all.get(n).ok_or(EINVAL)
        }

        /// Puts one there that has not been there; answers which is in its way.
        fn put(&self, n: usize) -> Result<Result<(), usize>> {
            let object = NonNull::from(self.object(n)?);
            // SAFETY: They outlive the tree. A test puts there what is in no tree; nobody looks at
            // it any more, because it was in none before, or because there is no other thread.
            let put = unsafe { self.tree.change().try_put(object) };
            // SAFETY: As above.
            Ok(put.map_err(|other| unsafe { other.as_ref() }.number))
        }

        fn take_out(&self, n: usize) -> Result<bool> {
            let object = NonNull::from(self.object(n)?);
            // SAFETY: It is valid, and in no other tree.
            Ok(unsafe { self.tree.change().take_out(object) })
        }

        fn at(&self, page: usize) -> Option<usize> {
            // SAFETY: They outlive the tree.
            let object = unsafe { self.tree.load(page * PAGE_SIZE) }?;
            // SAFETY: As above.
            Some(unsafe { object.as_ref() }.number)
        }
    }

    /// In an order drawn at random, always the same: objects come and go, and become smaller until
    /// one page is left.
    #[test]
    fn a_tree_is_as_an_array() -> Result {
        const PAGES: usize = 48;
        const STEPS: u32 = 20_000;
        const NOBODY: usize = usize::MAX;

        // One for each span of up to 9 pages.
        let spans =
            (0..PAGES).flat_map(|first| (1..10.min(PAGES - first + 1)).map(move |n| (first, n)));
        let forest = Forest::new(spans.map(|(first, count)| (first, first + count)))?;
        let mut owners = [NOBODY; PAGES];
        // Numerical Recipes' generator, with a fixed seed.
        let mut random = 1u32;
        let mut below = |limit: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % limit.max(1)
        };
        for _ in 0..STEPS {
            let n = below(forest.all.len());
            let object = forest.object(n)?;
            let (first, behind) = (object.first.load(Relaxed), object.behind.load(Relaxed));
            let there = owners.contains(&n);
            match below(4) {
                0 if there => {
                    check_eq!(forest.take_out(n)?, true);
                    owners
                        .iter_mut()
                        .filter(|owner| **owner == n)
                        .for_each(|owner| *owner = NOBODY);
                }
                0 => check_eq!(forest.take_out(n)?, false),
                1 if there && behind - first > 1 => {
                    object.first.store(first + 1, Relaxed);
                    owners[first] = NOBODY;
                }
                2 if there && behind - first > 1 => {
                    object.behind.store(behind - 1, Relaxed);
                    owners[behind - 1] = NOBODY;
                }
                _ if there => {}
                _ => {
                    let in_the_way = |other: &usize| owners[first..behind].contains(other);
                    match forest.put(n)? {
                        Ok(()) => {
                            check_eq!(owners[first..behind].iter().all(|n| *n == NOBODY), true);
                            owners[first..behind].fill(n);
                        }
                        Err(other) => check_eq!(in_the_way(&other), true),
                    }
                }
            }
            let page = below(PAGES);
            let owner = owners[page];
            check_eq!(forest.at(page), (owner != NOBODY).then_some(owner));
        }
        for (page, owner) in owners.into_iter().enumerate() {
            check_eq!(forest.at(page), (owner != NOBODY).then_some(owner));
        }
        Ok(())
    }

    /// A page is found as that of whoever has it all the time, while what is beside it is given up,
    /// and others take that.
    #[test]
    fn what_is_kept_is_found() -> Result {
        (0..ROUNDS).try_for_each(|_| look_while_others_take())
    }

    /// In how many trees, one after the other.
    const ROUNDS: usize = 40;

    fn look_while_others_take() -> Result {
        const OBJECTS: usize = 200;
        const EACH: usize = 9;
        const KEPT: usize = EACH / 2;

        let old = (0..OBJECTS).map(|n| (n * EACH, (n + 1) * EACH));
        let new = (0..OBJECTS * EACH).map(|page| (page, page + 1));
        let forest = Arc::new(Forest::new(Iterator::chain(old, new))?, GFP_KERNEL)?;
        for n in 0..OBJECTS {
            check_eq!(forest.put(n)?, Ok(()));
        }
        let (missed, wrong) = (Tally::new("missed")?, Tally::new("wrong")?);
        let (mut readers, mut rounds) = (KVec::new(), KVec::new());
        for first in [0, OBJECTS / 2] {
            let (forest, missed, wrong) = (forest.clone(), missed.clone(), wrong.clone());
            let round = Tally::new("rounds of a reader")?;
            rounds.push(round.clone(), GFP_KERNEL)?;
            let reader = move |stop: &Tally| {
                let mut n = first;
                while stop.get() == 0 {
                    for _ in 0..OBJECTS {
                        n = (n + 7) % OBJECTS;
                        for page in 0..EACH {
                            let number = forest.at(n * EACH + page);
                            // Nobody has it for a moment, or the one after the other.
                            let may_be = [None, Some(n), Some(OBJECTS + n * EACH + page)];
                            if page == KEPT && number.is_none() {
                                missed.inc();
                            } else if !may_be.contains(&number)
                                || (page == KEPT && number != Some(n))
                            {
                                wrong.inc();
                            }
                        }
                    }
                    round.inc();
                    give_way();
                }
            };
            readers.push(Thread::with(reader)?, GFP_KERNEL)?;
        }
        for step in 0..KEPT {
            // Nothing is right only because nobody has looked.
            for round in &rounds {
                round.wait_for(round.get() + 1)?;
            }
            for n in 0..OBJECTS {
                let object = forest.object(n)?;
                let (first, behind) = (n * EACH + step, (n + 1) * EACH - step - 1);
                object.first.store(first + 1, Relaxed);
                check_eq!(forest.put(OBJECTS + first)?, Ok(()));
                object.behind.store(behind, Relaxed);
                check_eq!(forest.put(OBJECTS + behind)?, Ok(()));
            }
            give_way();
        }
        for reader in &readers {
            reader.stop()?;
        }
        check_eq!((missed.get(), wrong.get()), (0, 0));
        for page in 0..OBJECTS * EACH {
            let n = if page % EACH == KEPT {
                page / EACH
            } else {
                OBJECTS + page
            };
            check_eq!(forest.at(page), Some(n));
        }
        Ok(())
    }
}
