// SPDX-License-Identifier: GPL-2.0

//! Removal in the callback, and one grace period for all that has come together: what the library
//! does, but for the removal.
//!
//! Readers are protected by SRCU, as in the library: a lookup takes no lock. The callback marks the
//! range and removes the notifier; `release()` adds it to a list. A work item takes all that is on
//! the list out of the index, several at a time, waits for one grace period, and frees them.

use super::{
    super::{
        queue::queue,
        references::References, //
    },
    mirror::Mirror,
    piece::Piece,
    readers::Readers, //
};
use core::{
    iter,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        srcu::{
            self,
            new_srcu, //
        },
        Arc,
        Srcu, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};
use odp::range_tree::RangeTree;

/// How many pieces leave the index at a time, as in the library: lookups wait for these.
const AT_A_TIME: usize = 32;

/// The way.
pub(super) struct Batch;

/// What a range has for it.
pub(super) struct Own {
    /// The one that was released before it.
    next: Atomic<*mut Piece<Batch>>,
    /// Who is in the range for long does not hold up the grace period.
    references: References,
}

/// What a mirror has for it.
///
/// # Invariants
///
/// What is on the list was released, and has its first reference.
#[pin_data]
pub(super) struct Expiry {
    #[pin]
    work: Work<Expiry>,
    #[pin]
    srcu: Srcu,
    /// The list: the one that was released last.
    released: Atomic<*mut Piece<Batch>>,
    grace_periods: Atomic<u64>,
}

impl_has_work! {
    impl HasWork<Self> for Expiry { self.work }
}

impl Expiry {
    /// Takes what there is, in the order of the releases.
    fn take(&self) -> Chain {
        let mut last = self.released.xchg(ptr::null_mut(), Full);
        let mut chain = ptr::null_mut();
        while let Some(piece) = NonNull::new(last) {
            // SAFETY: By the type invariants it is valid, and nobody else has it.
            let piece = unsafe { piece.as_ref() };
            let before = piece.own.next.load(Relaxed);
            piece.own.next.store(chain, Relaxed);
            chain = last;
            last = before;
        }
        // INVARIANT: They were on the list.
        Chain(chain)
    }
}

/// What was taken off the list, the first one; the others follow by their `next`.
///
/// # Invariants
///
/// They were released, and have their first references.
struct Chain(*mut Piece<Batch>);

impl Chain {
    fn pieces(&self) -> impl Iterator<Item = NonNull<Piece<Batch>>> + '_ {
        let mut next = NonNull::new(self.0);
        iter::from_fn(move || {
            let piece = next?;
            // SAFETY: By the type invariants it is valid. Whoever is given it may end it, but not
            // before the next one is known.
            next = NonNull::new(unsafe { piece.as_ref() }.own.next.load(Relaxed));
            Some(piece)
        })
    }

    /// Takes them out of the index, several at a time.
    fn unpublish(&self, index: &RangeTree<Piece<Batch>>) {
        let mut pieces = self.pieces().peekable();
        while pieces.peek().is_some() {
            let mut change = index.change();
            for piece in pieces.by_ref().take(AT_A_TIME) {
                // SAFETY: By the type invariants it is valid; it is in its mirror's index, or gave
                // way to another one.
                unsafe { change.take_out(piece) };
            }
        }
    }

    /// Gives their first references back, after a grace period, and tells the mirror.
    fn put(self, mirror: NonNull<Mirror<Batch>>) {
        let mut freed = 0;
        for piece in self.pieces() {
            // SAFETY: By the type invariants it is valid.
            if unsafe { piece.as_ref() }.own.references.put() {
                // SAFETY: A grace period has ended since it was in the index, so that there are no
                // readers that could take another reference.
                unsafe { Piece::free(piece) };
                // OVERFLOW: There cannot be as many pieces as there are bytes.
                freed += 1;
            }
        }
        if freed != 0 {
            // SAFETY: It is not dropped before it has been told that all its pieces are gone.
            unsafe { mirror.as_ref() }.gone(freed);
        }
    }
}

