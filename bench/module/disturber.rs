// SPDX-License-Identifier: GPL-2.0

//! Invalidations of other memory of the same process that take as long as they are told to.
//!
//! A notifier of its own, whose callback sleeps: what a device does that has to be waited for. It
//! keeps a phase of the address space open from within it, as any slow driver would.

use super::{
    user_lock::UserLock,
    BenchModule, //
};
use core::convert::Infallible;
use kernel::{
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};
use odp::{
    mmu_interval::{
        Handled,
        Interval,
        Invalidate,
        Invalidation,
        Registration, //
    },
    MayBlock,
    Span, //
};

pub(crate) struct Slow {
    lock: Arc<UserLock>,
    phase: Delta,
}

impl Invalidate for Slow {
    type Module = BenchModule;

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: Invalidation<'cb>) -> Handled<'cb> {
        let Self { lock, phase } = this.data();
        let sleeps = inv.blockable();
        let (guard, handled) = match lock.begin(inv) {
            Ok(begun) => begun,
            Err(handled) => return handled,
        };
        if sleeps {
            fsleep(*phase);
        }
        drop(guard);
        handled
    }
}

/// Has invalidations of a span take long.
pub(crate) struct Disturber {
    _registration: Registration<Slow>,
}

impl Disturber {
    /// Begins with it.
    pub(crate) fn new(
        mm: &ARef<Mm>,
        span: Span,
        phase: Delta,
        p: &mut MayBlock<'_>,
    ) -> Result<Self> {
        let slow = Slow {
            lock: UserLock::new()?,
            phase,
        };
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(mm.clone(), span, slow),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _registration: Interval::insert(interval, p)?,
        })
    }
}
