// SPDX-License-Identifier: GPL-2.0

//! Things that happen at the same time. Bounded by count; sanitizers and counters judge.

use kernel::prelude::*;

#[kunit_tests(odp_race)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        fixture::{
            page,
            pages, //
        },
        probe::Probe,
        tally::Tally, //
    };
    use kernel::{
        prelude::*,
        sync::Arc, //
    };
    use odp::{
        Config,
        Event,
        MayBlock,
        Mirror,
        Until, //
    };

    const ROUNDS: usize = 100;

    /// A driver really had this: a lookup found what a blocking remove was working on.
    #[test]
    fn a_lookup_races_a_removal() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Arc::new(
                Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?,
                GFP_KERNEL,
            )?;
            let (shared, record) = Probe::new(None)?;
            let span = space.map(1)?;
            let found = Tally::new("found")?;
            let looker = space.repeat({
                let (mirror, found) = (mirror.clone(), found.clone());
                move |p| {
                    if let Some(lookup) = mirror.lookup(span.start(), p) {
                        found.inc();
                        let _ = lookup.access(|pages| pages.has(span.start()));
                        drop(lookup.hold());
                    }
                }
            })?;
            for _ in 0..ROUNDS {
                drop(mirror.insert(span, shared.clone(), p)?);
                // Not before the other side had its chance to be in the middle of it.
                let before = found.get();
                found.wait_for(before + 1)?;
                let hold = mirror.get(span.start(), p).ok_or(ENOENT)?;
                hold.remove(p)?;
            }
            looker.stop()?;
            mirror.shutdown(p);
            check_eq!(record.released.get(), ROUNDS);
            Ok(())
        })
    }

    /// Callbacks may come before the insertion that they are for has returned.
    #[test]
    fn a_retire_races_the_insertion() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, record) = Probe::new(Some(Event::Unmap))?;
            for _ in 0..ROUNDS {
                let span = space.map(1)?;
                AddressSpace::write(span.start(), 1)?;
                let done = space.thread(move || {
                    let _ = AddressSpace::unmap(span);
                })?;
                // Before, during or after the unmapping: all are fine, as long as all end.
                let hold = mirror.insert(span, shared.clone(), p)?;
                done.join()?;
                hold.retire();
            }
            mirror.shutdown(p);
            let stats = mirror.stats();
            check_eq!(stats.inserted, ROUNDS as u64);
            check_eq!(stats.queued, ROUNDS as u64);
            check_eq!(record.released.get(), ROUNDS);
            Ok(())
        })
    }

    /// A driver really had this: one notifier was removed twice when a process ended.
    #[test]
    fn everybody_retires_the_same_range() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Arc::new(
                Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?,
                GFP_KERNEL,
            )?;
            let (shared, record) = Probe::new(Some(Event::Unmap))?;
            for _ in 0..ROUNDS {
                let span = space.map(1)?;
                drop(mirror.insert(span, shared.clone(), p)?);
                let ours = mirror.get(span.start(), p).ok_or(ENOENT)?;
                let theirs = mirror.get(span.start(), p).ok_or(ENOENT)?;
                let drained = space.thread({
                    let mirror = mirror.clone();
                    move || {
                        theirs.retire();
                        drop(theirs);
                        MayBlock::enter(|p| mirror.drain(p));
                    }
                })?;
                ours.retire();
                drop(ours);
                AddressSpace::unmap(span)?;
                mirror.flush(Until::Removed, p)?;
                drained.join()?;
            }
            let span = space.map(4)?;
            for n in 0..4 {
                drop(mirror.insert(page(span, n)?, shared.clone(), p)?);
            }
            // munmap() of half, and at once the end of the process.
            AddressSpace::unmap(pages(span, 0, 2)?)?;
            space.exit();
            mirror.shutdown(p);
            check_eq!(record.released.get(), ROUNDS + 4);
            check_eq!(mirror.stats().queued, ROUNDS as u64 + 4);
            check_eq!(mirror.ranges(), 0);
            Ok(())
        })
    }

    #[test]
    fn flushes_race_retires() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Arc::new(
                Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?,
                GFP_KERNEL,
            )?;
            let (shared, record) = Probe::new(None)?;
            let mut flushers = KVec::new();
            for until in [Until::Removed, Until::Released, Until::Released] {
                let mirror = mirror.clone();
                let flusher = space.repeat(move |p| {
                    let _ = mirror.flush(until, p);
                })?;
                flushers.push(flusher, GFP_KERNEL)?;
            }
            let span = space.map(1)?;
            for _ in 0..ROUNDS {
                let hold = mirror.insert(span, shared.clone(), p)?;
                hold.retire();
            }
            mirror.flush(Until::Released, p)?;
            check_eq!(record.released.get(), ROUNDS);
            for flusher in &flushers {
                flusher.stop()?;
            }
            Ok(())
        })
    }
}
