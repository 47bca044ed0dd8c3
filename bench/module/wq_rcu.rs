// SPDX-License-Identifier: GPL-2.0

//! The arm that removes in a work item for each object, where nobody waits for readers: they have
//! references, and the memory is freed after a grace period of RCU.
//!
//! Reader protection: an RCU section for the slot, in which a reference is taken if there is one
//! left. The object is released when the last one is gone, and its memory freed by `call_rcu()`.

use super::{
    arm::Arm,
    child::{
        Child,
        Children,
        Design,
        Family,
        Watched, //
    },
    references::References,
    region::Region, //
};
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    container_of,
    mm::MmWithUser,
    prelude::*,
    sync::{
        rcu,
        Arc, //
    },
    types::Opaque, //
};
use odp::{
    mmu_interval::InvalidateOps,
    range_tree::RangeTree,
    MayBlock, //
};

type Object = Child<WqRcu>;

/// The design.
pub(crate) struct WqRcu;

/// What each object has for it.
pub(crate) struct Own {
    head: Opaque<bindings::callback_head>,
    references: References,
}

// SAFETY: The head is used by whoever gives back the last reference, and then by RCU.
unsafe impl Send for Own {}
// SAFETY: Through a shared reference nothing is done with the head but to pass its address to RCU,
// by whoever gives back the last reference: one task.
unsafe impl Sync for Own {}

/// # Safety
///
/// Called by RCU for the head of a child that was passed to `call_rcu()` with a reference of its
/// `Arc`.
unsafe extern "C" fn expired(head: *mut bindings::callback_head) {
    // SAFETY: By the safety requirements it is the head of a child, and so part of an `Own`.
    let own = unsafe { container_of!(Opaque::cast_from(head), Own, head) };
    // SAFETY: By the safety requirements it is that of a child, whose field `own` it is.
    let child = unsafe { container_of!(own, Object, own) };
    // SAFETY: By the safety requirements a reference came with it.
    drop(unsafe { Arc::from_raw(child) });
}

/// # Safety
///
/// The caller has a reference, and does not use the object after this.
unsafe fn put(child: NonNull<Object>) {
    // SAFETY: By the safety requirements the caller has a reference, which keeps it valid.
    let object = unsafe { child.as_ref() };
    if !object.own.references.put() {
        return;
    }
    let family = object.family.clone();
    object.ended();
    // SAFETY: `work` leaked the reference of the `Arc` that `expired` takes back, and this happens
    // once. The family waits for the callback, as it does not go before it has been told.
    unsafe { bindings::call_rcu(object.own.head.get(), Some(expired)) };
    family.one_less();
}

impl Design for WqRcu {
    type Own = Own;
    type Slots = RangeTree<Object>;

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<WqRcu>);

    fn own() -> impl PinInit<Own> {
        Own {
            head: Opaque::uninit(),
            // That of the slot.
            references: References::new(),
        }
    }

    fn retire(_family: &Arc<Family<Self>>, child: Arc<Object>) {
        child.enqueue();
    }

    fn work(child: Arc<Object>) {
        child.remove();
        // `expired` takes it back.
        let child = NonNull::from(&**ManuallyDrop::new(child));
        // SAFETY: The reference is the slot's, which is empty by now.
        unsafe { put(child) };
    }

    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Object) -> R) -> Option<R> {
        let section = rcu::read_lock();
        // SAFETY: The memory of an object goes a grace period after it was taken out, and this is a
        // section.
        let found = unsafe { family.slots.load(addr) }.filter(|child| {
            // SAFETY: As above.
            unsafe { child.as_ref() }.own.references.get()
        });
        drop(section);
        let child = found?;
        // SAFETY: The reference keeps it.
        let result = f(unsafe { child.as_ref() });
        // SAFETY: The reference is ours.
        unsafe { put(child) };
        Some(result)
    }

    fn quiesce(&self) {
        rcu::rcu_barrier();
    }
}

/// Has it do it.
pub(crate) struct WqRcuArm {
    children: Children<WqRcu>,
}

impl WqRcuArm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        Ok(Self {
            children: Children::new(mm, WqRcu, p)?,
        })
    }
}

impl Arm for WqRcuArm {
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
