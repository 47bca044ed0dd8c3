// SPDX-License-Identifier: GPL-2.0

//! With pages so small that everything can be tried.

pub(crate) const PAGE_SIZE: usize = 4;

#[path = "../../../../src/span.rs"]
pub(crate) mod span;
