// SPDX-License-Identifier: GPL-2.0

//! A lock that one writer has or several readers, and that is slept for: `struct rw_semaphore`,
//! which the crate `kernel` does not have.

use core::{
    cell::UnsafeCell,
    ops::{
        Deref,
        DerefMut, //
    }, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::LockClassKey,
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// The lock, with what only its writer may use.
///
/// # Invariants
///
/// `semaphore` is initialised.
#[pin_data]
pub(crate) struct RwSem<T> {
    #[pin]
    semaphore: Opaque<bindings::rw_semaphore>,
    guarded: UnsafeCell<T>,
}

// SAFETY: The semaphore may be used from any task, and what is guarded moves along.
unsafe impl<T: Send> Send for RwSem<T> {}
// SAFETY: Several tasks may use the semaphore at the same time, and what is guarded is for the
// writer, of whom there is one at a time.
unsafe impl<T: Send> Sync for RwSem<T> {}

/// The lock, held by its writer.
///
/// # Invariants
///
/// The semaphore is held for writing.
#[must_use = "it is held until this is dropped"]
pub(crate) struct Writer<'a, T> {
    lock: &'a RwSem<T>,
    _not_send: NotThreadSafe,
}

/// The lock, held by a reader.
///
/// # Invariants
///
/// The semaphore is held for reading.
#[must_use = "it is held until this is dropped"]
pub(crate) struct Reader<'a, T> {
    lock: &'a RwSem<T>,
    _not_send: NotThreadSafe,
}

impl<T> RwSem<T> {
    /// Makes one that nobody holds.
    pub(crate) fn new(
        value: T,
        name: &'static CStr,
        class: Pin<&'static LockClassKey>,
    ) -> impl PinInit<Self> {
        // INVARIANT: `__init_rwsem()` initialises it.
        pin_init!(Self {
            // SAFETY: The slot is valid for writes, and the name and the class live for ever.
            semaphore <- Opaque::ffi_init(|slot| unsafe {
                bindings::__init_rwsem(slot, name.as_char_ptr(), class.as_ptr())
            }),
            guarded: UnsafeCell::new(value),
        })
    }

    /// Takes it for writing. May sleep.
    pub(crate) fn write(&self) -> Writer<'_, T> {
        // SAFETY: By the type invariants it is initialised.
        unsafe { bindings::down_write(self.semaphore.get()) };
        // INVARIANT: It has just been taken.
        Writer {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Takes it for reading. May sleep.
    pub(crate) fn read(&self) -> Reader<'_, T> {
        // SAFETY: By the type invariants it is initialised.
        unsafe { bindings::down_read(self.semaphore.get()) };
        // INVARIANT: It has just been taken.
        Reader {
            lock: self,
            _not_send: NotThreadSafe,
        }
    }
}

impl<T> Deref for Writer<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: By the type invariants we are the writer, so nobody else has it.
        unsafe { &*self.lock.guarded.get() }
    }
}

impl<T> DerefMut for Writer<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: By the type invariants we are the writer, so nobody else has it.
        unsafe { &mut *self.lock.guarded.get() }
    }
}

impl<T> Drop for Writer<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held for writing, by this task.
        unsafe { bindings::up_write(self.lock.semaphore.get()) };
    }
}

impl<T> Drop for Reader<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants it is held for reading, by this task.
        unsafe { bindings::up_read(self.lock.semaphore.get()) };
    }
}
