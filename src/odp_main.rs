// SPDX-License-Identifier: GPL-2.0

//! Deferred removal of mmu interval notifiers.
//!
//! A driver that mirrors parts of a process's address space has to let go of a part in the moment
//! that it is unmapped, which is a moment in which a notifier cannot be removed. This library takes
//! the request from there and does the rest in a workqueue; see [`Mirror`] for ranges that it
//! manages altogether, and [`Retirer`] for drivers that have notifiers of their own.
//!
//! The modules that are public are those that know nothing of deferral and could be part of the
//! `kernel` crate.

#![crate_name = "odp"]

pub mod hmm;
mod mappings;
pub mod may_block;
mod memcg;
pub mod mmu_interval;
mod module_ref;
pub mod owned_queue;
pub mod range_index;
pub mod range_tree;
pub mod seq_lock;
pub mod span;
mod wait_queue;

mod odp;

pub use self::{
    may_block::MayBlock,
    mmu_interval::Event,
    odp::*,
    span::{
        Span,
        SpanError, //
    }, //
};

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

module! {
    type: OdpModule,
    name: "odp",
    authors: ["The odp authors"],
    description: "Deferred removal of mmu interval notifiers",
    license: "GPL",
}

impl From<SpanError> for Error {
    fn from(error: SpanError) -> Self {
        match error {
            SpanError::Empty | SpanError::Unaligned => EINVAL,
            SpanError::Overflow => EOVERFLOW,
        }
    }
}

struct OdpModule {
    _library: odp::engine::library::Handle,
}

impl kernel::Module for OdpModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _library: odp::engine::library::Library::init()?,
        })
    }
}
