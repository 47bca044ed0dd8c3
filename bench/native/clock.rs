// SPDX-License-Identifier: GPL-2.0

//! The CPU's clock, and its caches.

use super::samples::Cache;
use kernel::{
    error::to_result,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};

// The prototypes are those of native.h.
unsafe extern "C" {
    safe fn odp_native_ticks() -> u64;
    safe fn odp_native_begin() -> u64;
    safe fn odp_native_end() -> u64;
    safe fn odp_native_khz() -> u64;
    safe fn odp_native_buffer(size: c_ulong) -> c_int;
    safe fn odp_native_cool(size: c_ulong);
}

/// What the clock says.
pub(crate) fn ticks() -> u64 {
    odp_native_ticks()
}

/// The ticks that `f` takes, which does not sleep; nothing preempts it.
pub(crate) fn time(f: impl FnOnce()) -> u64 {
    let begin = odp_native_begin();
    f();
    odp_native_end().wrapping_sub(begin)
}

/// The ticks that `f` takes, which may sleep.
pub(crate) fn time_sleeping(f: impl FnOnce() -> Result) -> Result<u64> {
    let begin = ticks();
    f()?;
    Ok(ticks().wrapping_sub(begin))
}

/// How many thousand ticks a second has. Takes a moment.
pub(crate) fn khz() -> u64 {
    odp_native_khz()
}

/// How much to walk through so that the caches have nothing of anything else.
pub(crate) struct Caches {
    near: usize,
    far: usize,
}

impl Caches {
    /// Takes MiB.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(near: u32, far: u32) -> Result<Self> {
        let bytes = |mib: u32| -> Result<usize> {
            usize::try_from(mib)?.checked_mul(1 << 20).ok_or(EOVERFLOW)
        };
        let this = Self {
            near: bytes(near)?,
            far: bytes(far)?,
        };
        to_result(odp_native_buffer(this.near.max(this.far)))?;
        Ok(this)
    }

    /// How many bytes that is; `None` if it is not wanted.
    pub(crate) fn size(&self, cache: Cache) -> Option<usize> {
        let size = match cache {
            Cache::Warm => return Some(0),
            Cache::Near => self.near,
            Cache::Far => self.far,
        };
        (size != 0).then_some(size)
    }

    /// Has them in that state.
    pub(crate) fn cool(&self, cache: Cache) {
        odp_native_cool(self.size(cache).unwrap_or_default());
    }
}
