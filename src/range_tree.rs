// SPDX-License-Identifier: GPL-2.0

//! Objects in order of address, which are found without a lock.
//!
//! A red-black tree whose nodes are in the objects, so that no change needs memory, and none can
//! fail. It does not own them: somebody else keeps them alive for as long as a reader may still
//! look at them.
//!
//! Lookups go down the tree while it may be changing. That comes to an end, and shows them nothing
//! but objects that are in the tree or were a moment ago (`lib/rbtree.c`, *Notes on lockless
//! lookups*). An object that has the address is the answer. If there is none, and the tree was
//! changed meanwhile, it may have been moved out of the way, and they look again. A sequence lock
//! goes around the changes, so that several objects take the place of others at once.
//!
//! An object may give up addresses while it is in the tree, at either end. Whatever lookups see of
//! its bounds, they go the same way for the addresses of all others, and need not look again.
//! Whoever puts another object at what was given up has a lock that was held when it was, or has
//! given it up itself.
//!
//! An object that leaves the tree keeps pointing to what was below it then. So a lookup that is at
//! one which has just left goes on to objects that have left no earlier, and each that it comes by
//! was in the tree at some time since its read-side section began.
//!
//! C header: [`include/linux/rbtree.h`](srctree/include/linux/rbtree.h)

mod place;

pub use self::place::{
    Indexed,
    Place, //
};
use super::{
    seq_lock::{
        SeqLock,
        WriteGuard, //
    },
    span::Span, //
};
use core::{
    iter,
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::barrier::{
        smp_mb,
        Write, //
    },
    types::Opaque, //
};

/// A tree of objects in order of address, with lockless lookups.
///
/// # Invariants
///
/// - `root` is that of a red-black tree of [`Place`]s. They are in the order of the spans of their
///   objects, and no two of these have an address in common.
/// - Each was passed to [`Change::try_put`], and has not been taken out since.
/// - It is only changed in a writer's section of `changes`.
/// - An object of the tree was complete before the section began in which it was put there.
/// - The links of an object that has been taken out lead where they led then, until every read-side
///   section has ended in which the object may have been found. So whoever comes by it goes on to
///   objects that had not been taken out before it was.
#[pin_data]
pub struct RangeTree<T> {
    root: Opaque<bindings::rb_root>,
    #[pin]
    changes: SeqLock,
    _objects: PhantomData<*const T>,
}

// SAFETY: The tree may be used from any task; it hands out shared access to `T` only.
unsafe impl<T: Sync> Send for RangeTree<T> {}
// SAFETY: All of its operations synchronise among themselves, and what they hand out is shared
// access to `T`, which is `Sync`.
unsafe impl<T: Sync> Sync for RangeTree<T> {}

/// A change of a tree. A lookup that begins after this has begun sees all of it, unless it finds
/// what it looks for before; one that began earlier, and has found nothing, looks again after it.
/// So lookups wait until this is dropped, and a change is to be short. Whoever has it must not
/// sleep.
pub struct Change<'a, T> {
    tree: &'a RangeTree<T>,
    _section: WriteGuard<'a>,
}

/// What a link of a tree leads to at this moment.
///
/// # Safety
///
/// `link` is valid, and the root of a tree or the child of a node that is in one or was.
unsafe fn follow(link: *mut *mut bindings::rb_node) -> Option<NonNull<bindings::rb_node>> {
    // As READ_ONCE(), for which `atomic_load` calls a function at each step.
    // SAFETY: By the safety requirements it is valid, and whoever changes a tree stores to it with
    // WRITE_ONCE(), or as `try_put` does.
    NonNull::new(unsafe { link.read_volatile() })
}

