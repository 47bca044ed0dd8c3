// SPDX-License-Identifier: GPL-2.0

//! A count that can be waited for, and never for ever.

use crate::limits::{
    long_wait,
    LONG_WAIT_MS, //
};
use kernel::{
    new_condvar,
    new_spinlock,
    prelude::*,
    sync::{
        Arc,
        CondVar,
        CondVarTimeoutResult,
        SpinLock, //
    }, //
};

/// A count that can be waited for.
#[pin_data]
pub(crate) struct Tally {
    name: &'static str,
    #[pin]
    count: SpinLock<usize>,
    #[pin]
    changed: CondVar,
}

impl Tally {
    pub(crate) fn new(name: &'static str) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                name,
                count <- new_spinlock!(0),
                changed <- new_condvar!(),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn get(&self) -> usize {
        *self.count.lock()
    }

    pub(crate) fn inc(&self) {
        let _ = self.next();
    }

    /// Counts one more, and returns how many that makes.
    pub(crate) fn next(&self) -> usize {
        let count = {
            let mut count = self.count.lock();
            *count += 1;
            *count
        };
        self.changed.notify_all();
        count
    }

    /// Waits until the count is at least `n`; a test that hangs says here in what.
    pub(crate) fn wait_for(&self, n: usize) -> Result {
        let mut left = long_wait();
        let mut count = self.count.lock();
        while *count < n {
            match self.changed.wait_interruptible_timeout(&mut count, left) {
                CondVarTimeoutResult::Woken { jiffies } => left = jiffies,
                end => {
                    pr_err!(
                        "{}: only {} of {} in {} ms\n",
                        self.name,
                        *count,
                        n,
                        LONG_WAIT_MS
                    );
                    // A thread that stands in the way until it is told not to is gone by then, and
                    // what a test wants to see is so, only late. So the report is what fails.
                    kernel::warn_on!(matches!(end, CondVarTimeoutResult::Timeout));
                    return Err(ETIMEDOUT);
                }
            }
        }
        Ok(())
    }
}
