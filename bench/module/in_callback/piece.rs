// SPDX-License-Identifier: GPL-2.0

//! A range: a notifier, and what the driver knows.

use super::{
    super::{
        region::Region,
        spent, //
    },
    bounds::Bounds,
    index::Index,
    mirror::Mirror,
    readers::Readers, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::Flags,
    bindings,
    container_of,
    ffi::c_ulong,
    prelude::*,
    sync::{
        atomic::{
            atomic_store,
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
    types::Opaque, //
};
use odp::{
    range_tree::{
        Indexed,
        Place, //
    },
    Span, //
};

/// What core mm calls.
pub(super) type Ops = bindings::mmu_interval_notifier_ops;

/// Where a piece is between its creation and its end. Changed with the user lock held, but for the
/// last step.
#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(u32)]
pub(super) enum Stage {
    /// Its notifier is being inserted, and only who does that ends it.
    Building,
    /// The same, and it has been unmapped meanwhile.
    Doomed,
    Live,
    Removed,
}

/// A range.
///
/// # Invariants
///
/// `mirror` is valid until the mirror has been told that the piece is gone.
#[pin_data]
pub(super) struct Piece<R: Readers> {
    #[pin]
    notifier: Opaque<bindings::mmu_interval_notifier>,
    /// For its place in the index.
    pub(super) node: <R::Index as Index<R>>::Node,
    /// For its readers.
    pub(super) own: R::Own,
    mirror: NonNull<Mirror<R>>,
    region: Arc<Region>,
    /// Changed with the user lock held.
    bounds: Bounds,
    stage: Atomic<u32>,
}

// SAFETY: Several tasks use it at the same time, whichever they are: what changes of it is atomic,
// or guarded by the user lock, by core mm's locks or by those of the index. What `own` has is of
// the same kind, or belongs to whoever ends the piece.
unsafe impl<R: Readers> Sync for Piece<R> {}

impl<R: Readers> Piece<R> {
    pub(super) const OPS: Ops = Self::ops(0);
    pub(super) const OPS_WAKE_FIRST: Ops =
        Self::ops(bindings::mmu_interval_notifier_flags_MMU_INTERVAL_WAKE_FIRST);

    const fn ops(flags: u32) -> Ops {
        let as_posted = bindings::mmu_interval_notifier_flags_MMU_INTERVAL_AS_POSTED;
        Ops {
            invalidate: Some(Self::invalidate_callback),
            release: Some(Self::release_callback),
            flags: if R::AS_POSTED {
                flags | as_posted
            } else {
                flags
            },
            ..pin_init::zeroed()
        }
    }

    /// Makes one, and has the mirror count it.
    pub(super) fn new(
        mirror: &Mirror<R>,
        region: Arc<Region>,
        span: Span,
        gfp: Flags,
    ) -> Result<NonNull<Self>> {
        let piece = KBox::pin_init(
            pin_init!(Self {
                notifier: Opaque::zeroed(),
                node: R::Index::node(),
                own: R::own(),
                // INVARIANT: A mirror is not dropped before all its pieces are gone.
                mirror: NonNull::from(mirror),
                region,
                bounds: Bounds::new(span),
                stage: Atomic::new(Stage::Building as u32),
            }),
            gfp,
        )?;
        // SAFETY: It is not moved out of there.
        let piece = KBox::into_raw(unsafe { Pin::into_inner_unchecked(piece) });
        mirror.made();
        // SAFETY: Not null, as a box.
        Ok(unsafe { NonNull::new_unchecked(piece) })
    }

    /// Frees it. The mirror has yet to be told.
    ///
    /// # Safety
    ///
    /// `piece` is what [`Piece::new`] made, and nobody knows of it any more.
    pub(super) unsafe fn free(piece: NonNull<Self>) {
        // SAFETY: By the safety requirements it is the box that `Piece::new` gave away, and ours
        // now.
        let piece = unsafe { KBox::from_raw(piece.as_ptr()) };
        piece.region.released(piece.span(), piece.region.now());
    }

    /// Ends it, but for its memory, in which readers still look at [`Readers::Own`] and at what
    /// the index looks at. The mirror has yet to be told.
    ///
    /// # Safety
    ///
    /// `piece` is what [`Piece::new`] made. Nobody uses anything else of it any more, and this is
    /// called once.
    pub(super) unsafe fn dismantle(piece: NonNull<Self>) {
        // SAFETY: By the safety requirements it is valid.
        let raw = unsafe { &*piece.as_ptr() };
        raw.region.released(raw.span(), raw.region.now());
        // Copied out, because lookups may have a reference to all of the piece. Nothing else of it
        // has anything to be dropped: it is made of integers, of pointers and of what C has.
        // SAFETY: By the safety requirements nobody uses the field any more, and this happens once.
        drop(unsafe { core::ptr::from_ref(&raw.region).read() });
    }

    pub(super) fn mirror(&self) -> &Mirror<R> {
        // SAFETY: By the type invariants the mirror is valid for as long as `self` is not gone.
        unsafe { self.mirror.as_ref() }
    }

    pub(super) fn region(&self) -> &Arc<Region> {
        &self.region
    }

    pub(super) fn notifier(&self) -> *mut bindings::mmu_interval_notifier {
        self.notifier.get()
    }

    /// Not for what depends on which of the stages before [`Stage::Removed`] it is: those need the
    /// user lock.
    pub(super) fn is(&self, stage: Stage) -> bool {
        self.stage.load(Acquire) == stage as u32
    }

    /// Whether nothing is to be done with it any more. The user lock is held.
    pub(super) fn is_leaving(&self) -> bool {
        self.is(Stage::Doomed) || self.is(Stage::Removed)
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u32, Release);
    }

    /// What it is for now. Exact for whoever has the user lock.
    pub(super) fn span(&self) -> Span {
        self.bounds.get()
    }

    /// Has it be for less.
    ///
    /// # Safety
    ///
    /// `span` is a part of what it is for now, and the user lock is held.
    pub(super) unsafe fn shrink(&self, span: Span) {
        // SAFETY: By the safety requirements; others need the user lock for it.
        unsafe { self.bounds.shrink(span) };
    }

    /// The bounds that core mm has it in the tree with, the end excluded.
    ///
    /// Only in a callback for it: then they do not change.
    pub(super) fn tree_bounds(&self) -> (usize, usize) {
        // SAFETY: The notifier is initialised, and nobody writes to the node now.
        let node = unsafe { &(*self.notifier.get()).interval_tree };
        (node.start, node.last.saturating_add(1))
    }

    /// Whether it is in service for that address.
    pub(super) fn covers(&self, addr: usize) -> bool {
        self.is(Stage::Live) && self.span().contains(addr)
    }

    /// # Safety
    ///
    /// Called by core mm, for a notifier that was inserted with these ops.
    unsafe extern "C" fn invalidate_callback(
        notifier: *mut bindings::mmu_interval_notifier,
        range: *const bindings::mmu_notifier_range,
        sequence: c_ulong,
    ) -> bool {
        let _spent = spent::callback();
        // SAFETY: It is part of a piece.
        let piece = unsafe { container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: It is not released before this callback has returned.
        let piece = unsafe { &*piece };
        // SAFETY: The core passes a range that is valid during the call and does not change.
        let range = unsafe { &*range };

        let mirror = piece.mirror();
        let blockable = range.flags & bindings::MMU_NOTIFIER_RANGE_BLOCKABLE != 0;
        let Some(mut user) = mirror.lock(blockable) else {
            return false;
        };
        // SAFETY: The notifier is valid; the core accesses the field with READ_ONCE() and
        // WRITE_ONCE() too.
        unsafe { atomic_store(&raw mut (*notifier).invalidate_seq, sequence, Relaxed) };
        match range.event {
            bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP
            | bindings::mmu_notifier_event_MMU_NOTIFY_RELEASE => {
                mirror.unmapped(&mut user, piece, range.start, range.end, sequence);
            }
            _ => {}
        }
        drop(user);
        true
    }

    /// # Safety
    ///
    /// Called by core mm, once for a notifier that was inserted with these ops.
    unsafe extern "C" fn release_callback(notifier: *mut bindings::mmu_interval_notifier) {
        // SAFETY: It is part of a piece.
        let piece = unsafe { container_of!(Opaque::cast_from(notifier), Self, notifier) };
        // SAFETY: Not null, as part of an allocation.
        let piece = unsafe { NonNull::new_unchecked(piece.cast_mut()) };
        // SAFETY: It was removed, and with `UNPUBLISHES` taken out of the index before that, and is
        // released once.
        unsafe { R::release(piece) };
    }
}

// SAFETY: The node is a field, and each function goes one step, there and back. By the type
// invariants of its bounds the span only becomes less.
unsafe impl<R: Readers> Indexed for Piece<R>
where
    R::Index: Index<R, Node = Place>,
{
    fn span(&self) -> Span {
        self.bounds.get()
    }

    unsafe fn place(this: NonNull<Self>) -> NonNull<Place> {
        // SAFETY: By the safety requirements it is valid, and so is its field.
        let place = unsafe { &raw mut (*this.as_ptr()).node };
        // SAFETY: A field of something valid is not at address null.
        unsafe { NonNull::new_unchecked(place) }
    }

    unsafe fn of_place(place: NonNull<Place>) -> NonNull<Self> {
        // SAFETY: By the safety requirements it is a field of a piece.
        let this = unsafe { container_of!(place.as_ptr(), Self, node) };
        // SAFETY: What a field is part of is not at address null.
        unsafe { NonNull::new_unchecked(this) }
    }
}
