// SPDX-License-Identifier: GPL-2.0

//! Waiting for what nobody announces.

use kernel::{
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often it is looked, a millisecond apart: longer than anything takes.
const LOOKS: usize = 30_000;

/// Waits until `what` is so; a test that waits in vain says for what.
pub(crate) fn eventually(name: &str, what: impl Fn() -> bool) -> Result {
    for _ in 0..LOOKS {
        if what() {
            return Ok(());
        }
        fsleep(Delta::from_millis(1));
    }
    pr_err!("it is never so that {}\n", name);
    Err(ETIMEDOUT)
}
