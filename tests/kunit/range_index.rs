// SPDX-License-Identifier: GPL-2.0

//! The index, by itself.

use kernel::prelude::*;

#[kunit_tests(odp_range_index)]
mod tests {
    use crate::{
        check::check_eq,
        thread::{
            give_way,
            Thread, //
        }, //
    };
    use core::ptr::NonNull;
    use kernel::{
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
        range_index::{
            RangeIndex,
            ReplaceError, //
        },
        range_tree::Place,
        Span, //
    };

    struct Number {
        place: Place,
        span: Span,
        number: usize,
    }

    odp::impl_indexed!(Number, place, span);

    /// An index of numbers, which outlive it.
    struct Numbers {
        index: Arc<RangeIndex<Number>>,
        numbers: KVVec<Number>,
    }

    impl Numbers {
        /// With nothing in it, and a number for each span.
        fn none(spans: impl Iterator<Item = Result<Span>>) -> Result<Self> {
            let mut numbers = KVVec::new();
            for (number, span) in spans.enumerate() {
                let number = Number {
                    place: Place::new(),
                    span: span?,
                    number,
                };
                numbers.push(number, GFP_KERNEL)?;
            }
            let index = Arc::pin_init(RangeIndex::new(), GFP_KERNEL)?;
            Ok(Self { index, numbers })
        }

        /// With a page for each number below `count`, one after the other, in some order.
        fn new(count: usize, order: fn(usize, usize) -> usize) -> Result<Self> {
            let this = Self::none((0..count).map(|n| pages(n, 1)))?;
            for n in 0..count {
                this.insert(order(n, count))?;
            }
            Ok(this)
        }

        /// A number, to be an object of the index.
        fn number(&self, n: usize) -> Result<NonNull<Number>> {
            self.numbers.get(n).map(NonNull::from).ok_or(EINVAL)
        }

        /// Puts one where nothing is.
        fn insert(&self, n: usize) -> Result {
            let number = self.number(n)?;
            // SAFETY: The numbers outlive the index, and each test puts each there once, or has no
            // other thread.
            unsafe { self.index.insert(number, |_| Err(EEXIST)) }
        }

        /// Says which of them were there.
        fn erase(&self, numbers: impl Iterator<Item = usize>) -> Result<KVVec<usize>> {
            let mut objects = KVVec::new();
            for n in numbers {
                objects.push(self.number(n)?, GFP_KERNEL)?;
            }
            let mut erased = KVVec::with_capacity(objects.len(), GFP_KERNEL)?;
            // SAFETY: They are valid, and in no other index.
            unsafe {
                self.index.erase(objects.iter().copied(), |number| {
                    let _ = erased.push(number.number, GFP_KERNEL);
                })
            };
            Ok(erased)
        }

        /// Puts some in the place of what is there, if `stays` is not; says what was asked about
        /// because it was in the way and not `old`, and whether it was called when they were there.
        fn replace(
            &self,
            pieces: core::ops::Range<usize>,
            wanted: bool,
            old: core::ops::Range<usize>,
            stays: usize,
        ) -> Result<(Result<(), ReplaceError>, KVVec<usize>, bool)> {
            let mut objects = KVVec::new();
            for n in pieces {
                objects.push(self.number(n)?, GFP_KERNEL)?;
            }
            let (mut asked, mut done) = (KVVec::new(), false);
            // SAFETY: As for `insert`; and each test has them lie side by side.
            let replaced = unsafe {
                self.index.replace(
                    objects.iter().copied(),
                    || wanted,
                    |other| old.contains(&other.number),
                    |other| {
                        let _ = asked.push(other.number, GFP_KERNEL);
                        other.number != stays
                    },
                    || done = true,
                )
            };
            Ok((replaced, asked, done))
        }

        fn at(&self, page: usize) -> Option<usize> {
            // SAFETY: The numbers outlive the index.
            let number = unsafe { self.index.load(pages(page, 1).ok()?.start()) }?;
            // SAFETY: As above.
            Some(unsafe { number.as_ref() }.number)
        }

        /// How many there are; all of them are in order of address, and in nobody else's way.
        fn count(&self) -> Result<usize> {
            let (mut count, mut behind, mut in_order) = (0, 0, true);
            self.index.for_each(|number| {
                in_order &= number.span.start() >= behind;
                behind = number.span.end();
                count += 1;
            });
            check_eq!(in_order, true);
            Ok(count)
        }
    }

    fn pages(first: usize, count: usize) -> Result<Span> {
        Ok(Span::new((first + 1) * PAGE_SIZE, count * PAGE_SIZE)?)
    }

    /// Up, down, from the middle on, and all over; not for multiples of 7.
    const ORDERS: [fn(usize, usize) -> usize; 4] = [
        |n, _| n,
        |n, count| count - 1 - n,
        |n, count| (n + count / 2).checked_rem(count).unwrap_or(n),
        |n, count| (n * 7).checked_rem(count).unwrap_or(n),
    ];

