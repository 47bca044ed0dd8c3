// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as mlx5 did in 2019: for each object one `call_srcu()`, and from its
//! callback one work item.
//!
//! Reader protection: an SRCU section, in which the slot is read without a lock.

use super::{
    arm::{
        Arm,
        Cost, //
    },
    child::{
        Child,
        Children,
        Design,
        Family,
        Watched, //
    },
    grace,
    region::Region, //
};
use kernel::{
    bindings,
    container_of,
    mm::MmWithUser,
    prelude::*,
    sync::{
        srcu::new_srcu,
        Arc,
        Srcu, //
    },
    types::Opaque, //
};
use odp::{
    mmu_interval::InvalidateOps,
    range_tree::RangeTree,
    MayBlock, //
};

/// The design.
#[pin_data]
pub(crate) struct SrcuEach {
    #[pin]
    srcu: Srcu,
}

impl SrcuEach {
    fn raw(&self) -> *mut bindings::srcu_struct {
        // CAST: `Srcu` is transparent over `srcu_struct`.
        core::ptr::from_ref(&self.srcu).cast_mut().cast()
    }
}

/// The head for `call_srcu()`.
#[pin_data]
pub(crate) struct Head {
    #[pin]
    head: Opaque<bindings::callback_head>,
}

// SAFETY: It is used by whoever has taken the object out of its slot, and then by SRCU.
unsafe impl Send for Head {}
// SAFETY: Through a shared reference nothing is done but to pass its address to SRCU, by whoever
// has taken the object out of its slot: one task.
unsafe impl Sync for Head {}

/// # Safety
///
/// Called by SRCU for the head of a child that was passed to `call_srcu()` with a reference.
unsafe extern "C" fn expired(head: *mut bindings::callback_head) {
    // SAFETY: By the safety requirements it is the head of a child, and so part of a `Head`.
    let own = unsafe { container_of!(Opaque::cast_from(head), Head, head) };
    // SAFETY: By the safety requirements it is that of a child, whose field `own` it is.
    let child = unsafe { container_of!(own, Child<SrcuEach>, own) };
    // SAFETY: By the safety requirements a reference came with it, which `retire` leaked for this
    // call.
    unsafe { Arc::from_raw(child) }.enqueue();
}

impl Design for SrcuEach {
    type Own = Head;
    type Slots = RangeTree<Child<Self>>;

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<SrcuEach>);

    fn own() -> impl PinInit<Head> {
        pin_init!(Head {
            head: Opaque::zeroed()
        })
    }

    fn retire(family: &Arc<Family<Self>>, child: Arc<Child<Self>>) {
        let child = Arc::into_raw(child);
        // SAFETY: The reference was leaked just now; `expired` takes it back. Memory for the head
        // is in the object, and an object is retired once.
        unsafe { bindings::call_srcu(family.design.raw(), (*child).own.head.get(), Some(expired)) };
    }

    fn work(child: Arc<Child<Self>>) {
        child.remove();
        child.released();
    }

    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Child<Self>) -> R) -> Option<R> {
        let _section = family.design.srcu.read_lock();
        // SAFETY: An object goes a grace period after it was taken out, and this is a section.
        let child = unsafe { family.slots.load(addr) }?;
        // SAFETY: As above.
        Some(f(unsafe { child.as_ref() }))
    }
}

/// Has mlx5's old way do it.
pub(crate) struct SrcuEachArm {
    children: Children<SrcuEach>,
}

impl SrcuEachArm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        let design = try_pin_init!(SrcuEach {
            srcu <- new_srcu!("odp_bench::SrcuEach::srcu"),
        });
        Ok(Self {
            children: Children::new(mm, design, p)?,
        })
    }
}

impl Arm for SrcuEachArm {
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

    // A device holds up the grace period for as long as it is in a range, as it did there.
    fn access(&self, addr: usize, _p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        self.children.access(addr, f)
    }

    fn cost(&self) -> Cost {
        Cost {
            grace_periods: Some(grace::completed(&self.children.design().srcu)),
        }
    }
}
