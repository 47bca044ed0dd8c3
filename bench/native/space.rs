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
    region::Region,
    uapi, //
};

// SAFETY: The prototypes are those of native.h.
#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
unsafe extern "C" {
    safe fn odp_native_mm() -> *mut bindings::mm_struct;
    fn odp_native_unmap(mm: *mut bindings::mm_struct, start: c_ulong, end: c_ulong) -> u64;
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

    /// Says that so many ranges are unmapped; returns how many ticks that takes.
    pub(crate) fn unmap(&self, ranges: usize) -> u64 {
        // OVERFLOW: They have been the addresses of a region.
        let end = START + ranges * RANGE_SIZE;
        // SAFETY: The reference keeps the address space.
        unsafe { odp_native_unmap(self.0.as_raw(), START, end) }
    }
}
