// SPDX-License-Identifier: GPL-2.0

//! The arms of the design in which removal happens in the callback: core mm as `bench/in_callback`
//! has it, and a driver like those it was proposed for.
//!
//! A range that is unmapped in whole is removed there and then, one that is unmapped in part gets
//! other bounds, and where a hole makes two of it a second notifier is inserted. How readers are
//! protected, and who waits until they are gone, is what the arms differ in:
//!
//! | arm | what readers have | what they find ranges in |
//! |---|---|---|
//! | [`Faithful`], [`Mutexed`] | the user lock | nothing; a red-black tree under that lock |
//! | [`EachSrcu`] | SRCU; `call_srcu()` for each range | the library's tree |
//! | [`Batch`] | SRCU; one grace period for all that has come together | the library's tree |
//! | [`EachRcu`] | RCU, then a reference; `kfree_rcu()` for each range | the library's tree |
//!
//! A change of bounds leaves a range at its place in a tree, because their order stays the same.

mod batch;
mod bounds;
mod index;
mod mirror;
mod mutex;
mod piece;
mod rcu;
mod readers;
mod srcu;

use self::{
    batch::Batch,
    mirror::Mirror,
    mutex::{
        Faithful,
        Mutexed, //
    },
    piece::Piece,
    rcu::EachRcu,
    readers::Readers,
    srcu::EachSrcu, //
};
use super::{
    arm::{
        Arm,
        Cost, //
    },
    region::Region, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};
use odp::{
    mmu_interval,
    MayBlock, //
};

/// Makes the arm of that name.
///
/// # Errors
///
/// `EINVAL` if there is none, `ENOMEM`, `EINTR`.
pub(crate) fn choose(arm: &str, mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Arc<dyn Arm>> {
    Ok(match arm {
        "incb-faithful" => Arc::new(InCallback::<Faithful>::new(mm, p)?, GFP_KERNEL)?,
        "incb-mutex" => Arc::new(InCallback::<Mutexed>::new(mm, p)?, GFP_KERNEL)?,
        "incb-srcu" => Arc::new(InCallback::<EachSrcu<false>>::new(mm, p)?, GFP_KERNEL)?,
        "incb-srcu-exp" => Arc::new(InCallback::<EachSrcu<true>>::new(mm, p)?, GFP_KERNEL)?,
        "incb-batch" => Arc::new(InCallback::<Batch>::new(mm, p)?, GFP_KERNEL)?,
        "incb-rcu" => Arc::new(InCallback::<EachRcu>::new(mm, p)?, GFP_KERNEL)?,
        _ => return Err(EINVAL),
    })
}

/// An arm of the design, with readers protected in one way.
struct InCallback<R: Readers> {
    mirror: Pin<KBox<Mirror<R>>>,
}

impl<R: Readers> InCallback<R> {
    fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        let wake_first = crate::module_parameters::wake_first.value();
        let ops = if wake_first {
            &Piece::<R>::OPS_WAKE_FIRST
        } else {
            &Piece::<R>::OPS
        };
        Ok(Self {
            mirror: Mirror::new(mm, ops)?,
        })
    }
}

impl<R: Readers> Arm for InCallback<R> {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        p.for_invalidate();
        self.mirror.insert_all(region)
    }

    fn finish(&self, region: &Region, p: &mut MayBlock<'_>) -> Result {
        p.for_invalidate();
        self.mirror.finish(region)
    }

    // Nothing is to be settled: a hole is made by the callback, and the remainder's notifier is in
    // the tree when the unmapping returns, unless some other invalidation is in progress.

    fn lookup(&self, addr: usize, _p: &mut MayBlock<'_>) -> bool {
        R::find(&self.mirror, addr, |piece| piece.covers(addr)).unwrap_or(false)
    }

    fn access(&self, addr: usize, _p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        R::hold(&self.mirror, addr, f)
    }

    fn cost(&self) -> Cost {
        Cost {
            grace_periods: R::grace_periods(self.mirror.domain()),
        }
    }
}

impl<R: Readers> Drop for InCallback<R> {
    fn drop(&mut self) {
        self.mirror.end();
    }
}