impl<T: Indexed> RangeTree<T> {
    /// Makes one with nothing in it.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: There is no node.
        pin_init!(Self {
            root: Opaque::zeroed(),
            changes <- SeqLock::new(),
            _objects: PhantomData,
        })
    }

    /// The object at `addr`. Takes no lock, but may wait for a moment for somebody who changes the
    /// tree. Process context, and under no lock that an interrupt takes.
    ///
    /// It may be outdated: it was in the tree, and had the address, at some time during the call.
    ///
    /// # Safety
    ///
    /// The caller is in a read-side section of the kind that [`Change::try_put`] speaks of, for all
    /// objects of the tree, and stays there while it looks at the answer.
    pub unsafe fn load(&self, addr: usize) -> Option<NonNull<T>> {
        // SAFETY: By the safety requirements the caller is in a section.
        unsafe { self.first_between(addr, addr) }
    }

    /// The first object that has anything of `span`; it may begin before that and end behind it.
    /// Takes no lock; process context.
    ///
    /// The answer is as good as that of [`RangeTree::load`]: an address that is an object's all the
    /// time is not passed over.
    ///
    /// # Safety
    ///
    /// As for [`RangeTree::load`].
    pub unsafe fn first_within(&self, span: Span) -> Option<NonNull<T>> {
        // SAFETY: By the safety requirements the caller is in a section.
        unsafe { self.first_between(span.start(), span.last()) }
    }

    /// The first object that has anything of the addresses from `first` to `last`, inclusive.
    ///
    /// # Safety
    ///
    /// As for [`RangeTree::load`].
    unsafe fn first_between(&self, first: usize, last: usize) -> Option<NonNull<T>> {
        let begins_by = |object: &NonNull<T>, addr| {
            // SAFETY: By the safety requirements what has been found is valid.
            unsafe { object.as_ref() }.span().start() <= addr
        };
        let found = loop {
            let before = self.changes.read_begin();
            // SAFETY: By the safety requirements the caller is in a section.
            let found = unsafe { self.first_from(first) };
            // What has the address itself need not be asked about again.
            let certain = found.is_some_and(|object| begins_by(&object, first));
            if certain || !self.changes.read_retry(before) {
                break found;
            }
        };
        found.filter(|object| begins_by(object, last))
    }

    /// The first object that has anything at `addr` or behind it. If the tree is changed meanwhile,
    /// it may be another one; not if it has the address.
    ///
    /// # Safety
    ///
    /// As for [`RangeTree::load`], or nobody changes the tree.
    unsafe fn first_from(&self, addr: usize) -> Option<NonNull<T>> {
        let mut link = self.root();
        let mut first = None;
        // SAFETY: It is the root, or the child of a node that was in the tree during the section,
        // see below.
        while let Some(node) = unsafe { follow(link) } {
            // SAFETY: The root, or the link of an object that was in the tree at some time since
            // the section began, has led to it. So by the type invariants it is the place of an
            // object of which the same is true, whether or not that one had been taken out by then.
            // Such an object is valid until the section ends. And if nobody changes the tree, it is
            // in it.
            let object = unsafe { T::of_place(Place::of_node(node)) };
            // SAFETY: It is valid, see above, and by the type invariants it is complete: who sees
            // it sees what was stored before the writer's section that it was put there in.
            let span = unsafe { object.as_ref() }.span();
            if span.end() <= addr {
                // SAFETY: The node is valid as the object is.
                link = unsafe { &raw mut (*node.as_ptr()).rb_right };
            } else if span.start() <= addr {
                return Some(object);
            } else {
                first = Some(object);
                // SAFETY: The node is valid as the object is.
                link = unsafe { &raw mut (*node.as_ptr()).rb_left };
            }
        }
        first
    }

    /// The objects that have anything at `addr` or behind it, in order of address.
    ///
    /// # Safety
    ///
    /// Nobody changes the tree while the answer lives.
    pub(crate) unsafe fn all_from<'a>(&'a self, addr: usize) -> impl Iterator<Item = &'a T> {
        // SAFETY: By the safety requirements nobody changes the tree.
        let first = unsafe { self.first_from(addr) };
        iter::successors(first, |object| {
            // SAFETY: It is in the tree, which nobody changes, so that it is valid.
            let node = Place::node(unsafe { T::place(*object) });
            // SAFETY: By the type invariants it is a node of the tree, which nobody changes.
            let next = NonNull::new(unsafe { bindings::rb_next(node.as_ptr()) })?;
            // SAFETY: By the type invariants it is the place of an object in the tree, which nobody
            // changes, so that it is valid.
            Some(unsafe { T::of_place(Place::of_node(next)) })
        })
        // SAFETY: It is in the tree, which nobody changes while the answer lives; so it is valid.
        .map(|object| unsafe { object.as_ref() })
    }

    /// Begins to change it. Until the answer is dropped lookups wait, if they do not find what they
    /// look for, and others who change it. Process context.
    pub fn change(&self) -> Change<'_, T> {
        Change {
            tree: self,
            _section: self.changes.write(),
        }
    }

    fn root(&self) -> *mut *mut bindings::rb_node {
        let root = self.root.get();
        // SAFETY: It is a field of what is part of the tree.
        unsafe { &raw mut (*root).rb_node }
    }
}

