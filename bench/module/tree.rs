// SPDX-License-Identifier: GPL-2.0

//! Objects in order of address, for arms whose readers have a lock: the library's index without
//! what lets lookups do without one.
//!
//! C header: [`include/linux/rbtree.h`](srctree/include/linux/rbtree.h)

use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    types::Opaque, //
};
use odp::Span;

/// A tree of objects, whose nodes are in them. Whoever has it looks after what guards it.
///
/// # Invariants
///
/// - `root` is that of a red-black tree of [`Node`]s. They are in the order of the spans of their
///   objects, and no two of these have an address in common.
/// - Each was passed to [`Tree::put`], and has not been taken out since; so it is valid.
/// - It is changed through an exclusive reference only.
pub(crate) struct Tree<T> {
    root: bindings::rb_root,
    _objects: PhantomData<*const T>,
}

// SAFETY: It may be used from any task, by one at a time; it hands out shared access to `T` only.
unsafe impl<T: Sync> Send for Tree<T> {}

/// Where an object is in a tree: a field of the object.
///
/// # Invariants
///
/// While it is in a tree, it is changed through an exclusive reference to that only. While it is in
/// none, `__rb_parent_color` is 0, which it is in no tree: there it has a parent, or is black.
#[repr(transparent)]
pub(crate) struct Node(Opaque<bindings::rb_node>);

// SAFETY: By the type invariants whoever has the tree says who may access it.
unsafe impl Send for Node {}
// SAFETY: As above.
unsafe impl Sync for Node {}

impl Node {
    /// One that is in no tree.
    pub(crate) const fn new() -> Self {
        // INVARIANT: 0 as all of it.
        Self(Opaque::zeroed())
    }
}

/// An object that can be in a tree.
///
/// # Safety
///
/// - At [`Member::NODE`] it has a [`Node`], for the tree.
/// - While it is in the tree, [`Member::span`] says the same, or gives up addresses at either end,
///   when nobody else uses the tree.
pub(crate) unsafe trait Member: Sized {
    /// How many bytes behind the beginning of an object its node is.
    const NODE: usize;

    /// Which addresses it is responsible for.
    fn span(&self) -> Span;
}

/// The node of an object.
fn node_of<T: Member>(object: NonNull<T>) -> *mut bindings::rb_node {
    object.as_ptr().wrapping_byte_add(T::NODE).cast()
}

/// The object that has a node.
///
/// # Safety
///
/// The node is that of a `T`.
unsafe fn of_node<T: Member>(node: NonNull<bindings::rb_node>) -> NonNull<T> {
    let object = node.as_ptr().wrapping_byte_sub(T::NODE).cast();
    // SAFETY: By the safety requirements this is the address of an object.
    unsafe { NonNull::new_unchecked(object) }
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        // INVARIANT: There is no node.
        Self {
            root: bindings::rb_root {
                rb_node: ptr::null_mut(),
            },
            _objects: PhantomData,
        }
    }
}

impl<T: Member> Tree<T> {
    /// The object at `addr`.
    pub(crate) fn get(&self, addr: usize) -> Option<&T> {
        self.first_from(addr)
            .filter(|object| object.span().start() <= addr)
    }

    /// The first object that has anything at `addr` or behind it.
    pub(crate) fn first_from(&self, addr: usize) -> Option<&T> {
        let mut next = self.root.rb_node;
        let mut first = None;
        while let Some(node) = NonNull::new(next) {
            // SAFETY: By the type invariants it is the node of an object.
            let object = unsafe { of_node::<T>(node) };
            // SAFETY: By the type invariants the object is valid until it is taken out, which takes
            // exclusive access.
            let object = unsafe { object.as_ref() };
            let span = object.span();
            if span.end() <= addr {
                // SAFETY: By the type invariants the node is valid, and nobody changes it now.
                next = unsafe { (*node.as_ptr()).rb_right };
                continue;
            }
            first = Some(object);
            if span.start() <= addr {
                break;
            }
            // SAFETY: As above.
            next = unsafe { (*node.as_ptr()).rb_left };
        }
        first
    }

    /// Puts an object at its span.
    ///
    /// # Errors
    ///
    /// Another object that has anything of that. Nothing has changed then.
    ///
    /// # Safety
    ///
    /// The object is in no tree. It stays valid until it has been taken out.
    pub(crate) unsafe fn put(&mut self, object: NonNull<T>) -> Result<(), NonNull<T>> {
        // SAFETY: By the safety requirements it is valid.
        let span = unsafe { object.as_ref() }.span();
        let mut parent = ptr::null_mut();
        let mut link = &raw mut self.root.rb_node;
        // SAFETY: It is that of the root, or of a node of the tree.
        while let Some(above) = NonNull::new(unsafe { link.read() }) {
            // SAFETY: By the type invariants it is the node of an object.
            let other = unsafe { of_node::<T>(above) };
            // SAFETY: By the type invariants the object is valid.
            let there = unsafe { other.as_ref() }.span();
            parent = above.as_ptr();
            link = if span.end() <= there.start() {
                // SAFETY: By the type invariants the node is valid.
                unsafe { &raw mut (*parent).rb_left }
            } else if there.end() <= span.start() {
                // SAFETY: As above.
                unsafe { &raw mut (*parent).rb_right }
            } else {
                return Err(other);
            };
        }
        let node = node_of(object);
        let leaf = bindings::rb_node {
            // Red, which is 0, and below its parent.
            __rb_parent_color: parent.expose_provenance(),
            rb_left: ptr::null_mut(),
            rb_right: ptr::null_mut(),
        };
        // SAFETY: The node is valid as the object is, and in no tree.
        unsafe { node.write(leaf) };
        // INVARIANT: It is where the order has it, and nothing else has any of its addresses.
        // SAFETY: See above where it was read.
        unsafe { link.write(node) };
        // SAFETY: It has just become a red leaf of the tree.
        unsafe { bindings::rb_insert_color(node, &raw mut self.root) };
        Ok(())
    }

    /// Takes an object out; says whether it was there.
    ///
    /// # Safety
    ///
    /// It is valid, and in no other tree.
    pub(crate) unsafe fn take_out(&mut self, object: NonNull<T>) -> bool {
        let node = node_of(object);
        // SAFETY: The node is valid as the object is.
        let parent_color = unsafe { &raw mut (*node).__rb_parent_color };
        // SAFETY: By its type invariants nobody else accesses it.
        if unsafe { parent_color.read() } == 0 {
            return false;
        }
        // SAFETY: By its type invariants it is in a tree, by the safety requirements in this.
        unsafe { bindings::rb_erase(node, &raw mut self.root) };
        // INVARIANT: It is in no tree.
        // SAFETY: As for the read.
        unsafe { parent_color.write(0) };
        true
    }
}
