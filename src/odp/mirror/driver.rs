// SPDX-License-Identifier: GPL-2.0

//! Level 2: what a driver implements.

use super::{
    invalidation::Invalidation,
    range::Range,
    shared::{
        Shared,
        UserLock, //
    }, //
};
use crate::{
    mmu_interval::{
        Handled,
        InvalidateOps, //
    },
    odp::engine::callbacks::{
        MirrorOps,
        RequestOps,
        WorkerContext, //
    },
    span::Span, //
};

/// What a driver says about the addresses it mirrors.
///
/// A value of the implementing type is the driver's object; any number of ranges can be made from
/// one, and all of them share its table and its lock.
///
/// What has been installed by a [`Hold::commit`] is good until [`Mirrored::invalidate`] or
/// [`Mirrored::zap`] is called for its address, and one of them is before the address is without a
/// notifier, whatever becomes of the range. So a device may walk the table under the user lock
/// without knowing the range, and so does [`Shared::inspect`]. Retiring a range does not end that,
/// but [`Mirrored::zap`].
///
/// [`Hold::commit`]: crate::Hold::commit
pub trait Mirrored: Send + Sync + Sized + 'static {
    /// What the library calls for ranges of this type: [`mirrored_ops!`](crate::mirrored_ops) of
    /// the type.
    const OPS: &'static MirroredOps<Self>;

    /// What the device may reach, by absolute address: its page table, or what stands for it.
    type Table;

    /// The user lock, with the table in it.
    type Lock: UserLock<Table = Self::Table>;

    /// Stops the device's access to what `inv` names, and answers.
    ///
    /// What is asked for here of a range counts for those that take its place, too.
    /// During an invalidation it is not called for those yet: a driver that looks at the size of a
    /// range, and asks for nothing, has said so of them.
    ///
    /// Context: as [`Invalidate::invalidate`] says. Called again and again until the range is
    /// removed, and for a range that is retired, too.
    ///
    /// # Examples
    ///
    /// ```ignore
    /// fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
    ///     let mut zap = match inv.begin() {
    ///         Ok(zap) => zap,
    ///         Err(handled) => return handled,
    ///     };
    ///     let span = zap.span();
    ///     zap.clear(span);
    ///     if zap.event() == Event::Unmap {
    ///         zap.retire();
    ///     }
    ///     zap.done()
    /// }
    /// ```
    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb>;

    /// Stops the device's access to `dead` once more: it leaves coverage, and nothing new can be
    /// installed in it through the range that did cover it. Must not fail.
    ///
    /// Context: the worker, or a caller of drain or of insert, with the mirror's index and the user
    /// lock held; may sleep as far as the latter allows. No insertion or growth, no
    /// [`Mirror::retire_all`].
    ///
    /// [`Mirror::retire_all`]: crate::Mirror::retire_all
    fn zap(&self, table: &mut Self::Table, dead: Span);

    /// A range at `dead` that has been retired or replaced has been zapped, and the lock is free
    /// again: the place to wait for the device, not to take anything apart: other ranges may be in
    /// service at part of `dead` by now, and others are where it has been replaced.
    ///
    /// Context: the worker, or a caller of drain; may sleep, but not wait for a worker.
    fn zapped(&self, dead: Span, ctx: &WorkerContext<'_>) {
        let (_, _) = (dead, ctx);
    }

    /// Other ranges are in service in the place of the one at `old`: at `pieces`, in order of
    /// address; smaller ones, or one that reaches beyond it, see [`Hold::grow`](crate::Hold::grow).
    /// Where several have become one, see [`Hold::merge`](crate::Hold::merge), they were at `old`.
    /// Nothing has to be done; the table and the lock are theirs as they were the old one's.
    ///
    /// Called before anything else of the pieces is, apart from [`Mirrored::invalidate`].
    ///
    /// Context: the worker, or a caller of drain; may sleep, but not wait for a worker. The old
    /// range has yet to leave; what is not covered any more has been zapped.
    fn replaced(&self, old: Span, pieces: &[Span], ctx: &WorkerContext<'_>) {
        let (_, _, _) = (old, pieces, ctx);
    }

    /// A range is gone: no callback, no access and no hold is left of it.
    ///
    /// Called once for every range that was in service, also for one that others are in the
    /// place of, and before the range's share of `self` is dropped. It does not count for
    /// `max_ranges` any more.
    ///
    /// Context: the worker; may sleep, but not wait for a worker. How long it takes delays later
    /// removals of the same mirror. `self` must not own the mirror.
    fn released(&self, span: Span, ctx: &WorkerContext<'_>);
}

/// What the library and core mm call for ranges of a driver's, and the module whose text that is,
/// which a mirror keeps loaded.
///
/// Made by [`mirrored_ops!`](crate::mirrored_ops), as a static item of the module.
pub struct MirroredOps<T: Mirrored> {
    /// What a worker calls for a range.
    pub(super) request: RequestOps,
    /// What a mirror's worker calls besides.
    pub(super) mirror: MirrorOps,
    pub(super) notifier: InvalidateOps<Range<T>>,
    /// Whether two have one table and one lock, so that ranges of theirs may become one.
    pub(super) same: fn(&Shared<T>, &Shared<T>) -> bool,
}

impl<T: Mirrored> MirroredOps<T> {
    /// The same, where more than one [`Shared`] may stand for one table and one lock.
    ///
    /// # Safety
    ///
    /// Where `same` says so, a user lock of the one is that of the other, and
    /// [`Mirrored::invalidate`] and [`Mirrored::zap`] of either take out what was installed through
    /// ranges of the other.
    pub(crate) const unsafe fn with_same(self, same: fn(&Shared<T>, &Shared<T>) -> bool) -> Self {
        Self { same, ..self }
    }
}

/// The tables for [`Mirrored::OPS`] of a type, in the module that this is written in.
///
/// The type has no parameters that are those of the implementation around it: one table for all
/// types would be in one module, while the code for each type is in the module that uses it. So
/// where a crate implements [`Mirrored`] for a type with parameters, those have to bring the
/// tables.
///
/// # Examples
///
/// ```ignore
/// const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Device);
/// ```
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "it is the module of the crate that uses this"
)]
macro_rules! mirrored_ops {
    ($type:ty) => {{
        static OPS: $crate::MirroredOps<$type> =
            // SAFETY: It is the initialiser of a static item, and the module is that of its crate.
            unsafe {
                $crate::MirroredOps::new(
                    &<crate::LocalModule as ::kernel::ModuleMetadata>::THIS_MODULE,
                )
            };
        &OPS
    }};
}