    #[test]
    fn a_few_are_looked_at_at_a_time() -> Result {
        const COUNT: usize = 100;
        let numbers = Numbers::new(COUNT, ORDERS[3])?;
        for most in [1, 7, COUNT] {
            let (mut seen, mut next) = (0, Some(0));
            while let Some(from) = next {
                let before = seen;
                next = numbers.index.lock().look_at(from, most, |number| {
                    let in_order = number.number == seen;
                    seen += usize::from(in_order);
                    in_order
                });
                check_eq!(seen - before <= most, true);
            }
            check_eq!(seen, COUNT);
        }
        // It goes on behind the one that was enough.
        let mut seen = 0;
        let next = numbers.index.lock().look_at(0, COUNT, |_| {
            seen += 1;
            seen < 3
        });
        check_eq!(seen, 3);
        check_eq!(next, Some(pages(3, 1)?.start()));
        Ok(())
    }

    #[test]
    fn what_is_erased_is_not_found_and_all_else_is() -> Result {
        const COUNT: usize = 100;
        for order in ORDERS {
            let numbers = Numbers::new(COUNT, order)?;
            for erased in 0..COUNT {
                let n = order(erased, COUNT);
                check_eq!(numbers.at(n), Some(n));
                check_eq!(&numbers.erase([n].into_iter())?[..], &[n]);
                check_eq!(numbers.at(n), None);
                check_eq!(numbers.erase([n].into_iter())?.len(), 0);
                check_eq!(numbers.count()?, COUNT - 1 - erased);
            }
        }
        Ok(())
    }

    /// More than leave it at a time.
    #[test]
    fn what_is_erased_together_is_gone_and_all_else_stays() -> Result {
        const COUNT: usize = 3_000;
        for order in ORDERS {
            for together in [COUNT, 100, 32, 31] {
                let numbers = Numbers::new(COUNT, order)?;
                let stays = |n: &usize| n % 10 == 0;
                for first in (0..COUNT).step_by(together) {
                    let some = first..COUNT.min(first + together);
                    let going = some.map(|n| order(n, COUNT)).filter(|n| !stays(n));
                    let erased = numbers.erase(going.clone())?;
                    check_eq!(going.eq(erased.iter().copied()), true);
                }
                for n in 0..COUNT {
                    check_eq!(numbers.at(n), stays(&n).then_some(n));
                }
                check_eq!(numbers.count()?, COUNT / 10);
                check_eq!(
                    numbers.erase((0..COUNT).map(|n| order(n, COUNT)))?.len(),
                    COUNT / 10
                );
                check_eq!(numbers.count()?, 0);
            }
        }
        Ok(())
    }

    /// All of what gives way is gone, wherever the two meet.
    #[test]
    fn what_gives_way_leaves() -> Result {
        let spans = [(0, 10), (10, 10), (20, 1), (30, 10), (8, 13), (35, 1)];
        let numbers = Numbers::none(spans.into_iter().map(|(first, count)| pages(first, count)))?;
        for n in 0..4 {
            numbers.insert(n)?;
        }
        check_eq!(numbers.insert(4), Err(EEXIST));
        for page in 0..20 {
            check_eq!(numbers.at(page), Some(page / 10));
        }
        let mut asked = KVec::new();
        // SAFETY: As in `Numbers::insert`.
        unsafe {
            numbers.index.insert(numbers.number(4)?, |other| {
                asked.push(other.number, GFP_KERNEL).map_err(Error::from)
            })
        }?;
        check_eq!(&asked[..], &[0, 1, 2]);
        for page in 0..22 {
            check_eq!(numbers.at(page), (8..21).contains(&page).then_some(4));
        }
        // In the middle.
        // SAFETY: As in `Numbers::insert`.
        unsafe {
            numbers
                .index
                .insert(numbers.number(5)?, |_| Ok::<_, Error>(()))
        }?;
        for page in 30..40 {
            check_eq!(numbers.at(page), (page == 35).then_some(5));
        }
        check_eq!(&numbers.erase(0..6)?[..], &[4, 5]);
        check_eq!(numbers.count()?, 0);
        Ok(())
    }

