// SPDX-License-Identifier: GPL-2.0

//! What an object has to have to be in a tree.

use crate::span::Span;
use core::ptr::NonNull;
use kernel::{
    bindings,
    types::Opaque, //
};

/// Where an object is in a tree: a field of the object.
///
/// # Invariants
///
/// - While it is in a tree, it is changed in a writer's section of that tree only.
/// - While it is in none, `__rb_parent_color` is 0. A node of a tree has a parent, or is black,
///   neither of which is 0.
#[repr(transparent)]
pub struct Place {
    node: Opaque<bindings::rb_node>,
}

// SAFETY: By the type invariants the tree says who may access it, from whatever task.
unsafe impl Send for Place {}
// SAFETY: As above.
unsafe impl Sync for Place {}

impl Place {
    /// One that is in no tree.
    pub const fn new() -> Self {
        // INVARIANT: 0 as all of it.
        Self {
            node: Opaque::zeroed(),
        }
    }

    /// The node.
    pub(super) fn node(this: NonNull<Self>) -> NonNull<bindings::rb_node> {
        // The only field, and transparent.
        this.cast()
    }

    /// The place that has a node.
    pub(super) fn of_node(node: NonNull<bindings::rb_node>) -> NonNull<Self> {
        node.cast()
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

/// An object that can be in a tree.
///
/// # Safety
///
/// - [`Indexed::place`] returns a field of the object, for an object always the same, and
///   [`Indexed::of_place`] the object that has it.
/// - From when the object is put into a tree until nobody may look it up there any more,
///   [`Indexed::span`] says the same, or less: its start never goes down, and its end never goes
///   up. So it gives up addresses, and gets none.
pub unsafe trait Indexed {
    /// Which addresses it is responsible for. Lookups and changes ask while it may be giving up
    /// some.
    fn span(&self) -> Span;

    /// The object's place.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    unsafe fn place(this: NonNull<Self>) -> NonNull<Place>;

    /// The object that a place is a field of.
    ///
    /// # Safety
    ///
    /// [`Indexed::place`] has returned it, for an object that is valid.
    unsafe fn of_place(place: NonNull<Place>) -> NonNull<Self>;
}

/// Implements [`Indexed`] for a type that has a [`Place`] and a [`Span`](crate::span::Span) as
/// fields, of these names.
///
/// # Examples
///
/// ```ignore
/// struct Window {
///     place: Place,
///     span: Span,
/// }
///
/// odp::impl_indexed!(Window, place, span);
/// ```
#[macro_export]
macro_rules! impl_indexed {
    ($object:ty, $place:ident, $span:ident) => {
        // SAFETY: The place is a field, and each function goes one step, there and back. The span
        // is a field, too; it is no cell, as its type says, so that nobody changes it while the
        // object is shared.
        unsafe impl $crate::range_tree::Indexed for $object {
            fn span(&self) -> $crate::Span {
                self.$span
            }

            unsafe fn place(
                this: ::core::ptr::NonNull<Self>,
            ) -> ::core::ptr::NonNull<$crate::range_tree::Place> {
                // SAFETY: By the safety requirements it is valid, and so is its field.
                let place = unsafe { &raw mut (*this.as_ptr()).$place };
                // SAFETY: A field of something valid is not at address null.
                unsafe { ::core::ptr::NonNull::new_unchecked(place) }
            }

            unsafe fn of_place(
                place: ::core::ptr::NonNull<$crate::range_tree::Place>,
            ) -> ::core::ptr::NonNull<Self> {
                // SAFETY: By the safety requirements it is a field of an object.
                let this = unsafe { ::kernel::container_of!(place.as_ptr(), Self, $place) };
                // SAFETY: A field's container is not at address null.
                unsafe { ::core::ptr::NonNull::new_unchecked(this) }
            }
        }
    };
}
