// SPDX-License-Identifier: GPL-2.0

//! A reference that keeps a module loaded.

use kernel::{
    bindings,
    prelude::*,
    ModuleMetadata, //
};

/// Keeps a module from being unloaded (`try_module_get()`, `module_put()`).
///
/// Whoever drops the last one returns into the module's text if the drop is part of that text, so
/// it must be somebody else's business to keep the text until then: a system call's, for example,
/// or the module's exit function's.
///
/// # Invariants
///
/// A reference on the module belongs to this; null stands for code that cannot be unloaded.
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
        // SAFETY: By the safety requirements.
        if unsafe { bindings::try_module_get(module) } {
            // INVARIANT: The reference was taken just now.
            Ok(Self(module))
        } else {
            Err(ENODEV)
        }
    }
}

impl ModuleRef {
    /// Takes a reference on the module that `M` is the metadata of.
    ///
    /// # Errors
    ///
    /// As for [`ModuleRef::get`].
    pub(crate) fn of<M: ModuleMetadata>() -> Result<Self> {
        // SAFETY: Whoever names it here has code of it running.
        unsafe { Self::get(M::THIS_MODULE.as_ptr()) }
    }

    /// Gives up the value but not the reference.
    pub(crate) fn leak(self) {
        core::mem::forget(self);
    }

    /// Takes over a reference that was leaked.
    ///
    /// # Safety
    ///
    /// [`ModuleRef::leak`] was called for a reference on the same module, and this is called once for it.
    pub(crate) unsafe fn reclaim<M: ModuleMetadata>() -> Self {
        // INVARIANT: By the safety requirements.
        Self(M::THIS_MODULE.as_ptr())
    }
}

impl Drop for ModuleRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants there is a reference, and it is given up here.
        unsafe { bindings::module_put(self.0) };
    }
}
