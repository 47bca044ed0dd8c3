// SPDX-License-Identifier: GPL-2.0

//! A managed range on its way out.

use kernel::prelude::*;

#[kunit_tests(odp_managed)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        fixture::{
            one_by_one,
            page,
            page_by_page,
            pages,
            setup,
            take_a_while, //
        },
        frozen::Frozen,
        probe::Probe,
        reader::Reader,
        tally::Tally, //
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        sync::atomic::Relaxed,
        time::{
            delay::fsleep,
            Delta,
            Instant,
            Monotonic, //
        }, //
    };
    use odp::{
        Config,
        Event,
        FaultError,
        Gone,
        MayBlock,
        Mirror,
        Retire,
        Retry,
        Until, //
    };

    #[test]
    fn munmap_retires_and_releases_once() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(4)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            hold.commit(section, |pages| pages.install(span.start()))??;
            drop(hold);
            check_eq!(s.mirror.lookup(span.start(), p).is_some(), true);

            AddressSpace::unmap(span)?;
            // Before any flush: out of the device's reach, and out of service.
            check_eq!(s.mirror.lookup(span.start(), p).is_some(), false);
            check_eq!(s.record.unmaps.get(), 1);

            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            check_eq!(s.record.misplaced.get(), 0);
            check_eq!(s.mirror.ranges(), 0);
            drop(s.shared);
            check_eq!(s.record.dropped.get(), 1);

            let stats = s.mirror.shutdown(p);
            check_eq!(stats.queued, 1);
            check_eq!(stats.removed, 1);
            check_eq!(stats.released, 1);
            check_eq!(stats.grace_periods, 1);
            check_eq!(stats.holds, stats.puts);
            Ok(())
        })
    }

    #[test]
    fn clear_zaps_and_the_range_stays() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(2)?;
            AddressSpace::read(span.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            hold.commit(section, |pages| pages.install(span.start()))??;
            let other = span.start() + PAGE_SIZE;
            hold.commit(section, |pages| pages.install(other))??;

            // Replaces the zero page: only this page is named, and only this page is zapped.
            AddressSpace::write(span.start(), 1)?;
            check_eq!(s.record.clears.get() > 0, true);
            check_eq!(hold.access(|pages| pages.has(span.start())), Ok(false));
            check_eq!(hold.access(|pages| pages.has(other)), Ok(true));
            check_eq!(hold.is_live(), true);
            check_eq!(s.mirror.stats().queued, 0);
            Ok(())
        })
    }

    #[test]
    fn exit_retires_what_is_left() -> Result {
        MayBlock::enter(|p| {
            // Even if the driver's callback does not ask for it.
            let s = setup(None, p)?;
            let (span, holds) = page_by_page(&s, 3, p)?;
            drop(holds);
            s.space.exit();
            check_eq!(s.record.releases.get(), 3);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 3);
            check_eq!(s.record.misplaced.get(), 0);
            // exit_mmap() unmaps after it has said that it is going to: callbacks after retire.
            check_eq!(s.mirror.stats().queued, 3);
            let insert = s.mirror.insert(span, s.shared.clone(), p);
            check_eq!(insert.map(|_| ()).map_err(Error::from), Err(ESRCH));
            check_eq!(s.mirror.stats().mm_dead, 1);
            Ok(())
        })
    }

    #[test]
    fn the_mirror_may_end_before_the_process() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(1)?;
            drop(s.mirror.insert(span, s.shared.clone(), p)?);
            let stats = s.mirror.shutdown(p);
            check_eq!(stats.released, 1);
            check_eq!(s.record.released.get(), 1);
            // Nobody is told any more.
            AddressSpace::unmap(span)?;
            check_eq!(s.record.unmaps.get(), 0);
            s.space.exit();
            check_eq!(s.record.releases.get(), 0);
            Ok(())
        })
    }

    #[test]
    fn a_second_retire_is_the_same_request() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            // Nothing is removed while this lasts, so that the callback still comes.
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.retire(), Retire::Queued);
            check_eq!(hold.retire(), Retire::Already);
            frozen.thaw(p)?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.retire(), Retire::Already);
            let stats = s.mirror.stats();
            check_eq!(stats.queued, 1);
            check_eq!(stats.coalesced, 2);
            check_eq!(stats.removed, 1);
            check_eq!(stats.released, 0);
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn callbacks_that_come_after_retire_are_handled() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(1)?;
            AddressSpace::read(span.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.retire(), Retire::Queued);
            // The worker has zapped and is about to sleep in the removal: the notifier is there.
            s.record.zapped.wait_for(1)?;
            AddressSpace::write(span.start(), 1)?;
            check_eq!(s.record.clears.get() > 0, true);
            check_eq!(s.record.released.get(), 0);
            frozen.thaw(p)?;
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn a_retired_range_refuses_everything() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            hold.retire();
            check_eq!(hold.is_live(), false);
            check_eq!(hold.access(|_| ()), Err(Gone));
            check_eq!(
                hold.begin(hold.span(), p).map(|_| ()),
                Err(FaultError::Gone)
            );
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Gone));
            check_eq!(s.mirror.get(span.start(), p).is_none(), true);
            // Still so when it has been removed: the sequence alone would not tell.
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Gone));
            check_eq!(
                hold.begin(hold.span(), p).map(|_| ()),
                Err(FaultError::Gone)
            );
            Ok(())
        })
    }

    #[test]
    fn a_commit_after_an_invalidation_collides() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            AddressSpace::read(span.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            check_eq!(hold.commit(section, |_| ()), Ok(()));
            AddressSpace::write(span.start(), 1)?;
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Collided));
            let section = hold.begin(hold.span(), p).map_err(Error::from)?;
            check_eq!(hold.commit(section, |_| ()), Ok(()));
            Ok(())
        })
    }

    #[test]
    fn an_invalidation_beside_a_fault_does_not_matter() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(3)?;
            for n in 0..3 {
                AddressSpace::read(page(span, n)?.start())?;
            }
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let [left, middle] = [0, 1].map(|n| hold.begin(page(span, n)?, p).map_err(Error::from));
            let (left, middle) = (left?, middle?);
            // Each of them replaces the zero page.
            AddressSpace::write(page(span, 0)?.start(), 1)?;
            AddressSpace::write(page(span, 2)?.start(), 1)?;
            check_eq!(s.record.clears.get() > 1, true);
            check_eq!(hold.commit(left, |_| ()), Err(Retry::Collided));
            check_eq!(hold.commit(middle, |_| ()), Ok(()));
            // When it is used again, all that happened to the range counts.
            check_eq!(hold.commit(middle, |_| ()), Err(Retry::Collided));
            Ok(())
        })
    }

    #[test]
    fn a_fault_that_reaches_into_what_is_invalidated_collides() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(4)?;
            AddressSpace::read(pages(span, 2, 1)?.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let mut begin = |n, of| hold.begin(pages(span, n, of)?, p).map_err(Error::from);
            let (before, up_to, from, behind) =
                (begin(0, 2)?, begin(0, 3)?, begin(2, 2)?, begin(3, 1)?);
            AddressSpace::write(pages(span, 2, 1)?.start(), 1)?;
            check_eq!(hold.commit(before, |_| ()), Ok(()));
            check_eq!(hold.commit(up_to, |_| ()), Err(Retry::Collided));
            check_eq!(hold.commit(from, |_| ()), Err(Retry::Collided));
            check_eq!(hold.commit(behind, |_| ()), Ok(()));
            Ok(())
        })
    }

    #[test]
    fn of_many_faults_the_oldest_depends_on_the_sequence() -> Result {
        const KEPT: usize = 64;
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            AddressSpace::read(page(span, 0)?.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let oldest = hold.begin(page(span, 1)?, p).map_err(Error::from)?;
            let mut others = KVec::with_capacity(KEPT, GFP_KERNEL)?;
            for _ in 0..KEPT {
                let section = hold.begin(page(span, 1)?, p).map_err(Error::from)?;
                others.push(section, GFP_KERNEL)?;
            }
            AddressSpace::write(page(span, 0)?.start(), 1)?;
            check_eq!(hold.commit(oldest, |_| ()), Err(Retry::Collided));
            for section in others {
                check_eq!(hold.commit(section, |_| ()), Ok(()));
            }
            Ok(())
        })
    }

    #[test]
    fn a_section_of_another_range_leaves_its_faults_alone() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (other, _) = Probe::new(None)?;
            let mirror = Mirror::<Probe>::new(&*s.space.user()?, Config::default(), p)?;
            let span = s.space.map(2)?;
            AddressSpace::read(span.start())?;
            let right = page(span, 1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let theirs = mirror.insert(span, other, p)?;
            // The first fault of each of two objects.
            let section = hold.begin(right, p).map_err(Error::from)?;
            let foreign = theirs.begin(right, p).map_err(Error::from)?;
            check_eq!(hold.commit(foreign, |_| ()), Err(Retry::Collided));
            AddressSpace::write(span.start(), 1)?;
            check_eq!(hold.commit(section, |_| ()), Ok(()));
            Ok(())
        })
    }

    #[test]
    fn a_section_is_within_its_range() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            let left = page(span, 0)?;
            let hold = s.mirror.insert(left, s.shared.clone(), p)?;
            let outside = hold.begin(span, p).map(|_| ());
            check_eq!(outside, Err(FaultError::Failed(EINVAL)));
            Ok(())
        })
    }

    #[test]
    fn an_abandoned_section_depends_on_the_sequence() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            AddressSpace::read(span.start())?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let right = page(span, 1)?;
            let section = hold.begin(right, p).map_err(Error::from)?;
            hold.abandon(section);
            AddressSpace::write(span.start(), 1)?;
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Collided));
            Ok(())
        })
    }

    #[test]
    fn a_fault_beside_an_invalidation_does_not_outlive_its_range() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            let old = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = old.begin(span, p).map_err(Error::from)?;
            old.retire();
            // Nobody told of what happened between the two.
            let new = s.mirror.insert(span, s.shared.clone(), p)?;
            check_eq!(new.commit(section, |_| ()), Err(Retry::Collided));
            check_eq!(old.commit(section, |_| ()), Err(Retry::Gone));
            Ok(())
        })
    }

    #[test]
    fn the_section_of_another_range_collides() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            let left = page(span, 0)?;
            let right = page(span, 1)?;
            let left = s.mirror.insert(left, s.shared.clone(), p)?;
            let right = s.mirror.insert(right, s.shared.clone(), p)?;
            let section = left.begin(left.span(), p).map_err(Error::from)?;
            check_eq!(right.commit(section, |_| ()), Err(Retry::Collided));
            check_eq!(left.commit(section, |_| ()), Ok(()));
            Ok(())
        })
    }

    #[test]
    fn a_hold_delays_the_release_of_its_range_only() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(2)?;
            let left = page(span, 0)?;
            let right = page(span, 1)?;
            let hold = s.mirror.insert(left, s.shared.clone(), p)?;
            drop(s.mirror.insert(right, s.shared.clone(), p)?);
            AddressSpace::unmap(span)?;
            s.record.released.wait_for(1)?;
            s.mirror.flush(Until::Removed, p)?;
            let stats = s.mirror.stats();
            check_eq!(stats.removed, 2);
            check_eq!(stats.held_back, 1);
            check_eq!(s.record.released.get(), 1);
            drop(hold);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 2);
            check_eq!(s.record.misplaced.get(), 0);
            Ok(())
        })
    }

    #[test]
    fn a_lookup_holds_off_the_whole_batch() -> Result {
        MayBlock::enter(|p| {
            let s = setup(Some(Event::Unmap), p)?;
            let span = s.space.map(1)?;
            let mirror = s.mirror.clone();
            drop(mirror.insert(span, s.shared.clone(), p)?);

            let reader = Reader::begin(&s.space, &mirror, span.start())?;
            AddressSpace::unmap(span)?;
            s.record.zapped.wait_for(1)?;

            take_a_while(&s, p)?;
            // It has not ended its grace period.
            check_eq!(mirror.stats().grace_periods, 0);
            check_eq!(mirror.stats().removed, 0);

            reader.end()?;
            mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            check_eq!(mirror.stats().grace_periods, 1);
            Ok(())
        })
    }

    #[test]
    fn what_is_retired_while_the_worker_is_busy_shares_a_grace_period() -> Result {
        const MORE: usize = 40;
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (_, holds) = page_by_page(&s, MORE + 1, p)?;
            let frozen = Frozen::begin(&s.space, p)?;
            holds[0].retire();
            // The worker has the first, and sleeps in its removal until the phase ends.
            s.record.zapped.wait_for(1)?;
            for hold in &holds[1..] {
                check_eq!(hold.retire(), Retire::Queued);
            }
            check_eq!(s.mirror.stats().removed, 0);
            frozen.thaw(p)?;
            drop(holds);
            s.mirror.flush(Until::Released, p)?;
            let stats = s.mirror.stats();
            check_eq!(stats.released, MORE as u64 + 1);
            check_eq!(stats.batches, 2);
            check_eq!(stats.grace_periods, 2);
            Ok(())
        })
    }

    #[test]
    fn one_frozen_phase_delays_all_removals_only_once() -> Result {
        const N: usize = 24;
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (span, holds) = page_by_page(&s, N, p)?;
            drop(holds);
            let frozen = Frozen::begin(&s.space, p)?;
            s.mirror.retire_all();
            // The worker may have begun before the last one was retired: then there are two
            // batches.
            s.record.zapped.wait_for(1)?;
            check_eq!(s.mirror.stats().removed, 0);
            // Meanwhile lookups go on, and find nothing.
            check_eq!(s.mirror.lookup(span.start(), p).is_none(), true);
            frozen.thaw(p)?;
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), N);
            check_eq!(s.mirror.stats().grace_periods <= 2, true);
            Ok(())
        })
    }

    #[test]
    fn where_removals_wait_for_an_invalidation_more_of_them_go_on_at_the_same_time() -> Result {
        const LANES: usize = 8;
        // Each lane that has waited brings two along.
        const THEN: usize = 3 * LANES;
        // Nobody announces that a removal is asleep, so the invalidation may have ended too early.
        const TRIES: usize = 20;
        MayBlock::enter(|p| {
            for attempt in 1..=TRIES {
                let s = one_by_one(p)?;
                let (_, holds) = page_by_page(&s, THEN, p)?;
                drop(holds);
                // What is removed stays in its lane.
                s.record.hold_releases.store(true, Relaxed);
                let frozen = Frozen::begin(&s.space, p)?;
                s.mirror.retire_all();
                s.record.zapped.wait_for(1)?;
                fsleep(Delta::from_millis(attempt as i64));
                frozen.thaw(p)?;
                // By the clock: where a tick is 10 ms, so is the shortest sleep.
                let thawed = Instant::<Monotonic>::now();
                let patience = Delta::from_millis(200 * attempt as i64);
                while s.record.releasing.get() != THEN && thawed.elapsed() < patience {
                    fsleep(Delta::from_millis(1));
                }
                let at_once = s.record.releasing.get();
                s.record.may_release.inc();
                s.mirror.flush(Until::Released, p)?;
                check_eq!(s.record.released.get(), THEN);
                check_eq!(s.mirror.stats().started, 0);
                if at_once == THEN {
                    return Ok(());
                }
            }
            Err(ETIMEDOUT)
        })
    }

    #[test]
    fn remove_returns_when_it_is_removed_though_others_hold_it() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            let ours = s.mirror.insert(span, s.shared.clone(), p)?;
            let theirs = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
            ours.remove(p)?;
            check_eq!(s.mirror.stats().removed, 1);
            check_eq!(s.record.released.get(), 0);
            drop(theirs);
            s.mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn drain_does_what_the_worker_has_not_begun() -> Result {
        const MORE: usize = 5;
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (span, holds) = page_by_page(&s, MORE + 1, p)?;
            let mirror = s.mirror.clone();
            // The worker is kept busy by a lookup, which its grace period waits for ...
            let reader = Reader::begin(&s.space, &mirror, span.start())?;
            holds[0].retire();
            s.record.zapped.wait_for(1)?;
            // ... so that what is retired now is nobody's, until it is drained.
            for hold in &holds[1..] {
                hold.retire();
            }
            drop(holds);
            let drained = Tally::new("drained")?;
            let done = s.space.thread({
                let (mirror, drained) = (mirror.clone(), drained.clone());
                move || {
                    for _ in 0..MayBlock::enter(|p| mirror.drain(p)) {
                        drained.inc();
                    }
                }
            })?;
            s.record.zapped.wait_for(MORE + 1)?;
            // The one who drains waits for the reader too, but not for the worker.
            reader.end()?;
            done.join()?;
            check_eq!(drained.get(), MORE);
            mirror.flush(Until::Released, p)?;
            check_eq!(mirror.stats().drained, MORE as u64);
            check_eq!(s.record.released.get(), MORE + 1);
            check_eq!(s.record.misplaced.get(), 0);
            Ok(())
        })
    }

    #[test]
    fn flush_does_not_wait_for_what_is_retired_later() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(2)?;
            let left = page(span, 0)?;
            let right = page(span, 1)?;
            let mirror = s.mirror.clone();
            let left = mirror.insert(left, s.shared.clone(), p)?;
            let right = mirror.insert(right, s.shared.clone(), p)?;
            left.retire();
            mirror.flush(Until::Removed, p)?;
            // The release of the right one, which is held, is no business of a flush that began
            // before it was retired: this one has begun when it waits for the left one's.
            let flushed = s.space.thread({
                let mirror = mirror.clone();
                move || {
                    let _ = MayBlock::enter(|p| mirror.flush(Until::Released, p));
                }
            })?;
            drop(left);
            flushed.join()?;
            right.retire();
            mirror.flush(Until::Removed, p)?;
            check_eq!(s.record.released.get(), 1);
            drop(right);
            mirror.flush(Until::Released, p)?;
            check_eq!(s.record.released.get(), 2);
            Ok(())
        })
    }
}
