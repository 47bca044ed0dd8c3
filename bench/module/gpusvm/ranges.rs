// SPDX-License-Identifier: GPL-2.0

//! The ranges of a window by address: an interval tree, to find the first of those that are met,
//! and a list, to go on from there.

use super::Range;
use core::{
    iter,
    mem,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    container_of,
    sync::Arc,
    types::Opaque, //
};
use odp::Span;

/// The ranges.
///
/// # Invariants
///
/// The same ranges are in the tree and on the list, which is ordered by address. Each came from
/// `Arc::into_raw`, and that reference belongs to this. Their nodes and links are changed through
/// an exclusive reference to this only.
pub(super) struct Ranges {
    tree: bindings::rb_root_cached,
    first: Option<NonNull<Range>>,
}

/// What a range has for the tree.
pub(super) type Node = Opaque<bindings::interval_tree_node>;

/// The neighbours of a range on the list.
#[derive(Clone, Copy, Default)]
pub(super) struct Links {
    before: Option<NonNull<Range>>,
    behind: Option<NonNull<Range>>,
}

/// Makes the node of a range at `span`.
pub(super) fn node(span: Span) -> Node {
    Opaque::new(bindings::interval_tree_node {
        start: span.start(),
        last: span.last(),
        ..Default::default()
    })
}

/// The links of a range.
///
/// # Safety
///
/// The range is valid, and nobody else uses its links as long as the answer lives.
unsafe fn links<'a>(range: NonNull<Range>) -> &'a mut Links {
    // SAFETY: By the safety requirements it is valid.
    let links = unsafe { range.as_ref() }.links.get();
    // SAFETY: By the safety requirements nobody else uses them.
    unsafe { &mut *links }
}

/// The range that a node is part of.
///
/// # Safety
///
/// The node is that of a range.
unsafe fn range_of(node: NonNull<bindings::interval_tree_node>) -> NonNull<Range> {
    // SAFETY: By the safety requirements it is the field of a range.
    let range = unsafe { container_of!(Opaque::cast_from(node.as_ptr()), Range, node) };
    // SAFETY: What a valid node is part of is not at null.
    unsafe { NonNull::new_unchecked(range.cast_mut()) }
}

impl Ranges {
    /// Makes one without a range.
    pub(super) fn new() -> Self {
        // INVARIANT: There are none.
        Self {
            tree: bindings::rb_root_cached::default(),
            first: None,
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Those that have anything between `from` and `last`, inclusive, in order of address.
    pub(super) fn within(&self, from: usize, last: usize) -> impl Iterator<Item = &Range> + '_ {
        let tree = ptr::from_ref(&self.tree).cast_mut();
        // SAFETY: The tree is initialised, this does not change it, and by the type invariants
        // nobody else does as long as there is a shared reference.
        let node = unsafe { bindings::interval_tree_iter_first(tree, from, last) };
        // SAFETY: By the type invariants the nodes of the tree are those of ranges.
        let mut next = NonNull::new(node).map(|node| unsafe { range_of(node) });
        iter::from_fn(move || {
            // SAFETY: By the type invariants what is on the list is valid, and stays there as long
            // as there is a shared reference to this.
            let range: &Range = unsafe { next?.as_ref() };
            if range.span.start() > last {
                return None;
            }
            // SAFETY: By the type invariants nobody changes them as long as there is a shared
            // reference to this.
            next = unsafe { *range.links.get() }.behind;
            Some(range)
        })
    }

    /// Puts a range where it is.
    ///
    /// # Safety
    ///
    /// It is in no such set, and has not been.
    pub(super) unsafe fn insert(&mut self, range: Arc<Range>) {
        let raw = Arc::into_raw(range).cast_mut();
        // SAFETY: A reference to it has just been leaked, so that it is valid.
        let node = Opaque::cast_into(unsafe { &raw const (*raw).node });
        // SAFETY: A pointer that came from an `Arc` is not null.
        let range = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: The node is initialised, and by the safety requirements in no tree.
        // INVARIANT: The reference that was leaked belongs to this.
        unsafe { bindings::interval_tree_insert(node, &raw mut self.tree) };
        // SAFETY: The node is valid.
        let rb = unsafe { &raw const (*node).rb };
        // SAFETY: It is in the tree.
        let before = unsafe { bindings::rb_prev(rb) };
        let before = NonNull::new(before).and_then(|rb| {
            // SAFETY: What is in the tree is part of a node.
            let node = unsafe { container_of!(rb.as_ptr(), bindings::interval_tree_node, rb) };
            // SAFETY: By the type invariants it is that of a range.
            NonNull::new(node).map(|node| unsafe { range_of(node) })
        });
        let slot = match before {
            // SAFETY: It is in the tree, so that it is valid, and `self` is exclusive.
            Some(before) => &mut unsafe { links(before) }.behind,
            None => &mut self.first,
        };
        let behind = slot.replace(range);
        if let Some(behind) = behind {
            // SAFETY: It is on the list, so that it is valid, and `self` is exclusive.
            unsafe { links(behind) }.before = Some(range);
        }
        // SAFETY: It is valid, and `self` is exclusive.
        *unsafe { links(range) } = Links { before, behind };
    }

    /// Takes a range out.
    ///
    /// # Safety
    ///
    /// It is in there.
    pub(super) unsafe fn remove(&mut self, range: NonNull<Range>) -> Arc<Range> {
        // SAFETY: By the safety requirements it is in the tree, so that it is valid.
        let node = unsafe { range.as_ref() }.node.get();
        // SAFETY: By the safety requirements it is in this tree.
        unsafe { bindings::interval_tree_remove(node, &raw mut self.tree) };
        // SAFETY: It is valid, and `self` is exclusive.
        let Links { before, behind } = *unsafe { links(range) };
        if let Some(behind) = behind {
            // SAFETY: It is on the list, so that it is valid, and `self` is exclusive.
            unsafe { links(behind) }.before = before;
        }
        let slot = match before {
            // SAFETY: As above.
            Some(before) => &mut unsafe { links(before) }.behind,
            None => &mut self.first,
        };
        // What is on the list came from the `Arc`, which `range` need not have.
        let range = mem::replace(slot, behind).unwrap_or(range);
        // SAFETY: By the type invariants a reference belonged to this, and that is the end of it.
        unsafe { Arc::from_raw(range.as_ptr()) }
    }
}
