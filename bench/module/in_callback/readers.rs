// SPDX-License-Identifier: GPL-2.0

//! How readers are protected from what the callback removes.

use super::{
    index::Index,
    mirror::Mirror,
    piece::Piece, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// A way to protect them, and with it the end of a range.
pub(super) trait Readers: Send + Sync + Sized + 'static {
    /// Whether core mm is to behave as it was posted.
    const AS_POSTED: bool = false;
    /// Whether the callback takes a range out of the index. If not, [`Readers::release`] has it
    /// taken out later, and until then its stage says that it is gone.
    const UNPUBLISHES: bool = true;
    /// What ranges are found in.
    type Index: Index<Self>;
    /// What readers need of a mirror,
    type Domain: Send + Sync;
    /// and of a range. What several tasks change of it is atomic.
    type Own;
    /// What keeps valid what is found in the index, for whoever has the user lock.
    type Visit<'a>;

    /// Makes what a mirror has for them.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn domain() -> Result<Self::Domain>;

    /// Makes what a range has for them.
    fn own() -> Self::Own;

    /// Begins to look at what is in the index, with the user lock held.
    fn visit(domain: &Self::Domain) -> Self::Visit<'_>;

    /// Lets `f`, which does not sleep, look at the range that the index has at `addr`.
    fn find<T>(mirror: &Mirror<Self>, addr: usize, f: impl FnOnce(&Piece<Self>) -> T) -> Option<T>;

    /// Lets `f`, which may sleep for as long as user space wants, run while a device is in the
    /// range at `addr`.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` if readers have the user lock, and so would hold up the callback; `ENOENT` if
    /// there is no range; or those of `f`.
    fn hold(mirror: &Mirror<Self>, addr: usize, f: &mut dyn FnMut() -> Result) -> Result {
        let (_, _, _) = (mirror, addr, f);
        Err(EOPNOTSUPP)
    }

    /// All ranges are released, and none will be any more. May sleep.
    fn quiesce(domain: &Self::Domain) {
        let _ = domain;
    }

    /// How many grace periods there have been, if there are any by design.
    fn grace_periods(domain: &Self::Domain) -> Option<u64> {
        let _ = domain;
        None
    }

    /// The invalidation is over: nobody but readers can know of the range any more.
    ///
    /// # Safety
    ///
    /// `piece` is what `Piece::new` made. It has been removed, and if [`Readers::UNPUBLISHES`] is
    /// not in the index. This is called once for it.
    unsafe fn release(piece: NonNull<Piece<Self>>);
}
