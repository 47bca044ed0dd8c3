// SPDX-License-Identifier: GPL-2.0

//! The lock that callbacks and device accesses share, for arms that have been written by hand.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        Mutex, //
    }, //
};
use odp::mmu_interval::{
    CallbackContext, //
    Handled,
};

/// The lock, one for all ranges of a region, and what it guards.
#[pin_data]
pub(crate) struct UserLock<G = ()> {
    #[pin]
    lock: Mutex<G>,
}

impl<G: Default> UserLock<G> {
    /// Makes one.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { lock <- new_mutex!(G::default(), "odp_bench::UserLock::lock") }),
            GFP_KERNEL,
        )
    }

    /// Takes it, for a reader.
    pub(crate) fn lock(&self) -> Guard<'_, G, MutexBackend> {
        self.lock.lock()
    }

    /// Takes it and records the sequence; or the answer, if that may not sleep and would have to.
    pub(crate) fn begin<'l, 'cb>(
        &'l self,
        inv: CallbackContext<'cb>,
    ) -> Result<(Guard<'l, G, MutexBackend>, Handled<'cb>), Handled<'cb>> {
        let (inv, guard) = match self.lock.try_lock() {
            Some(guard) => (inv, guard),
            None => match inv.would_block() {
                Ok(handled) => return Err(handled),
                Err(inv) => (inv, self.lock.lock()),
            },
        };
        Ok((guard, inv.record()))
    }
}
