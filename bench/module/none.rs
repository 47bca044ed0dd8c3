// SPDX-License-Identifier: GPL-2.0

//! The arm without a notifier: nobody watches, and the address space is not even prepared for it.

use super::{
    arm::Arm,
    region::Region, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::MayBlock;

/// Watches nothing.
pub(crate) struct Nothing;

impl Arm for Nothing {
    fn mirror(&self, _region: &Arc<Region>, _p: &mut MayBlock<'_>) -> Result {
        Ok(())
    }

    fn finish(&self, _region: &Region, _p: &mut MayBlock<'_>) -> Result {
        Ok(())
    }
}
