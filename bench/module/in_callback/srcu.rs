// SPDX-License-Identifier: GPL-2.0

//! The question of 2020: is a grace period not needed anyway?
//!
//! Readers are protected by SRCU, as in the library: a lookup takes no lock. The callback takes the
//! range out of the index, and `release()` leaves freeing it to `call_srcu()`, one for each range.

use super::{
    super::{
        grace,
        references::References, //
    },
    mirror::Mirror,
    piece::Piece,
    readers::Readers, //
};
use core::ptr::{
    self,
    NonNull, //
};
use kernel::{
    bindings,
    container_of,
    prelude::*,
    sync::{
        srcu::{
            self,
            new_srcu, //
        },
        Srcu, //
    },
    types::Opaque, //
};
use odp::range_tree::RangeTree;

/// The grace period is expedited if `EXPEDITED`, with `srcu_expedite_current()`, for there is no
/// `call_srcu()` that is.
pub(super) struct EachSrcu<const EXPEDITED: bool>;

/// What a range has for it.
pub(super) struct Own {
    head: Opaque<bindings::callback_head>,
    /// Who is in the range for long does not hold up the grace period.
    references: References,
}

impl<const EXPEDITED: bool> EachSrcu<EXPEDITED> {
    fn raw(srcu: &Srcu) -> *mut bindings::srcu_struct {
        // CAST: `Srcu` is transparent over `srcu_struct`.
        ptr::from_ref(srcu).cast_mut().cast()
    }

    /// Gives a reference back.
    ///
    /// # Safety
    ///
    /// The reference is the caller's, who does not use the piece after this.
    unsafe fn put(piece: NonNull<Piece<Self>>) {
        // SAFETY: By the safety requirements there is a reference, which keeps it valid.
        let shared = unsafe { piece.as_ref() };
        let mirror = NonNull::from(shared.mirror());
        if shared.own.references.put() {
            // SAFETY: The first reference is given back after a grace period; so there are no
            // readers that could take another one.
            unsafe { Piece::free(piece) };
            // SAFETY: It is not dropped before it has been told that all its pieces are gone.
            unsafe { mirror.as_ref() }.gone(1);
        }
    }

    /// # Safety
    ///
    /// Called by SRCU, once for a `head` that `release` passed.
    unsafe extern "C" fn after_grace_period(head: *mut bindings::callback_head) {
        // SAFETY: By the safety requirements it is the head of a piece, and so part of an `Own`.
        let own = unsafe { container_of!(Opaque::cast_from(head), Own, head) };
        // SAFETY: As above, and the first reference keeps it.
        let piece = unsafe { container_of!(own, Piece<Self>, own) };
        // SAFETY: Not null, as part of an allocation.
        let piece = unsafe { NonNull::new_unchecked(piece.cast_mut()) };
        // SAFETY: The first reference is given back here only.
        unsafe { Self::put(piece) };
    }
}

impl<const EXPEDITED: bool> Readers for EachSrcu<EXPEDITED> {
    type Index = RangeTree<Piece<Self>>;
    type Domain = Pin<KBox<Srcu>>;
    type Own = Own;
    type Visit<'a> = ();

    fn domain() -> Result<Self::Domain> {
        KBox::pin_init(new_srcu!("odp_bench::EachSrcu"), GFP_KERNEL)
    }

    fn own() -> Own {
        Own {
            head: Opaque::uninit(),
            references: References::new(),
        }
    }

    // What is in the index leaves it with the user lock held, before it is released.
    fn visit(_domain: &Self::Domain) {}

    fn find<T>(mirror: &Mirror<Self>, addr: usize, f: impl FnOnce(&Piece<Self>) -> T) -> Option<T> {
        let _section: srcu::Guard<'_> = mirror.domain().read_lock();
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
        let piece = Self::find(mirror, addr, take).flatten().ok_or(ENOENT)?;
        let done = f();
        // SAFETY: The reference was taken above.
        unsafe { Self::put(piece) };
        done
    }

    fn quiesce(domain: &Self::Domain) {
        if EXPEDITED {
            // What expedites a grace period is a callback of SRCU's own, that may have queued
            // itself once more; the barrier in the domain's end sees to the second time.
            //
            // SAFETY: The domain is valid.
            unsafe { bindings::srcu_barrier(Self::raw(domain)) };
        }
    }

    fn grace_periods(domain: &Self::Domain) -> Option<u64> {
        Some(grace::completed(domain))
    }

    unsafe fn release(piece: NonNull<Piece<Self>>) {
        // SAFETY: It is freed after the grace period, which has not begun.
        let piece = unsafe { piece.as_ref() };
        let mirror = piece.mirror();
        mirror.removed();
        let srcu = Self::raw(mirror.domain());
        let head = piece.own.head.get();
        // SAFETY: The domain is valid until the mirror goes, which waits for the callbacks. The
        // head is not in use, because this is called once.
        unsafe { bindings::call_srcu(srcu, head, Some(Self::after_grace_period)) };
        if EXPEDITED {
            // SAFETY: The domain is valid until the mirror goes. The piece may be gone by now, but
            // the mirror is not before the invalidation in which this is called has ended: it waits
            // for that.
            unsafe { bindings::srcu_expedite_current(srcu) };
        }
    }
}
