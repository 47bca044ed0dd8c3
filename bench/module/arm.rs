// SPDX-License-Identifier: GPL-2.0

//! What the designs that are compared have in common.

use super::region::Region;
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// A way to keep up with what a process does to memory that is mirrored.
///
/// The program does the same whichever it is: it maps memory, has it mirrored, unmaps it with one
/// eye on the clock, and has the rest done outside of what it measures.
///
/// A range goes when all of it is unmapped. When a part is, arms that can give up that part (see
/// [`ARMS`](super::uapi::ARMS)) do so, and others keep all of it, or give up all of it.
pub(crate) trait Arm: Send + Sync {
    /// Mirrors all ranges of a region from now on. May sleep.
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result;

    /// Returns when all ranges are what they should be after what callbacks have asked for so far.
    /// What they have taken the place of may still be on its way out.
    fn settle(&self, p: &mut MayBlock<'_>) -> Result {
        let _ = p;
        Ok(())
    }

    /// Returns when nothing is left of a region that has been mirrored and then unmapped.
    ///
    /// # Errors
    ///
    /// `EBUSY` if it has not been unmapped.
    fn finish(&self, region: &Region, p: &mut MayBlock<'_>) -> Result;

    /// Whether a device would find a range at `addr`: under the arm's reader protection, and
    /// nothing else. Called by several tasks at the same time as all of the above.
    fn lookup(&self, addr: usize, p: &mut MayBlock<'_>) -> bool {
        let (_, _) = (addr, p);
        false
    }

    /// Finds the range at `addr`, as for an access that may take as long as user space wants, and
    /// keeps it as the design does during `f`.
    ///
    /// # Errors
    ///
    /// `ENOENT` if there is none, `EOPNOTSUPP` if the arm is not asked for that, or those of `f`.
    fn access(&self, addr: usize, p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        let (_, _, _) = (addr, p, f);
        Err(EOPNOTSUPP)
    }

    /// What it has cost so far.
    fn cost(&self) -> Cost {
        Cost::default()
    }
}

/// What an arm has cost.
#[derive(Default)]
pub(crate) struct Cost {
    /// Grace periods; `None` if it has none by design, or does not know.
    pub(crate) grace_periods: Option<u64>,
}
