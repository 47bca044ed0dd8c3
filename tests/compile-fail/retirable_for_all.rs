// SPDX-License-Identifier: GPL-2.0
// error: E0401

//! A crate implements the trait for types of other crates. The functions are compiled into those,
//! so that no table of this crate's can have them, and keeping this crate's module loaded would not
//! keep theirs.

use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    HasRequest,
    Retirable,
    RetirableOps,
    WorkerContext, //
};

module! {
    type: Refused,
    name: "retirable_for_all",
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

impl<D: Send + Sync + 'static> Retirable for Wrap<D>
where
    Wrap<D>: HasRequest,
{
    const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Wrap<D>);

    fn unpublish(&self, _ctx: &WorkerContext<'_>) {}

    fn remove(&self, _ctx: &WorkerContext<'_>) {}

    fn release(_this: Arc<Self>, _ctx: &WorkerContext<'_>) {}
}
