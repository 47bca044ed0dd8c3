// SPDX-License-Identifier: GPL-2.0

//! The limits of time that the suites have, all of them.
//!
//! KUnit has one of its own for a case (`kunit.timeout=`), and the kernel reports a task that
//! hangs: both after 300 s, or more where the guest was slow to boot (`vm/limits.sh`).

use kernel::time::{
    msecs_to_jiffies,
    Jiffies, //
};

/// For hangs alone: what is waited for takes milliseconds, on a machine however busy some seconds.
/// A case that hangs should fail, and say in what, before the kernel or KUnit does.
pub(crate) const LONG_WAIT_MS: u32 = 100_000;

/// The same in jiffies.
pub(crate) fn long_wait() -> Jiffies {
    msecs_to_jiffies(LONG_WAIT_MS)
}
