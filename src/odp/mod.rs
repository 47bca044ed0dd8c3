// SPDX-License-Identifier: GPL-2.0

//! Deferred removal: what a driver may ask for from `invalidate()`, and the worker that does it.
//!
//! Data flows one way: callback → request → worker → driver. See DESIGN.md for who holds which lock
//! and reference.

mod alarm;
mod answer;
mod callbacks;
mod epoch;
mod faults;
mod ffi;
mod fifo;
mod gone;
mod invalidation;
mod lane;
pub(crate) mod library;
mod lists;
mod mirror;
mod process_queue;
mod range;
mod read;
mod request;
mod retire;
mod shared;
mod stalled;
mod state;
mod stats;
mod swap;
mod wish;
mod worker;

use crate::span::Span;

pub use self::{
    answer::{
        Changed,
        Retire, //
    },
    callbacks::WorkerContext,
    invalidation::{
        Handled,
        Invalidation,
        Zap, //
    },
    mirror::{
        Config,
        InsertError,
        Mirror, //
    },
    range::{
        Mirrored,
        MirroredOps,
        Range, //
    },
    read::{
        FaultError,
        Gone,
        Hold,
        Lookup,
        Retry,
        Section, //
    },
    request::Request,
    retire::{
        HasRequest,
        Held,
        ReadGuard,
        Retirable,
        RetirableOps,
        Retirer, //
    },
    shared::{
        Shared,
        UserLock, //
    },
    stats::Snapshot,
    worker::{
        Pace,
        Until, //
    }, //
};
