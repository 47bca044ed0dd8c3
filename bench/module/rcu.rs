// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as the library does, with RCU and references instead of SRCU: one grace
//! period for what has come together, and removals that sleep at the same time.
//!
//! Reader protection: an RCU section for the slot, in which a reference is taken if there is one
//! left. The object is released when the last one is gone.

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
    pending::Pending,
    queue::queue,
    references::References,
    region::Region, //
};
use core::ptr::NonNull;
use kernel::{
    mm::MmWithUser,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu,
        Arc,
        Mutex, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};
use odp::{
    mmu_interval::InvalidateOps,
    range_tree::RangeTree,
    MayBlock, //
};

type Object = Child<Rcu>;

/// The design.
pub(crate) struct Rcu {
    expiry: Arc<Expiry>,
}

/// From the callbacks to the removals, for all objects that have come together.
#[pin_data]
struct Expiry {
    #[pin]
    work: Work<Expiry>,
    #[pin]
    pending: Pending<Arc<Object>>,
    /// Room for the next ones.
    #[pin]
    spare: Mutex<KVVec<Arc<Object>>>,
    grace_periods: Atomic<u64>,
}

impl_has_work! {
    impl HasWork<Self> for Expiry { self.work }
}

impl WorkItem for Expiry {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut spare = this.spare.lock();
        let mut batch = this.pending.take(core::mem::take(&mut *spare));
        if !batch.is_empty() {
            // They left their slots before they came here.
            rcu::synchronize_rcu();
            this.grace_periods.fetch_add(1, Relaxed);
        }
        while let Some(child) = batch.pop() {
            child.enqueue();
        }
        *spare = batch;
    }
}

/// # Safety
///
/// The caller has a reference, and does not use the object after this.
unsafe fn put(child: NonNull<Object>) {
    // SAFETY: By the safety requirements the caller has a reference, which keeps it valid.
    if unsafe { child.as_ref() }.own.put() {
        // SAFETY: `work` leaked what the slot had, and this happens once.
        unsafe { Arc::from_raw(child.as_ptr().cast_const()) }.released();
    }
}

impl Design for Rcu {
    type Own = References;
    type Slots = RangeTree<Object>;

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<Rcu>);

    fn own() -> impl PinInit<References> {
        References::new()
    }

    fn reserve(&self, objects: usize) -> Result {
        *self.expiry.spare.lock() = KVVec::with_capacity(objects, GFP_KERNEL)?;
        self.expiry.pending.reserve(objects)
    }

    fn retire(family: &Arc<Family<Self>>, child: Arc<Object>) {
        let expiry = &family.design.expiry;
        if expiry.pending.push(child) {
            // If it is queued already it will see this.
            let _ = queue().enqueue(expiry.clone());
        }
    }

    fn work(child: Arc<Object>) {
        child.remove();
        // `put` takes it back, whoever calls that last.
        let child = NonNull::from(&**core::mem::ManuallyDrop::new(child));
        // SAFETY: The reference is the slot's, which is empty by now.
        unsafe { put(child) };
    }

    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Object) -> R) -> Option<R> {
        let section = rcu::read_lock();
        // SAFETY: An object goes a grace period after it was taken out, and this is a section.
        let found = unsafe { family.slots.load(addr) }.filter(|child| {
            // SAFETY: As above.
            unsafe { child.as_ref() }.own.get()
        });
        drop(section);
        let child = found?;
        // SAFETY: The reference keeps it.
        let result = f(unsafe { child.as_ref() });
        // SAFETY: The reference is ours.
        unsafe { put(child) };
        Some(result)
    }
}

/// Has RCU and references do it.
pub(crate) struct RcuArm {
    children: Children<Rcu>,
}

impl RcuArm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        let expiry = Arc::pin_init(
            pin_init!(Expiry {
                work <- new_work!("odp_bench::Expiry::work"),
                pending <- Pending::new(),
                spare <- new_mutex!(KVVec::new(), "odp_bench::Expiry::spare"),
                grace_periods: Atomic::new(0),
            }),
            GFP_KERNEL,
        )?;
        Ok(Self {
            children: Children::new(mm, Rcu { expiry }, p)?,
        })
    }
}

impl Arm for RcuArm {
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

    fn cost(&self) -> Cost {
        Cost {
            grace_periods: Some(self.children.design().expiry.grace_periods.load(Relaxed)),
        }
    }
}
