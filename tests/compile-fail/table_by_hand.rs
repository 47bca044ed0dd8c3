// SPDX-License-Identifier: GPL-2.0
// error: E0133

//! A table that is no static item is compiled into whoever uses it, and is of which module its
//! author says.

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
    name: "table_by_hand",
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
    const OPS: &'static MirroredOps<Self> =
        &MirroredOps::new(&<crate::LocalModule as kernel::ModuleMetadata>::THIS_MODULE);
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
