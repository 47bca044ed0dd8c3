// SPDX-License-Identifier: GPL-2.0

//! An assertion that returns.
//!
//! KUnit's own end the test's thread without running destructors, which would leave ranges
//! registered and modules in use for the tests that follow.

/// Fails the test, a function that returns `Result`, unless both sides are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {{
        let (left, right) = ($left, $right);
        if left != right {
            kernel::prelude::pr_err!(
                "{}:{}: {} is {:?}, not {:?}\n",
                file!(),
                line!(),
                stringify!($left),
                left,
                right
            );
            return Err(kernel::prelude::EINVAL);
        }
    }};
}
pub(crate) use check_eq;