    #[test]
    fn pieces_take_the_place_of_what_was_there() -> Result {
        // One of many, two pieces within it, and one that reaches over others.
        let spans = (0..300).map(|n| pages(n * 10, 10));
        let more = [pages(1001, 1), pages(1005, 5), pages(955, 100)];
        let numbers = Numbers::none(Iterator::chain(spans, more.into_iter()))?;
        for n in 0..300 {
            numbers.insert(ORDERS[3](n, 300))?;
        }
        let (replaced, asked, done) = numbers.replace(300..302, false, 0..0, usize::MAX)?;
        check_eq!(
            (replaced, asked.len(), done),
            (Err(ReplaceError::Unwanted), 0, false)
        );
        let (replaced, asked, done) = numbers.replace(300..302, true, 0..0, 100)?;
        check_eq!(
            (replaced, &asked[..], done),
            (Err(ReplaceError::Occupied), &[100][..], false)
        );
        check_eq!(numbers.count()?, 300);
        let (replaced, asked, done) = numbers.replace(300..302, true, 100..101, usize::MAX)?;
        check_eq!((replaced, asked.len(), done), (Ok(()), 0, true));
        for page in 1000..1010 {
            let expected = match page {
                1001 => Some(300),
                1005.. => Some(301),
                _ => None,
            };
            check_eq!(numbers.at(page), expected);
        }
        check_eq!(numbers.erase([100].into_iter())?.len(), 0);
        check_eq!(numbers.count()?, 301);

        // From the middle of one to the middle of another.
        let (replaced, asked, done) = numbers.replace(302..303, true, 0..0, 104)?;
        check_eq!((replaced, done), (Err(ReplaceError::Occupied), false));
        check_eq!(
            &asked[..],
            &[95, 96, 97, 98, 99, 300, 301, 101, 102, 103, 104]
        );
        check_eq!(numbers.count()?, 301);
        let (replaced, asked, done) = numbers.replace(302..303, true, 96..100, 94)?;
        check_eq!((replaced, asked.len(), done), (Ok(()), 12 - 4, true));
        check_eq!(numbers.count()?, 301 - 12 + 1);
        check_eq!(numbers.at(954), None);
        check_eq!(numbers.at(955), Some(302));
        check_eq!(numbers.at(1054), Some(302));
        check_eq!(numbers.at(1055), None);
        check_eq!(numbers.at(1060), Some(106));
        Ok(())
    }

    #[test]
    fn the_first_within_is_found() -> Result {
        // Three pages, and two that are free.
        const COUNT: usize = 100;
        let numbers = Numbers::none((0..COUNT).map(|n| pages(n * 5, 3)))?;
        for n in 0..COUNT {
            numbers.insert(ORDERS[3](n, COUNT))?;
        }
        for first in 0..COUNT * 5 {
            for count in [1, 2, 3, 7] {
                let span = pages(first, count)?;
                // SAFETY: The numbers outlive the index.
                let found = unsafe { numbers.index.first_within(span) };
                // SAFETY: As above.
                let found = found.map(|number| unsafe { number.as_ref() }.number);
                let here = (first % 5 < 3).then_some(first / 5);
                let next =
                    (first / 5 + 1 < COUNT && first % 5 + count > 5).then_some(first / 5 + 1);
                check_eq!(found, here.or(next));
                let mut within = None;
                numbers.index.for_each_within(span, |number| {
                    within.get_or_insert(number.number);
                });
                check_eq!(within, found);
            }
        }
        Ok(())
    }

    /// Each address is somebody's all the time, while the tree is rebuilt again and again.
    #[test]
    fn lookups_find_the_one_or_the_other() -> Result {
        const PAGES: usize = 64;
        const ROUNDS: usize = 2_000;
        // Each round has other sizes, from 1 page to 9.
        let rounds = || {
            (0..ROUNDS).map(|round| {
                let size = 1 + round * 5 % 9;
                (0..PAGES.div_ceil(size)).map(move |n| {
                    let first = n * size;
                    (first, size.min(PAGES - first))
                })
            })
        };
        let spans = rounds().flatten().map(|(first, count)| pages(first, count));
        let numbers = Arc::new(Numbers::none(spans)?, GFP_KERNEL)?;
        let mut next = 0;
        let mut round = rounds();
        let mut rebuild = |numbers: &Numbers| {
            let Some(pieces) = round.next().map(Iterator::count) else {
                return Ok(false);
            };
            let (replaced, _, _) =
                numbers.replace(next..next + pieces, true, 0..next, usize::MAX)?;
            check_eq!(replaced, Ok(()));
            next += pieces;
            Ok(true)
        };
        rebuild(&numbers)?;
        let missed = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let mut readers = KVec::new();
        for first in [0, PAGES / 2] {
            let (numbers, missed) = (numbers.clone(), missed.clone());
            let reader = move |stop: &crate::tally::Tally| {
                let mut page = first;
                while stop.get() == 0 {
                    for _ in 0..PAGES {
                        page = (page + 7) % PAGES;
                        let addr = pages(page, 1).map_or(0, |span| span.start());
                        // SAFETY: The numbers outlive the index.
                        let found = unsafe { numbers.index.load(addr) };
                        // SAFETY: As above.
                        if !found.is_some_and(|n| unsafe { n.as_ref() }.span.contains(addr)) {
                            let _ = missed.fetch_add(1, Relaxed);
                        }
                    }
                    give_way();
                }
            };
            readers.push(Thread::with(reader)?, GFP_KERNEL)?;
        }
        while rebuild(&numbers)? {
            give_way();
        }
        for reader in &readers {
            reader.stop()?;
        }
        check_eq!(missed.load(Relaxed), 0);
        Ok(())
    }
}
