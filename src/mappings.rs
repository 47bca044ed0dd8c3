// SPDX-License-Identifier: GPL-2.0

//! What a process has mapped, as long as nobody changes it.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::span::Span;
use core::ptr::NonNull;
use kernel::{
    bindings,
    mm::{
        virt::VmaRef,
        MmWithUser,
        MmapReadGuard, //
    }, //
};

/// An address space whose mappings do not change, because its `mmap_lock` is held for reading.
///
/// # Invariants
///
/// `_lock` is the lock of `mm`.
pub(crate) struct Mappings<'a> {
    mm: &'a MmWithUser,
    _lock: MmapReadGuard<'a>,
}

impl<'a> Mappings<'a> {
    /// Takes the `mmap_lock` for reading. May sleep.
    pub(crate) fn lock(mm: &'a MmWithUser) -> Self {
        // INVARIANT: The lock is taken here.
        Self {
            mm,
            _lock: mm.mmap_read_lock(),
        }
    }

    /// The mappings that have to do with `span`, in order of address (`find_vma()`). They may reach
    /// beyond it.
    pub(crate) fn within(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        let mut from = span.start();
        core::iter::from_fn(move || {
            // SAFETY: By the type invariants the lock is held.
            let vma = unsafe { bindings::find_vma(self.mm.as_raw(), from) };
            let vma = NonNull::new(vma)?;
            // SAFETY: It was found just now, and stays while the lock is held.
            let vma = unsafe { VmaRef::from_raw(vma.as_ptr()) };
            let mapping = Span::from_bounds(vma.start(), vma.end()).ok()?;
            from = mapping.end();
            (mapping.start() < span.end()).then_some(mapping)
        })
    }
}
