// SPDX-License-Identifier: GPL-2.0

//! Deferred removal: what a driver may ask for from `invalidate()`, and the worker that does it.
//!
//! Data flows one way: callback → request → worker → driver. See DESIGN.md for who holds which lock
//! and reference.

pub(crate) mod engine;
mod ffi;
mod mirror;
mod retire;

pub use self::{
    engine::{
        callbacks::WorkerContext,
        outcome::{
            Changed,
            Retire, //
        },
        queues::Until,
        request::Request,
        stats::Snapshot,
        worker::WakeupConfig, //
    },
    mirror::{
        access::{
            FaultError,
            Gone,
            Hold,
            Lookup,
            Retry,
            Section, //
        },
        driver::{
            Mirrored,
            MirroredOps, //
        },
        invalidation::{
            Handled,
            Invalidation,
            Zap, //
        },
        range::Range,
        shared::{
            Shared,
            UserLock, //
        },
        Config,
        InsertError,
        Mirror, //
    },
    retire::{
        HasRequest,
        Held,
        ReadGuard,
        Retirable,
        RetirableOps,
        Retirer, //
    }, //
};
