// SPDX-License-Identifier: GPL-2.0
// error: E0401

//! A crate implements the trait for types of other crates. The functions are compiled into those,
//! so that no table of this crate's can have them, and keeping this crate's module loaded would not
//! keep theirs.

use kernel::prelude::*;
use odp::mmu_interval::{
    CallbackContext, //
    Handled,
    Interval,
    Invalidate,
    InvalidateOps,
};

module! {
    type: Refused,
    name: "invalidate_for_all",
    authors: ["The odp authors"],
    description: "Does not compile",
    license: "GPL",
}

struct Refused;

impl kernel::Module for Refused {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

struct Wrap<D>(D);

impl<D: Send + Sync + 'static> Invalidate for Wrap<D> {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Wrap<D>);

    fn invalidate<'cb>(_this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        inv.record()
    }
}
