// SPDX-License-Identifier: GPL-2.0

//! A thread that sees whether anything is missing while it is being changed.

use crate::{
    address_space::AddressSpace,
    check::check_eq,
    tally::Tally,
    thread::Thread, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// A thread that looks again and again.
pub(crate) struct Watcher {
    missed: Arc<Tally>,
    thread: Thread,
}

impl Watcher {
    /// Begins to look, in `space`, and returns when it has looked once. `sees` says whether all is
    /// there.
    pub(crate) fn begin(
        space: &AddressSpace,
        mut sees: impl FnMut(&mut MayBlock<'_>) -> bool + Send + 'static,
    ) -> Result<Self> {
        let missed = Tally::new("missed")?;
        let looked = Tally::new("looked")?;
        let thread = space.repeat({
            let (missed, looked) = (missed.clone(), looked.clone());
            move |p| {
                if !sees(p) {
                    missed.inc();
                }
                looked.inc();
            }
        })?;
        let watcher = Self { missed, thread };
        looked.wait_for(1)?;
        Ok(watcher)
    }

    /// Ends it; fails if anything has been missing.
    pub(crate) fn end(self) -> Result {
        self.thread.stop()?;
        check_eq!(self.missed.get(), 0);
        Ok(())
    }
}
