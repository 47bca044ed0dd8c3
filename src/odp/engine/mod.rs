// SPDX-License-Identifier: GPL-2.0

//! What happens to a request from the callback on: without ranges, and without an address space.
//!
//! ```text
//! a callback --> request --> queues --> worker --> callbacks --> the levels above
//!                  |                      |
//!                state                  epoch, for who waits
//! ```
//!
//! Nothing here imports from the levels above: they are called through tables of functions.

pub(crate) mod alarm;
pub(crate) mod callbacks;
pub(crate) mod completed;
pub(crate) mod epoch;
pub(crate) mod fifo;
pub(crate) mod latency;
pub(crate) mod library;
mod lockdep;
pub(crate) mod outcome;
pub(crate) mod process;
pub(crate) mod queues;
pub(crate) mod request;
pub(crate) mod state;
pub(crate) mod stats;
pub(crate) mod trace;
pub(crate) mod worker;
