// SPDX-License-Identifier: GPL-2.0

//! From the first page of a range to the object that stands for it, as mlx5 has it: an xarray.

use super::{
    child::{
        Child,
        Design, //
    },
    slots::Slots, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    page::PAGE_SHIFT,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A map from ranges of one size to objects, each with a reference of its own.
///
/// # Invariants
///
/// Every entry came from `Arc::into_raw`, and that reference belongs to the entry.
#[pin_data(PinnedDrop)]
pub(crate) struct XArray<T> {
    #[pin]
    array: Opaque<bindings::xarray>,
    _objects: PhantomData<Arc<T>>,
}

// SAFETY: The array has a lock, and hands out shared access and references only.
unsafe impl<T: Send + Sync> Send for XArray<T> {}
// SAFETY: Several tasks may use the array at the same time, because all that changes it is done
// under its lock.
unsafe impl<T: Send + Sync> Sync for XArray<T> {}

/// The lock of the array, held.
struct Locked<'a>(&'a Opaque<bindings::xarray>);

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: It was locked when this was made.
        unsafe { bindings::xa_unlock(self.0.get()) };
    }
}

impl<T> XArray<T> {
    fn index(start: usize) -> usize {
        start >> PAGE_SHIFT
    }

    fn lock(&self) -> Locked<'_> {
        // SAFETY: The array is initialised.
        unsafe { bindings::xa_lock(self.array.get()) };
        Locked(&self.array)
    }

    /// Puts an object at the range that begins at `start`. May sleep.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is one, `ENOMEM`.
    fn store(&self, start: usize, object: Arc<T>) -> Result {
        let raw = Arc::into_raw(object).cast_mut();
        let _locked = self.lock();
        // SAFETY: The array is initialised and locked.
        // INVARIANT: If it is stored, the reference is the entry's.
        let status = unsafe {
            bindings::__xa_insert(
                self.array.get(),
                Self::index(start),
                raw.cast(),
                bindings::GFP_KERNEL,
            )
        };
        kernel::error::to_result(status).inspect_err(|_| {
            // SAFETY: It was not stored, so that the reference is still ours.
            drop(unsafe { Arc::from_raw(raw) });
        })
    }

    /// Takes an object out, unless somebody else has. That needs no memory.
    fn erase(&self, start: usize, object: &T) -> Option<Arc<T>> {
        let raw = core::ptr::from_ref(object).cast_mut().cast();
        let _locked = self.lock();
        // SAFETY: The array is initialised and locked. Storing nothing needs no memory.
        let found = unsafe {
            bindings::__xa_cmpxchg(
                self.array.get(),
                Self::index(start),
                raw,
                core::ptr::null_mut(),
                0,
            )
        };
        // SAFETY: By the type invariants, and because the entry is gone, the reference is ours.
        (found == raw).then(|| unsafe { Arc::from_raw(raw.cast_const().cast()) })
    }

    /// Takes any object out.
    fn erase_any(&self) -> Option<Arc<T>> {
        let mut index = 0;
        let present = bindings::XA_PRESENT;
        // SAFETY: The array is initialised.
        let found = unsafe { bindings::xa_find(self.array.get(), &mut index, usize::MAX, present) };
        let found = NonNull::new(found.cast::<T>())?;
        // SAFETY: Nobody but the caller, who takes one after the other, ends the array's references
        // now.
        self.erase(index << PAGE_SHIFT, unsafe { found.as_ref() })
    }

    /// The object of the range that begins at `start`. Takes no lock.
    ///
    /// What makes it valid to look at is the caller's business.
    fn load(&self, start: usize) -> Option<NonNull<T>> {
        // SAFETY: The array is initialised.
        NonNull::new(unsafe { bindings::xa_load(self.array.get(), Self::index(start)) }.cast())
    }

    /// Lets `f`, which does not sleep, look at that object while nobody can take it out.
    pub(crate) fn locked<R>(&self, start: usize, f: impl FnOnce(&T) -> R) -> Option<R> {
        let _locked = self.lock();
        // SAFETY: The entry and with it the reference stay as long as the lock is held.
        self.load(start).map(|object| f(unsafe { object.as_ref() }))
    }
}

impl<D: Design<Slots = Self>> Slots<D> for XArray<Child<D>> {
    type Guarded = ();
    type Node = ();

    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is valid for writes.
            array <- Opaque::ffi_init(|slot| unsafe { bindings::xa_init_flags(slot, 0) }),
            _objects: PhantomData,
        })
    }

    fn node() {}

    unsafe fn put(&self, _design: &D, object: Arc<Child<D>>) -> Result {
        self.store(object.span.start(), object)
    }

    unsafe fn take(&self, (): &mut (), object: &Child<D>) -> Option<Arc<Child<D>>> {
        self.erase(object.span.start(), object)
    }

    fn take_any(&self, _design: &D) -> Option<Arc<Child<D>>> {
        self.erase_any()
    }
}

#[pinned_drop]
impl<T> PinnedDrop for XArray<T> {
    fn drop(self: Pin<&mut Self>) {
        while self.erase_any().is_some() {}
        // SAFETY: The array is initialised and not used any more.
        unsafe { bindings::xa_destroy(self.array.get()) };
    }
}