impl<T: Indexed> Change<'_, T> {
    /// The objects that have anything of `span`, in order of address.
    pub fn within(&self, span: Span) -> impl Iterator<Item = &T> {
        // SAFETY: Nobody else changes it in a writer's section, and this needs `self` for that.
        unsafe { self.tree.all_from(span.start()) }
            .take_while(move |object| object.span().start() < span.end())
    }

    /// Puts `object` at its span, in the place of what has anything of that.
    ///
    /// # Safety
    ///
    /// As for [`Change::try_put`].
    pub unsafe fn put(&mut self, object: NonNull<T>) {
        // SAFETY: By the safety requirements; and it has not been put there.
        while let Err(other) = unsafe { self.try_put(object) } {
            // SAFETY: It is in this tree.
            unsafe { self.take_out(other) };
        }
    }

    /// Puts `object` at its span, if nothing has anything of that.
    ///
    /// # Errors
    ///
    /// Something that has. Nothing has changed then.
    ///
    /// # Safety
    ///
    /// - `object` is complete, is in no tree, and nobody may look it up in one any more.
    /// - It stays valid until it has been taken out, whether by [`Change::take_out`] or because
    ///   another one has taken its place, and every read-side section in which it may have been
    ///   looked up has ended.
    pub unsafe fn try_put(&mut self, object: NonNull<T>) -> Result<(), NonNull<T>> {
        // SAFETY: By the safety requirements it is valid.
        let span = unsafe { object.as_ref() }.span();
        let (parent, link) = self.vacancy(span)?;
        // SAFETY: By the safety requirements it is valid.
        let node = Place::node(unsafe { T::place(object) }).as_ptr();
        let leaf = bindings::rb_node {
            // Red, which is 0, and below its parent.
            __rb_parent_color: parent.expose_provenance(),
            rb_left: ptr::null_mut(),
            rb_right: ptr::null_mut(),
        };
        // SAFETY: The node is valid as the object is, and by the safety requirements nobody else
        // looks at it.
        unsafe { node.write(leaf) };
        // Whoever comes by any link to it, also one that is stored when the tree is balanced, sees
        // a leaf.
        smp_mb(Write);
        // INVARIANT: This is a writer's section, and the object was complete before. It is where
        // the order of addresses has it, and nothing else has any of its addresses.
        // As WRITE_ONCE().
        // SAFETY: The link is valid, and nobody else changes the tree.
        unsafe { link.write_volatile(node) };
        // SAFETY: It has just become a red leaf of the tree.
        unsafe { bindings::rb_insert_color(node, self.tree.root.get()) };
        Ok(())
    }

    /// Where an object at `span` belongs: the node above it, if there is one, and the link to it.
    ///
    /// # Errors
    ///
    /// An object that has anything of `span`.
    fn vacancy(
        &self,
        span: Span,
    ) -> Result<(*mut bindings::rb_node, *mut *mut bindings::rb_node), NonNull<T>> {
        let mut parent = ptr::null_mut();
        let mut link = self.tree.root();
        // SAFETY: It is the root, or the child of a node of the tree.
        while let Some(node) = unsafe { follow(link) } {
            // SAFETY: By the type invariants of the tree it is the place of an object there, which
            // is valid, since nobody else takes it out.
            let other = unsafe { T::of_place(Place::of_node(node)) };
            // SAFETY: As above.
            let there = unsafe { other.as_ref() }.span();
            parent = node.as_ptr();
            link = if span.end() <= there.start() {
                // SAFETY: The node is valid as the object is.
                unsafe { &raw mut (*parent).rb_left }
            } else if there.end() <= span.start() {
                // SAFETY: The node is valid as the object is.
                unsafe { &raw mut (*parent).rb_right }
            } else {
                return Err(other);
            };
        }
        Ok((parent, link))
    }

    /// Takes an object out; says whether it was there.
    ///
    /// # Safety
    ///
    /// It is valid, and in no other tree.
    pub unsafe fn take_out(&mut self, object: NonNull<T>) -> bool {
        // SAFETY: By the safety requirements it is valid.
        let node = Place::node(unsafe { T::place(object) }).as_ptr();
        // SAFETY: The node is valid as the object is.
        let parent_color = unsafe { &raw mut (*node).__rb_parent_color };
        // SAFETY: By its type invariants nobody else accesses this: it is in this tree, or in none.
        if unsafe { parent_color.read() } == 0 {
            return false;
        }
        // INVARIANT: This is a writer's section.
        // SAFETY: By its type invariants it is in a tree, which by the safety requirements is this.
        unsafe { bindings::rb_erase(node, self.tree.root.get()) };
        // INVARIANT: It is in no tree.
        // SAFETY: As for the read.
        unsafe { parent_color.write(0) };
        true
    }
}
