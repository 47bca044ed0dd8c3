// SPDX-License-Identifier: GPL-2.0

//! Invalidations of other memory of the same process that take as long as they are told to.
//!
//! A notifier of its own, whose callback sleeps: what a device does that has to be waited for. It
//! keeps a phase of the address space open from within it, as any slow driver would.

use super::user_lock::UserLock;
use core::convert::Infallible;
use kernel::{
    bindings,
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    }, //
};
use odp::{
    mmu_interval::{
        CallbackContext,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    MayBlock,
    Span, //
};

#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
extern "C" {
    fn odp_bench_read_begin_ns(notifier: *mut bindings::mmu_interval_notifier) -> u64;
}

pub(crate) struct Slow {
    lock: Arc<UserLock>,
    phase: Delta,
    begin: Instant<Monotonic>,
    /// When the last callback ended, in nanoseconds since `begin`.
    ended: Atomic<u64>,
}

impl Slow {
    fn now(&self) -> u64 {
        // CAST: The clock does not go backwards.
        self.begin.elapsed().as_nanos() as u64
    }
}

impl Invalidate for Slow {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Slow);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let Slow { lock, phase, .. } = this.data();
        let sleeps = inv.blockable();
        let (guard, handled) = match lock.begin(inv) {
            Ok(begun) => begun,
            Err(handled) => return handled,
        };
        if sleeps {
            fsleep(*phase);
        }
        this.data().ended.store(this.data().now(), Relaxed);
        drop(guard);
        handled
    }
}

/// Has invalidations of a span take long.
pub(crate) struct Disturber {
    _registration: Registration<Slow>,
    interval: Arc<Interval<Slow>>,
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
            begin: Instant::now(),
            ended: Atomic::new(0),
        };
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(mm.clone(), span, slow),
            GFP_KERNEL,
        )?;
        Ok(Self {
            _registration: Interval::insert(interval.clone(), p)?,
            interval,
        })
    }

    /// For a device that wants to look at that memory.
    pub(crate) fn reader(&self) -> Reader {
        Reader(self.interval.clone())
    }
}

/// One that begins read sections of the memory that is invalidated.
pub(crate) struct Reader(Arc<Interval<Slow>>);

impl Reader {
    /// Says how many nanoseconds it takes to take the lock of the process's notifiers and give it
    /// back.
    ///
    /// Nothing may invalidate the memory meanwhile.
    pub(crate) fn lock(&self, p: &mut MayBlock<'_>) -> Result<u64> {
        // Not before an insertion during an invalidation has taken effect.
        self.0.read_begin(p)?;
        // SAFETY: The notifier is inserted, and nothing invalidates it, so that this does not
        // sleep.
        Ok(unsafe { odp_bench_read_begin_ns(self.0.as_raw()) })
    }

    /// Begins one, and says how many nanoseconds after the end of the callback that was, if it had
    /// to wait for that.
    pub(crate) fn begin(&self, p: &mut MayBlock<'_>) -> Result<Option<u64>> {
        let slow = self.0.data();
        let before = slow.now();
        self.0.read_begin(p)?;
        let now = slow.now();
        let ended = slow.ended.load(Relaxed);
        Ok((ended > before).then(|| now.saturating_sub(ended)))
    }
}
