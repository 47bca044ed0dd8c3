// SPDX-License-Identifier: GPL-2.0

//! Entries of the tree that one change of it takes out.

use crate::span::Span;
use core::{
    ffi::c_void,
    ptr::NonNull, //
};

/// How many entries one change of the tree takes out at most.
///
/// Fewer than make an inner node go that has 16 children, which are 16 leaves of seven: in a tree
/// in RCU mode, `mt_destroy_walk()` of 7.3 takes the last of such a node's children for metadata,
/// and clears part of its address before `mt_free_walk()` frees it.
pub(super) const RUN: usize = 32;

/// An entry of the tree, and the bytes that it is at, inclusive.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) entry: *mut c_void,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Entry {
    /// The first byte behind it. There is one: what was stored were spans.
    pub(super) fn behind(&self) -> usize {
        self.last.saturating_add(1)
    }
}

/// How many entries there are between two addresses, those included that are nothing.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    pub(super) entries: usize,
    pub(super) behind: usize,
}

impl Extent {
    pub(super) const NONE: Self = Self {
        entries: 0,
        behind: 0,
    };

    /// With an entry that begins at or behind its end, unless these would be too many.
    pub(super) fn with(self, entry: Entry) -> Option<Self> {
        let gap = self.entries > 0 && self.behind != entry.first;
        // OVERFLOW: Small numbers.
        let entries = self.entries + usize::from(gap) + 1;
        (entries <= RUN).then_some(Self {
            entries,
            behind: entry.behind(),
        })
    }
}

/// Entries that are about to be erased, in order of address, with no other object between them.
pub(super) struct Run<T> {
    pieces: [Option<(NonNull<T>, Span)>; RUN],
    len: usize,
    extent: Extent,
}

impl<T> Run<T> {
    pub(super) fn new() -> Self {
        Self {
            pieces: [None; RUN],
            len: 0,
            extent: Extent::NONE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (NonNull<T>, Span)> + '_ {
        self.pieces.iter().map_while(|piece| *piece)
    }

    pub(super) fn last(&self) -> Option<(NonNull<T>, Span)> {
        self.pieces.get(self.len.checked_sub(1)?).copied()?
    }

    /// Adds an entry behind the last one, the piece of an object; says whether there was room.
    pub(super) fn push(&mut self, object: NonNull<T>, piece: Span, entry: Entry) -> bool {
        let (Some(slot), Some(extent)) = (self.pieces.get_mut(self.len), self.extent.with(entry))
        else {
            return false;
        };
        *slot = Some((object, piece));
        // OVERFLOW: It is the index of a slot.
        self.len += 1;
        self.extent = extent;
        true
    }

    /// Passes over a marker; says whether there was room.
    pub(super) fn pass(&mut self, entry: Entry) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(extent) = self.extent.with(entry) else {
            return false;
        };
        self.extent = extent;
        true
    }
}
