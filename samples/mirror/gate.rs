// SPDX-License-Identifier: GPL-2.0

//! A place where tasks can be made to wait, so that tests can do things meanwhile.
//!
//! A driver has no use for this.

use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    time::{
        msecs_to_jiffies,
        Jiffies, //
    }, //
};

/// Nobody waits longer, so that no user can block anything for good.
pub(crate) const LONGEST_MS: u32 = 600_000;

/// Lets tasks pass, unless it is closed.
#[pin_data]
pub(crate) struct Gate {
    #[pin]
    state: Mutex<State>,
    #[pin]
    changed: CondVar,
}

struct State {
    /// How many tasks are still to be stopped.
    room: u64,
    /// How many tasks wait.
    waiting: u64,
    /// Grows when it is opened: who was stopped before goes on, even if it is closed again.
    round: u64,
}

impl Gate {
    /// Makes one that is open.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State { room: 0, waiting: 0, round: 0 }, "odp_mirror::Gate"),
            changed <- new_condvar!("odp_mirror::Gate"),
        })
    }

    /// Has the next `n` tasks wait.
    pub(crate) fn close(&self, n: u64) {
        self.state.lock().room = n;
    }

    /// Has no task wait any more.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        state.room = 0;
        state.round = state.round.wrapping_add(1);
        self.changed.notify_all();
    }

    /// Waits if it is closed.
    pub(crate) fn pass(&self) -> Result {
        let mut state = self.state.lock();
        if state.room == 0 {
            return Ok(());
        }
        // OVERFLOW: It is greater than zero.
        state.room -= 1;
        self.stop_in(&mut state)
    }

    /// Waits until it is opened, though it is not closed.
    pub(crate) fn stop(&self) -> Result {
        self.stop_in(&mut self.state.lock())
    }

    fn stop_in(&self, state: &mut kernel::sync::MutexGuard<'_, State>) -> Result {
        let round = state.round;
        // OVERFLOW: There cannot be as many tasks.
        state.waiting += 1;
        self.changed.notify_all();
        let result = self.sleep(state, LONGEST_MS, |state| state.round != round);
        // OVERFLOW: Incremented above.
        state.waiting -= 1;
        if result == Err(ETIMEDOUT) {
            // Who forgot to open it does not mean the next ones to wait, too.
            state.room = 0;
        }
        result
    }

    /// Waits until `n` tasks wait.
    ///
    /// # Errors
    ///
    /// `ETIMEDOUT`, `EINTR`.
    pub(crate) fn wait_for(&self, n: u64, timeout_ms: u32) -> Result {
        self.sleep(&mut self.state.lock(), timeout_ms, |state| {
            state.waiting >= n
        })
    }

    fn sleep(
        &self,
        state: &mut kernel::sync::MutexGuard<'_, State>,
        timeout_ms: u32,
        until: impl Fn(&State) -> bool,
    ) -> Result {
        let mut left: Jiffies = msecs_to_jiffies(timeout_ms);
        while !until(state) {
            left = match self.changed.wait_interruptible_timeout(state, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Timeout if until(state) => return Ok(()),
                CondVarTimeoutResult::Timeout => return Err(ETIMEDOUT),
                CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
            };
        }
        Ok(())
    }
}
