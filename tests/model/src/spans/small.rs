// SPDX-License-Identifier: GPL-2.0

//! With pages so small that everything can be tried.

pub(super) const PAGE_SIZE: usize = 4;

#[path = "../../../../src/span.rs"]
pub(super) mod span;