impl WorkItem for Expiry {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let chain = this.take();
            let Some(first) = chain.pieces().next() else {
                return;
            };
            for piece in chain.pieces() {
                // SAFETY: By the type invariants it is valid.
                let piece = unsafe { piece.as_ref() };
                piece.region().begun(piece.span(), piece.region().now());
            }
            // SAFETY: By the type invariants it is valid, and by those of a piece the mirror is.
            let mirror = unsafe { first.as_ref() }.mirror();
            chain.unpublish(&mirror.index);
            this.srcu.synchronize();
            this.grace_periods.fetch_add(1, Relaxed);
            chain.put(NonNull::from(mirror));
        }
    }
}

impl Readers for Batch {
    const UNPUBLISHES: bool = false;
    type Index = RangeTree<Piece<Self>>;
    type Domain = Arc<Expiry>;
    type Own = Own;
    type Visit<'a> = srcu::Guard<'a>;

    fn domain() -> Result<Arc<Expiry>> {
        Arc::pin_init(
            try_pin_init!(Expiry {
                work <- new_work!("odp_bench::in_callback::Expiry::work"),
                srcu <- new_srcu!("odp_bench::in_callback::Expiry::srcu"),
                released: Atomic::new(ptr::null_mut()),
                grace_periods: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    fn own() -> Own {
        Own {
            next: Atomic::new(ptr::null_mut()),
            references: References::new(),
        }
    }

    fn visit(expiry: &Arc<Expiry>) -> srcu::Guard<'_> {
        expiry.srcu.read_lock()
    }

    fn find<T>(mirror: &Mirror<Self>, addr: usize, f: impl FnOnce(&Piece<Self>) -> T) -> Option<T> {
        let _section = mirror.domain().srcu.read_lock();
        // SAFETY: What is in the index is freed a grace period after it has left, and this is a
        // section.
        let piece = unsafe { mirror.index.load(addr) }?;
        // SAFETY: As above.
        Some(f(unsafe { piece.as_ref() }))
    }

    fn hold(mirror: &Mirror<Self>, addr: usize, f: &mut dyn FnMut() -> Result) -> Result {
        let take = |piece: &Piece<Self>| {
            (piece.covers(addr) && piece.own.references.get()).then(|| NonNull::from(piece))
        };
        let raw = Self::find(mirror, addr, take).flatten().ok_or(ENOENT)?;
        let done = f();
        // SAFETY: The reference that was taken above keeps it.
        if unsafe { raw.as_ref() }.own.references.put() {
            // SAFETY: The first reference is given back after a grace period; so there are no
            // readers that could take another one.
            unsafe { Piece::free(raw) };
            mirror.gone(1);
        }
        done
    }

    fn grace_periods(expiry: &Arc<Expiry>) -> Option<u64> {
        Some(expiry.grace_periods.load(Relaxed))
    }

    unsafe fn release(raw: NonNull<Piece<Self>>) {
        // SAFETY: It is freed by the work item, which does not know it yet.
        let piece = unsafe { raw.as_ref() };
        let mirror = piece.mirror();
        mirror.removed();
        let expiry = mirror.domain();
        let mut last = expiry.released.load(Relaxed);
        loop {
            piece.own.next.store(last, Relaxed);
            // INVARIANT: By the safety requirements it has been released just now.
            match expiry.released.cmpxchg(last, raw.as_ptr(), Full) {
                Ok(_) => break,
                Err(now) => last = now,
            }
        }
        // The piece may be gone by now, but not the mirror: it waits until the invalidation has
        // ended in which this is called, or is borrowed by whoever inserts.
        if last.is_null() {
            // If it is queued already it will see this.
            let _ = queue().enqueue(expiry.clone());
        }
    }
}
