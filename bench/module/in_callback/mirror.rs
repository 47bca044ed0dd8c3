// SPDX-License-Identifier: GPL-2.0

//! The ranges of an address space, and what callbacks do with them.

use super::{
    super::region::Region,
    index::Index,
    piece::{
        Ops,
        Piece,
        Stage, //
    },
    readers::Readers, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    ffi::c_ulong,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_condvar,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        CondVar,
        Mutex,
        SpinLock, //
    }, //
};
use odp::Span;

/// What the user lock guards.
pub(super) struct User<R: Readers> {
    /// How many pieces have not been removed.
    pub(super) live: usize,
    /// The invalidations during which a piece was inserted last.
    young: c_ulong,
    /// How many remainders there was no memory for.
    lost: usize,
    /// What the index has there.
    pub(super) guarded: <R::Index as Index<R>>::Guarded,
}

/// What all pieces of an address space have in common.
#[pin_data]
pub(super) struct Mirror<R: Readers> {
    mm: ARef<Mm>,
    ops: &'static Ops,
    #[pin]
    pub(super) index: R::Index,
    #[pin]
    user: Mutex<User<R>>,
    /// How many pieces there are whose notifiers are not removed.
    notifiers: Atomic<usize>,
    /// How many pieces there are.
    #[pin]
    pieces: SpinLock<usize>,
    #[pin]
    changed: CondVar,
    domain: R::Domain,
}

impl<R: Readers> Mirror<R> {
    pub(super) fn new(mm: &MmWithUser, ops: &'static Ops) -> Result<Pin<KBox<Self>>> {
        let domain = R::domain()?;
        KBox::pin_init(
            pin_init!(Self {
                mm: ARef::from(&**mm),
                ops,
                index <- R::Index::new(),
                user <- new_mutex!(
                    User { live: 0, young: 0, lost: 0, guarded: Default::default() },
                    "odp_bench::in_callback::Mirror::user"
                ),
                notifiers: Atomic::new(0),
                pieces <- new_spinlock!(0, "odp_bench::in_callback::Mirror::pieces"),
                changed <- new_condvar!("odp_bench::in_callback::Mirror::changed"),
                domain,
            }),
            GFP_KERNEL,
        )
    }

    pub(super) fn domain(&self) -> &R::Domain {
        &self.domain
    }

