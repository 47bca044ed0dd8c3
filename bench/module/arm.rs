// SPDX-License-Identifier: GPL-2.0

//! What the designs that are compared have in common.

use super::{
    in_callback,
    mmap_write::MmapWrite,
    none::Nothing,
    notify::Notify,
    rcu::RcuArm,
    refcount::RefcountArm,
    region::Region,
    retire::Retire,
    srcu_each::SrcuEachArm,
    uapi::ARMS,
    whole::Whole, //
};
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use odp::{
    Config,
    MayBlock, //
};

/// A way to keep up with what a process does to memory that is mirrored.
///
/// The program does the same whichever it is: it maps memory, has it mirrored, unmaps it with one
/// eye on the clock, and has the rest done outside of what it measures.
///
/// A range goes when all of it is unmapped. When a part is, arms that can give up that part (see
/// [`ARMS`]) do so, and others keep all of it.
pub(crate) trait Arm: Send + Sync {
    /// Mirrors all ranges of a region from now on. May sleep.
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result;

    /// Returns when all is done that callbacks have asked for so far, releases not included.
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

    /// Whether a device would find a range at `addr`: under the arm's reader protection, and nothing
    /// else. Called by several tasks at the same time as all of the above.
    fn lookup(&self, addr: usize, p: &mut MayBlock<'_>) -> bool {
        let (_, _) = (addr, p);
        false
    }

    /// Finds the range at `addr`, as for an access that may take as long as user space wants, and keeps it
    /// as the design does during `f`.
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

/// Makes the arm of that index in [`ARMS`], for an address space.
///
/// # Errors
///
/// `EINVAL` if there is none, `EOPNOTSUPP` if this kernel cannot have it, or those of the arm.
pub(crate) fn choose(index: usize, mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Arc<dyn Arm>> {
    let name = ARMS.get(index).ok_or(EINVAL)?.name;
    Ok(match name {
        "none" => Arc::new(Nothing, GFP_KERNEL)?,
        "notify" => Arc::new(Notify::new(mm, p)?, GFP_KERNEL)?,
        "retire" => Arc::new(Retire::new(mm, Config::default(), p)?, GFP_KERNEL)?,
        "retire-now" => Arc::new(Retire::new(mm, delayed(0), p)?, GFP_KERNEL)?,
        "retire-20" => Arc::new(Retire::new(mm, delayed(20), p)?, GFP_KERNEL)?,
        "retire-100" => Arc::new(Retire::new(mm, delayed(100), p)?, GFP_KERNEL)?,
        "retire-200" => Arc::new(Retire::new(mm, delayed(200), p)?, GFP_KERNEL)?,
        "retire-500" => Arc::new(Retire::new(mm, delayed(500), p)?, GFP_KERNEL)?,
        "retire-exp" => Arc::new(Retire::new(mm, expedited(), p)?, GFP_KERNEL)?,
        "rcu" => Arc::new(RcuArm::new(mm, p)?, GFP_KERNEL)?,
        "srcu-each" => Arc::new(SrcuEachArm::new(mm, p)?, GFP_KERNEL)?,
        "refcount" => Arc::new(RefcountArm::new(mm, p)?, GFP_KERNEL)?,
        // It removes notifiers, and inserts, with `mmap_lock` held: lockdep knows that this waits for callbacks,
        // and that callbacks run with it held.
        "mmap-write" if cfg!(CONFIG_LOCKDEP) => return Err(EOPNOTSUPP),
        "mmap-write" => Arc::new(MmapWrite::new(mm, p)?, GFP_KERNEL)?,
        "whole" => Arc::new(Whole::new(mm, p)?, GFP_KERNEL)?,
        name if name.starts_with("incb-") => in_callback::choose(name, mm, p)?,
        _ => return Err(EINVAL),
    })
}

/// The library with another time that its worker gives to who woke it up.
fn delayed(microseconds: i64) -> Config {
    Config {
        wakeup_delay: Delta::from_micros(microseconds),
        ..Config::default()
    }
}

/// The library with grace periods that are expedited.
fn expedited() -> Config {
    Config {
        expedited: true,
        ..Config::default()
    }
}
