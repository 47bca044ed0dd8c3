// SPDX-License-Identifier: GPL-2.0

//! Looks at an index, one after the other, between which nobody changes it.

use super::{
    as_object,
    RangeIndex, //
};
use kernel::sync::MutexGuard;

/// An index that nobody changes.
pub struct Locked<'a, T> {
    pub(super) index: &'a RangeIndex<T>,
    pub(super) writers: MutexGuard<'a, ()>,
}

impl<T> Locked<'_, T> {
    /// The object at `addr`.
    pub fn get(&self, addr: usize) -> Option<&T> {
        let object = self.index.load(addr)?;
        // SAFETY: By the type invariants no `erase` has returned for what is in the index, which is
        // locked.
        Some(unsafe { object.as_ref() })
    }

    /// Calls `f` for the objects from `from` on in order of address, once for each of their pieces,
    /// until `most` entries have been looked at, some of which may be nothing, or `f` says that it
    /// is enough. Returns where to go on, which is behind `from`, or `None` at the end.
    ///
    /// `f` must neither sleep nor change the index.
    pub fn look_at(
        &self,
        mut from: usize,
        most: usize,
        mut f: impl FnMut(&T) -> bool,
    ) -> Option<usize> {
        let mut walk = self.index.walk(from, &self.writers);
        for _ in 0..most {
            let entry = walk.next()?;
            from = entry.behind();
            let Some(object) = as_object(entry.entry) else {
                continue;
            };
            // SAFETY: By the type invariants no `erase` has returned for what is in the index,
            // which is locked.
            if !f(unsafe { object.as_ref() }) {
                break;
            }
        }
        Some(from)
    }
}
