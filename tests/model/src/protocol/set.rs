// SPDX-License-Identifier: GPL-2.0

//! A set of a few small numbers.

/// Ranges, by their number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Set(u8);

impl Set {
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn contains(self, id: usize) -> bool {
        self.0 & (1 << id) != 0
    }

    pub(super) fn add(&mut self, id: usize) {
        self.0 |= 1 << id;
    }

    pub(super) fn remove(&mut self, id: usize) {
        self.0 &= !(1 << id);
    }

    pub(super) fn first(self) -> Option<usize> {
        (!self.is_empty()).then(|| self.0.trailing_zeros() as usize)
    }

    pub(super) fn pop(&mut self) -> Option<usize> {
        let first = self.first()?;
        self.remove(first);
        Some(first)
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |&id| self.contains(id))
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
