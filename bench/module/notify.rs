// SPDX-License-Identifier: GPL-2.0

//! The arm with notifiers and nothing else: the callback records the sequence, and the removal is
//! the blocking one, later, by the process itself.

use super::{
    arm::Arm,
    region::Region, //
};
use core::convert::Infallible;
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
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
        Handled,
        Interval,
        Invalidate,
        Invalidation,
        Registration, //
    },
    MayBlock,
    Span, //
};

/// What a notifier has besides its span: the lock without which no sequence may be recorded, the
/// same for all ranges of a region.
pub(crate) struct Watcher {
    lock: Arc<Mutex<()>>,
}

impl Watcher {
    /// Makes the lock.
    pub(crate) fn lock() -> Result<Arc<Mutex<()>>> {
        Arc::pin_init(new_mutex!((), "odp_bench::Watcher::lock"), GFP_KERNEL)
    }

    /// Watches a span of addresses from now on.
    pub(crate) fn insert(
        mm: &ARef<Mm>,
        span: Span,
        lock: &Arc<Mutex<()>>,
        p: &mut MayBlock<'_>,
    ) -> Result<Registration<Self>> {
        let lock = lock.clone();
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(mm.clone(), span, Self { lock }),
            GFP_KERNEL,
        )?;
        Interval::insert(interval, p)
    }
}

impl Invalidate for Watcher {
    type Module = crate::LocalModule;

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: Invalidation<'cb>) -> Handled<'cb> {
        let lock = &this.data().lock;
        let (inv, guard) = match lock.try_lock() {
            Some(guard) => (inv, guard),
            None => match inv.would_block() {
                Ok(handled) => return handled,
                Err(inv) => (inv, lock.lock()),
            },
        };
        let handled = inv.record();
        drop(guard);
        handled
    }
}

/// Watches, and removes when there is time for it.
pub(crate) struct Notify {
    mm: ARef<Mm>,
    registrations: KVVec<Registration<Watcher>>,
}

impl Notify {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        Ok(Self {
            mm: ARef::from(&**mm),
            registrations: KVVec::new(),
        })
    }
}

impl Arm for Notify {
    fn mirror(&mut self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        let lock = Watcher::lock()?;
        for span in region.ranges() {
            let registration = Watcher::insert(&self.mm, span?, &lock, p)?;
            self.registrations.push(registration, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn finish(&mut self, region: &Region, p: &mut MayBlock<'_>) -> Result {
        while let Some(registration) = self.registrations.pop() {
            registration.remove(p);
        }
        region.removed(region.now());
        Ok(())
    }
}
