// SPDX-License-Identifier: GPL-2.0

//! The library's arm: the callback retires the range, or punches a hole into it, and a work item
//! does the rest; its worker woken up as the library does it, or at once; grace periods as they
//! come, or expedited.
//!
//! Reader protection: an SRCU section of the mirror's, in which the index is read without a lock.

use super::{
    arm::{
        Arm,
        Cost, //
    },
    region::Region,
    spent, //
};
use core::convert::Infallible;
use kernel::{
    mm::MmWithUser,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use odp::{
    Changed,
    Config,
    Event,
    Handled,
    Invalidation,
    MayBlock,
    Mirror,
    Mirrored,
    MirroredOps,
    Shared,
    Span,
    Until,
    WorkerContext, //
};

/// The ranges of a region. Nothing is ever installed in them: what is measured is the notifiers.
struct Object {
    region: Arc<Region>,
}

impl Mirrored for Object {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Object);
    type Table = ();
    type Lock = Mutex<()>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        let _spent = spent::callback();
        let mut zap = match inv.begin() {
            Ok(zap) => zap,
            Err(handled) => return handled,
        };
        if zap.event() == Event::Unmap {
            // Before, because the worker need not wait for us.
            let now = self.region.now();
            let accepted = if zap.span() == zap.range() {
                zap.retire() == odp::Retire::Queued
            } else {
                zap.punch() == Changed::Queued
            };
            if accepted {
                self.region.retired(zap.range(), now);
            }
        }
        zap.done()
    }

    fn zap(&self, _table: &mut (), _dead: Span) {}

    fn zapped(&self, dead: Span, _ctx: &WorkerContext<'_>) {
        self.region.begun(dead, self.region.now());
    }

    fn released(&self, span: Span, _ctx: &WorkerContext<'_>) {
        self.region.released(span, self.region.now());
    }
}

/// Has the library do it.
pub(crate) struct Retire {
    mirror: Mirror<Object>,
}

impl Retire {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, config: Config, p: &mut MayBlock<'_>) -> Result<Self> {
        // There are a million of them in some tables.
        let config = Config {
            max_ranges: usize::MAX,
            ..config
        };
        Ok(Self {
            mirror: Mirror::new(mm, config, p)?,
        })
    }
}

impl Arm for Retire {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        let object = Object {
            region: region.clone(),
        };
        let shared = Arc::pin_init(
            Shared::new::<Infallible>(object, new_mutex!((), "odp_bench::Object::lock")),
            GFP_KERNEL,
        )?;
        for span in region.ranges() {
            // Nobody is going to access it, so that nothing holds back its release.
            drop(self.mirror.insert(span?, shared.clone(), p)?);
        }
        Ok(())
    }

    fn settle(&self, p: &mut MayBlock<'_>) -> Result {
        // As a fault path does. If nothing is left to be done here, the worker has begun with it.
        if self.mirror.drain(p) == 0 {
            self.mirror.flush(Until::Removed, p)?;
        }
        Ok(())
    }

    fn finish(&self, region: &Region, p: &mut MayBlock<'_>) -> Result {
        self.mirror.flush(Until::Removed, p)?;
        region.removed(region.now());
        self.mirror.flush(Until::Released, p)?;
        if self.mirror.ranges() != 0 {
            return Err(EBUSY);
        }
        Ok(())
    }

    fn lookup(&self, addr: usize, p: &mut MayBlock<'_>) -> bool {
        self.mirror.lookup(addr, p).is_some()
    }

    fn access(&self, addr: usize, p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        let hold = self.mirror.get(addr, p).ok_or(ENOENT)?;
        let done = f();
        drop(hold);
        done
    }

    fn cost(&self) -> Cost {
        Cost {
            grace_periods: Some(self.mirror.stats().grace_periods),
        }
    }
}
