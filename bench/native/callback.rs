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
const NAMES: [&str; 11] = [
    "notify",
    "retire",
    "retire-now",
    "refcount",
    "gpusvm",
    "srcu-each",
    "rcu",
    "incb-mutex",
    "incb-srcu",
    "incb-batch",
    "incb-rcu",
];

/// An arm, with an address space of its own.
struct Mirrored {
    arm: Arc<dyn Arm>,
    space: Space,
}

/// The arms, each twice: what one does brings to the caches what the other one needs. Not the same
/// one, because the first range of many is what it wakes somebody up for.
pub(crate) struct Callbacks {
    arms: KVVec<(&'static str, [Mirrored; 2])>,
}

impl Callbacks {
    /// Makes those that this kernel can have.
    pub(crate) fn new(p: &mut MayBlock<'_>) -> Result<Self> {
        let mut made = KVVec::new();
        for name in NAMES {
            let index = ARMS.iter().position(|arm| arm.name == name).ok_or(EINVAL)?;
            let mut make = || -> Result<Mirrored> {
                let space = Space::new()?;
                let arm = arms::choose(index, space.mm(), p)?;
                Ok(Mirrored { arm, space })
            };
            match make() {
                Ok(arm) => made.push((name, [arm, make()?]), GFP_KERNEL)?,
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
            for &(name, ref both) in self.arms.iter() {
                let regions = [Space::region(ranges)?, Space::region(ranges)?];
                for (mirrored, region) in both.iter().zip(&regions) {
                    mirrored.arm.mirror(region, p)?;
                }
                let [before, mirrored] = both;
                let ticks = mirrored.space.unmap(&before.space, ranges, caches, cache);
                for (mirrored, region) in both.iter().zip(&regions) {
                    mirrored.arm.finish(region, p)?;
                }
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
}
