// SPDX-License-Identifier: GPL-2.0

//! With pages as they are.

pub(super) const PAGE_SIZE: usize = 4096;

#[path = "../../../../src/span.rs"]
pub(super) mod span;
