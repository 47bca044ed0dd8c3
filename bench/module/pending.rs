// SPDX-License-Identifier: GPL-2.0

//! What callbacks have handed over and nobody has taken: a list with memory had in advance.

use kernel::{
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};

/// The list.
#[pin_data]
pub(crate) struct Pending<T> {
    #[pin]
    list: SpinLock<KVVec<T>>,
}

impl<T> Pending<T> {
    /// Makes one without any room.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_spinlock!(KVVec::new(), "odp_bench::Pending::list"),
        })
    }

    /// Makes room for `n` at a time; nothing is on the list now. May sleep.
    pub(crate) fn reserve(&self, n: usize) -> Result {
        let room = KVVec::with_capacity(n, GFP_KERNEL)?;
        // The old one is freed after the lock is.
        let _old = core::mem::replace(&mut *self.list.lock(), room);
        Ok(())
    }

    /// Appends; says whether the list was empty. Allocates nothing.
    pub(crate) fn push(&self, object: T) -> bool {
        let mut list = self.list.lock();
        let first = list.is_empty();
        let full = list.push_within_capacity(object).is_err();
        drop(list);
        kernel::warn_on!(full);
        first
    }

    /// Takes one.
    pub(crate) fn pop(&self) -> Option<T> {
        self.list.lock().pop()
    }

    /// Takes all and puts `room`, which must have room for as many, in their place.
    pub(crate) fn take(&self, room: KVVec<T>) -> KVVec<T> {
        core::mem::replace(&mut *self.list.lock(), room)
    }
}
