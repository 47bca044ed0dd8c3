// SPDX-License-Identifier: GPL-2.0

//! A reference that keeps a module loaded.

use kernel::{
    bindings,
    prelude::*, //
};

// SAFETY: The prototypes are those of helpers.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    fn odp_try_module_get(module: *mut bindings::module) -> bool;
    fn odp_module_put(module: *mut bindings::module);
}

/// The module that a table of functions belongs to, as part of the table.
///
/// Generic functions are compiled into whichever module uses them, and so is a table of them,
/// unless it is a static item: that is compiled once, into the module of the crate that it is
/// written in. What it points to is text of that module, or of one whose symbols that module uses,
/// which keeps it loaded.
///
/// # Invariants
///
/// This is part of a static item, and points to the module that the item is compiled into; null
/// stands for code that cannot be unloaded while this is used.
pub(crate) struct Owner(*mut bindings::module);

// SAFETY: It is an address; what can be done with it can be done in any task.
unsafe impl Sync for Owner {}

impl Owner {
    /// The owner of what somebody else keeps loaded.
    ///
    /// # Safety
    ///
    /// Somebody does, from [`ModuleRef::of`] to the end of what that returns.
    pub(crate) const unsafe fn kept() -> Self {
        // INVARIANT: By the safety requirements it cannot be unloaded meanwhile.
        Self(core::ptr::null_mut())
    }

    /// # Safety
    ///
    /// For the initialiser of a static item, with `THIS_MODULE` of the crate that has the item.
    pub(crate) const unsafe fn new(module: &ThisModule) -> Self {
        // INVARIANT: By the safety requirements.
        Self(module.as_ptr())
    }
}

/// Keeps a module from being unloaded (`try_module_get()`, `module_put()`).
///
/// Whoever drops the last one returns into the module's text if the drop is part of that text, so
/// it must be somebody else's business to keep the text until then: a system call's, for example,
/// or the module's exit function's.
///
/// # Invariants
///
/// A reference on the module belongs to this; null stands for code that cannot be unloaded while
/// this is there.
pub(crate) struct ModuleRef(*mut bindings::module);

// SAFETY: References may be dropped in another task than they were taken in.
unsafe impl Send for ModuleRef {}
// SAFETY: There is nothing that could be done through a shared reference.
unsafe impl Sync for ModuleRef {}

impl ModuleRef {
    /// Takes a reference.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the module is about to be unloaded.
    ///
    /// # Safety
    ///
    /// `module` is null or a module that is there during the call.
    pub(crate) unsafe fn get(module: *mut bindings::module) -> Result<Self> {
        // SAFETY: By the safety requirements `module` is null, which the function takes, or there
        // during the call.
        if unsafe { odp_try_module_get(module) } {
            // INVARIANT: The reference was taken just now.
            Ok(Self(module))
        } else {
            Err(ENODEV)
        }
    }
}

impl ModuleRef {
    /// Takes a reference on the module of a table.
    ///
    /// Not inlined, like [`ModuleRef::reclaim`]: each module calls itself `__this_module`, and in
    /// the text of another one the address would be that of another one if the compiler worked out
    /// what the table says.
    ///
    /// # Errors
    ///
    /// As for [`ModuleRef::get`].
    #[inline(never)]
    pub(crate) fn of(owner: &'static Owner) -> Result<Self> {
        // SAFETY: By the type invariants of `Owner` the table is gone when the module is.
        unsafe { Self::get(owner.0) }
    }

    /// Gives up the value but not the reference.
    pub(crate) fn leak(self) {
        core::mem::forget(self);
    }

    /// Takes over a reference that was leaked.
    ///
    /// # Safety
    ///
    /// [`ModuleRef::leak`] was called for a reference of the same owner's, and this is called once
    /// for it.
    #[inline(never)]
    pub(crate) unsafe fn reclaim(owner: &'static Owner) -> Self {
        // INVARIANT: By the safety requirements.
        Self(owner.0)
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference, and it is given up here.
        unsafe { odp_module_put(self.0) };
    }
}
