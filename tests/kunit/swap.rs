// SPDX-License-Identifier: GPL-2.0

//! A managed range of which a part goes.

use kernel::prelude::*;

#[kunit_tests(odp_swap)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        eventually::eventually,
        fixture::{
            held,
            hold_worker,
            keeping,
            mirrored,
            page,
            pages,
            punching,
            range_at,
            reaches,
            setup,
            watch, //
        },
        frozen::Frozen,
        probe::Probe, //
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        time::Delta, //
    };
    use odp::{
        Changed,
        Config,
        FaultError,
        Gone,
        MayBlock,
        Mirror,
        Retire,
        Retry,
        Span,
        Until, //
    };

    #[test]
    fn a_lookup_asks_as_a_hold_does() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (span, hold) = mirrored(&s, 6, p)?;
            drop(hold);
            // The second request finds the range as the first one did.
            held(&s, p, |p| {
                AddressSpace::unmap(page(span, 1)?)?;
                let range = s.mirror.lookup(span.start(), p).ok_or(ENOENT)?;
                check_eq!(range.punch(pages(span, 1, 6)?), Err(EINVAL));
                check_eq!(range.punch(page(span, 1)?), Ok(Changed::Queued));
                check_eq!(range.resize(pages(span, 1, 6)?), Err(EINVAL));
                check_eq!(range.resize(pages(span, 0, 4)?), Ok(Changed::Joined));
                Ok(())
            })?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), Some(page(span, 0)?));
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), None);
            check_eq!(
                range_at(&s.mirror, page(span, 2)?, p),
                Some(pages(span, 2, 2)?)
            );
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            Ok(())
        })
    }

    /// Of what leaves it, what is mapped as well.
    #[test]
    fn an_invalidation_may_cut_its_range() -> Result {
        MayBlock::enter(|p| {
            let s = keeping(2, p)?;
            let (span, hold) = mirrored(&s, 6, p)?;
            drop(hold);
            AddressSpace::unmap(page(span, 4)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&s.mirror, page(span, 1)?, p),
                Some(pages(span, 0, 2)?)
            );
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 5)?, p), None);
            check_eq!(reaches(&s.mirror, page(span, 1)?, p), true);
            check_eq!(s.record.misplaced.get(), 0);
            Ok(())
        })
    }

    #[test]
    fn a_hole_leaves_two_ranges() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 5, p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            AddressSpace::unmap(page(span, 2)?)?;
            // Before any flush.
            check_eq!(reaches(&s.mirror, page(span, 2)?, p), false);
            s.mirror.flush(Until::Removed, p)?;

            let (left, right) = (pages(span, 0, 2)?, pages(span, 3, 2)?);
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), Some(left));
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), Some(left));
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 3)?, p), Some(right));
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), Some(right));
            // What lives has not been touched.
            check_eq!(reaches(&s.mirror, page(span, 1)?, p), true);
            check_eq!(reaches(&s.mirror, page(span, 3)?, p), true);

            // The old range is good for nothing any more, the piece for everything.
            check_eq!(hold.is_live(), false);
            check_eq!(hold.access(|_| ()), Err(Gone));
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Gone));
            check_eq!(
                hold.begin(hold.span(), p).map(|_| ()),
                Err(FaultError::Gone)
            );
            check_eq!(hold.retire(), Retire::Replaced);
            check_eq!(hold.punch(page(span, 0)?), Ok(Changed::NotLive));
            check_eq!(hold.resize(page(span, 0)?), Ok(Changed::NotLive));
            let piece = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
            check_eq!(piece.commit(section, |_| ()), Err(Retry::Collided));
            let section = piece.begin(piece.span(), p).map_err(Error::from)?;
            check_eq!(piece.commit(section, |_| ()), Ok(()));
            drop(piece);

            check_eq!(s.record.replaced.get(), 1);
            check_eq!(s.record.pieces.get(), 2);
            check_eq!(s.record.released.get(), 0);
            check_eq!(s.mirror.ranges(), 3);
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            check_eq!(s.mirror.ranges(), 2);
            check_eq!(s.record.misplaced.get(), 0);

            // One insert for each piece, one removal, one grace period.
            let stats = s.mirror.stats();
            check_eq!(stats.changes, 1);
            check_eq!(stats.replaced, 1);
            check_eq!(stats.pieces, 2);
            check_eq!(stats.inserted, 3);
            check_eq!(stats.removed, 1);
            check_eq!(stats.grace_periods, 1);
            check_eq!(stats.queued, 0);

            // The pieces hear of what happens to them.
            AddressSpace::unmap(span)?;
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 0);
            check_eq!(s.record.released.get(), 3);
            Ok(())
        })
    }

    #[test]
    fn both_ends_at_once_leave_the_middle() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 6, p)?;
            drop(hold);
            let mirror = held(&s, p, |_| {
                AddressSpace::unmap(page(span, 0)?)?;
                AddressSpace::unmap(pages(span, 4, 2)?)
            })?;
            let middle = pages(span, 1, 3)?;
            check_eq!(range_at(&mirror, page(span, 0)?, p), None);
            for n in 1..4 {
                check_eq!(range_at(&mirror, page(span, n)?, p), Some(middle));
                // The hull of the two holes covers all of it: nothing was zapped for that.
                check_eq!(reaches(&mirror, page(span, n)?, p), true);
            }
            check_eq!(range_at(&mirror, page(span, 4)?, p), None);
            check_eq!(mirror.stats().pieces, 1);
            Ok(())
        })
    }

    #[test]
    fn many_holes_cost_one_swap() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 33, p)?;
            drop(hold);
            let before = s.mirror.stats();
            let mirror = held(&s, p, |_| {
                for n in (1..33).step_by(2) {
                    AddressSpace::unmap(page(span, n)?)?;
                }
                Ok(())
            })?;
            let stats = mirror.stats();
            check_eq!(s.record.unmaps.get(), 16);
            check_eq!(stats.changes - before.changes, 16);
            check_eq!(stats.replaced, 1);
            check_eq!(stats.pieces, 17);
            // The bystander, and the swap.
            check_eq!(stats.inserted - before.inserted, 18);
            check_eq!(stats.removed, 2);
            check_eq!(stats.grace_periods, 2);
            for n in 0..33 {
                let there = (n % 2 == 0).then_some(page(span, n)?);
                check_eq!(range_at(&mirror, page(span, n)?, p), there);
                check_eq!(reaches(&mirror, page(span, n)?, p), there.is_some());
            }
            Ok(())
        })
    }

    #[test]
    fn what_is_mapped_again_costs_nothing() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            let mirror = held(&s, p, |_| {
                AddressSpace::unmap(page(span, 1)?)?;
                s.space.map_at(page(span, 1)?)
            })?;
            check_eq!(hold.is_live(), true);
            check_eq!(range_at(&mirror, page(span, 1)?, p), Some(span));
            // But the device has to ask for the new page.
            check_eq!(reaches(&mirror, page(span, 1)?, p), false);
            check_eq!(reaches(&mirror, page(span, 2)?, p), true);
            let stats = mirror.stats();
            check_eq!(stats.unchanged, 1);
            check_eq!(stats.replaced, 0);
            // It has not been forgotten how.
            AddressSpace::unmap(page(span, 1)?)?;
            mirror.flush(Until::Removed, p)?;
            check_eq!(mirror.stats().replaced, 1);
            Ok(())
        })
    }

    #[test]
    fn a_range_of_which_nothing_is_left_goes() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 4, p)?;
            drop(hold);
            AddressSpace::unmap(span)?;
            s.mirror.flush(Until::Released, p)?;
            let stats = s.mirror.stats();
            check_eq!(stats.replaced, 0);
            check_eq!(stats.queued, 1);
            check_eq!(stats.released, 1);
            check_eq!(s.mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn a_retire_wins_over_a_punch() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            let mirror = held(&s, p, |_| {
                AddressSpace::unmap(page(span, 1)?)?;
                check_eq!(hold.is_live(), true);
                check_eq!(hold.retire(), Retire::Queued);
                check_eq!(hold.retire(), Retire::Already);
                check_eq!(hold.punch(page(span, 0)?), Ok(Changed::NotLive));
                drop(hold);
                Ok(())
            })?;
            mirror.flush(Until::Released, p)?;
            let stats = mirror.stats();
            check_eq!(stats.replaced, 0);
            check_eq!(stats.queued, 2);
            check_eq!(stats.released, 2);
            check_eq!(mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn resizes_add_up() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 6, p)?;
            let mirror = held(&s, p, |_| {
                check_eq!(hold.resize(pages(span, 1, 5)?), Ok(Changed::Queued));
                check_eq!(hold.resize(pages(span, 0, 4)?), Ok(Changed::Joined));
                // In service until then.
                check_eq!(hold.access(|pages| pages.has(span.start())), Ok(true));
                Ok(())
            })?;
            let keep = pages(span, 1, 3)?;
            check_eq!(range_at(&mirror, page(span, 0)?, p), None);
            check_eq!(range_at(&mirror, page(span, 1)?, p), Some(keep));
            check_eq!(range_at(&mirror, page(span, 3)?, p), Some(keep));
            check_eq!(range_at(&mirror, page(span, 4)?, p), None);
            // What is not covered any more is not reached any more, though it is mapped.
            let piece = mirror.get(keep.start(), p).ok_or(ENOENT)?;
            check_eq!(piece.access(|pages| pages.has(span.start())), Ok(false));
            check_eq!(piece.access(|pages| pages.has(keep.start())), Ok(true));

            // Nothing in common: nothing is left.
            drop(hold);
            let mirror = held(&s, p, |_| {
                check_eq!(piece.resize(page(span, 1)?), Ok(Changed::Queued));
                check_eq!(piece.resize(page(span, 3)?), Ok(Changed::Joined));
                drop(piece);
                Ok(())
            })?;
            mirror.flush(Until::Released, p)?;
            check_eq!(mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn what_cannot_be_asked_for_changes_nothing() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(4)?;
            let part = pages(span, 1, 2)?;
            let hold = s.mirror.insert(part, s.shared.clone(), p)?;
            for outside in [
                page(span, 0)?,
                page(span, 3)?,
                pages(span, 0, 2)?,
                pages(span, 2, 2)?,
                span,
            ] {
                check_eq!(hold.resize(outside), Err(EINVAL));
                check_eq!(hold.punch(outside), Err(EINVAL));
            }
            check_eq!(s.mirror.stats().changes, 0);
            // All of it is no change, and nothing but a look at it.
            check_eq!(hold.resize(part), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().unchanged, 1);
            check_eq!(hold.is_live(), true);
            hold.retire();
            check_eq!(hold.resize(part)?.accepted(), Err(ESTALE));
            check_eq!(hold.punch(part)?.accepted(), Err(ESTALE));

            for wakeup_delay in [Delta::from_nanos(-1), Delta::from_secs(1)] {
                let config = Config {
                    wakeup_delay,
                    ..Config::default()
                };
                let mirror = Mirror::<Probe>::new(&*s.space.user()?, config, p);
                check_eq!(mirror.map(|_| ()), Err(EINVAL));
            }
            for grain in [0, 1, PAGE_SIZE / 2, PAGE_SIZE + 1, 3 * PAGE_SIZE] {
                let config = Config {
                    grain,
                    ..Config::default()
                };
                let mirror = Mirror::<Probe>::new(&*s.space.user()?, config, p);
                check_eq!(mirror.map(|_| ()), Err(EINVAL));
            }
            Ok(())
        })
    }

    #[test]
    fn pieces_are_rounded_to_the_grain() -> Result {
        MayBlock::enter(|p| {
            let grain = 4 * PAGE_SIZE;
            let config = Config {
                grain,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let room = s.space.map(20)?;
            let first = room.start().next_multiple_of(grain);
            // From one page before to one behind three grains.
            let span = Span::new(first + 3 * PAGE_SIZE, 14 * PAGE_SIZE)?;
            if !room.covers(&span) {
                return Err(EINVAL);
            }
            drop(s.mirror.insert(span, s.shared.clone(), p)?);
            // Less than a grain: nothing changes.
            AddressSpace::unmap(Span::new(first + 5 * PAGE_SIZE, 2 * PAGE_SIZE)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().unchanged, 1);
            // One and a half: one goes.
            AddressSpace::unmap(Span::new(first + 8 * PAGE_SIZE, 6 * PAGE_SIZE)?)?;
            s.mirror.flush(Until::Removed, p)?;
            let left = Span::from_bounds(span.start(), first + 8 * PAGE_SIZE)?;
            let right = Span::from_bounds(first + 12 * PAGE_SIZE, span.end())?;
            let at = |addr, p: &mut MayBlock<'_>| s.mirror.lookup(addr, p).map(|r| r.span());
            check_eq!(at(first + 5 * PAGE_SIZE, p), Some(left));
            check_eq!(at(first + 8 * PAGE_SIZE, p), None);
            check_eq!(at(first + 12 * PAGE_SIZE, p), Some(right));
            Ok(())
        })
    }

    /// Who inserts a range asks for that, and others may have taken its place by then.
    #[test]
    fn what_was_never_mapped_is_taken_out_of_the_pieces() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(4)?;
            AddressSpace::unmap(page(span, 0)?)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            AddressSpace::unmap(page(span, 3)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(
                range_at(&s.mirror, page(span, 0)?, p),
                Some(pages(span, 0, 3)?)
            );

            check_eq!(hold.punch_unmapped(p), Ok(()));
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), None);
            check_eq!(
                range_at(&s.mirror, page(span, 1)?, p),
                Some(pages(span, 1, 2)?)
            );
            AddressSpace::unmap(pages(span, 1, 2)?)?;
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn a_swap_spans_a_frozen_phase() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 4, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.resize(pages(span, 0, 3)?), Ok(Changed::Queued));
            // The piece is there, but not in the tree; the old range is in service until it is.
            eventually("the piece is there", || s.mirror.ranges() == 2)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            check_eq!(hold.commit(section, |_| ()), Ok(()));
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), Some(span));
            // What is asked for now reaches the piece.
            check_eq!(hold.resize(pages(span, 1, 3)?), Ok(Changed::Queued));
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            let keep = pages(span, 1, 2)?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), Some(keep));
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), Some(keep));
            check_eq!(range_at(&s.mirror, page(span, 3)?, p), None);
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Gone));
            check_eq!(s.mirror.stats().replaced, 2);
            Ok(())
        })
    }

    #[test]
    fn a_retire_during_the_swap_wins() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 4, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.resize(pages(span, 0, 3)?), Ok(Changed::Queued));
            eventually("the piece is there", || s.mirror.ranges() == 2)?;
            check_eq!(hold.retire(), Retire::Queued);
            check_eq!(hold.is_live(), false);
            frozen.thaw(p)?;
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 0);
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), None);
            check_eq!(s.mirror.stats().replaced, 0);
            check_eq!(s.record.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn where_there_is_no_room_the_range_stays() -> Result {
        MayBlock::enter(|p| {
            let config = Config {
                max_ranges: 2,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            s.mirror.flush(Until::Removed, p)?;
            let stats = s.mirror.stats();
            check_eq!(stats.replaced, 0);
            check_eq!(stats.replace_failed > 0, true);
            check_eq!(hold.is_live(), true);
            check_eq!(s.mirror.ranges(), 1);
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), Some(span));
            check_eq!(reaches(&s.mirror, page(span, 0)?, p), true);
            check_eq!(reaches(&s.mirror, page(span, 1)?, p), false);

            // What is left to do fits: the next request does all of it.
            AddressSpace::unmap(page(span, 0)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replaced, 1);
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), Some(page(span, 2)?));
            Ok(())
        })
    }

    #[test]
    fn a_flush_tries_again() -> Result {
        MayBlock::enter(|p| {
            let config = Config {
                max_ranges: 3,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let (span, _hold) = mirrored(&s, 3, p)?;
            let other = s.space.map(1)?;
            let other = s.mirror.insert(other, s.shared.clone(), p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replaced, 0);
            // Room is made by something else.
            other.retire();
            drop(other);
            eventually("the other range is gone", || s.mirror.ranges() == 1)?;
            check_eq!(s.mirror.stats().replaced, 0);
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replaced, 1);
            Ok(())
        })
    }

    /// How many ranges cannot be changed, and of how many of them a drain may make another try at
    /// most: more than it does, and far fewer than there are.
    const STALLED: usize = 200;
    const FEW: u64 = 16;

    /// Who drains, because it is about to insert a range, pays for a few of those that could not be
    /// changed and not for all; and those after it for the others.
    #[test]
    fn a_drain_tries_a_few_again() -> Result {
        MayBlock::enter(|p| {
            let config = Config {
                max_ranges: STALLED + 1,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let mut spans = KVec::new();
            for _ in 0..STALLED {
                let span = s.space.map(3)?;
                drop(s.mirror.insert(span, s.shared.clone(), p)?);
                spans.push(span, GFP_KERNEL)?;
            }
            let last = s.space.map(1)?;
            drop(s.mirror.insert(last, s.shared.clone(), p)?);
            // There is no room for a piece more.
            for span in &spans {
                AddressSpace::unmap(page(*span, 1)?)?;
            }
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(s.mirror.stats().replaced, 0);
            let tried = || s.mirror.stats().changes;

            // As at the limit: each time one goes and one comes.
            for _ in 0..4 {
                let released = s.mirror.stats().released;
                let hold = s.mirror.get(last.start(), p).ok_or(ENOENT)?;
                hold.remove(p)?;
                eventually("there is room", || s.mirror.stats().released > released)?;
                drop(s.mirror.insert(last, s.shared.clone(), p)?);
                let before = tried();
                s.mirror.drain(p);
                check_eq!(tried() > before, true);
                check_eq!(tried() - before <= FEW, true);
            }

            // A flush tries all. One that comes before it waits for what the worker is doing.
            s.mirror.flush(Until::Removed, p)?;
            let before = tried();
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(tried() - before, STALLED as u64);
            check_eq!(s.mirror.stats().replaced, 0);

            // With room for all, each has its turn.
            const LEFT: usize = STALLED / 4;
            for span in spans.iter().skip(LEFT) {
                let hold = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
                hold.remove(p)?;
            }
            eventually("there is room", || s.mirror.ranges() == LEFT + 1)?;
            for _ in 0..LEFT {
                let before = tried();
                s.mirror.drain(p);
                check_eq!(tried() - before <= FEW, true);
            }
            // The worker may have been faster than the drain.
            eventually("all are changed", || {
                s.mirror.stats().replaced == LEFT as u64
            })?;
            for span in spans.iter().take(LEFT) {
                check_eq!(
                    range_at(&s.mirror, page(*span, 0)?, p),
                    Some(page(*span, 0)?)
                );
                check_eq!(range_at(&s.mirror, page(*span, 1)?, p), None);
                check_eq!(
                    range_at(&s.mirror, page(*span, 2)?, p),
                    Some(page(*span, 2)?)
                );
            }
            Ok(())
        })
    }

    #[test]
    fn exit_takes_what_waits_to_be_changed() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            drop(hold);
            let reader = hold_worker(&s, p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            s.space.exit();
            // The last to use the address space is the reader's thread.
            reader.end()?;
            eventually("all ranges are gone", || s.mirror.ranges() == 0)?;
            s.mirror.flush(Until::Released, p)?;
            let stats = s.mirror.stats();
            check_eq!(stats.changes, 1);
            check_eq!(stats.inserted, stats.released);
            Ok(())
        })
    }

    #[test]
    fn shutdown_takes_what_waits_to_be_changed() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            drop(hold);
            let reader = hold_worker(&s, p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            reader.end()?;
            let stats = s.mirror.shutdown(p);
            check_eq!(s.mirror.ranges(), 0);
            check_eq!(stats.changes, 1);
            check_eq!(stats.inserted, stats.released);
            Ok(())
        })
    }

    /// Who drains finds the pieces afterwards, and does not wait for who looks at the old range.
    #[test]
    fn who_drains_changes_too() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            drop(hold);
            // No grace period ends before this reader does.
            let reader = hold_worker(&s, p)?;
            AddressSpace::unmap(page(span, 1)?)?;
            check_eq!(s.mirror.drain(p), 1);
            check_eq!(s.mirror.stats().replaced, 1);
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), Some(page(span, 0)?));
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 2)?, p), Some(page(span, 2)?));
            reader.end()?;
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.mirror.ranges(), 2);
            Ok(())
        })
    }

    #[test]
    fn a_remove_waits_for_what_took_the_place() -> Result {
        MayBlock::enter(|p| {
            // Whichever comes first: afterwards nothing is left of it, or all of what took its
            // place.
            for _ in 0..32 {
                let s = punching(Config::default(), p)?;
                let (span, hold) = mirrored(&s, 3, p)?;
                AddressSpace::unmap(page(span, 1)?)?;
                let removed = hold.remove(p)?;
                let left = range_at(&s.mirror, page(span, 0)?, p);
                let stats = s.mirror.stats();
                if removed == Retire::Replaced {
                    check_eq!(left, Some(page(span, 0)?));
                } else {
                    check_eq!(left, None);
                    check_eq!(stats.inserted, stats.removed);
                }
                s.space.exit();
            }
            Ok(())
        })
    }

    #[test]
    fn lookups_find_the_living_part_all_the_time() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 129, p)?;
            drop(hold);
            let living = span.start();
            let watcher = watch(&s, living)?;
            // From the end on, so that the first page is always in the piece that is changed next.
            for n in (1..129).step_by(2).rev() {
                AddressSpace::unmap(page(span, n)?)?;
                s.mirror.flush(Until::Removed, p)?;
            }
            watcher.end()?;
            check_eq!(s.mirror.stats().replaced, 64);
            Ok(())
        })
    }

    #[test]
    fn more_holes_than_pieces_at_a_time() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let span = s.space.map(401)?;
            drop(s.mirror.insert(span, s.shared.clone(), p)?);
            let mirror = held(&s, p, |_| {
                for n in (1..401).step_by(2) {
                    AddressSpace::unmap(page(span, n)?)?;
                }
                Ok(())
            })?;
            // What is left to do comes with the same tickets.
            for n in 0..401 {
                let there = (n % 2 == 0).then_some(page(span, n)?);
                check_eq!(range_at(&mirror, page(span, n)?, p), there);
            }
            mirror.flush(Until::Released, p)?;
            check_eq!(mirror.ranges(), 201);
            Ok(())
        })
    }

    #[test]
    fn a_grain_goes_page_by_page() -> Result {
        MayBlock::enter(|p| {
            let grain = 4 * PAGE_SIZE;
            let config = Config {
                grain,
                ..Config::default()
            };
            let s = punching(config, p)?;
            let room = s.space.map(16)?;
            let first = room.start().next_multiple_of(grain);
            let span = Span::new(first, 3 * grain)?;
            drop(s.mirror.insert(span, s.shared.clone(), p)?);
            for n in [5, 4, 6, 7] {
                AddressSpace::unmap(page(span, n)?)?;
                s.mirror.flush(Until::Removed, p)?;
            }
            check_eq!(
                range_at(&s.mirror, page(span, 3)?, p),
                Some(pages(span, 0, 4)?)
            );
            check_eq!(range_at(&s.mirror, page(span, 4)?, p), None);
            check_eq!(
                range_at(&s.mirror, page(span, 8)?, p),
                Some(pages(span, 8, 4)?)
            );
            check_eq!(s.mirror.stats().unchanged, 3);
            for n in [0, 1, 2, 3, 8, 9, 10, 11] {
                AddressSpace::unmap(page(span, n)?)?;
                s.mirror.flush(Until::Released, p)?;
            }
            check_eq!(s.mirror.ranges(), 0);

            // What is wanted is remembered, too, where it does not end with a grain.
            let room = s.space.map(16)?;
            let first = room.start().next_multiple_of(grain);
            let span = Span::new(first, 3 * grain)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            check_eq!(hold.resize(pages(span, 1, 11)?), Ok(Changed::Queued));
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.is_live(), true);
            AddressSpace::unmap(pages(span, 1, 3)?)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), None);
            check_eq!(
                range_at(&s.mirror, page(span, 4)?, p),
                Some(pages(span, 4, 8)?)
            );
            Ok(())
        })
    }

    #[test]
    fn an_address_may_be_mirrored_again_after_a_punch() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 3, p)?;
            let hole = page(span, 1)?;
            AddressSpace::unmap(hole)?;
            s.mirror.flush(Until::Removed, p)?;
            // The old range is held, and gone from lookups.
            s.space.map_at(hole)?;
            let new = s.mirror.insert(hole, s.shared.clone(), p)?;
            check_eq!(range_at(&s.mirror, hole, p), Some(hole));
            let section = new.begin(new.span(), p).map_err(Error::from)?;
            new.commit(section, |pages| pages.install(hole.start()))??;
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(reaches(&s.mirror, hole, p), true);
            Ok(())
        })
    }
}