    /// Takes the user lock, unless that may not sleep and would have to.
    pub(super) fn lock(&self, may_sleep: bool) -> Option<Guard<'_, User<R>, MutexBackend>> {
        match self.user.try_lock() {
            None if may_sleep => Some(self.user.lock()),
            user => user,
        }
    }

    /// A piece has been made.
    pub(super) fn made(&self) {
        self.notifiers.fetch_add(1, Relaxed);
        *self.pieces.lock() += 1;
    }

    /// The notifier of a piece has been removed. The piece is not gone yet.
    pub(super) fn removed(&self) {
        if self.notifiers.fetch_sub(1, Full) == 1 {
            // Whoever waits has either seen that, or is woken up.
            let _pieces = self.pieces.lock();
            self.changed.notify_all();
        }
    }

    /// So many pieces are gone. If that was all, the mirror may be gone after this.
    pub(super) fn gone(&self, n: usize) {
        let mut pieces = self.pieces.lock();
        *pieces -= n;
        // With the lock held: who waits may free the mirror.
        if *pieces == 0 {
            self.changed.notify_all();
        }
    }

    fn wait(&self, until: impl Fn(usize) -> bool) {
        let mut pieces = self.pieces.lock();
        while !until(*pieces) {
            self.changed.wait(&mut pieces);
        }
    }

    /// Waits until nothing is left of a region that is unmapped.
    pub(super) fn finish(&self, region: &Region) -> Result {
        if self.user.lock().live != 0 {
            return Err(EBUSY);
        }
        self.wait(|_| self.notifiers.load(Relaxed) == 0);
        region.removed(region.now());
        self.wait(|pieces| pieces == 0);
        Ok(())
    }

    /// Mirrors all ranges of a region from now on.
    pub(super) fn insert_all(&self, region: &Arc<Region>) -> Result {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        // If this turns out to be the last user, exit_mmap() must not run here.
        let mm = MmWithUser::into_mmput_async(mm);
        for span in region.ranges() {
            self.insert(region, span?, &mm)?;
        }
        Ok(())
    }

    /// Mirrors a span from now on.
    fn insert(&self, region: &Arc<Region>, span: Span, mm: &MmWithUser) -> Result {
        let raw = Piece::new(self, region.clone(), span, GFP_KERNEL)?;
        // SAFETY: Callbacks only doom it before it is in service, so that it is ours until then.
        let piece = unsafe { raw.as_ref() };
        let mut user = self.user.lock();
        user.live += 1;
        // Lookups see that it is being built.
        // SAFETY: It has just been made. Whoever releases it finds it taken out or has that done,
        // and frees it when no reader can be at it.
        unsafe { self.index.publish(&mut user.guarded, raw) };
        drop(user);
        // SAFETY: It stays valid until its release. `mm_users` is not zero.
        let inserted = to_result(unsafe {
            bindings::mmu_interval_notifier_insert(
                piece.notifier(),
                mm.as_raw(),
                span.start(),
                span.size(),
                self.ops,
            )
        });
        let mut user = self.user.lock();
        if inserted.is_err() {
            user.live -= 1;
            self.withdraw(&mut user, raw);
            drop(user);
            // SAFETY: It has no notifier, and was taken out of the index if that is to be.
            unsafe { R::release(raw) };
        } else if piece.is(Stage::Doomed) {
            piece.set_stage(Stage::Live);
            self.remove(&mut user, piece);
        } else {
            piece.set_stage(Stage::Live);
        }
        inserted
    }

    /// `start..end` is being unmapped, and the callback is that of `told`, which may be gone after
    /// this.
    pub(super) fn unmapped(
        &self,
        user: &mut User<R>,
        told: &Piece<R>,
        start: usize,
        end: usize,
        sequence: c_ulong,
    ) {
        let (tree_start, tree_end) = told.tree_bounds();
        self.punch(user, told, start, end, sequence);
        if user.young != sequence {
            return;
        }
        // What has been inserted during these invalidations is not told. But what it was made of
        // is, because that stays in the tree, with the bounds it had.
        let _visit = R::visit(&self.domain);
        let until = end.min(tree_end);
        let mut rest = Span::from_bounds(start.max(tree_start), until);
        while let Ok(span) = rest {
            // SAFETY: The pieces are visited, to the end of this function.
            let Some(piece) = (unsafe { self.index.first(&user.guarded, span) }) else {
                return;
            };
            // SAFETY: What is found in the index is a piece, and valid while the user lock is held
            // and it is visited.
            let piece = unsafe { piece.as_ref() };
            rest = Span::from_bounds(piece.span().end(), until);
            self.punch(user, piece, start, end, sequence);
        }
    }

    /// Takes `start..end` out of a piece, which may be gone after this.
    fn punch(
        &self,
        user: &mut User<R>,
        piece: &Piece<R>,
        start: usize,
        end: usize,
        sequence: c_ulong,
    ) {
        let (first, behind) = (piece.span().start(), piece.span().end());
        if piece.is_leaving() || end <= first || behind <= start {
            return;
        }
        match (first < start, end < behind) {
            (false, false) => self.remove(user, piece),
            (false, true) => self.shrink(user, piece, end, behind),
            (true, false) => self.shrink(user, piece, first, start),
            (true, true) => {
                self.shrink(user, piece, first, start);
                match self.insert_remainder(user, piece.region().clone(), end, behind) {
                    Ok(()) => user.young = sequence,
                    // Nobody mirrors that part then. A device would fault, and have it mirrored
                    // again.
                    Err(_) => user.lost += 1,
                }
            }
        }
    }

    /// Has a piece be for `start..end` only, which is a part of what it is for.
    fn shrink(&self, _user: &mut User<R>, piece: &Piece<R>, start: usize, end: usize) {
        let Ok(span) = Span::from_bounds(start, end) else {
            return;
        };
        // SAFETY: The caller has the user lock, as `_user` shows, and has cut something off at one
        // end.
        unsafe { piece.shrink(span) };
        // SAFETY: The notifier was inserted, and has not been removed, as the stage says.
        unsafe { bindings::mmu_interval_notifier_update(piece.notifier(), start, end - 1) };
    }

    fn insert_remainder(
        &self,
        user: &mut User<R>,
        region: Arc<Region>,
        start: usize,
        end: usize,
    ) -> Result {
        let span = Span::from_bounds(start, end)?;
        let raw = Piece::new(self, region, span, GFP_NOWAIT)?;
        // SAFETY: To remove it takes the user lock, which is held.
        let piece = unsafe { raw.as_ref() };
        // SAFETY: As in `insert`.
        unsafe { self.index.publish(&mut user.guarded, raw) };
        // SAFETY: It stays valid until its release.
        let inserted = to_result(unsafe {
            bindings::mmu_interval_notifier_insert_from_callback(
                piece.notifier(),
                self.mm.as_raw(),
                span.start(),
                span.size(),
                self.ops,
            )
        });
        if inserted.is_err() {
            self.withdraw(user, raw);
            // SAFETY: It has no notifier, and was taken out of the index if that is to be.
            unsafe { R::release(raw) };
            return inserted;
        }
        piece.set_stage(Stage::Live);
        user.live += 1;
        Ok(())
    }

    /// Takes a piece out of service that has no notifier, for who has made it to release it.
    fn withdraw(&self, user: &mut User<R>, raw: NonNull<Piece<R>>) {
        // SAFETY: The caller has yet to release it.
        unsafe { raw.as_ref() }.set_stage(Stage::Removed);
        if R::UNPUBLISHES {
            // SAFETY: As above, and it is a piece of this mirror.
            unsafe { self.index.unpublish(&mut user.guarded, raw) };
        }
    }

    /// Removes a piece, which may be gone after this.
    fn remove(&self, user: &mut User<R>, piece: &Piece<R>) {
        if piece.is(Stage::Building) {
            // Whoever inserts it still uses it, and removes it then.
            piece.set_stage(Stage::Doomed);
            return;
        }
        piece.set_stage(Stage::Removed);
        user.live -= 1;
        piece.region().retired(piece.span(), piece.region().now());
        if R::UNPUBLISHES {
            let raw = NonNull::from(piece);
            // SAFETY: It has yet to be released, and is a piece of this mirror.
            unsafe { self.index.unpublish(&mut user.guarded, raw) };
        }
        // SAFETY: The notifier was inserted, and has not been removed, as the stage said.
        unsafe { bindings::mmu_interval_notifier_remove_deferred(piece.notifier()) };
    }

    /// Removes all that there is.
    fn remove_all(&self) {
        let mut user = self.user.lock();
        let _visit = R::visit(&self.domain);
        let mut rest = Ok(Span::ALL);
        while let Ok(span) = rest {
            // SAFETY: The pieces are visited, to the end of this function.
            let Some(piece) = (unsafe { self.index.first(&user.guarded, span) }) else {
                break;
            };
            // SAFETY: What is found in the index is a piece, and valid while the user lock is held
            // and it is visited.
            let piece = unsafe { piece.as_ref() };
            rest = Span::from_bounds(piece.span().end(), span.end());
            if !piece.is_leaving() {
                self.remove(&mut user, piece);
            }
        }
        if user.lost != 0 {
            pr_info!("no memory for {} remainders\n", user.lost);
        }
    }

    /// Ends it: there are no callbacks, releases and readers after this. May sleep.
    pub(super) fn end(&self) {
        self.remove_all();
        // In faithful mode this waits for less, but that is all there is.
        // SAFETY: The mirror holds the mm. It may sleep.
        unsafe { bindings::mmu_interval_notifier_synchronize(self.mm.as_raw()) };
        self.wait(|pieces| pieces == 0);
        R::quiesce(&self.domain);
    }
}
