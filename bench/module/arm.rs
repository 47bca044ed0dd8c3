// SPDX-License-Identifier: GPL-2.0

//! What the designs that are compared have in common.

use super::{
    in_callback,
    none::Nothing,
    notify::Notify,
    region::Region,
    retire::Retire,
    uapi::ARMS, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// A way to keep up with what a process does to memory that is mirrored.
///
/// The program does the same whichever it is: it maps memory, has it mirrored, unmaps it with one
/// eye on the clock, and has the rest done outside of what it measures.
pub(crate) trait Arm: Send + Sync {
    /// Mirrors all ranges of a region from now on. May sleep.
    fn mirror(&mut self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result;

    /// Returns when nothing is left of a region that has been mirrored and then unmapped.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it has not been unmapped.
    fn finish(&mut self, region: &Region, p: &mut MayBlock<'_>) -> Result;
}

/// Makes the arm of that index in [`ARMS`](super::uapi::ARMS), for an address space.
///
/// # Errors
///
/// `EINVAL` if there is none, `EOPNOTSUPP` if this kernel cannot have it, or those of the arm.
pub(crate) fn choose(index: usize, mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<KBox<dyn Arm>> {
    Ok(match ARMS.get(index).copied() {
        Some("none") => KBox::new(Nothing, GFP_KERNEL)?,
        Some("notify") => KBox::new(Notify::new(mm, p)?, GFP_KERNEL)?,
        Some("retire") => KBox::new(Retire::new(mm, p)?, GFP_KERNEL)?,
        Some(arm) if arm.starts_with("incb-") => in_callback::choose(arm, mm, p)?,
        _ => return Err(EINVAL),
    })
}
