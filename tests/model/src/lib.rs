// SPDX-License-Identifier: GPL-2.0

//! Exhaustive tests of the parts of odp that know nothing of the kernel.
//!
//! Those parts are compiled from the module's own files, unmodified. Each property that is tested
//! has a mutant that lacks it, for which the same test must fail.

#![cfg(test)]

#[path = "../../../src/odp/engine/epoch.rs"]
mod epoch;
#[path = "../../../src/odp/mirror/range/stalled.rs"]
mod stalled;
#[path = "../../../src/odp/engine/state.rs"]
mod state;
#[path = "../../../src/odp/mirror/trim.rs"]
mod trim;

use spans::small::span::Span;

mod epochs;
mod handover;
mod life;
mod protocol;
mod spans;
mod stalled_ranges;
mod table;
mod trims;
