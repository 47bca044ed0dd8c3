// SPDX-License-Identifier: GPL-2.0

//! What a flush waits for.

use kernel::prelude::*;

#[kunit_tests(odp_flush)]
mod tests {
    use crate::{
        check::check_eq,
        eventually::eventually,
        fixture::{
            mirrored,
            page,
            pages,
            punching,
            range_at,
            take_a_while, //
        },
        frozen::Frozen,
        tally::Tally,
        thread::Thread, //
    };
    use kernel::{
        prelude::*,
        sync::atomic::Relaxed, //
    };
    use odp::{
        Changed,
        Config,
        MayBlock,
        Until, //
    };

    /// What is asked of a range while it is being replaced is for its pieces to do, and a flush that
    /// began before that waits for it.
    #[test]
    fn what_comes_of_it_is_waited_for() -> Result {
        MayBlock::enter(|p| {
            let s = punching(Config::default(), p)?;
            let (span, hold) = mirrored(&s, 4, p)?;
            s.record.hold_replacements.store(true, Relaxed);
            let frozen = Frozen::begin(&s.space, p)?;
            check_eq!(hold.resize(pages(span, 0, 3)?), Ok(Changed::Queued));
            eventually("the piece is there", || s.mirror.ranges() == 2)?;
            check_eq!(hold.resize(pages(span, 1, 3)?), Ok(Changed::Queued));
            let flushing = Tally::new("flushing")?;
            let flushed = Thread::spawn({
                let (mirror, flushing) = (s.mirror.clone(), flushing.clone());
                move || {
                    flushing.inc();
                    let _ = MayBlock::enter(|p| mirror.flush(Until::Removed, p));
                }
            })?;
            flushing.wait_for(1)?;
            frozen.thaw(p)?;
            s.record.replacing.wait_for(1)?;
            s.record.may_replace.inc();
            // The old range goes, and its piece is about to be replaced.
            s.record.replacing.wait_for(2)?;
            eventually("the old range is removed", || s.mirror.stats().removed == 1)?;
            let waited = take_a_while(&s, p);
            let early = flushed.has_ended();
            s.record.may_replace.inc();
            waited?;
            flushed.join()?;
            check_eq!(early, false);
            let keep = Some(pages(span, 1, 2)?);
            check_eq!(range_at(&s.mirror, page(span, 0)?, p), None);
            check_eq!(range_at(&s.mirror, page(span, 1)?, p), keep);
            check_eq!(range_at(&s.mirror, page(span, 3)?, p), None);
            Ok(())
        })
    }
}
