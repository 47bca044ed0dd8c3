// SPDX-License-Identifier: GPL-2.0

//! A lookup that lasts, in another thread: what a grace period waits for.

use crate::{
    address_space::AddressSpace,
    probe::Probe,
    tally::Tally,
    thread::Thread, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    MayBlock,
    Mirror, //
};

/// A thread that is in a lookup until it is told to leave it, at the latest when this is dropped.
pub(crate) struct Reader {
    enough: Arc<Tally>,
    done: Thread,
}

impl Reader {
    /// Begins a lookup at `addr`.
    pub(crate) fn begin(
        space: &AddressSpace,
        mirror: &Arc<Mirror<Probe>>,
        addr: usize,
    ) -> Result<Self> {
        let looking = Tally::new("looking")?;
        let enough = Tally::new("enough")?;
        let done = space.thread({
            let (mirror, looking, enough) = (mirror.clone(), looking.clone(), enough.clone());
            move || {
                MayBlock::enter(|p| {
                    let lookup = mirror.lookup(addr, p);
                    looking.inc();
                    let _ = enough.wait_for(1);
                    drop(lookup);
                })
            }
        })?;
        let reader = Self { enough, done };
        looking.wait_for(1)?;
        Ok(reader)
    }

    /// Ends it, and returns when the thread has.
    pub(crate) fn end(self) -> Result {
        self.enough.inc();
        self.done.join()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.enough.inc();
    }
}
