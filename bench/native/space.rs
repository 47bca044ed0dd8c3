// SPDX-License-Identifier: GPL-2.0

//! An address space that nobody runs in: notifiers want addresses, and no memory at them.

use core::ptr::NonNull;
use kernel::{
    bindings,
    ffi::c_ulong,
    mm::MmWithUser,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};

use super::{
    clock::Caches,
    region::Region,
    samples::Cache,
    uapi, //
};

// SAFETY: The prototypes are those of native.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    safe fn odp_native_mm() -> *mut bindings::mm_struct;
    fn odp_native_unmap(
        before: *mut bindings::mm_struct,
        mm: *mut bindings::mm_struct,
        start: c_ulong,
        end: c_ulong,
        cool: c_ulong,
    ) -> u64;
}

/// Where ranges are.
pub(crate) const START: usize = 0x1000_0000;
/// How large a range is.
pub(crate) const RANGE_SIZE: usize = 0x4000;

/// The address space.
pub(crate) struct Space(ARef<MmWithUser>);

impl Space {
    /// Makes one. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let mm = NonNull::new(odp_native_mm()).ok_or(ENOMEM)?;
        // SAFETY: It was made just now, with a user, which is ours.
        // CAST: `MmWithUser` is transparent over `mm_struct`.
        Ok(Self(unsafe { ARef::from_raw(mm.cast()) }))
    }

    /// It, for arms.
    pub(crate) fn mm(&self) -> &MmWithUser {
        &self.0
    }

    /// Addresses of so many ranges.
    pub(crate) fn region(ranges: usize) -> Result<Arc<Region>> {
        Region::new(&uapi::Region {
            start: START as u64,
            range_size: RANGE_SIZE as u64,
            ranges: u32::try_from(ranges)?,
            stamped: 0,
        })
    }

    /// Says that so many ranges are unmapped, just after the same has happened to `before` and then
    /// the caches have been cooled; returns how many ticks that takes.
    pub(crate) fn unmap(&self, before: &Self, ranges: usize, caches: &Caches, cache: Cache) -> u64 {
        let (before, mm) = (before.0.as_raw(), self.0.as_raw());
        let cool = caches.size(cache).unwrap_or_default();
        // OVERFLOW: They have been the addresses of a region.
        let end = START + ranges * RANGE_SIZE;
        // SAFETY: The references keep the address spaces.
        unsafe { odp_native_unmap(before, mm, START, end, cool) }
    }
}
