// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as `lib/test_hmm.c` does: one notifier for the whole address space and a
//! table under a mutex, from which the callback takes what goes. Nothing is ever removed, and every
//! invalidation of the process comes here.
//!
//! Reader protection: the mutex.

use super::{
    arm::Arm,
    region::Region,
    spent, //
};
use core::convert::Infallible;
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Mutex, //
    }, //
};
use odp::{
    mmu_interval::{
        self,
        CallbackContext,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    Event,
    MayBlock,
    Span, //
};

/// An object for each range, at its place in the region.
#[derive(Default)]
struct Table {
    region: Option<Arc<Region>>,
    objects: KVVec<Option<KBox<Object>>>,
}

/// What is mirrored of a range.
struct Object {
    span: Span,
    /// What is not mapped any more, as one span.
    unmapped: Option<Span>,
}

#[pin_data]
pub(crate) struct Watcher {
    #[pin]
    table: Mutex<Table>,
}

impl Table {
    /// The places of objects that `start` to `end` is part of.
    fn within(&self, start: usize, end: usize) -> core::ops::Range<usize> {
        let Some(region) = &self.region else {
            return 0..0;
        };
        let base = region.span().start();
        let first = start.saturating_sub(base) / region.range_size();
        let behind = end.saturating_sub(base).div_ceil(region.range_size());
        let behind = behind.min(self.objects.len());
        first.min(behind)..behind
    }
}

impl Invalidate for Watcher {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watcher);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let _spent = spent::callback();
        let lock = &this.data().table;
        let goes = inv.event() == Event::Unmap;
        let (start, end) = inv.bounds();
        let (inv, mut table) = match lock.try_lock() {
            Some(table) => (inv, table),
            None => match inv.would_block() {
                Ok(handled) => return handled,
                Err(inv) => (inv, lock.lock()),
            },
        };
        let handled = inv.record();
        if goes {
            let within = table.within(start, end);
            let region = table.region.clone();
            for slot in table.objects.get_mut(within).unwrap_or_default() {
                let (Some(object), Some(region)) = (&mut *slot, &region) else {
                    continue;
                };
                let span = object.span;
                let Some(unmapped) = span.clip(start, end) else {
                    continue;
                };
                let unmapped = object.unmapped.map_or(unmapped, |old| old.hull(&unmapped));
                object.unmapped = Some(unmapped);
                if unmapped == span {
                    region.retired(span, region.now());
                    *slot = None;
                    region.released(span, region.now());
                }
            }
        }
        drop(table);
        handled
    }
}

/// Watches the whole address space.
pub(crate) struct Whole {
    registration: Registration<Watcher>,
}

impl Whole {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        let mm: &Mm = mm;
        // Page zero is never mapped.
        let all = Span::from_bounds(PAGE_SIZE, usize::MAX & !(PAGE_SIZE - 1))?;
        let watcher = pin_init!(Watcher {
            table <- new_mutex!(Table::default(), "odp_bench::Watcher::table"),
        });
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(ARef::from(mm), all, watcher),
            GFP_KERNEL,
        )?;
        Ok(Self {
            registration: Interval::insert(interval, p)?,
        })
    }

    fn table(&self) -> &Mutex<Table> {
        &self.registration.interval().data().table
    }
}

impl Arm for Whole {
    fn mirror(&self, region: &Arc<Region>, _p: &mut MayBlock<'_>) -> Result {
        let mut objects = KVVec::with_capacity(region.len(), GFP_KERNEL)?;
        for span in region.ranges() {
            let object = Object {
                span: span?,
                unmapped: None,
            };
            objects.push(Some(KBox::new(object, GFP_KERNEL)?), GFP_KERNEL)?;
        }
        let old = core::mem::replace(
            &mut *self.table().lock(),
            Table {
                region: Some(region.clone()),
                objects,
            },
        );
        drop(old);
        Ok(())
    }

    fn finish(&self, region: &Region, _p: &mut MayBlock<'_>) -> Result {
        let table = self.table().lock();
        if table.objects.iter().any(Option::is_some) {
            return Err(EBUSY);
        }
        region.removed(region.now());
        Ok(())
    }

    fn lookup(&self, addr: usize, _p: &mut MayBlock<'_>) -> bool {
        let table = self.table().lock();
        let Some(region) = &table.region else {
            return false;
        };
        let index = addr.saturating_sub(region.span().start()) / region.range_size();
        matches!(table.objects.get(index), Some(Some(object)) if object.span.contains(addr))
    }
}
