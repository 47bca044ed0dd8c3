// SPDX-License-Identifier: GPL-2.0

//! The holds that user space keeps, by number.
//!
//! Only tests want that; a driver has a hold for as long as an access of the device takes.

use crate::{
    context::Found,
    device::Device, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::Mutex, //
};
use odp::Hold;

/// How many holds a file may keep.
const MAX_KEPT: usize = 256;

/// The holds of a file.
#[pin_data]
pub(crate) struct Kept {
    #[pin]
    state: Mutex<State>,
}

struct State {
    holds: KVec<KeptHold>,
    last_id: u64,
    /// How many tasks wait for holds to end. No hold begins meanwhile: a task must not be able to
    /// wait for itself.
    waiting: usize,
}

/// A hold, and what is going to be installed with it, if anything is.
pub(crate) struct KeptHold {
    id: u64,
    pub(crate) hold: Hold<Device>,
    pub(crate) found: Option<Found>,
}

impl Kept {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(
                State { holds: KVec::new(), last_id: 0, waiting: 0 },
                "odp_mirror::Kept"
            ),
        })
    }

    /// Keeps a hold, and returns its number.
    ///
    /// # Errors
    ///
    /// `EBUSY` if somebody waits for holds to end, `ENOSPC` if there are too many, `ENOMEM`.
    pub(crate) fn keep(&self, hold: Hold<Device>, found: Option<Found>) -> Result<u64> {
        let mut state = self.state.lock();
        if state.waiting > 0 {
            return Err(EBUSY);
        }
        if state.holds.len() >= MAX_KEPT {
            return Err(ENOSPC);
        }
        state.last_id = state.last_id.wrapping_add(1);
        let id = state.last_id;
        state.holds.push(KeptHold { id, hold, found }, GFP_KERNEL)?;
        Ok(id)
    }

    /// Gives up a hold.
    pub(crate) fn take(&self, id: u64) -> Result<KeptHold> {
        let mut state = self.state.lock();
        let found = state.holds.iter().position(|kept| kept.id == id);
        let index = found.ok_or(ENOENT)?;
        state.holds.remove(index).map_err(|_| ENOENT)
    }

    /// Gives up all of them.
    pub(crate) fn clear(&self) {
        self.state.lock().holds.clear();
    }

    /// Runs `f`, which waits for holds to end, unless there is one.
    ///
    /// # Errors
    ///
    /// `EBUSY` if there is.
    pub(crate) fn without_any<R>(&self, f: impl FnOnce() -> R) -> Result<R> {
        {
            let mut state = self.state.lock();
            if !state.holds.is_empty() {
                return Err(EBUSY);
            }
            // OVERFLOW: There cannot be as many tasks.
            state.waiting += 1;
        }
        let result = f();
        // OVERFLOW: Incremented above.
        self.state.lock().waiting -= 1;
        Ok(result)
    }
}
