// SPDX-License-Identifier: GPL-2.0

//! The arm with notifiers and nothing else: the callback records the sequence, and the removal is
//! the blocking one, later, by the process itself.

use super::{
    arm::Arm,
    region::Region,
    spent,
    user_lock::UserLock, //
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
        CallbackContext,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    MayBlock,
    Span, //
};

/// What a notifier has besides its span: the lock without which no sequence may be recorded, the
/// same for all ranges of a region.
pub(crate) struct Watcher {
    lock: Arc<UserLock>,
}

impl Watcher {
    /// Watches a span of addresses from now on.
    pub(crate) fn insert(
        mm: &ARef<Mm>,
        span: Span,
        lock: &Arc<UserLock>,
        p: &mut MayBlock<'_>,
    ) -> Result<Registration<Self>> {
        let lock = lock.clone();
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(mm.clone(), span, Self { lock }),
            GFP_KERNEL,
        )?;
        Ok(Interval::insert(interval, p)?)
    }
}

impl Invalidate for Watcher {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watcher);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let _spent = spent::callback();
        let (guard, handled) = match this.data().lock.begin(inv) {
            Ok(begun) => begun,
            Err(handled) => return handled,
        };
        drop(guard);
        handled
    }
}

/// Watches, and removes when there is time for it.
pub(crate) struct Notify {
    mm: ARef<Mm>,
    registrations: Pin<KBox<Mutex<KVVec<Registration<Watcher>>>>>,
}

impl Notify {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        Ok(Self {
            mm: ARef::from(&**mm),
            registrations: KBox::pin_init(
                new_mutex!(KVVec::new(), "odp_bench::Notify::registrations"),
                GFP_KERNEL,
            )?,
        })
    }
}

impl Arm for Notify {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        let lock = UserLock::new()?;
        let mut registrations = self.registrations.lock();
        for span in region.ranges() {
            let registration = Watcher::insert(&self.mm, span?, &lock, p)?;
            registrations.push(registration, GFP_KERNEL)?;
        }
        Ok(())
    }

    fn finish(&self, region: &Region, p: &mut MayBlock<'_>) -> Result {
        let mut registrations = self.registrations.lock();
        while let Some(registration) = registrations.pop() {
            registration.remove(p);
        }
        region.removed(region.now());
        Ok(())
    }
}
