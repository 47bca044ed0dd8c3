// SPDX-License-Identifier: GPL-2.0

//! What can be inserted, and what happens to what cannot.

use kernel::prelude::*;

#[kunit_tests(odp_insert)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        eventually::eventually,
        fixture::{
            page,
            pages, //
        },
        frozen::Frozen,
        probe::Probe,
        reader::Reader,
        tally::Tally,
        thread::give_way, //
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        sync::Arc, //
    };
    use odp::{
        Config,
        MayBlock,
        Mirror,
        Shared,
        Span,
        SpanError,
        Until, //
    };

    fn insert(
        mirror: &Mirror<Probe>,
        span: Span,
        shared: &Arc<Shared<Probe>>,
        p: &mut MayBlock<'_>,
    ) -> Result {
        mirror
            .insert(span, shared.clone(), p)
            .map(|_| ())
            .map_err(Error::from)
    }

    #[test]
    fn spans_are_checked() -> Result {
        check_eq!(Span::new(PAGE_SIZE, 0), Err(SpanError::Empty));
        check_eq!(Span::new(1, PAGE_SIZE), Err(SpanError::Unaligned));
        check_eq!(Span::new(PAGE_SIZE, 1), Err(SpanError::Unaligned));
        let last = usize::MAX - (PAGE_SIZE - 1);
        check_eq!(Span::new(last, PAGE_SIZE), Err(SpanError::Overflow));
        check_eq!(Span::new(last, usize::MAX), Err(SpanError::Overflow));
        check_eq!(Error::from(SpanError::Empty), EINVAL);
        check_eq!(Error::from(SpanError::Unaligned), EINVAL);
        check_eq!(Error::from(SpanError::Overflow), EOVERFLOW);
        Ok(())
    }

    #[test]
    fn a_live_range_is_in_the_way() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, record) = Probe::new(None)?;
            let span = space.map(4)?;
            let middle = pages(span, 1, 2)?;
            drop(mirror.insert(middle, shared.clone(), p)?);

            check_eq!(insert(&mirror, middle, &shared, p), Err(EEXIST));
            check_eq!(insert(&mirror, span, &shared, p), Err(EEXIST));
            let left = pages(span, 0, 2)?;
            check_eq!(insert(&mirror, left, &shared, p), Err(EEXIST));
            // Beside it there is room, and what failed has left nothing.
            let left = page(span, 0)?;
            check_eq!(insert(&mirror, left, &shared, p), Ok(()));
            check_eq!(mirror.ranges(), 2);
            check_eq!(mirror.stats().insert_failed, 3);
            drop(shared);
            mirror.shutdown(p);
            check_eq!(record.released.get(), 2);
            check_eq!(record.dropped.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn a_retired_range_is_not_in_the_way() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let mirror = Arc::new(mirror, GFP_KERNEL)?;
            let (old, old_record) = Probe::new(None)?;
            let (new, new_record) = Probe::new(None)?;
            let span = space.map(4)?;
            let hold = mirror.insert(span, old.clone(), p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            let last = span.start() + 3 * PAGE_SIZE;
            hold.commit(section, |pages| pages.install(last))??;

            // The old range does not leave as long as this lasts.
            let reader = Reader::begin(&space, &mirror, last)?;
            hold.retire();
            let right = pages(span, 2, 2)?;
            let fresh = mirror.insert(right, new.clone(), p)?;
            let found = mirror.get(last, p).ok_or(ENOENT)?;
            check_eq!(found.span(), right);
            check_eq!(found.access(|pages| pages.has(last)), Ok(false));
            check_eq!(mirror.get(span.start(), p).is_none(), true);
            check_eq!(mirror.stats().removed, 0);
            reader.end()?;

            drop(hold);
            mirror.flush(Until::Released, p)?;
            check_eq!(old_record.released.get(), 1);
            check_eq!(new_record.released.get(), 0);
            // The old one's end has not taken the new one out of service.
            check_eq!(mirror.get(last, p).is_some(), true);
            check_eq!(fresh.is_live(), true);
            Ok(())
        })
    }

    /// Its notifier is not in the tree yet, so that nothing must be concluded from what is mapped.
    #[test]
    fn an_insertion_waits_for_the_invalidation() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let mirror = Arc::new(mirror, GFP_KERNEL)?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(4)?;
            let frozen = Frozen::begin(&space, p)?;
            let inserted = Tally::new("inserted")?;
            let in_the_way = Tally::new("in the way")?;
            let inserter = |span| {
                let (mirror, shared) = (mirror.clone(), shared.clone());
                let (inserted, in_the_way) = (inserted.clone(), in_the_way.clone());
                space.thread(move || {
                    MayBlock::enter(|p| match insert(&mirror, span, &shared, p) {
                        Ok(()) => inserted.inc(),
                        Err(error) if error == EEXIST => in_the_way.inc(),
                        Err(_) => {}
                    })
                })
            };
            let first = inserter(span)?;
            eventually("the range is there", || mirror.ranges() == 1)?;
            // Somebody who is not the first cannot say yet whether there is a range.
            let second = inserter(page(span, 0)?)?;
            eventually("both are there", || mirror.ranges() == 2)?;
            check_eq!(mirror.get(span.start(), p).is_none(), true);
            check_eq!(inserted.get() + in_the_way.get(), 0);

            frozen.thaw(p)?;
            first.join()?;
            second.join()?;
            check_eq!(inserted.get(), 1);
            check_eq!(in_the_way.get(), 1);
            check_eq!(mirror.ranges(), 1);
            Ok(())
        })
    }

    /// Who goes by all ranges meets those that are being inserted, too.
    #[test]
    fn a_retire_during_the_insertion_is_not_lost() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let mirror = Arc::new(mirror, GFP_KERNEL)?;
            let (shared, record) = Probe::new(None)?;
            let span = space.map(1)?;
            let frozen = Frozen::begin(&space, p)?;
            let inserter = space.thread({
                let mirror = mirror.clone();
                move || {
                    let _ = MayBlock::enter(|p| insert(&mirror, span, &shared, p));
                }
            })?;
            eventually("the range is there", || mirror.ranges() == 1)?;
            mirror.retire_all();
            frozen.thaw(p)?;
            inserter.join()?;
            // It may not have been in the index before.
            mirror.retire_all();
            mirror.flush(Until::Released, p)?;
            check_eq!(record.released.get(), 1);
            check_eq!(mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn the_end_of_a_retired_range_spares_what_replaced_it() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            // Both ranges share one table, as the pieces of one driver's object do.
            let (shared, record) = Probe::new(None)?;
            let span = space.map(1)?;
            let old = mirror.insert(span, shared.clone(), p)?;
            let section = old.begin(old.span(), p).map_err(Error::from)?;
            old.commit(section, |pages| pages.install(span.start()))??;
            old.retire();
            let new = mirror.insert(span, shared.clone(), p)?;
            // What the old one had installed is gone before the new one is in service.
            check_eq!(new.access(|pages| pages.has(span.start())), Ok(false));
            let section = new.begin(new.span(), p).map_err(Error::from)?;
            new.commit(section, |pages| pages.install(span.start()))??;
            drop(old);
            mirror.flush(Until::Released, p)?;
            check_eq!(record.released.get(), 1);
            check_eq!(new.access(|pages| pages.has(span.start())), Ok(true));
            check_eq!(new.commit(section, |_| ()), Ok(()));
            Ok(())
        })
    }

    /// Of a retired range that gives way to another one the worker finds nothing any more.
    #[test]
    fn what_gives_way_is_zapped_as_a_whole() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(4)?;
            let (first, last) = (page(span, 0)?, page(span, 3)?);
            let old = mirror.insert(span, shared.clone(), p)?;
            let section = old.begin(old.span(), p).map_err(Error::from)?;
            old.commit(section, |pages| pages.install(first.start()))??;
            old.retire();
            // Not where the page is.
            let _last = mirror.insert(last, shared.clone(), p)?;
            let found = mirror.insert(first, shared.clone(), p)?;
            check_eq!(found.access(|pages| pages.has(first.start())), Ok(false));
            Ok(())
        })
    }

    /// No event says so: what a driver retires of its own accord is zapped by the worker.
    #[test]
    fn what_is_retired_is_zapped() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(1)?;
            let old = mirror.insert(span, shared.clone(), p)?;
            let section = old.begin(old.span(), p).map_err(Error::from)?;
            old.commit(section, |pages| pages.install(span.start()))??;
            old.retire();
            drop(old);
            mirror.flush(Until::Released, p)?;
            let new = mirror.insert(span, shared, p)?;
            check_eq!(new.access(|pages| pages.has(span.start())), Ok(false));
            Ok(())
        })
    }

    #[test]
    fn there_is_a_limit() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let config = Config {
                max_ranges: 2,
                ..Config::default()
            };
            let mirror = Mirror::<Probe>::new(&*space.user()?, config, p)?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(3)?;
            check_eq!(insert(&mirror, page(span, 0)?, &shared, p), Ok(()));
            check_eq!(insert(&mirror, page(span, 1)?, &shared, p), Ok(()));
            check_eq!(insert(&mirror, page(span, 2)?, &shared, p), Err(ENOSPC));
            let hold = mirror.get(span.start(), p).ok_or(ENOENT)?;
            hold.remove(p)?;
            mirror.flush(Until::Released, p)?;
            check_eq!(insert(&mirror, page(span, 2)?, &shared, p), Ok(()));
            Ok(())
        })
    }

    /// How often it is tried, and how often it is looked in between, before others have a turn.
    const ATTEMPTS: usize = 5_000;
    const LOOKS: usize = 1_000;

    /// Who else inserts would find no room either, though there may be by then.
    #[test]
    fn what_is_refused_was_never_counted() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let config = Config {
                max_ranges: 1,
                ..Config::default()
            };
            let mirror = Arc::new(
                Mirror::<Probe>::new(&*space.user()?, config, p)?,
                GFP_KERNEL,
            )?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(2)?;
            let refused = Tally::new("refused")?;
            let (full, other) = (page(span, 0)?, page(span, 1)?);
            check_eq!(insert(&mirror, full, &shared, p), Ok(()));
            let done = space.thread({
                let (mirror, shared, refused) = (mirror.clone(), shared.clone(), refused.clone());
                move || {
                    MayBlock::enter(|p| {
                        for _ in 0..ATTEMPTS {
                            if insert(&mirror, other, &shared, p) == Err(ENOSPC) {
                                refused.inc();
                            }
                        }
                    })
                }
            })?;
            let mut most = 0;
            while !done.has_ended() {
                for _ in 0..LOOKS {
                    most = most.max(mirror.ranges());
                }
                // A machine with one CPU has somebody else to run.
                give_way();
            }
            check_eq!(refused.get(), ATTEMPTS);
            check_eq!(most, 1);
            Ok(())
        })
    }

    #[test]
    fn an_object_belongs_to_one_mirror() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let one = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let two = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _) = Probe::new(None)?;
            let span = space.map(1)?;
            check_eq!(insert(&one, span, &shared, p), Ok(()));
            check_eq!(insert(&two, span, &shared, p), Err(EXDEV));
            check_eq!(two.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn nothing_is_inserted_after_shutdown() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, record) = Probe::new(None)?;
            let span = space.map(1)?;
            mirror.shutdown(p);
            check_eq!(insert(&mirror, span, &shared, p), Err(ESHUTDOWN));
            mirror.shutdown(p);
            check_eq!(mirror.ranges(), 0);
            drop(shared);
            check_eq!(record.dropped.get(), 1);
            Ok(())
        })
    }
}
