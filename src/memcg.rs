// SPDX-License-Identifier: GPL-2.0

//! Whom memory is charged to.
//!
//! What is allocated with `__GFP_ACCOUNT` is charged to the memory cgroup of the task that
//! allocates. A kernel thread has none: what it allocates on somebody's behalf is charged to
//! nobody, unless it says to whom.
//!
//! Without `CONFIG_MEMCG`, or where memory cgroups are disabled, nothing here does anything.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use core::ffi::c_void;
use kernel::{
    bindings,
    mm::Mm, //
};

// SAFETY: The prototypes are those of helpers.h. `struct mem_cgroup` is `c_void` here, because not
// every kernel's bindings have it.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_memcg_get(mm: *mut bindings::mm_struct) -> *mut c_void;
    fn odp_memcg_put(memcg: *mut c_void);
    fn odp_memcg_activate(memcg: *mut c_void) -> *mut c_void;
}

/// A memory cgroup, to be charged for what is allocated on behalf of those who were in it.
///
/// If it is removed, what is charged from then on is charged to its parent.
///
/// # Invariants
///
/// A reference on the memory cgroup belongs to this; null stands for none.
pub(crate) struct MemCgroup(*mut c_void);

// SAFETY: References may be dropped in another task than they were taken in.
unsafe impl Send for MemCgroup {}
// SAFETY: Several tasks may charge the same memory cgroup at the same time.
unsafe impl Sync for MemCgroup {}

impl MemCgroup {
    /// The memory cgroup that is charged for what the caller allocates; if the caller is a kernel
    /// thread without an address space, the one that the owner of `mm` is in. Does not sleep.
    pub(crate) fn of_caller(mm: &Mm) -> Self {
        // SAFETY: The `mm_struct` is valid during the call.
        // INVARIANT: The function takes a reference.
        Self(unsafe { odp_memcg_get(mm.as_raw()) })
    }

    /// Runs `f`, and has charged to this memory cgroup what it allocates with `__GFP_ACCOUNT`.
    ///
    /// May be nested; the innermost counts.
    ///
    /// Context: process context.
    pub(crate) fn charged<R>(&self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants there is a reference, and the borrow keeps it until the
        // task goes back to charging another one below. Nothing unwinds in the kernel.
        let outer = unsafe { odp_memcg_activate(self.0) };
        let result = f();
        // SAFETY: Whoever made this one active keeps it for as long as `charged`, or whatever it
        // was that made it so, has not returned, which is after this.
        unsafe { odp_memcg_activate(outer) };
        result
    }
}

impl Drop for MemCgroup {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference, and it is given up here.
        unsafe { odp_memcg_put(self.0) };
    }
}
