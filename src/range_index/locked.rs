// SPDX-License-Identifier: GPL-2.0

//! Looks at an index, one after the other, between which nobody changes it.

use super::RangeIndex;
use crate::range_tree::Indexed;
use kernel::sync::MutexGuard;

/// An index that nobody changes.
pub struct Locked<'a, T> {
    index: &'a RangeIndex<T>,
    writers: MutexGuard<'a, ()>,
}

impl<'a, T: Indexed> Locked<'a, T> {
    /// One whose writers are locked.
    pub(super) fn new(index: &'a RangeIndex<T>, writers: MutexGuard<'a, ()>) -> Self {
        Self { index, writers }
    }

    /// The object at `addr`.
    pub fn get(&self, addr: usize) -> Option<&T> {
        let mut from = self.index.all_from(addr, &self.writers);
        from.next().filter(|object| object.span().contains(addr))
    }

    /// Calls `f` for the objects that have anything at `from` or behind it, in order of address,
    /// until it was called for `most` of them, or says that it is enough. Returns where to go on,
    /// or `None` at the end.
    ///
    /// `f` must not change the index.
    pub fn look_at(
        &self,
        mut from: usize,
        most: usize,
        mut f: impl FnMut(&T) -> bool,
    ) -> Option<usize> {
        let mut objects = self.index.all_from(from, &self.writers);
        for _ in 0..most {
            let object = objects.next()?;
            from = object.span().end();
            if !f(object) {
                break;
            }
        }
        Some(from)
    }
}
