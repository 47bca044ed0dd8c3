// SPDX-License-Identifier: GPL-2.0
// error: none

//! A driver like any other, so that what the others here are refused for is what they do otherwise.

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
    type: Fine,
    name: "fine",
    authors: ["The odp authors"],
    description: "Compiles",
    license: "GPL",
}

struct Fine;

impl kernel::Module for Fine {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self)
    }
}

struct Device;

impl Mirrored for Device {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Device);
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

/// A type with parameters, each of which brings the tables.
#[allow(dead_code)]
struct Wrap<D>(D);

#[allow(dead_code)]
trait Wrapped: Send + Sync + Sized + 'static {
    const OPS: &'static MirroredOps<Wrap<Self>>;
}

impl<D: Wrapped> Mirrored for Wrap<D> {
    const OPS: &'static MirroredOps<Self> = D::OPS;
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

impl Wrapped for u32 {
    const OPS: &'static MirroredOps<Wrap<u32>> = odp::mirrored_ops!(Wrap<u32>);
}
