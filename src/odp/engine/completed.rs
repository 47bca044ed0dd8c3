// SPDX-License-Identifier: GPL-2.0

//! What a task has removed and released, and nobody has been told of yet.
//!
//! A lock that all lanes take for each object would cost more than many a removal. So a lane keeps
//! count by itself for a few objects, and then settles that in one hold of the lock.

use super::epoch::Bundle;

/// Objects that are gone, as those count them who wait for that.
#[derive(Default)]
pub(crate) struct Completed {
    /// The tickets of those whose removal is over,
    pub(crate) removed: Bundle,
    /// and of those that have been released.
    pub(crate) released: Bundle,
    /// How many of the worker's current batch are done with: removed, and released if nobody holds
    /// them.
    pub(crate) of_batch: usize,
}

impl Completed {
    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.released.is_empty() && self.of_batch == 0
    }
}
