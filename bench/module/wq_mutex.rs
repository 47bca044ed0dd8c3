// SPDX-License-Identifier: GPL-2.0

//! The arm that removes in a work item for each object, where readers have the user lock.
//!
//! Reader protection: the user lock, with which the callback takes the object out of its slot. So
//! nobody looks at an object that has been asked for, and nothing waits for readers.

use super::{
    arm::Arm,
    child::{
        Child,
        Children,
        Design,
        Family,
        Watched, //
    },
    region::Region,
    user_lock::UserLock, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};
use odp::{
    mmu_interval::InvalidateOps,
    MayBlock, //
};

/// The design.
pub(crate) struct WqMutex {
    user: Arc<UserLock>,
}

impl Design for WqMutex {
    type Own = ();

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<WqMutex>);

    fn own() -> impl PinInit<()> {}

    fn retire(_family: &Arc<Family<Self>>, child: Arc<Child<Self>>) {
        child.enqueue();
    }

    fn work(child: Arc<Child<Self>>) {
        child.remove();
        child.released();
    }

    fn find<R>(
        family: &Family<Self>,
        start: usize,
        f: impl FnOnce(&Child<Self>) -> R,
    ) -> Option<R> {
        let _user = family.design.user.lock();
        let child = family.slots.load(start)?;
        // SAFETY: It is taken out of its slot with the user lock held, before it goes. At the arm's
        // end it is not, but then there are no readers.
        Some(f(unsafe { child.as_ref() }))
    }

    fn user_lock(&self) -> Option<&Arc<UserLock>> {
        Some(&self.user)
    }
}

/// Has it do it.
pub(crate) struct WqMutexArm {
    children: Children<WqMutex>,
}

impl WqMutexArm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        let user = UserLock::new()?;
        Ok(Self {
            children: Children::new(mm, WqMutex { user }, p)?,
        })
    }
}

impl Arm for WqMutexArm {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        self.children.mirror(region, p)
    }

    fn finish(&self, region: &Region, _p: &mut MayBlock<'_>) -> Result {
        self.children.finish(region);
        Ok(())
    }

    fn lookup(&self, addr: usize, _p: &mut MayBlock<'_>) -> bool {
        self.children.lookup(addr)
    }
}
