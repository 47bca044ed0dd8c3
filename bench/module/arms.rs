// SPDX-License-Identifier: GPL-2.0

//! The designs that are compared, by name.

use super::{
    arm::Arm,
    gpusvm::GpuSvm,
    in_callback,
    mmap_write::MmapWrite,
    none::Nothing,
    notify::Notify,
    rcu::RcuArm,
    refcount::RefcountArm,
    retire::Retire,
    srcu_each::SrcuEachArm,
    uapi::ARMS,
    whole::Whole,
    wq_mutex::WqMutexArm,
    wq_rcu::WqRcuArm, //
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
        "retire-50" => Arc::new(Retire::new(mm, delayed(50), p)?, GFP_KERNEL)?,
        "retire-100" => Arc::new(Retire::new(mm, delayed(100), p)?, GFP_KERNEL)?,
        "retire-200" => Arc::new(Retire::new(mm, delayed(200), p)?, GFP_KERNEL)?,
        "retire-each" => Arc::new(Retire::new(mm, one_by_one(), p)?, GFP_KERNEL)?,
        "retire-exp" => Arc::new(Retire::new(mm, expedited(), p)?, GFP_KERNEL)?,
        "rcu" => Arc::new(RcuArm::new(mm, p)?, GFP_KERNEL)?,
        "srcu-each" => Arc::new(SrcuEachArm::new(mm, p)?, GFP_KERNEL)?,
        "refcount" => Arc::new(RefcountArm::new(mm, p)?, GFP_KERNEL)?,
        "wq-rcu" => Arc::new(WqRcuArm::new(mm, p)?, GFP_KERNEL)?,
        "wq-mutex" => Arc::new(WqMutexArm::new(mm, p)?, GFP_KERNEL)?,
        // It removes notifiers, and inserts, with `mmap_lock` held: lockdep knows that this waits
        // for callbacks, and that callbacks run with it held.
        "mmap-write" if cfg!(CONFIG_LOCKDEP) => return Err(EOPNOTSUPP),
        "mmap-write" => Arc::new(MmapWrite::new(mm, p)?, GFP_KERNEL)?,
        "whole" => Arc::new(Whole::new(mm, p)?, GFP_KERNEL)?,
        "gpusvm" => Arc::new(GpuSvm::new(mm, p)?, GFP_KERNEL)?,
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

/// The library where each removal waits by itself, in lanes.
fn one_by_one() -> Config {
    Config {
        split_removal: false,
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
