// SPDX-License-Identifier: GPL-2.0

//! How an address space ends that is being mirrored, and how a mirror does.

use kernel::prelude::*;

#[kunit_tests(odp_end)]
mod tests {
    use crate::{
        check::check_eq,
        eventually::eventually,
        fixture::{
            page,
            setup,
            Setup, //
        },
        frozen::Frozen,
        tally::Tally,
        thread::Thread, //
    };
    use kernel::prelude::*;
    use odp::{
        MayBlock,
        Retire,
        Until, //
    };

    /// A process that has been killed to have its memory would not give that back before the worker
    /// is through.
    #[test]
    fn what_waits_to_be_removed_does_not_keep_the_address_space() -> Result {
        MayBlock::enter(|p| {
            let Setup {
                mirror,
                shared,
                record,
                space,
            } = setup(None, p)?;
            let span = space.map(2)?;
            let (first, second) = (page(span, 0)?, page(span, 1)?);
            let first = mirror.insert(first, shared.clone(), p)?;
            let second = mirror.insert(second, shared, p)?;
            // The worker waits for a reader, which is a thread without an address space.
            let (looking, enough) = (Tally::new("looking")?, Tally::new("enough")?);
            let looked = Thread::spawn({
                let (mirror, looking, enough) = (mirror.clone(), looking.clone(), enough.clone());
                move || {
                    MayBlock::enter(|p| {
                        let lookup = mirror.lookup(span.start(), p);
                        looking.inc();
                        let _ = enough.wait_for(1);
                        drop(lookup);
                    })
                }
            })?;
            looking.wait_for(1)?;
            check_eq!(first.retire(), Retire::Queued);
            drop(first);
            record.zapped.wait_for(1)?;
            // One is taken; the other one is nobody's yet.
            check_eq!(second.retire(), Retire::Queued);
            drop(second);
            space.exit();
            let told = record.releases.get();
            enough.inc();
            looked.join()?;
            check_eq!(told, 2);
            mirror.flush(Until::Released, p)?;
            check_eq!(record.released.get(), 2);
            Ok(())
        })
    }

    /// Has the last use of an address space, but for a task that is frozen, be that of an insertion;
    /// says whether it was.
    fn insert_last(p: &mut MayBlock<'_>) -> Result<bool> {
        let Setup {
            mirror,
            shared,
            record,
            space,
        } = setup(None, p)?;
        let span = space.map(1)?;
        let frozen = Frozen::begin(&space, p)?;
        space.exit();
        let thawed = Thread::spawn({
            let mirror = mirror.clone();
            move || {
                let _ = eventually("the range is there", || mirror.ranges() == 1);
                let _ = MayBlock::enter(|p| frozen.thaw(p));
            }
        })?;
        let inserted = mirror.insert(span, shared, p).map_err(Error::from);
        let hold = match inserted {
            Ok(hold) => hold,
            // It had not got as far as the address space when that was let go of.
            Err(error) if error == ESRCH => return Ok(false),
            Err(error) => return Err(error),
        };
        drop(hold);
        thawed.join()?;
        record.releases.wait_for(1)?;
        check_eq!(record.ended_here.get(), 0);
        // The range is retired when the driver has been told of the end.
        record.released.wait_for(1)?;
        Ok(true)
    }

    /// What an insertion has of the address space may be the last of it, and the end of that calls
    /// the driver.
    #[test]
    fn an_address_space_does_not_end_in_an_insertion() -> Result {
        const TRIES: usize = 20;
        MayBlock::enter(|p| {
            for _ in 0..TRIES {
                if insert_last(p)? {
                    return Ok(());
                }
            }
            Err(ETIMEDOUT)
        })
    }

    /// It is not the removal that has to be over, nor the worker.
    #[test]
    fn a_shutdown_waits_for_holds() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let held = Thread::spawn({
                let mirror = s.mirror.clone();
                move || {
                    let _ = eventually("the range is removed", || mirror.stats().removed == 1);
                    drop(hold);
                }
            })?;
            s.mirror.shutdown(p);
            check_eq!(s.record.released.get(), 1);
            check_eq!(s.mirror.ranges(), 0);
            held.join()
        })
    }
}
