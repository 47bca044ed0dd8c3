// SPDX-License-Identifier: GPL-2.0

//! What lockdep knows of workers.
//!
//! One map is held around the callbacks of a worker, and another one around the last of them, the
//! release. Whoever is about to wait for a worker touches both, and that of invalidations
//! ([`may_block`](crate::may_block)), which the worker waits for. They have to be several: a
//! callback of a worker may call `mmu_interval_notifier_remove()`, which waits for invalidations,
//! while the reverse must never happen; and who drains runs all callbacks but the releases itself,
//! with locks held that releases take.

use crate::may_block::MayBlock;
use kernel::types::NotThreadSafe;

mod shim {
    // The prototypes are those of lockdep.h. Memory safety rests on no requirement of these
    // functions.
    unsafe extern "C" {
        pub(super) safe fn odp_may_wait_for_worker();
        pub(super) safe fn odp_worker_enter();
        pub(super) safe fn odp_worker_exit();
        pub(super) safe fn odp_release_enter();
        pub(super) safe fn odp_release_exit();
    }
}

/// Tells lockdep that the caller is about to wait for a worker, which waits for invalidations.
///
/// Context: as for [`MayBlock::enter`], and in no callback of a worker, nor under a lock that one
/// takes.
pub(crate) fn may_wait_for_worker(_p: &mut MayBlock<'_>) {
    shim::odp_may_wait_for_worker();
}

/// The time during which a callback of a worker runs, other than a release, as lockdep sees it.
pub(crate) struct WorkerScope(NotThreadSafe);

impl WorkerScope {
    pub(crate) fn enter() -> Self {
        shim::odp_worker_enter();
        Self(NotThreadSafe)
    }
}

impl Drop for WorkerScope {
    fn drop(&mut self) {
        shim::odp_worker_exit();
    }
}

/// The time during which a release runs, as lockdep sees it.
pub(crate) struct ReleaseScope(NotThreadSafe);

impl ReleaseScope {
    pub(crate) fn enter() -> Self {
        shim::odp_release_enter();
        Self(NotThreadSafe)
    }
}

impl Drop for ReleaseScope {
    fn drop(&mut self) {
        shim::odp_release_exit();
    }
}
