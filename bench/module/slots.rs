// SPDX-License-Identifier: GPL-2.0

//! From an address to the object that is responsible for it.
//!
//! A reference to the object belongs to where it is. It can be taken out in a callback, and by one
//! task only.

use super::child::{
    Child,
    Design, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    range_tree::{
        Place,
        RangeTree, //
    },
    Span, //
};

/// What the objects of an address space are found in. How, and what makes it valid to look at them,
/// depends on which it is.
pub(crate) trait Slots<D: Design<Slots = Self>>: Send + Sync + Sized + 'static {
    /// What of it the user lock guards.
    type Guarded: Send + Unpin + Default;
    /// What an object has for it.
    type Node: Send + Sync;

    /// Makes one with nothing in it.
    fn new() -> impl PinInit<Self>;

    /// Makes what an object has for it.
    fn node() -> Self::Node;

    /// Puts an object at its span. May sleep, and takes the user lock if that guards anything.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// These are the slots of the object's family, and it has not been put there before.
    unsafe fn put(&self, design: &D, object: Arc<Child<D>>) -> Result;

    /// Takes an object out, unless somebody else has, or it was never put there. Does not sleep.
    ///
    /// # Safety
    ///
    /// These are the slots of the object's family, and `guarded` is what its user lock guards.
    unsafe fn take(&self, guarded: &mut Self::Guarded, object: &Child<D>) -> Option<Arc<Child<D>>>;

    /// Takes any object out, when nobody looks them up any more. May sleep, and takes the user lock
    /// if that guards anything.
    fn take_any(&self, design: &D) -> Option<Arc<Child<D>>>;
}

/// The library's tree, in which readers find objects without a lock. Who changes it has its
/// sequence lock, and needs no other. Each object came from `Arc::into_raw`.
impl<D: Design<Slots = Self>> Slots<D> for RangeTree<Child<D>> {
    type Guarded = ();
    type Node = Place;

    fn new() -> impl PinInit<Self> {
        RangeTree::new()
    }

    fn node() -> Place {
        Place::new()
    }

    unsafe fn put(&self, _design: &D, object: Arc<Child<D>>) -> Result {
        let raw = Arc::into_raw(object).cast_mut();
        // SAFETY: What an `Arc` has is not at address null.
        let object = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: By the safety requirements it has not been put there, and it is put nowhere else.
        // The reference keeps it until it is taken out, and after that its design does until its
        // readers are gone.
        let put = unsafe { self.change().try_put(object) };
        put.map_err(|_| {
            // SAFETY: It was not put there, so that the reference is still ours.
            drop(unsafe { Arc::from_raw(raw) });
            EBUSY
        })
    }

    unsafe fn take(&self, (): &mut (), object: &Child<D>) -> Option<Arc<Child<D>>> {
        // SAFETY: It is valid, and by the safety requirements it has been put here or nowhere.
        let was_there = unsafe { self.change().take_out(NonNull::from(object)) };
        // SAFETY: It came from `Arc::into_raw`, and is there no more, so the reference is ours.
        was_there.then(|| unsafe { Arc::from_raw(object) })
    }

    fn take_any(&self, _design: &D) -> Option<Arc<Child<D>>> {
        let mut change = self.change();
        let object = change.within(Span::ALL).next().map(NonNull::from)?;
        // SAFETY: It is in this tree, and so valid.
        unsafe { change.take_out(object) };
        // SAFETY: As in `take`.
        Some(unsafe { Arc::from_raw(object.as_ptr()) })
    }
}
