// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as mlx5 does today: a reference count for each object, and a work item that
//! waits for the last user.
//!
//! Reader protection: a reference, taken with the slots locked.

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
    xarray::XArray, //
};
use core::ptr::NonNull;
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::{
        Arc,
        Completion,
        Refcount, //
    }, //
};
use odp::{
    mmu_interval::InvalidateOps,
    MayBlock, //
};

pub(crate) struct Counted;

/// Who uses the object, and how to wait for them.
#[pin_data]
pub(crate) struct Users {
    count: Refcount,
    #[pin]
    none: Completion,
}

impl Users {
    fn put(&self) {
        if self.count.dec_and_test() {
            self.none.complete_all();
        }
    }
}

impl Design for Counted {
    type Own = Users;
    type Slots = XArray<Child<Self>>;

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<Counted>);

    fn own() -> impl PinInit<Users> {
        pin_init!(Users {
            // That of the slot.
            count: Refcount::new(1),
            none <- Completion::new(),
        })
    }

    fn retire(_family: &Arc<Family<Self>>, child: Arc<Child<Self>>) {
        child.enqueue();
    }

    fn work(child: Arc<Child<Self>>) {
        child.own.put();
        child.own.none.wait_for_completion();
        child.remove();
        child.released();
    }

    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Child<Self>) -> R) -> Option<R> {
        let child = family.slots.locked(family.range_start(addr), |child| {
            child.own.count.inc();
            NonNull::from(child)
        })?;
        // SAFETY: The count has been raised, so that it stays until it is put.
        let child = unsafe { child.as_ref() };
        let result = f(child);
        child.own.put();
        Some(result)
    }
}

/// Has mlx5's way do it.
pub(crate) struct RefcountArm {
    children: Children<Counted>,
}

impl RefcountArm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        Ok(Self {
            children: Children::new(mm, Counted, p)?,
        })
    }
}

impl Arm for RefcountArm {
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

    fn access(&self, addr: usize, _p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        self.children.access(addr, f)
    }
}
