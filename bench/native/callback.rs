// SPDX-License-Identifier: GPL-2.0

//! What the callbacks of each design take, from when core mm is told that memory goes until that is
//! over.

use super::{
    arm::Arm,
    arms,
    clock::Caches,
    samples::{
        Cache,
        Row,
        Samples, //
    },
    space::Space,
    uapi::ARMS, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// How many ranges are unmapped at a time.
pub(crate) const RANGES: [usize; 3] = [1, 64, 512];

/// The arms, in the order in which they are measured at first. The others differ from these in what
/// happens after the callback.
const NAMES: [&str; 10] = [
    "notify",
    "retire",
    "retire-now",
    "refcount",
    "srcu-each",
    "rcu",
    "incb-mutex",
    "incb-srcu",
    "incb-batch",
    "incb-rcu",
];

/// The arms, each with an address space of its own.
pub(crate) struct Callbacks {
    arms: KVVec<(&'static str, Arc<dyn Arm>, Space)>,
}

impl Callbacks {
    /// Makes those that this kernel can have.
    pub(crate) fn new(p: &mut MayBlock<'_>) -> Result<Self> {
        let mut made = KVVec::new();
        for name in NAMES {
            let index = ARMS.iter().position(|arm| arm.name == name).ok_or(EINVAL)?;
            let space = Space::new()?;
            match arms::choose(index, space.mm(), p) {
                Ok(arm) => made.push((name, arm, space), GFP_KERNEL)?,
                Err(error) if error == EOPNOTSUPP => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { arms: made })
    }

    /// A sample of each.
    pub(crate) fn measure(
        &mut self,
        caches: &Caches,
        cache: Cache,
        samples: &mut Samples,
        p: &mut MayBlock<'_>,
    ) -> Result {
        for ranges in RANGES {
            for &(name, ref arm, ref space) in self.arms.iter() {
                // The first is for the caches.
                Self::once(arm, space, ranges, || {}, p)?;
                let ticks = Self::once(arm, space, ranges, || caches.cool(cache), p)?;
                let row = Row {
                    table: "callback",
                    name,
                    cache,
                    ranges,
                };
                samples.add(row, ticks)?;
            }
        }
        // Not always after the same one.
        self.arms.rotate_left(1);
        Ok(())
    }

    fn once(
        arm: &Arc<dyn Arm>,
        space: &Space,
        ranges: usize,
        cool: impl FnOnce(),
        p: &mut MayBlock<'_>,
    ) -> Result<u64> {
        let region = Space::region(ranges)?;
        arm.mirror(&region, p)?;
        cool();
        let ticks = space.unmap(ranges);
        arm.finish(&region, p)?;
        Ok(ticks)
    }
}
