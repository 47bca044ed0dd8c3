// SPDX-License-Identifier: GPL-2.0

//! Going through the ranges of a span.

use kernel::prelude::*;

#[kunit_tests(odp_walk)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        fixture::{
            pages,
            punching,
            setup,
            Setup, //
        },
        probe::Probe,
        tally::Tally,
        watcher::Watcher, //
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*, //
    };
    use odp::{
        Config,
        MayBlock,
        Mirror,
        Span,
        Until, //
    };

    fn insert(s: &Setup, span: Span, p: &mut MayBlock<'_>) -> Result {
        drop(s.mirror.insert(span, s.shared.clone(), p)?);
        Ok(())
    }

    /// The ranges that a walk of `span` finds, with holds, and without.
    fn found(mirror: &Mirror<Probe>, span: Span, p: &mut MayBlock<'_>) -> Result<KVec<Span>> {
        let (mut found, mut held) = (KVec::new(), KVec::new());
        let mut ranges = mirror.walk(span);
        while let Some(range) = ranges.next(p) {
            found.push(range.span(), GFP_KERNEL)?;
        }
        let mut ranges = mirror.walk(span);
        while let Some(range) = ranges.get_next(p) {
            held.push(range.span(), GFP_KERNEL)?;
        }
        check_eq!(found[..] == held[..], true);
        Ok(found)
    }

    #[test]
    fn ranges_come_in_order_of_address() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(12)?;
            check_eq!(found(&s.mirror, span, p)?.len(), 0);
            let (a, b, c) = (
                pages(span, 1, 2)?,
                pages(span, 3, 1)?,
                pages(span, 6, 4)?, //
            );
            for span in [c, a, b] {
                insert(&s, span, p)?;
            }
            check_eq!(found(&s.mirror, Span::ALL, p)?[..] == [a, b, c], true);
            check_eq!(found(&s.mirror, span, p)?[..] == [a, b, c], true);
            // As a whole, of whatever part they have of it.
            check_eq!(
                found(&s.mirror, pages(span, 2, 5)?, p)?[..] == [a, b, c],
                true
            );
            check_eq!(found(&s.mirror, pages(span, 3, 3)?, p)?[..] == [b], true);
            check_eq!(found(&s.mirror, pages(span, 7, 1)?, p)?[..] == [c], true);
            check_eq!(found(&s.mirror, pages(span, 4, 2)?, p)?.len(), 0);
            check_eq!(found(&s.mirror, pages(span, 10, 2)?, p)?.len(), 0);
            Ok(())
        })
    }

    #[test]
    fn what_is_retired_is_passed_over() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(6)?;
            for n in 0..6 {
                insert(&s, pages(span, n, 1)?, p)?;
            }
            // The worker is kept from taking them out of the index.
            let lookup = s.mirror.lookup(span.start(), p).ok_or(ENOENT)?;
            for n in [1, 2, 5] {
                MayBlock::enter(|p| {
                    let range = s.mirror.lookup(pages(span, n, 1)?.start(), p);
                    let _ = range.ok_or(ENOENT)?.retire();
                    Ok::<(), Error>(())
                })?;
            }
            let left = MayBlock::enter(|p| found(&s.mirror, span, p))?;
            drop(lookup);
            check_eq!(
                left[..] == [pages(span, 0, 1)?, pages(span, 3, 1)?, pages(span, 4, 1)?],
                true
            );
            s.mirror.flush(Until::Released, p)?;
            check_eq!(found(&s.mirror, span, p)?[..] == left[..], true);
            Ok(())
        })
    }

    /// A caller that sleeps between two steps, and has the ranges change behind and before it.
    #[test]
    fn ranges_change_between_two_steps() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(9)?;
            insert(&s, pages(span, 0, 3)?, p)?;
            insert(&s, pages(span, 3, 3)?, p)?;
            insert(&s, pages(span, 6, 3)?, p)?;

            let mut ranges = s.mirror.walk(span);
            check_eq!(
                ranges.get_next(p).map(|range| range.span()),
                Some(pages(span, 0, 3)?)
            );
            // The first and the second are split.
            AddressSpace::unmap(pages(span, 1, 1)?)?;
            AddressSpace::unmap(pages(span, 4, 1)?)?;
            s.mirror.flush(Until::Removed, p)?;
            for expected in [
                pages(span, 3, 1)?,
                pages(span, 5, 1)?,
                pages(span, 6, 3)?, //
            ] {
                check_eq!(ranges.get_next(p).map(|range| range.span()), Some(expected));
            }
            check_eq!(ranges.get_next(p).is_none(), true);
            // And it stays at its end.
            insert(&s, pages(span, 4, 1)?, p)?;
            check_eq!(ranges.next(p).is_none(), true);
            Ok(())
        })
    }

    /// What is split again and again meanwhile has the same addresses in service all the time.
    #[test]
    fn no_address_in_service_is_passed_over() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(129)?;
            insert(&s, span, p)?;
            let wrong = Tally::new("wrong")?;
            let walked = Tally::new("walked")?;
            let walker = s.space.repeat({
                let mirror = s.mirror.clone();
                let (wrong, walked) = (wrong.clone(), walked.clone());
                move |p| {
                    // Even pages are mapped to the end.
                    let mut next = span.start();
                    let mut ranges = mirror.walk(span);
                    while let Some(range) = ranges.next(p) {
                        let range = range.span();
                        if range.start() > next || range.end() <= next {
                            wrong.inc();
                        }
                        // What lies behind it and is mapped begins after a page, or right there.
                        next = range.end().next_multiple_of(PAGE_SIZE);
                        if (next - span.start()) / PAGE_SIZE % 2 == 1 {
                            next += PAGE_SIZE;
                        }
                    }
                    if next < span.end() {
                        wrong.inc();
                    }
                    walked.inc();
                }
            })?;
            walked.wait_for(1)?;
            for n in (1..129).step_by(2).rev() {
                AddressSpace::unmap(pages(span, n, 1)?)?;
                s.mirror.flush(Until::Removed, p)?;
            }
            let before = walked.get();
            walked.wait_for(before + 2)?;
            walker.stop()?;
            check_eq!(wrong.get(), 0);
            check_eq!(found(&s.mirror, span, p)?.len(), 65);
            Ok(())
        })
    }

    /// What grows over the gap before it is found all the time, from either end of the gap, and not
    /// what comes behind it.
    #[test]
    fn what_grows_is_not_passed_over() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let all = s.space.map(41)?;
            let span = pages(all, 0, 33)?;
            let living = pages(span, 32, 1)?;
            insert(&s, living, p)?;
            for behind in [34, 36, 38, 40] {
                insert(&s, pages(all, behind, 1)?, p)?;
            }
            let watcher = Watcher::begin(&s.space, {
                let mirror = s.mirror.clone();
                move |p| {
                    let mut ranges = mirror.walk(all);
                    let mut found = false;
                    while let Some(range) = ranges.next(p) {
                        found |= range.span().covers(&living);
                    }
                    found
                }
            })?;
            for _ in 0..16 {
                let range = s.mirror.get(living.start(), p).ok_or(ENOENT)?;
                range.grow(span, p)?.accepted()?;
                drop(range);
                s.mirror.flush(Until::Removed, p)?;
                let range = s.mirror.get(living.start(), p).ok_or(ENOENT)?;
                check_eq!(range.span(), span);
                range.resize(living)?.accepted()?;
                drop(range);
                s.mirror.flush(Until::Removed, p)?;
            }
            watcher.end()?;
            check_eq!(found(&s.mirror, span, p)?[..] == [living], true);
            Ok(())
        })
    }
}
