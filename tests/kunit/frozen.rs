// SPDX-License-Identifier: GPL-2.0

//! An invalidation that does not end before it is told to.
//!
//! As long as one is going on, and has met a notifier, core mm does not change its tree: removals
//! sleep, insertions are put off.

use crate::{
    address_space::AddressSpace,
    tally::Tally,
    thread::Thread, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    mmu_interval::{
        CallbackContext,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    MayBlock, //
};

/// A notifier whose callback sleeps until it is told to go on.
struct Stall {
    entered: Arc<Tally>,
    go_on: Arc<Tally>,
}

impl Invalidate for Stall {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Stall);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let stall = this.data();
        stall.entered.inc();
        // If nobody says so the test has failed, and says it; the callback has to end anyway.
        let _ = stall.go_on.wait_for(1);
        inv.record()
    }
}

/// An address space in which an invalidation is going on, by another thread that writes for the
/// first time to a page it has read.
///
/// It ends when this is dropped, if [`Frozen::thaw`] has not ended it.
pub(crate) struct Frozen {
    go_on: Arc<Tally>,
    // In the order in which they are to be dropped.
    written: Thread,
    _registration: Registration<Stall>,
}

impl Frozen {
    /// Begins one. Until its end the test cannot map or unmap, because the other thread has
    /// `mmap_lock` for reading, but it can access memory.
    pub(crate) fn begin(space: &AddressSpace, p: &mut MayBlock<'_>) -> Result<Self> {
        let span = space.map(1)?;
        AddressSpace::read(span.start())?;
        let entered = Tally::new("frozen: entered")?;
        let go_on = Tally::new("frozen: go on")?;
        let stall = Stall {
            entered: entered.clone(),
            go_on: go_on.clone(),
        };
        let user = space.user()?;
        let mm: &kernel::mm::Mm = &user;
        let interval = Arc::pin_init(
            Interval::new(kernel::sync::aref::ARef::from(mm), span, stall),
            GFP_KERNEL,
        )?;
        drop(user);
        let registration = Interval::insert(interval, p)?;
        let written = space.thread(move || {
            let _ = AddressSpace::write(span.start(), 1);
        })?;
        let frozen = Self {
            go_on,
            written,
            _registration: registration,
        };
        entered.wait_for(1)?;
        Ok(frozen)
    }

    /// Ends it, and returns when the other thread is through.
    pub(crate) fn thaw(self, _p: &mut MayBlock<'_>) -> Result {
        self.go_on.inc();
        self.written.join()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.go_on.inc();
    }
}
