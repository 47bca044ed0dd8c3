// SPDX-License-Identifier: GPL-2.0

//! The arms of the design in which removal happens in the callback, for a kernel in which it
//! cannot.

use super::arm::Arm;
use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// Makes none.
///
/// # Errors
///
/// `EOPNOTSUPP`: the kernel does not have the patches of `bench/in_callback`.
pub(crate) fn choose(_arm: &str, _mm: &MmWithUser, _p: &mut MayBlock<'_>) -> Result<Arc<dyn Arm>> {
    Err(EOPNOTSUPP)
}
