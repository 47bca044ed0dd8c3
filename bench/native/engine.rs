// SPDX-License-Identifier: GPL-2.0

//! What the library itself does for a range: the request, and the worker's part.
//!
//! The worker sleeps in the middle, for a grace period. So its part is taken in pieces, from what
//! it calls: the first and the last of each kind look at the clock.

use super::{
    clock::{
        ticks,
        time,
        Caches, //
    },
    operations::COUNT,
    samples::{
        Cache,
        Row,
        Samples, //
    },
    space::{
        Space,
        RANGE_SIZE,
        START, //
    }, //
};
use core::convert::Infallible;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::Delta, //
};
use odp::{
    Config,
    Handled,
    Invalidation,
    MayBlock,
    Mirror,
    Mirrored,
    MirroredOps,
    Request,
    Retirable,
    RetirableOps,
    Retirer,
    Shared,
    Span,
    Until,
    WakeupConfig,
    WorkerContext, //
};

/// When the first and the last of so many calls were, which come one after the other.
struct Marks {
    calls: Atomic<u32>,
    first: Atomic<u64>,
    last: Atomic<u64>,
}

impl Marks {
    const fn new() -> Self {
        Self {
            calls: Atomic::new(0),
            first: Atomic::new(0),
            last: Atomic::new(0),
        }
    }

    fn reset(&self) {
        self.calls.store(0, Relaxed);
    }

    fn call(&self) {
        let calls = self.calls.load(Relaxed) + 1;
        self.calls.store(calls, Relaxed);
        if calls == 1 {
            self.first.store(ticks(), Relaxed);
        }
        if calls == COUNT {
            self.last.store(ticks(), Relaxed);
        }
    }

    /// The ticks of the first and the last.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there were not so many.
    fn get(&self) -> Result<(u64, u64)> {
        if self.calls.load(Relaxed) != COUNT {
            return Err(EINVAL);
        }
        Ok((self.first.load(Relaxed), self.last.load(Relaxed)))
    }
}

static UNPUBLISHED: Marks = Marks::new();
static REMOVED: Marks = Marks::new();
static ZAPPED: Marks = Marks::new();
static RELEASED: Marks = Marks::new();

/// An object of the retire level, which has nothing else.
#[pin_data]
struct Child {
    #[pin]
    request: Request,
}

odp::impl_has_request! {
    impl HasRequest for Child { self.request }
}

impl Retirable for Child {
    const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Child);

    fn unpublish(&self, _ctx: &WorkerContext<'_>) {
        UNPUBLISHED.call();
    }

    fn remove(&self, _ctx: &WorkerContext<'_>) {
        REMOVED.call();
    }

    fn release(_this: Arc<Self>, _ctx: &WorkerContext<'_>) {}
}

/// An object of the managed level, in which nothing is ever installed.
struct Object;

impl Mirrored for Object {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Object);
    type Table = ();
    type Lock = Mutex<()>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        let mut zap = match inv.begin() {
            Ok(zap) => zap,
            Err(handled) => return handled,
        };
        zap.retire();
        zap.done()
    }

    fn zap(&self, _table: &mut (), _dead: Span) {}

    fn zapped(&self, _dead: Span, _ctx: &WorkerContext<'_>) {
        ZAPPED.call();
    }

    fn released(&self, _span: Span, _ctx: &WorkerContext<'_>) {
        RELEASED.call();
    }
}

/// A retirer and a mirror.
pub(crate) struct Engine {
    retirer: Retirer<Child>,
    mirror: Mirror<Object>,
    shared: Arc<Shared<Object>>,
    space: Space,
    nowhere: Space,
}

