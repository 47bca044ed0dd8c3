// SPDX-License-Identifier: GPL-2.0

//! The index, by itself.

use kernel::prelude::*;

#[kunit_tests(odp_range_index)]
mod tests {
    use crate::check::check_eq;
    use core::ptr::NonNull;
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        sync::{
            rcu::rcu_barrier,
            Arc, //
        }, //
    };
    use odp::{
        range_index::{
            RangeIndex,
            ReplaceError,
            MERGED, //
        },
        Span, //
    };

    /// An index of numbers, which outlive it.
    struct Numbers {
        index: Arc<RangeIndex<u64>>,
        numbers: KVVec<u64>,
    }

    impl Numbers {
        /// With an entry of a page for each number below `count`, one after the other.
        fn new(count: usize) -> Result<Self> {
            let this = Self::none(count)?;
            for n in 0..count {
                this.insert(n, pages(n, 1)?)?;
            }
            Ok(this)
        }

        fn none(count: usize) -> Result<Self> {
            let mut numbers = KVVec::with_capacity(count, GFP_KERNEL)?;
            for n in 0..count {
                numbers.push(n as u64, GFP_KERNEL)?;
            }
            let index = Arc::pin_init(RangeIndex::new(), GFP_KERNEL)?;
            Ok(Self { index, numbers })
        }

        /// A number, to be an object of the index.
        fn number(&self, n: usize) -> Result<NonNull<u64>> {
            self.numbers.get(n).map(NonNull::from).ok_or(EINVAL)
        }

        /// Overwrites what is there.
        fn insert(&self, n: usize, span: Span) -> Result {
            let number = self.number(n)?;
            // SAFETY: The numbers outlive the index.
            unsafe { self.index.insert(span, number, |_, _| Ok::<_, Error>(())) }?;
            Ok(())
        }

        fn erase(&self, n: usize, span: Span) -> Result<usize> {
            self.erase_all(&[(span, self.number(n)?)])
        }

        fn erase_all(&self, entries: &[(Span, NonNull<u64>)]) -> Result<usize> {
            let mut pieces = 0;
            self.index
                .erase(entries.iter().copied(), |_, _| pieces += 1);
            Ok(pieces)
        }

        fn at(&self, page: usize) -> Option<u64> {
            let number = self.index.load(pages(page, 1).ok()?.start())?;
            // SAFETY: The numbers outlive the index.
            Some(unsafe { number.read() })
        }

        /// How many entries there are.
        fn count(&self) -> usize {
            let mut count = 0;
            self.index.for_each(|_| count += 1);
            count
        }
    }

    fn pages(first: usize, count: usize) -> Result<Span> {
        Ok(Span::new((first + 1) * PAGE_SIZE, count * PAGE_SIZE)?)
    }

    #[test]
    fn a_few_are_looked_at_at_a_time() -> Result {
        const COUNT: usize = 100;
        let numbers = Numbers::new(COUNT)?;
        for most in [1, 7, COUNT] {
            let (mut seen, mut next) = (0, Some(0));
            while let Some(from) = next {
                let before = seen;
                next = numbers.index.lock().look_at(from, most, |number| {
                    let in_order = *number == seen as u64;
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

    /// Up, down, from the middle on, and all over.
    const ORDERS: [fn(usize, usize) -> usize; 4] = [
        |n, _| n,
        |n, count| count - 1 - n,
        |n, count| (n + count / 2).checked_rem(count).unwrap_or(n),
        |n, count| (n * 7).checked_rem(count).unwrap_or(n),
    ];

    #[test]
    fn what_is_erased_is_not_found_and_all_else_is() -> Result {
        const COUNT: usize = 100;
        for order in ORDERS {
            let numbers = Numbers::new(COUNT)?;
            for erased in 0..COUNT {
                let n = order(erased, COUNT);
                check_eq!(numbers.at(n), Some(n as u64));
                check_eq!(numbers.erase(n, pages(n, 1)?)?, 1);
                check_eq!(numbers.at(n), None);
                check_eq!(numbers.count(), COUNT - 1 - erased);
            }
        }
        Ok(())
    }

    /// Nodes of the tree go by the dozen, and each of them once: KASAN looks.
    #[test]
    fn what_is_erased_together_is_gone_and_all_else_stays() -> Result {
        // No multiple of 7, and of more levels than three.
        const COUNT: usize = 3_000;
        for order in ORDERS {
            for together in [COUNT, 100] {
                let numbers = Numbers::new(COUNT)?;
                for first in (0..COUNT).step_by(together) {
                    let mut entries = KVVec::new();
                    for erased in first..COUNT.min(first + together) {
                        let n = order(erased, COUNT);
                        // Every tenth stays.
                        if n % 10 != 0 {
                            entries.push((pages(n, 1)?, numbers.number(n)?), GFP_KERNEL)?;
                        }
                    }
                    check_eq!(numbers.erase_all(&entries)?, entries.len());
                }
                for n in 0..COUNT {
                    check_eq!(numbers.at(n), (n % 10 == 0).then_some(n as u64));
                }
                check_eq!(numbers.count(), COUNT / 10);

                // And now, between them, what is left.
                let mut entries = KVVec::new();
                for erased in 0..COUNT {
                    let n = order(erased, COUNT);
                    if n % 10 == 0 {
                        entries.push((pages(n, 1)?, numbers.number(n)?), GFP_KERNEL)?;
                    }
                }
                check_eq!(numbers.erase_all(&entries)?, COUNT / 10);
                check_eq!(numbers.count(), 0);
                rcu_barrier();
            }
        }
        Ok(())
    }

    /// All of a tree, a run of neighbours after the other.
    #[test]
    fn all_can_be_erased_together() -> Result {
        for (count, order) in [20, 300, 3_000].into_iter().zip(ORDERS) {
            let numbers = Numbers::new(count)?;
            let mut entries = KVVec::new();
            for erased in 0..count {
                let n = order(erased, count);
                entries.push((pages(n, 1)?, numbers.number(n)?), GFP_KERNEL)?;
            }
            check_eq!(numbers.erase_all(&entries)?, count);
            check_eq!(numbers.count(), 0);
            rcu_barrier();
        }
        Ok(())
    }

    /// Objects of which others have overwritten all, an end, or the middle.
    #[test]
    fn of_objects_that_were_overwritten_the_rest_is_erased() -> Result {
        let numbers = Numbers::none(9)?;
        for n in 0..4 {
            numbers.insert(n, pages(n * 10, 10)?)?;
        }
        numbers.insert(4, pages(0, 10)?)?;
        numbers.insert(5, pages(15, 10)?)?;
        numbers.insert(6, pages(34, 2)?)?;

        let mut entries = KVec::new();
        for n in [0, 1, 2, 3] {
            entries.push((pages(n * 10, 10)?, numbers.number(n)?), GFP_KERNEL)?;
        }
        let mut erased = KVec::new();
        numbers.index.erase(entries.iter().copied(), |&n, piece| {
            let _ = erased.push((n, piece), GFP_KERNEL);
        });
        let expected = [
            (1, pages(10, 5)?),
            (2, pages(25, 5)?),
            (3, pages(30, 4)?),
            (3, pages(36, 4)?),
        ];
        check_eq!(&erased[..], &expected[..]);
        check_eq!(numbers.at(5), Some(4));
        check_eq!(numbers.at(15), Some(5));
        check_eq!(numbers.at(24), Some(5));
        check_eq!(numbers.at(25), None);
        check_eq!(numbers.at(35), Some(6));
        check_eq!(numbers.count(), 3);
        Ok(())
    }

    #[test]
    fn pieces_may_take_the_place_of_erased_entries() -> Result {
        const COUNT: usize = 300;
        const OLD: usize = COUNT;
        let numbers = Numbers::none(COUNT + 1)?;
        let all = pages(0, COUNT)?;
        numbers.insert(OLD, all)?;
        // In the middle of the old one, and gone again.
        numbers.insert(20, pages(20, 1)?)?;
        numbers.erase(20, pages(20, 1)?)?;
        let pieces = [
            (pages(20, 1)?, numbers.number(1)?),
            (pages(40, 1)?, numbers.number(2)?),
        ];
        let mut done = None;
        // SAFETY: The numbers outlive the index.
        unsafe {
            numbers.index.replace(
                (all, numbers.number(OLD)?),
                pieces.iter().copied(),
                || true,
                |_, _, _| false,
                |replaced| done = Some(replaced),
            )
        }?;
        check_eq!(done, Some(true));
        check_eq!(numbers.erase(OLD, all)?, 3);
        check_eq!(numbers.at(20), Some(1));
        check_eq!(numbers.at(40), Some(2));
        check_eq!(numbers.count(), 2);
        Ok(())
    }

    /// A piece that is larger than what it takes the place of, where others are or have been.
    #[test]
    fn a_piece_may_reach_over_what_gives_way() -> Result {
        const COUNT: usize = 300;
        const OLD: usize = COUNT;
        let numbers = Numbers::none(COUNT + 2)?;
        let at = pages(COUNT, 4)?;
        for n in 0..COUNT {
            // On both sides.
            let page = if n % 2 == 0 { n } else { COUNT + 4 + n };
            numbers.insert(n, pages(page, 1)?)?;
        }
        numbers.insert(OLD, at)?;
        let piece = [(pages(1, 2 * COUNT)?, numbers.number(OLD + 1)?)];
        let replace = |stays: u64| {
            let (mut asked, mut done) = (0, None);
            // SAFETY: The numbers outlive the index.
            let replaced = unsafe {
                numbers.index.replace(
                    (at, numbers.number(OLD)?),
                    piece.iter().copied(),
                    || true,
                    |other, its, span| {
                        asked += 1;
                        *other != stays && span.covers(&its)
                    },
                    |replaced| done = Some(replaced),
                )
            };
            Ok::<_, Error>((replaced.map_err(Error::from), asked, done))
        };
        let (replaced, _, done) = replace(151)?;
        check_eq!(replaced, Err(EEXIST));
        check_eq!(done, None);
        check_eq!(numbers.count(), COUNT + 1);
        let (replaced, asked, done) = replace(u64::MAX)?;
        check_eq!(replaced, Ok(()));
        check_eq!(done, Some(true));
        // All but the first page's, and those behind the piece.
        check_eq!(asked, COUNT - 1 - 2);
        check_eq!(numbers.at(0), Some(0));
        for page in [1, 2, COUNT - 1, COUNT, COUNT + 3, COUNT + 4, 2 * COUNT] {
            check_eq!(numbers.at(page), Some(OLD as u64 + 1));
        }
        check_eq!(numbers.at(2 * COUNT + 3), Some(COUNT as u64 - 1));
        Ok(())
    }

    const MANY: usize = 3_000;
    const PAGES: usize = 4;

    /// Has `MANY` entries at `PAGES` each, those of `number`. Some nodes of the tree have all the
    /// children that there is room for then, which those of one that was made in order of address
    /// have not, if not `every` entry is cut, but one here and there.
    fn fill(numbers: &Numbers, number: fn(usize) -> usize, every: usize) -> Result {
        for n in 0..MANY {
            numbers.insert(number(n), pages(n * PAGES, PAGES)?)?;
        }
        for n in (0..MANY).step_by(every) {
            numbers.insert(number(0), pages(n * PAGES + 1, 1)?)?;
        }
        Ok(())
    }

    /// Nodes of the tree go by the dozen.
    #[test]
    fn one_entry_takes_the_place_of_many() -> Result {
        const ALL: usize = MANY * PAGES;
        for every in [MANY, 225, 30, 7] {
            let numbers = Numbers::none(MANY)?;
            fill(&numbers, |n| n, every)?;
            numbers.insert(1, pages(1, ALL - 2)?)?;
            rcu_barrier();
            check_eq!(numbers.at(0), Some(0));
            check_eq!(numbers.at(1), Some(1));
            check_eq!(numbers.at(ALL - 2), Some(1));
            check_eq!(numbers.at(ALL - 1), Some(MANY as u64 - 1));
            check_eq!(numbers.count(), 3);
        }
        Ok(())
    }

    /// As there may be where memory was short, again and again.
    #[test]
    fn a_piece_takes_the_place_of_many_entries() -> Result {
        const ALL: usize = MANY * PAGES;
        for every in [MANY, 225, 30, 7] {
            let numbers = Numbers::none(2)?;
            fill(&numbers, |_| 0, every)?;
            let piece = [(pages(1, ALL - 2)?, numbers.number(1)?)];
            let mut done = None;
            // SAFETY: The numbers outlive the index.
            unsafe {
                numbers.index.replace(
                    (pages(0, ALL)?, numbers.number(0)?),
                    piece.iter().copied(),
                    || true,
                    |_, _, _| false,
                    |replaced| done = Some(replaced),
                )
            }?;
            rcu_barrier();
            check_eq!(done, Some(true));
            check_eq!(numbers.at(0), Some(0));
            check_eq!(numbers.at(1), Some(1));
            check_eq!(numbers.at(ALL - 2), Some(1));
            check_eq!(numbers.at(ALL - 1), Some(0));
            check_eq!(numbers.count(), 3);
        }
        Ok(())
    }

    /// Has `new` take the place of the numbers `old`, each at its span.
    fn merge(
        numbers: &Numbers,
        old: &[(usize, Span)],
        new: (usize, Span),
        wanted: bool,
    ) -> Result<(Result<(), ReplaceError>, Option<bool>)> {
        let mut entries = KVec::new();
        for &(n, span) in old {
            entries.push((span, numbers.number(n)?), GFP_KERNEL)?;
        }
        let mut done = None;
        // SAFETY: The numbers outlive the index, and the caller has put the old ones there.
        let merged = unsafe {
            numbers.index.merge(
                entries.iter().copied(),
                (new.1, numbers.number(new.0)?),
                || wanted,
                |there| done = Some(there),
            )
        };
        Ok((merged, done))
    }

    /// As many as there may be, among others.
    #[test]
    fn one_takes_the_place_of_neighbours() -> Result {
        const COUNT: usize = 300;
        for first in [0, 1, 100, COUNT - MERGED] {
            let numbers = Numbers::none(COUNT + 1)?;
            let mut old = KVec::new();
            for n in 0..COUNT {
                numbers.insert(n, pages(n, 1)?)?;
                if (first..first + MERGED).contains(&n) {
                    old.push((n, pages(n, 1)?), GFP_KERNEL)?;
                }
            }
            let new = (COUNT, pages(first, MERGED)?);
            let unwanted = (Err(ReplaceError::Unwanted), None);
            check_eq!(merge(&numbers, &old, new, false)?, unwanted);
            check_eq!(numbers.at(first), Some(first as u64));
            check_eq!(merge(&numbers, &old, new, true)?, (Ok(()), Some(true)));
            for n in 0..COUNT {
                let is_old = (first..first + MERGED).contains(&n);
                check_eq!(numbers.at(n), Some(if is_old { COUNT } else { n } as u64));
            }
            check_eq!(numbers.count(), COUNT - MERGED + 1);
        }
        Ok(())
    }

    /// As there may be where memory was short, again and again.
    #[test]
    fn one_takes_the_place_of_neighbours_with_many_entries() -> Result {
        const ALL: usize = MANY * PAGES;
        for every in [MANY, 225, 30, 7] {
            let numbers = Numbers::none(4)?;
            // At many, among which are those of what was there for a moment.
            fill(&numbers, |_| 0, every)?;
            numbers.insert(1, pages(ALL, 1)?)?;
            numbers.insert(2, pages(ALL + 1, 1)?)?;
            let old = [(0, pages(0, ALL)?), (1, pages(ALL, 1)?)];
            let new = (3, pages(0, ALL + 1)?);
            check_eq!(merge(&numbers, &old, new, true)?, (Ok(()), Some(true)));
            rcu_barrier();
            for page in [0, 1, ALL / 2, ALL - 1, ALL] {
                check_eq!(numbers.at(page), Some(3));
            }
            check_eq!(numbers.at(ALL + 1), Some(2));
            check_eq!(numbers.count(), 2);
        }
        Ok(())
    }
}
