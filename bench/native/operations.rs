// SPDX-License-Identifier: GPL-2.0

//! The kernel's own operations that the designs are made of; the loops are in C.

use super::{
    clock::Caches,
    samples::{
        Cache,
        Row,
        Samples, //
    }, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    str::CStrExt, //
};

// The prototypes are those of native.h.
unsafe extern "C" {
    fn odp_native_operation(which: c_uint, n: c_uint, cool: c_ulong, ticks: *mut u64) -> c_int;
    safe fn odp_native_operation_name(which: c_uint) -> *const c_char;
}

/// How many of each.
pub(crate) const COUNT: u32 = 512;

/// A sample of each.
pub(crate) fn measure(caches: &Caches, cache: Cache, samples: &mut Samples) -> Result {
    let cool = caches.size(cache).unwrap_or_default();
    for which in 0.. {
        let name = odp_native_operation_name(which);
        if name.is_null() {
            return Ok(());
        }
        // SAFETY: It is a string of C's that is never changed.
        let name = unsafe { CStr::from_char_ptr(name) }.to_str()?;
        once(which, 0)?;
        let row = Row {
            table: "operation",
            name,
            cache,
            ranges: usize::try_from(COUNT)?,
        };
        samples.add(row, once(which, cool)?)?;
    }
    Ok(())
}

fn once(which: u32, cool: usize) -> Result<u64> {
    let mut ticks = 0;
    // SAFETY: There are so many, as the caller has seen, and `ticks` is valid for writes.
    to_result(unsafe { odp_native_operation(which, COUNT, cool, &raw mut ticks) })?;
    Ok(ticks)
}
