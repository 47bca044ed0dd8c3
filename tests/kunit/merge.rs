// SPDX-License-Identifier: GPL-2.0

//! Managed ranges that become one.

use kernel::prelude::*;

#[kunit_tests(odp_merge)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        eventually::eventually,
        fixture::{
            held,
            hold_worker,
            mirrored_at,
            page,
            pages,
            punching,
            punching_from,
            range_at,
            reaches,
            setup,
            watch,
            Setup, //
        },
        frozen::Frozen,
        probe::Probe, //
    };
    use kernel::{
        prelude::*,
        sync::atomic::Relaxed, //
    };
    use odp::{
        Changed,
        Config,
        Event,
        Hold,
        MayBlock,
        Retire,
        Retry,
        Span,
        Until, //
    };

    /// Mirrors `span` by ranges of `size` pages each.
    fn in_parts(
        s: &Setup,
        span: Span,
        size: usize,
        p: &mut MayBlock<'_>,
    ) -> Result<KVec<Hold<Probe>>> {
        let mut holds = KVec::new();
        for n in (0..span.pages()).step_by(size) {
            holds.push(
                mirrored_at(s, &s.shared, pages(span, n, size)?, p)?,
                GFP_KERNEL,
            )?;
        }
        Ok(holds)
    }

    /// Checks that there is one range at `span`, and that the device reaches all of it.
    fn check_one(s: &Setup, span: Span, p: &mut MayBlock<'_>) -> Result {
        for n in 0..span.pages() {
            check_eq!(range_at(&s.mirror, page(span, n)?, p), Some(span));
            check_eq!(reaches(&s.mirror, page(span, n)?, p), true);
        }
        Ok(())
    }

    #[test]
    fn neighbours_become_one() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let holds = in_parts(&s, span, 2, p)?;
            check_eq!(holds[1].merge(span), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            for hold in &holds {
                check_eq!(hold.is_live(), false);
                check_eq!(hold.merge(span), Ok(Changed::NotLive));
            }
            drop(holds);
            s.mirror.flush(Until::Released, p)?;

            check_one(&s, span, p)?;
            let stats = s.mirror.stats();
            check_eq!((stats.replaced, stats.pieces, stats.merged), (3, 1, 2));
            check_eq!((s.record.replaced.get(), s.record.pieces.get()), (1, 1));
            check_eq!(s.record.misplaced.get(), 0);
            check_eq!(s.record.released.get(), 3);
            check_eq!(s.mirror.ranges(), 1);

            // It hears of what happens to any part of it.
            AddressSpace::unmap(page(span, 4)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_one(&s, page(span, 5)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            Ok(())
        })
    }

    #[test]
    fn others_stay_what_they_are() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(9)?;
            // Of another object, with a gap in between, and not in what is said.
            let (other, _) = Probe::punching()?;
            let _foreign = mirrored_at(&s, &other, page(span, 0)?, p)?;
            let _one = mirrored_at(&s, &s.shared, page(span, 1)?, p)?;
            let hold = mirrored_at(&s, &s.shared, page(span, 2)?, p)?;
            let _two = mirrored_at(&s, &s.shared, page(span, 3)?, p)?;
            let _wide = mirrored_at(&s, &s.shared, pages(span, 4, 2)?, p)?;
            let _apart = mirrored_at(&s, &s.shared, page(span, 7)?, p)?;
            check_eq!(hold.merge(pages(span, 3, 2)?), Err(EINVAL));
            check_eq!(hold.merge(pages(span, 0, 5)?), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, page(span, 0)?, p)?;
            check_one(&s, pages(span, 1, 3)?, p)?;
            check_one(&s, pages(span, 4, 2)?, p)?;
            check_one(&s, page(span, 7)?, p)?;

            // There is nobody left with whom it could be one.
            let hold = s.mirror.get(page(span, 7)?.start(), p).ok_or(ENOENT)?;
            check_eq!(hold.merge(span), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.is_live(), true);
            check_eq!(s.mirror.stats().unchanged, 1);
            check_eq!(s.mirror.stats().merged, 2);
            Ok(())
        })
    }

    /// More than are replaced at a time.
    #[test]
    fn many_become_one() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(100)?;
            let mut holds = in_parts(&s, span, 1, p)?;
            check_eq!(holds[50].merge(span), Ok(Changed::Queued));
            holds.clear();
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 1);
            check_one(&s, span, p)?;
            check_eq!(s.mirror.stats().merged, 99);
            check_eq!(s.mirror.stats().insert_failed, 0);
            Ok(())
        })
    }

    /// Whichever of them the worker looks at, the others are in its hands.
    #[test]
    fn all_that_ask_at_once_become_one() -> Result {
        MayBlock::enter(|p| {
            for count in [2, 3, 100] {
                let s = punching(Config::default(), p)?;
                let span = s.space.map(count)?;
                let holds = in_parts(&s, span, 1, p)?;
                let mirror = held(&s, p, |_| {
                    for hold in &holds {
                        check_eq!(hold.merge(span), Ok(Changed::Queued));
                    }
                    Ok(())
                })?;
                drop(holds);
                check_one(&s, span, p)?;
                mirror.flush(Until::Released, p)?;
                check_eq!(s.mirror.ranges(), 1);
                let stats = s.mirror.stats();
                // Of each replacement there is one besides.
                check_eq!(stats.replaced - stats.pieces, count as u64 - 1);
            }
            Ok(())
        })
    }

    /// The same, while the worker is at it.
    #[test]
    fn all_that_ask_become_one() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(100)?;
            let holds = in_parts(&s, span, 1, p)?;
            for hold in &holds {
                let _ = hold.merge(span)?;
            }
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, span, p)?;
            Ok(())
        })
    }

    /// It was asked to keep just what it has.
    #[test]
    fn what_it_is_cut_to_does_not_count_for_the_others() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let holds = in_parts(&s, span, 2, p)?;
            check_eq!(holds[0].resize(pages(span, 0, 2)?), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().unchanged, 1);
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, span, p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, page(span, 0)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), None);
            check_one(&s, pages(span, 2, 4)?, p)?;

            // The one is asked for the rest of them at once.
            let span = s.space.map(20)?;
            let holds = in_parts(&s, span, 1, p)?;
            check_eq!(holds[0].resize(page(span, 0)?), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, span, p)?;
            Ok(())
        })
    }

    /// As many as there may be are there.
    #[test]
    fn no_room_is_needed() -> Result {
        MayBlock::enter(|p| {
            let config = Config {
                max_ranges: 2,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let span = s.space.map(4)?;
            let holds = in_parts(&s, span, 2, p)?;
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            drop(holds);
            s.mirror.flush(Until::Released, p)?;
            check_one(&s, span, p)?;
            check_eq!(s.mirror.ranges(), 1);
            Ok(())
        })
    }

    /// While an invalidation is going on the one is not in core mm's tree, and the others are in
    /// service. What they are asked for by then is asked of the one.
    #[test]
    fn what_was_asked_meanwhile_counts() -> Result {
        MayBlock::enter(|p| {
            // Whose driver does not say what is unmapped.
            let s = setup(None, p)?;
            let room = s.space.map(8)?;
            let span = pages(room, 1, 6)?;
            let holds = in_parts(&s, span, 2, p)?;
            AddressSpace::unmap(page(span, 4)?)?;
            // What is mapped next is at one of these.
            AddressSpace::unmap(page(room, 0)?)?;
            AddressSpace::unmap(page(room, 7)?)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            eventually("the one is there", || s.mirror.ranges() == 4)?;
            let section = holds[1].begin(holds[1].span(), p).map_err(Error::from)?;
            check_eq!(holds[1].commit(section, |_| ()), Ok(()));
            check_eq!(
                range_at(&s.mirror, page(span, 2)?, p),
                Some(pages(span, 2, 2)?)
            );
            check_eq!(holds[2].punch(page(span, 4)?), Ok(Changed::Queued));
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(holds[1].commit(section, |_| ()), Err(Retry::Gone));
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_one(&s, page(span, 5)?, p)?;
            check_eq!(s.mirror.stats().merged, 2);
            Ok(())
        })
    }

    #[test]
    fn who_is_retired_meanwhile_is_left_out() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let mut holds = in_parts(&s, span, 2, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            eventually("the one is there", || s.mirror.ranges() == 4)?;
            check_eq!(holds[2].retire(), Retire::Queued);
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 5)?, p), None);
            holds.clear();
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 1);
            let stats = s.mirror.stats();
            check_eq!((stats.merged, stats.replace_failed), (1, 1));
            // The one that was given up was in nobody's place.
            check_eq!(s.record.released.get(), 3);
            Ok(())
        })
    }

    /// The one that was asked to has gone; what is left on either side of it is not.
    #[test]
    fn neighbours_of_what_is_retired_become_one() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(10)?;
            let holds = in_parts(&s, span, 2, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(holds[2].merge(span), Ok(Changed::Queued));
            eventually("the one is there", || s.mirror.ranges() == 6)?;
            check_eq!(holds[2].retire(), Retire::Queued);
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 5)?, p), None);
            check_one(&s, pages(span, 6, 4)?, p)?;
            let stats = s.mirror.stats();
            check_eq!((stats.merged, stats.replace_failed), (2, 0));
            Ok(())
        })
    }

    /// The driver wants holes in large ranges only. One that is to be such a range hears of one,
    /// and then it is not to be any more.
    #[test]
    fn what_was_asked_in_vain_counts_for_those_that_stay() -> Result {
        MayBlock::enter(|p| {
            let s = punching_from(4, p)?;
            let span = s.space.map(6)?;
            let holds = in_parts(&s, span, 2, p)?;
            // While its driver is told of what took its place, the worker has got so far with both.
            let (other, record) = Probe::new(None)?;
            let elsewhere = s.space.map(2)?;
            let other = s.mirror.insert(elsewhere, other, p)?;
            record.hold_replacements.store(true, Relaxed);
            let reader = hold_worker(&s, p)?;
            check_eq!(other.resize(page(elsewhere, 0)?), Ok(Changed::Queued));
            check_eq!(holds[1].merge(span), Ok(Changed::Queued));
            reader.end()?;
            record.replacing.wait_for(1)?;
            AddressSpace::unmap(page(span, 0)?)?;
            // After that it has nothing in common with the first one.
            check_eq!(holds[1].resize(page(span, 3)?), Ok(Changed::Queued));
            record.may_replace.inc();
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replace_failed, 1);
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), None);
            check_one(&s, page(span, 1)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), None);
            for n in 3..6 {
                check_eq!(reaches(&s.mirror, page(span, n)?, p), true);
            }
            Ok(())
        })
    }

    /// What was to be added has gone, and so it does not grow; but it becomes one with others.
    #[test]
    fn a_range_that_cannot_grow_becomes_one() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(6)?;
            let holds = in_parts(&s, pages(span, 0, 4)?, 2, p)?;
            let (other, record) = Probe::new(None)?;
            let elsewhere = s.space.map(2)?;
            let other = s.mirror.insert(elsewhere, other, p)?;
            record.hold_replacements.store(true, Relaxed);
            let reader = hold_worker(&s, p)?;
            check_eq!(other.resize(page(elsewhere, 0)?), Ok(Changed::Queued));
            check_eq!(holds[1].grow(pages(span, 2, 3)?, p), Ok(Changed::Queued));
            check_eq!(holds[1].merge(span), Ok(Changed::Joined));
            reader.end()?;
            record.replacing.wait_for(1)?;
            AddressSpace::unmap(page(span, 4)?)?;
            record.may_replace.inc();
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replace_failed, 1);
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            Ok(())
        })
    }

    /// What is to be cut is, and it is not one with what was beside it.
    #[test]
    fn who_is_cut_meanwhile_is_left_out() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let holds = in_parts(&s, span, 2, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(holds[1].merge(span), Ok(Changed::Queued));
            eventually("the one is there", || s.mirror.ranges() == 4)?;
            check_eq!(holds[2].resize(page(span, 5)?), Ok(Changed::Queued));
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_one(&s, page(span, 5)?, p)?;
            Ok(())
        })
    }

    /// A range that has a hole is split, and the pieces become one with what is beside them.
    #[test]
    fn a_range_is_split_and_becomes_one() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(9)?;
            let holds = in_parts(&s, span, 3, p)?;
            let mirror = held(&s, p, |p| {
                let _ = p;
                AddressSpace::unmap(page(span, 4)?)?;
                check_eq!(holds[1].merge(span), Ok(Changed::Joined));
                Ok(())
            })?;
            mirror.flush(Until::Removed, p)?;
            check_one(&s, pages(span, 0, 4)?, p)?;
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_one(&s, pages(span, 5, 4)?, p)?;
            Ok(())
        })
    }

    #[test]
    fn a_removal_leaves_what_it_became_part_of() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(4)?;
            let mut holds = in_parts(&s, span, 2, p)?;
            check_eq!(holds[0].merge(span), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            // They stay, as pieces do.
            let one = holds.pop().ok_or(ENOENT)?;
            check_eq!(one.remove(p), Ok(Retire::Replaced));
            check_one(&s, span, p)?;
            Ok(())
        })
    }

    #[test]
    fn lookups_find_one_or_the_other() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(64)?;
            drop(mirrored_at(&s, &s.shared, page(span, 0)?, p)?);
            let living = span.start();
            let watcher = watch(&s, living)?;
            for n in 1..64 {
                // As memory grows.
                let hold = mirrored_at(&s, &s.shared, page(span, n)?, p)?;
                check_eq!(hold.merge(span), Ok(Changed::Queued));
                drop(hold);
                s.mirror.flush(Until::Removed, p)?;
                check_one(&s, pages(span, 0, n + 1)?, p)?;
            }
            watcher.end()?;
            check_eq!(s.mirror.stats().merged, 63);
            Ok(())
        })
    }
}
