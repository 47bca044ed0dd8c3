// SPDX-License-Identifier: GPL-2.0

//! What the user lock keeps apart: who installs or looks, and who marks a range and zaps it.

use kernel::prelude::*;

#[kunit_tests(odp_user_lock)]
mod tests {
    use crate::{
        check::check_eq,
        fixture::{
            mirrored,
            setup,
            take_a_while,
            Setup, //
        },
        tally::Tally,
        thread::Thread, //
    };
    use kernel::{
        prelude::*,
        sync::Arc, //
    };
    use odp::{
        Gone,
        MayBlock,
        Retire,
        Retry,
        Span,
        Until, //
    };

    /// Whether the table has the page, whatever ranges there are.
    fn installed(s: &Setup, page: Span) -> bool {
        s.shared.inspect(|pages| pages.has(page.start()))
    }

    /// A thread that is under the user lock until it is told to leave it, or this is dropped.
    struct Holder {
        enough: Arc<Tally>,
        done: Thread,
    }

    impl Holder {
        fn begin(s: &Setup, page: Span, p: &mut MayBlock<'_>) -> Result<Self> {
            let (inside, enough) = (Tally::new("inside")?, Tally::new("enough")?);
            let hold = s.mirror.get(page.start(), p).ok_or(ENOENT)?;
            let done = Thread::spawn({
                let (inside, enough) = (inside.clone(), enough.clone());
                move || {
                    let _ = hold.access(|_| {
                        inside.inc();
                        let _ = enough.wait_for(1);
                    });
                }
            })?;
            let holder = Self { enough, done };
            inside.wait_for(1)?;
            Ok(holder)
        }

        fn end(self) -> Result {
            self.enough.inc();
            self.done.join()
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            self.enough.inc();
        }
    }

    /// It has seen the range live, so what it installs is for the worker to take back.
    #[test]
    fn the_zap_waits_for_a_commit() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(span, p).map_err(Error::from)?;
            let (inside, enough) = (Tally::new("inside")?, Tally::new("enough")?);
            let committed = Thread::spawn({
                let hold = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
                let (inside, enough) = (inside.clone(), enough.clone());
                move || {
                    let _ = hold.commit(section, |pages| {
                        inside.inc();
                        let _ = enough.wait_for(1);
                        pages.install(span.start())
                    });
                }
            })?;
            inside.wait_for(1)?;
            check_eq!(hold.retire(), Retire::Queued);
            let draining = Tally::new("draining")?;
            let drained = Thread::spawn({
                let (mirror, draining) = (s.mirror.clone(), draining.clone());
                move || {
                    draining.inc();
                    MayBlock::enter(|p| mirror.drain(p));
                }
            })?;
            draining.wait_for(1)?;
            // Who takes it out comes to the lock, be that the worker or who drains.
            let waited = take_a_while(&s, p);
            enough.inc();
            waited?;
            committed.join()?;
            drained.join()?;
            s.mirror.flush(Until::Removed, p)?;
            check_eq!(installed(&s, span), false);
            Ok(())
        })
    }

    #[test]
    fn a_commit_that_waits_for_the_lock_sees_the_retire() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let span = s.space.map(1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(span, p).map_err(Error::from)?;
            let holder = Holder::begin(&s, span, p)?;
            let (committing, refused) = (Tally::new("committing")?, Tally::new("refused")?);
            let committed = Thread::spawn({
                let hold = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
                let (committing, refused) = (committing.clone(), refused.clone());
                move || {
                    committing.inc();
                    let result = hold.commit(section, |pages| pages.install(span.start()));
                    if matches!(result, Err(Retry::Gone)) {
                        refused.inc();
                    }
                }
            })?;
            committing.wait_for(1)?;
            take_a_while(&s, p)?;
            check_eq!(hold.retire(), Retire::Queued);
            holder.end()?;
            committed.join()?;
            check_eq!(refused.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn an_access_that_waits_for_the_lock_sees_the_retire() -> Result {
        MayBlock::enter(|p| {
            let s = setup(None, p)?;
            let (span, hold) = mirrored(&s, 1, p)?;
            let holder = Holder::begin(&s, span, p)?;
            let (looking, refused) = (Tally::new("looking")?, Tally::new("refused")?);
            let looked = Thread::spawn({
                let hold = s.mirror.get(span.start(), p).ok_or(ENOENT)?;
                let (looking, refused) = (looking.clone(), refused.clone());
                move || {
                    looking.inc();
                    if hold.access(|pages| pages.has(span.start())) == Err(Gone) {
                        refused.inc();
                    }
                }
            })?;
            looking.wait_for(1)?;
            take_a_while(&s, p)?;
            check_eq!(hold.retire(), Retire::Queued);
            holder.end()?;
            looked.join()?;
            check_eq!(refused.get(), 1);
            Ok(())
        })
    }
}
