// SPDX-License-Identifier: GPL-2.0

//! Finding a process's pages, through a managed range and through a bare interval.

use kernel::prelude::*;

#[kunit_tests(odp_fault)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        fixture::page,
        limits::long_wait,
        probe::Probe,
        tally::Tally,
        thread::Thread, //
    };
    use kernel::{
        page::PAGE_SIZE,
        prelude::*,
        sync::{
            aref::ARef,
            Arc, //
        }, //
    };
    use odp::{
        hmm::{
            Access,
            Pages, //
        },
        mmu_interval::{
            CallbackContext, //
            Handled,
            Interval,
            Invalidate,
            InvalidateOps,
        },
        Config,
        FaultError,
        Hold,
        MayBlock,
        Mirror,
        Retry,
        Span, //
    };

    fn fault(
        hold: &Hold<Probe>,
        pages: &mut Pages,
        span: Span,
        access: Access,
        p: &mut MayBlock<'_>,
    ) -> Result<(), FaultError> {
        hold.fault(pages, span, access, long_wait(), p).map(|_| ())
    }

    #[test]
    fn what_is_found_is_what_is_there() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _record) = Probe::new(None)?;
            let span = space.map(4)?;
            let hold = mirror.insert(span, shared, p)?;
            let mut pages = Pages::new(2, GFP_KERNEL)?;
            check_eq!(pages.room(), 2);
            check_eq!(pages.get(span.start()), None);

            // What only has been read is the zero page, the same everywhere and nobody's to write
            // to.
            let two = Span::new(span.start() + PAGE_SIZE, 2 * PAGE_SIZE)?;
            check_eq!(fault(&hold, &mut pages, two, Access::Read, p), Ok(()));
            check_eq!(pages.span(), Some(two));
            let first = pages.get(two.start()).ok_or(ENOENT)?;
            let second = pages.get(two.last()).ok_or(ENOENT)?;
            check_eq!(first.pfn(), second.pfn());
            check_eq!(first.writable(), false);
            check_eq!(first.order(), 0);
            check_eq!(pages.get(two.end()), None);
            check_eq!(pages.get(span.start()), None);

            AddressSpace::write(two.start() + 1, 0x12)?;
            let section = hold.fault(&mut pages, two, Access::Write, long_wait(), p)?;
            let first = pages.get(two.start()).ok_or(ENOENT)?;
            let second = pages.get(two.last()).ok_or(ENOENT)?;
            check_eq!(first.writable() && second.writable(), true);
            check_eq!(first.pfn() != second.pfn(), true);
            let word = u64::from_ne_bytes([0, 0x12, 0, 0, 0, 0, 0, 0]);
            let read = hold.commit(section, |_| {
                // SAFETY: This is the commit of the section that the page was found in, so that the
                // user lock is held and no invalidation of the page has come since.
                [0, 4, PAGE_SIZE].map(|offset| unsafe { first.load(offset) })
            });
            check_eq!(read, Ok([Ok(word), Err(EINVAL), Err(EINVAL)]));
            let read = hold.commit(section, |_| {
                // SAFETY: As above.
                [1, PAGE_SIZE].map(|offset| unsafe { first.load_byte(offset) })
            });
            check_eq!(read, Ok([Ok(0x12), Err(EINVAL)]));
            let written = hold.commit(section, |_| {
                // SAFETY: This commit is of the same section, so that the user lock is held and no
                // invalidation of the page has come since it was found.
                unsafe { second.store_byte(7, 0x34) }
            });
            check_eq!(written, Ok(Ok(())));
            check_eq!(AddressSpace::read(two.start() + PAGE_SIZE + 7)?, 0x34);
            let written = hold.commit(section, |_| {
                // SAFETY: As above.
                [8, 12].map(|offset| unsafe { second.store(offset, word) })
            });
            check_eq!(written, Ok([Ok(()), Err(EINVAL)]));
            check_eq!(AddressSpace::read(two.start() + PAGE_SIZE + 9)?, 0x12);

            let alone = page(span, 0)?;
            let section = hold.fault(&mut pages, alone, Access::Read, long_wait(), p)?;
            let page = pages.get(alone.start()).ok_or(ENOENT)?;
            let written = hold.commit(section, |_| {
                // SAFETY: As above, of this section.
                unsafe { page.store(0, word) }
            });
            check_eq!(written, Ok(Err(EPERM)));

            drop(hold);
            mirror.shutdown(p);
            Ok(())
        })
    }

    #[test]
    fn what_cannot_be_found() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _record) = Probe::new(None)?;
            let span = space.map(4)?;
            let three = Span::new(span.start(), 3 * PAGE_SIZE)?;
            let hold = mirror.insert(three, shared, p)?;
            let mut pages = Pages::new(2, GFP_KERNEL)?;

            let failed = |error| Err(FaultError::Failed(error));
            let mut try_it = |span, p: &mut MayBlock<'_>| {
                let result = fault(&hold, &mut pages, span, Access::Read, p);
                (result, pages.span())
            };
            let first = page(span, 0)?;
            check_eq!(try_it(first, p), (Ok(()), Some(first)));
            // Not enough room; not in the range; and what was found before is gone.
            check_eq!(try_it(three, p), (failed(EINVAL), None));
            check_eq!(try_it(page(span, 3)?, p), (failed(EINVAL), None));
            AddressSpace::unmap(page(span, 1)?)?;
            let two = Span::new(span.start(), 2 * PAGE_SIZE)?;
            check_eq!(try_it(two, p), (failed(EFAULT), None));
            check_eq!(try_it(page(span, 2)?, p).0, Ok(()));

            let _ = hold.retire();
            check_eq!(
                try_it(first, p),
                (Err(FaultError::Gone), Some(page(span, 2)?))
            );
            drop(hold);
            mirror.shutdown(p);
            Ok(())
        })
    }

    #[test]
    fn nothing_stale_is_installed() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let mirror = Mirror::<Probe>::new(&*space.user()?, Config::default(), p)?;
            let (shared, _record) = Probe::new(None)?;
            let span = space.map(2)?;
            let hold = mirror.insert(span, shared, p)?;
            let mut pages = Pages::new(1, GFP_KERNEL)?;

            let first = page(span, 0)?;
            let section = hold.fault(&mut pages, first, Access::Write, long_wait(), p)?;
            AddressSpace::unmap(first)?;
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Collided));
            let second = page(span, 1)?;
            let section = hold.fault(&mut pages, second, Access::Write, long_wait(), p)?;
            check_eq!(hold.commit(section, |_| ()), Ok(()));
            let _ = hold.retire();
            check_eq!(hold.commit(section, |_| ()), Err(Retry::Gone));
            drop(hold);
            mirror.shutdown(p);
            Ok(())
        })
    }

    /// Takes notice, and nothing else.
    struct Watcher;

    impl Invalidate for Watcher {
        const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watcher);

        fn invalidate<'cb>(_this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
            // There is no table, so there is no lock.
            inv.record()
        }
    }

    fn watcher(space: &AddressSpace, span: Span) -> Result<Arc<Interval<Watcher>>> {
        let mm = space.user()?;
        let mm: &kernel::mm::Mm = &mm;
        Arc::pin_init(
            Interval::new::<Error>(ARef::from(mm), span, Ok(Watcher)),
            GFP_KERNEL,
        )
    }

    #[test]
    fn through_an_interval() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let span = space.map(1)?;
            let interval = watcher(&space, span)?;
            let mut pages = Pages::new(1, GFP_KERNEL)?;
            let mut find = |p: &mut MayBlock<'_>| {
                interval.fault(&mut pages, span, Access::Write, long_wait(), p)
            };
            check_eq!(find(p).map(|_| ()), Err(ESRCH));

            let registration = Interval::insert(interval.clone(), p)?;
            let sequence = find(p)?;
            check_eq!(interval.read_retry(sequence), false);
            let beside = page(span, span.pages())?;
            let mut more = Pages::new(1, GFP_KERNEL)?;
            let found = interval.fault(&mut more, beside, Access::Write, long_wait(), p);
            check_eq!(found.map(|_| ()), Err(EINVAL));
            AddressSpace::unmap(span)?;
            check_eq!(interval.read_retry(sequence), true);
            check_eq!(find(p).map(|_| ()), Err(EFAULT));

            drop(registration.remove(p));
            check_eq!(find(p).map(|_| ()), Err(ESRCH));
            check_eq!(interval.read_retry(sequence), true);
            Ok(())
        })
    }

    #[test]
    fn an_interval_is_inserted_once_and_where_there_is_a_process() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let span = space.map(1)?;
            let (once, never) = (watcher(&space, span)?, watcher(&space, span)?);
            check_eq!(once.read_begin(p).map(|_| ()), Err(ESRCH));
            let registration = Interval::insert(once.clone(), p)?;
            let again = Interval::insert(once, p).map(|_| ()).map_err(Error::from);
            check_eq!(again, Err(EBUSY));
            drop(registration.remove(p));

            space.exit();
            let gone = Interval::insert(never, p).map(|_| ()).map_err(Error::from);
            check_eq!(gone, Err(ESRCH));
            Ok(())
        })
    }

    #[test]
    fn from_a_task_with_no_address_space() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let span = space.map(1)?;
            AddressSpace::write(span.start(), 0x56)?;
            let interval = watcher(&space, span)?;
            let registration = Interval::insert(interval.clone(), p)?;

            let found = Tally::new("found")?;
            let finder = Thread::spawn({
                let (interval, found) = (interval.clone(), found.clone());
                move || {
                    let result = MayBlock::enter(|p| {
                        let mut pages = Pages::new(1, GFP_KERNEL)?;
                        let sequence =
                            interval.fault(&mut pages, span, Access::Read, long_wait(), p)?;
                        Ok::<_, Error>(!interval.read_retry(sequence))
                    });
                    if result == Ok(true) {
                        found.inc();
                    }
                }
            })?;
            finder.join()?;
            check_eq!(found.get(), 1);

            // Nor does it keep the address space.
            space.exit();
            let mut pages = Pages::new(1, GFP_KERNEL)?;
            let after = interval.fault(&mut pages, span, Access::Read, long_wait(), p);
            check_eq!(after.map(|_| ()), Err(ESRCH));
            drop(registration.remove(p));
            Ok(())
        })
    }
}
