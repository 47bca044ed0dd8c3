// SPDX-License-Identifier: GPL-2.0

//! Waiting for what nobody announces.

use crate::limits::LONG_WAIT_MS;
use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Waits until `what` is so; a test that waits in vain says for what.
pub(crate) fn eventually(name: &str, what: impl Fn() -> bool) -> Result {
    // A millisecond apart, or more.
    for _ in 0..LONG_WAIT_MS {
        if what() {
            return Ok(());
        }
        fsleep(Delta::from_millis(1));
    }
    pr_err!("it is never so that {}\n", name);
    Err(ETIMEDOUT)
}