impl Engine {
    /// Makes both.
    pub(crate) fn new(p: &mut MayBlock<'_>) -> Result<Self> {
        // Not before this has begun with it.
        let delay = Delta::from_millis(100);
        let (lazy, config) = (
            WakeupConfig {
                wakeup_delay: delay,
                ..WakeupConfig::default()
            },
            Config {
                wakeup_delay: delay,
                ..Config::default()
            },
        );
        let space = Space::new()?;
        let shared = Shared::new::<Infallible>(Object, new_mutex!((), "odp_native::Object::lock"));
        Ok(Self {
            retirer: Retirer::with_wakeup(c"odp_native", lazy)?,
            mirror: Mirror::new(space.mm(), config, p)?,
            shared: Arc::pin_init(shared, GFP_KERNEL)?,
            space,
            nowhere: Space::new()?,
        })
    }

    /// A sample of each.
    pub(crate) fn measure(
        &mut self,
        caches: &Caches,
        cache: Cache,
        samples: &mut Samples,
        p: &mut MayBlock<'_>,
    ) -> Result {
        self.once(caches, Cache::Warm, &mut |_, _| Ok(()), p)?;
        let mut add = |name, ticks| {
            let row = Row {
                table: "engine",
                name,
                cache,
                ranges: usize::try_from(COUNT)?,
            };
            samples.add(row, ticks)
        };
        self.once(caches, cache, &mut add, p)
    }

    fn once(
        &self,
        caches: &Caches,
        cache: Cache,
        result: &mut dyn FnMut(&'static str, u64) -> Result,
        p: &mut MayBlock<'_>,
    ) -> Result {
        let mut children = KVVec::new();
        for _ in 0..COUNT {
            let child = try_pin_init!(Child { request <- Request::new() });
            children.push(Arc::pin_init::<Error>(child, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        for marks in [&UNPUBLISHED, &REMOVED] {
            marks.reset();
        }
        caches.cool(cache);
        let took = time(|| {
            for child in children.iter() {
                let _ = self.retirer.retire(child.as_arc_borrow());
            }
        });
        result("request", took)?;

        // What the worker does here is what a drain does. It takes what the worker has not begun
        // with, which would have begun by now.
        if cache != Cache::Far {
            caches.cool(cache);
            let begin = ticks();
            let all = self.retirer.drain(p) == children.len();
            let end = ticks();
            if all {
                result("take", UNPUBLISHED.get()?.1.wrapping_sub(begin))?;
                result("remove", end.wrapping_sub(REMOVED.get()?.0))?;
            }
        }
        self.retirer.flush(Until::Released, p)?;

        // The index and what belongs to it, before the grace period.
        if cache != Cache::Far {
            let ranges = self.insert(p)?;
            self.unmap(ranges, caches);
            caches.cool(cache);
            let begin = ticks();
            if self.mirror.drain(p) == ranges {
                result("managed-take", ZAPPED.get()?.1.wrapping_sub(begin))?;
            }
            self.mirror.flush(Until::Released, p)?;
        }

        // The notifiers, and what belongs to them, after it, which is when the worker likes.
        if cache == Cache::Warm {
            let ranges = self.insert(p)?;
            self.unmap(ranges, caches);
            self.mirror.flush(Until::Released, p)?;
            let (first, last) = RELEASED.get()?;
            result("managed-remove", last.wrapping_sub(first))?;
        }
        Ok(())
    }

    /// Has them all retired.
    fn unmap(&self, ranges: usize, caches: &Caches) {
        // There is nothing to be had of another address space.
        let _ = self.space.unmap(&self.nowhere, ranges, caches, Cache::Warm);
    }

    /// Inserts them; returns how many.
    fn insert(&self, p: &mut MayBlock<'_>) -> Result<usize> {
        for marks in [&ZAPPED, &RELEASED] {
            marks.reset();
        }
        let ranges = usize::try_from(COUNT)?;
        for n in 0..ranges {
            let span = Span::new(START + n * RANGE_SIZE, RANGE_SIZE)?;
            drop(self.mirror.insert(span, self.shared.clone(), p)?);
        }
        Ok(ranges)
    }
}
