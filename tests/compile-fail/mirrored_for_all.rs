// SPDX-License-Identifier: GPL-2.0
// error: E0401

//! A crate implements the trait for types of other crates. The functions are compiled into those,
//! so that no table of this crate's can have them, and keeping this crate's module loaded would not
//! keep theirs.

use kernel::{
    prelude::*,
    sync::Mutex, //
};
use odp::{
    Handled,
    Invalidation,
    Mirrored,
    MirroredOps,
    Span,
    WorkerContext, //
};

module! {
    type: Refused,
    name: "mirrored_for_all",
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

impl<D: Send + Sync + 'static> Mirrored for Wrap<D> {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Wrap<D>);
    type Table = ();
    type Lock = Mutex<()>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        match inv.begin() {
            Ok(zap) => zap.done(),
            Err(handled) => handled,
        }
    }

    fn zap(&self, _table: &mut (), _dead: Span) {}

    fn released(&self, _span: Span, _ctx: &WorkerContext<'_>) {}
}
