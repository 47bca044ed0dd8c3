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
        Lock,
        Watched, //
    },
    region::Region,
    slots::Slots,
    tree::{
        Member,
        Node,
        Tree, //
    },
    user_lock::UserLock, //
};
use core::{
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};
use odp::{
    mmu_interval::InvalidateOps,
    MayBlock,
    Span, //
};

type Object = Child<WqMutex>;

/// The design.
pub(crate) struct WqMutex {
    user: Arc<UserLock<Tree<Object>>>,
}

/// Objects in a tree that the user lock guards, each of which came from `Arc::into_raw`.
pub(crate) struct UnderLock;

// SAFETY: There is a node at that place, and nobody changes the span.
unsafe impl Member for Object {
    const NODE: usize = offset_of!(Self, node);

    fn span(&self) -> Span {
        self.span
    }
}

impl Slots<WqMutex> for UnderLock {
    type Guarded = Tree<Object>;
    type Node = Node;

    fn new() -> impl PinInit<Self> {
        Self
    }

    fn node() -> Node {
        Node::new()
    }

    unsafe fn put(&self, design: &WqMutex, object: Arc<Object>) -> Result {
        let raw = Arc::into_raw(object).cast_mut();
        // SAFETY: What an `Arc` has is not at address null.
        let object = unsafe { NonNull::new_unchecked(raw) };
        let mut tree = design.user.lock();
        // SAFETY: By the safety requirements it has not been put there, and it is put nowhere else.
        // The reference keeps it until it is taken out.
        let put = unsafe { tree.put(object) };
        drop(tree);
        put.map_err(|_| {
            // SAFETY: It was not put there, so that the reference is still ours.
            drop(unsafe { Arc::from_raw(raw) });
            EBUSY
        })
    }

    unsafe fn take(&self, tree: &mut Tree<Object>, object: &Object) -> Option<Arc<Object>> {
        // SAFETY: It is valid, and has been put into the tree of its design or nowhere. By the
        // safety requirements this is that tree: a design has one user lock.
        let was_there = unsafe { tree.take_out(NonNull::from(object)) };
        // SAFETY: It came from `Arc::into_raw`, and is there no more, so the reference is ours.
        was_there.then(|| unsafe { Arc::from_raw(object) })
    }

    fn take_any(&self, design: &WqMutex) -> Option<Arc<Object>> {
        let mut tree = design.user.lock();
        let object = NonNull::from(tree.first_from(0)?);
        // SAFETY: It is in the tree, and so valid.
        let object = unsafe { object.as_ref() };
        // SAFETY: It was put there, and this is what the design's user lock guards.
        unsafe { self.take(&mut tree, object) }
    }
}

impl Design for WqMutex {
    type Own = ();
    type Slots = UnderLock;

    const OPS: &'static InvalidateOps<Watched<Self>> = odp::invalidate_ops!(Watched<WqMutex>);

    fn own() -> impl PinInit<()> {}

    fn retire(_family: &Arc<Family<Self>>, child: Arc<Child<Self>>) {
        child.enqueue();
    }

    fn work(child: Arc<Child<Self>>) {
        child.remove();
        child.released();
    }

    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Child<Self>) -> R) -> Option<R> {
        let tree = family.design.user.lock();
        // It is taken out of the tree with the user lock held, before it goes.
        Some(f(tree.get(addr)?))
    }

    fn user_lock(&self) -> Result<Arc<Lock<Self>>> {
        Ok(self.user.clone())
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
