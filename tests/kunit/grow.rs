// SPDX-License-Identifier: GPL-2.0

//! A managed range that becomes larger.

use kernel::prelude::*;

#[kunit_tests(odp_grow)]
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
            range_at,
            reaches,
            setup,
            watch, //
        },
        frozen::Frozen,
        probe::Probe,
        reader::Reader, //
    };
    use kernel::{
        prelude::*,
        sync::atomic::Relaxed, //
    };
    use odp::{
        Changed,
        Config,
        Event,
        MayBlock,
        Until, //
    };

    #[test]
    fn a_range_grows_at_both_ends() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(8)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 2, 2)?, p)?;
            check_eq!(hold.grow(pages(span, 1, 5)?, p), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.is_live(), false);
            drop(hold);
            s.mirror.flush(Until::Released, p)?;

            let grown = Some(pages(span, 1, 5)?);
            for n in 0..8 {
                let there = if (1..6).contains(&n) { grown } else { None };
                check_eq!(range_at(&s.mirror, page(span, n)?, p), there);
                // What was installed has not been touched.
                check_eq!(reaches(&s.mirror, page(span, n)?, p), n == 2 || n == 3);
            }
            check_eq!(s.record.replaced.get(), 1);
            check_eq!(s.record.pieces.get(), 1);
            check_eq!(s.mirror.ranges(), 1);

            // It hears of what is added.
            let hold = s.mirror.get(page(span, 5)?.start(), p).ok_or(ENOENT)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            let addr = page(span, 5)?.start();
            hold.commit(section, |pages| pages.install(addr))??;
            AddressSpace::unmap(page(span, 5)?)?;
            check_eq!(hold.access(|pages| pages.has(addr)), Ok(false));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&s.mirror, page(span, 2)?, p),
                Some(pages(span, 1, 4)?)
            );
            Ok(())
        })
    }

    /// It is moved: part of it goes, and something is added.
    #[test]
    fn a_range_moves() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 3)?, p)?;
            check_eq!(hold.grow(pages(span, 2, 4)?, p), Ok(Changed::Queued));
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), None);
            for n in 2..6 {
                check_eq!(
                    range_at(&s.mirror, page(span, n)?, p),
                    Some(pages(span, 2, 4)?)
                );
                check_eq!(reaches(&s.mirror, page(span, n)?, p), n < 4);
            }
            Ok(())
        })
    }

    #[test]
    fn what_is_in_service_is_in_the_way() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 2)?, p)?;
            let other = mirrored_at(&s, &s.shared, page(span, 4)?, p)?;
            check_eq!(hold.grow(pages(span, 0, 5)?, p), Err(EEXIST));
            check_eq!(hold.grow(pages(span, 3, 1)?, p), Err(EINVAL));
            check_eq!(s.mirror.stats().changes, 0);

            // What is retired is not, even if it is still being removed; nor is its entry.
            let mirror = held(&s, p, |p| {
                let _ = other.retire();
                check_eq!(hold.grow(pages(span, 0, 6)?, p), Ok(Changed::Queued));
                Ok(())
            })?;
            for n in 0..6 {
                check_eq!(range_at(&mirror, page(span, n)?, p), Some(span));
                check_eq!(reaches(&mirror, page(span, n)?, p), n == 1 || n == 2);
            }
            check_eq!(mirror.stats().replace_failed, 0);
            Ok(())
        })
    }

    /// One that is retired while the worker is about to change it stays in the index until the next
    /// batch.
    #[test]
    fn what_is_dying_gives_way() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(7)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 2)?, p)?;
            let other = mirrored_at(&s, &s.shared, pages(span, 4, 2)?, p)?;
            let (bystander, record) = Probe::new(None)?;
            let bystander = s.mirror.insert(page(span, 6)?, bystander, p)?;

            // The change of the other one is taken, and does not come to its end ...
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(other.resize(page(span, 4)?), Ok(Changed::Queued));
            eventually("a batch was taken", || s.mirror.stats().batches > 0)?;
            // ... before it is retired; and then another batch is under way.
            let _ = other.retire();
            check_eq!(hold.grow(pages(span, 0, 6)?, p), Ok(Changed::Queued));
            let reader = Reader::begin(&s.space, &s.mirror, page(span, 6)?.start())?;
            let _ = bystander.retire();
            record.zapped.wait_for(1)?;
            frozen.thaw(p)?;
            eventually("a range was replaced", || s.record.replaced.get() > 0)?;
            reader.end()?;
            s.mirror.flush(Until::Removed, p)?;
            for n in 0..6 {
                check_eq!(
                    range_at(&s.mirror, page(span, n)?, p),
                    Some(pages(span, 0, 6)?)
                );
                check_eq!(reaches(&s.mirror, page(span, n)?, p), n == 1 || n == 2);
            }
            Ok(())
        })
    }

    /// Another range comes to be where it was to grow.
    #[test]
    fn who_is_there_first_stays() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 0, 3)?, p)?;
            held(&s, p, |p| {
                check_eq!(hold.grow(pages(span, 0, 6)?, p), Ok(Changed::Queued));
                drop(s.mirror.insert(pages(span, 4, 1)?, s.shared.clone(), p)?);
                Ok(())
            })?;
            for n in 0..6 {
                let there = match n {
                    0..=2 => Some(pages(span, 0, 3)?),
                    4 => Some(page(span, 4)?),
                    _ => None,
                };
                check_eq!(range_at(&s.mirror, page(span, n)?, p), there);
            }
            check_eq!(s.mirror.stats().replace_failed, 1);

            // Before that, something goes.
            let mirror = held(&s, p, |p| {
                check_eq!(hold.resize(pages(span, 1, 2)?), Ok(Changed::Queued));
                check_eq!(hold.grow(pages(span, 1, 5)?, p), Err(EEXIST));
                Ok(())
            })?;
            check_eq!(range_at(&mirror, page(span, 0)?, p), None);
            check_eq!(
                range_at(&mirror, page(span, 1)?, p),
                Some(pages(span, 1, 2)?)
            );
            check_eq!(range_at(&mirror, page(span, 3)?, p), None);
            check_eq!(range_at(&mirror, page(span, 4)?, p), Some(page(span, 4)?));
            check_eq!(range_at(&mirror, page(span, 5)?, p), None);
            // It is not asked for again and again.
            mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&mirror, page(span, 2)?, p),
                Some(pages(span, 1, 2)?)
            );
            Ok(())
        })
    }

    /// The larger range is in core mm's tree, and not in the place of the other one, when what it
    /// adds is unmapped and its driver retires it.
    #[test]
    fn what_goes_meanwhile_is_not_added() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(6)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 0, 2)?, p)?;
            // While its driver is told of what took its place, the worker has got so far with both.
            let (other, record) = Probe::new(None)?;
            let other = s.mirror.insert(pages(span, 4, 2)?, other, p)?;
            record.hold_replacements.store(true, Relaxed);
            let reader = hold_worker(&s, p)?;
            check_eq!(other.resize(page(span, 4)?), Ok(Changed::Queued));
            check_eq!(hold.grow(pages(span, 0, 3)?, p), Ok(Changed::Queued));
            reader.end()?;
            record.replacing.wait_for(1)?;
            AddressSpace::unmap(page(span, 2)?)?;
            record.may_replace.inc();
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.is_live(), true);
            for n in 0..2 {
                check_eq!(
                    range_at(&s.mirror, page(span, n)?, p),
                    Some(pages(span, 0, 2)?)
                );
                check_eq!(reaches(&s.mirror, page(span, n)?, p), true);
            }
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), None);
            check_eq!(s.mirror.stats().replace_failed, 1);
            Ok(())
        })
    }

    /// First the hole, then the growth of the pieces that have the ends.
    #[test]
    fn a_range_is_split_and_grows() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(7)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 5)?, p)?;
            let mirror = held(&s, p, |p| {
                AddressSpace::unmap(page(span, 3)?)?;
                check_eq!(hold.grow(span, p), Ok(Changed::Joined));
                Ok(())
            })?;
            mirror.flush(Until::Removed, p)?;
            let (left, right) = (pages(span, 0, 3)?, pages(span, 4, 3)?);
            for n in 0..7 {
                let there = match n {
                    3 => None,
                    _ if n < 3 => Some(left),
                    _ => Some(right),
                };
                check_eq!(range_at(&mirror, page(span, n)?, p), there);
                check_eq!(
                    reaches(&mirror, page(span, n)?, p),
                    (1..6).contains(&n) && n != 3
                );
            }
            Ok(())
        })
    }

    /// What is asked for while the worker is about to split it is for the pieces that have the
    /// ends.
    #[test]
    fn a_range_grows_while_it_is_split() -> Result {
        MayBlock::enter(|p| {
            // Whose driver does not say what is unmapped.
            let s = setup(None, p)?;
            let room = s.space.map(9)?;
            let span = pages(room, 1, 7)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 5)?, p)?;
            AddressSpace::unmap(page(span, 3)?)?;
            // What is mapped next is at one of these.
            AddressSpace::unmap(page(room, 0)?)?;
            AddressSpace::unmap(page(room, 8)?)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.punch(page(span, 3)?), Ok(Changed::Queued));
            eventually("a batch was taken", || s.mirror.stats().batches > 0)?;
            check_eq!(hold.grow(span, p), Ok(Changed::Queued));
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            let (left, right) = (pages(span, 0, 3)?, pages(span, 4, 3)?);
            for n in 0..7 {
                let there = match n {
                    3 => None,
                    _ if n < 3 => Some(left),
                    _ => Some(right),
                };
                check_eq!(range_at(&s.mirror, page(span, n)?, p), there);
            }
            check_eq!(s.mirror.stats().replace_failed, 0);
            Ok(())
        })
    }

    /// At an end that is moved outward, what was asked for before does not count.
    #[test]
    fn the_last_one_counts() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(8)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 2, 4)?, p)?;
            let mirror = held(&s, p, |p| {
                check_eq!(hold.resize(pages(span, 3, 2)?), Ok(Changed::Queued));
                check_eq!(hold.grow(pages(span, 3, 5)?, p), Ok(Changed::Joined));
                Ok(())
            })?;
            mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&mirror, page(span, 3)?, p),
                Some(pages(span, 3, 5)?)
            );

            let hold = mirror.get(page(span, 3)?.start(), p).ok_or(ENOENT)?;
            let mirror = held(&s, p, |p| {
                check_eq!(hold.grow(span, p), Ok(Changed::Queued));
                check_eq!(hold.resize(pages(span, 3, 2)?), Ok(Changed::Joined));
                Ok(())
            })?;
            mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&mirror, page(span, 3)?, p),
                Some(pages(span, 3, 2)?)
            );
            check_eq!(range_at(&mirror, page(span, 0)?, p), None);
            check_eq!(range_at(&mirror, page(span, 6)?, p), None);
            Ok(())
        })
    }

    /// Nobody has told of it, so whoever has a range grow has it looked at.
    #[test]
    fn what_is_not_mapped_is_taken_out_again() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(6)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 0, 2)?, p)?;
            AddressSpace::unmap(page(span, 3)?)?;
            check_eq!(hold.grow(span, p), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(range_at(&s.mirror, page(span, 3)?, p), Some(span));
            let hold = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
            check_eq!(hold.punch_unmapped(p), Ok(()));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&s.mirror, page(span, 2)?, p),
                Some(pages(span, 0, 3)?)
            );
            check_eq!(range_at(&s.mirror, page(span, 3)?, p), None);
            check_eq!(
                range_at(&s.mirror, page(span, 4)?, p),
                Some(pages(span, 4, 2)?)
            );
            Ok(())
        })
    }

    /// It takes the place of the old one, in the number of ranges, too.
    #[test]
    fn growth_needs_no_room() -> Result {
        MayBlock::enter(|p| {
            let config = Config {
                max_ranges: 1,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let span = s.space.map(4)?;
            let hold = mirrored_at(&s, &s.shared, page(span, 1)?, p)?;
            check_eq!(hold.grow(span, p), Ok(Changed::Queued));
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), Some(span));
            check_eq!(s.mirror.ranges(), 1);
            Ok(())
        })
    }

    /// While an invalidation is going on, the larger range is not in core mm's tree, and so not in
    /// the place of the other one.
    #[test]
    fn growth_spans_a_frozen_phase() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(4)?;
            let hold = mirrored_at(&s, &s.shared, pages(span, 1, 2)?, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.grow(span, p), Ok(Changed::Queued));
            // A flush would wait for the end of it; the change is taken all the same.
            eventually("a batch was taken", || s.mirror.stats().batches > 0)?;
            check_eq!(
                range_at(&s.mirror, page(span, 1)?, p),
                Some(pages(span, 1, 2)?)
            );
            check_eq!(reaches(&s.mirror, page(span, 2)?, p), true);
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), Some(span));
            check_eq!(reaches(&s.mirror, page(span, 2)?, p), true);
            Ok(())
        })
    }

    #[test]
    fn lookups_find_it_all_the_time() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(65)?;
            drop(mirrored_at(&s, &s.shared, page(span, 32)?, p)?);
            let living = page(span, 32)?.start();
            let watcher = watch(&s, living)?;
            for n in 1..33 {
                let hold = s.mirror.get(living, p).ok_or(ENOENT)?;
                let wanted = pages(span, 32 - n, 2 * n + 1)?;
                check_eq!(hold.grow(wanted, p), Ok(Changed::Queued));
                drop(hold);
                s.mirror.flush(Until::Removed, p)?;
                check_eq!(range_at(&s.mirror, page(span, 32)?, p), Some(wanted));
            }
            watcher.end()?;
            check_eq!(s.mirror.stats().replaced, 32);
            Ok(())
        })
    }
}
