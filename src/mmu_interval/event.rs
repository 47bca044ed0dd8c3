// SPDX-License-Identifier: GPL-2.0

//! What happens to a process's pages, and whose doing it is.

use core::{
    ffi::c_void,
    num::NonZeroUsize,
    ptr::NonNull, //
};
use kernel::bindings;

/// What happened to the process's pages (`enum mmu_notifier_event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The addresses are being unmapped or moved away (munmap, mremap, exit).
    Unmap,
    /// The pages are being replaced or dropped, for whatever reason; the addresses stay.
    Clear,
    /// Protection of a whole mapping changes.
    ProtectVma,
    /// Protection of single pages changes.
    ProtectPage,
    /// Only the soft-dirty bits change.
    SoftDirty,
    /// The address space is going away. Later events, [`Event::Unmap`] among them, still come.
    Release,
    /// Pages migrate to or from a device.
    Migrate,
    /// Pages become exclusive to a device.
    Exclusive,
}

impl Event {
    pub(super) fn from_raw(event: bindings::mmu_notifier_event) -> Self {
        match event {
            bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP => Event::Unmap,
            bindings::mmu_notifier_event_MMU_NOTIFY_PROTECTION_VMA => Event::ProtectVma,
            bindings::mmu_notifier_event_MMU_NOTIFY_PROTECTION_PAGE => Event::ProtectPage,
            bindings::mmu_notifier_event_MMU_NOTIFY_SOFT_DIRTY => Event::SoftDirty,
            bindings::mmu_notifier_event_MMU_NOTIFY_RELEASE => Event::Release,
            bindings::mmu_notifier_event_MMU_NOTIFY_MIGRATE => Event::Migrate,
            bindings::mmu_notifier_event_MMU_NOTIFY_EXCLUSIVE => Event::Exclusive,
            // Clear says least, so it is right for events of a later kernel too.
            _ => Event::Clear,
        }
    }
}

/// Whose doing an event is, as whoever caused it has told core mm (`mmu_notifier_range.owner`):
/// compared, never followed.
///
/// A driver that migrates a process's pages to its device, or makes them exclusive to it, passes
/// the same pointer to `migrate_vma_setup()` or `make_device_exclusive()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventOwner(NonZeroUsize);

impl EventOwner {
    /// The owner that `pointer` stands for.
    pub fn new<O>(pointer: NonNull<O>) -> Self {
        Self(pointer.addr())
    }

    /// Whether `owner` is this one.
    pub(super) fn is(self, owner: *mut c_void) -> bool {
        owner.addr() == self.0.get()
    }
}
