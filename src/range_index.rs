// SPDX-License-Identifier: GPL-2.0

//! From an address to the object that is responsible for it.
//!
//! A [tree](super::range_tree), whose lookups take no lock, and a mutex for those who change it. So
//! a look at what is there and the change that depends on it are one step, and may sleep.

mod locked;

pub use self::locked::Locked;
use super::{
    range_tree::{
        Indexed,
        RangeTree, //
    },
    span::Span, //
};
use core::{
    iter,
    ptr::NonNull, //
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Mutex,
        MutexGuard, //
    }, //
};

/// How many objects leave the index at a time: lookups wait for these, and writers until what is
/// done about them is done.
const AT_A_TIME: usize = 32;

/// Makes the lock of the writers of an index.
///
/// Not generic and not inlined: what is compiled into a user's module gives a lock a name in that
/// module's text, and lockdep a class with as many names as there are users.
#[inline(never)]
fn new_writers() -> impl PinInit<Mutex<()>> {
    new_mutex!((), "RangeIndex::writers")
}

/// Why [`RangeIndex::replace`] has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplaceError {
    /// It is not wanted any more (`ESTALE`).
    Unwanted,
    /// Something else is in the way (`EEXIST`).
    Occupied,
}

impl From<ReplaceError> for Error {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Unwanted => ESTALE,
            ReplaceError::Occupied => EEXIST,
        }
    }
}

/// A map from spans of addresses to objects, with lockless lookups.
///
/// # Invariants
///
/// - `tree` is only changed with `writers` locked.
/// - What is in it was passed to [`RangeIndex::insert`] or [`RangeIndex::replace`], and no
///   [`RangeIndex::erase`] that it was passed to has returned.
#[pin_data]
pub struct RangeIndex<T> {
    #[pin]
    tree: RangeTree<T>,
    #[pin]
    writers: Mutex<()>,
}

impl<T: Indexed> RangeIndex<T> {
    /// Makes an index with nothing in it.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: There is nothing in it.
        pin_init!(Self {
            tree <- RangeTree::new(),
            writers <- new_writers(),
        })
    }

    /// The object at `addr`. Takes no lock; process context.
    ///
    /// It may be outdated: it was in the index, and had the address, at some time during the call.
    ///
    /// # Safety
    ///
    /// The caller is in a read-side section of the kind that [`RangeIndex::insert`] speaks of, and
    /// stays there while it looks at the answer.
    pub unsafe fn load(&self, addr: usize) -> Option<NonNull<T>> {
        // SAFETY: What `insert` wants is what `put` wants.
        unsafe { self.tree.load(addr) }
    }

    /// The first object that has anything of `span`; it may begin before that and end behind it.
    /// Takes no lock; process context.
    ///
    /// The answer is as good as that of [`RangeIndex::load`]: an address that is an object's all
    /// the time is not passed over.
    ///
    /// # Safety
    ///
    /// As for [`RangeIndex::load`].
    pub unsafe fn first_within(&self, span: Span) -> Option<NonNull<T>> {
        // SAFETY: What `insert` wants is what `put` wants.
        unsafe { self.tree.first_within(span) }
    }

    /// Puts `object` at its span. May sleep.
    ///
    /// Objects in the way leave the index if none of them minds: `in_the_way` is asked about each
    /// of them, in order of address, and an error of it is returned. It is called with the index
    /// locked, and may sleep.
    ///
    /// # Errors
    ///
    /// Those of `in_the_way`; nothing has changed then.
    ///
    /// # Safety
    ///
    /// `object` is in no index, and nobody may look it up in one any more. It must stay valid until
    /// [`RangeIndex::erase`] has returned for it, whether or not another one has taken its place by
    /// then, and every read-side section in which it may have been looked up has ended.
    pub unsafe fn insert<E>(
        &self,
        object: NonNull<T>,
        in_the_way: impl FnMut(&T) -> Result<(), E>,
    ) -> Result<(), E> {
        let writers = self.writers.lock();

        // Mostly there is nothing, and no need to look before.
        // INVARIANT: `writers` is locked.
        // SAFETY: By the safety requirements; and it is complete, as what is shared is.
        if unsafe { self.tree.change().try_put(object) }.is_ok() {
            return Ok(());
        }
        // SAFETY: By the safety requirements it is valid.
        let span = unsafe { object.as_ref() }.span();
        self.within(span, &writers).try_for_each(in_the_way)?;
        self.make_room(span, |_| false, &writers);
        // INVARIANT: `writers` is locked.
        // SAFETY: As above; it has not been put there.
        unsafe { self.tree.change().put(object) };
        Ok(())
    }

    /// Puts `pieces` in the place of old objects, all at once. May sleep.
    ///
    /// `wanted` is asked first. Then, for each piece, `is_old` is asked about each object that is
    /// in the way; and about one that is not, `gives_way`, for that one to leave the index before.
    /// `done` is called when the pieces are there. All are called with the index locked, so that
    /// other changes of it come before all of this or after all of it. Lookups find an old object
    /// or a piece at any time.
    ///
    /// # Errors
    ///
    /// If one of them says no, see [`ReplaceError`]: nothing has changed then.
    ///
    /// # Safety
    ///
    /// As for [`RangeIndex::insert`], for each piece. The pieces have no address in common.
    pub unsafe fn replace(
        &self,
        pieces: impl Iterator<Item = NonNull<T>> + Clone,
        wanted: impl FnOnce() -> bool,
        is_old: impl Fn(&T) -> bool,
        mut gives_way: impl FnMut(&T) -> bool,
        done: impl FnOnce(),
    ) -> Result<(), ReplaceError> {
        let writers = self.writers.lock();

        if !wanted() {
            return Err(ReplaceError::Unwanted);
        }
        // SAFETY: By the safety requirements they are valid.
        let spans = pieces.clone().map(|piece| unsafe { piece.as_ref() }.span());
        for span in spans.clone() {
            let mut in_the_way = self.within(span, &writers);
            if !in_the_way.all(|other| is_old(other) || gives_way(other)) {
                return Err(ReplaceError::Occupied);
            }
        }
        spans.for_each(|span| self.make_room(span, &is_old, &writers));
        {
            // INVARIANT: `writers` is locked.
            let mut change = self.tree.change();
            for piece in pieces {
                // SAFETY: By the safety requirements; and it is complete, as what is shared is.
                unsafe { change.put(piece) };
            }
        }
        done();
        Ok(())
    }

    /// Has all leave that have anything of `span`, but those that are to stay; a few at a time,
    /// since lookups wait.
    fn make_room(&self, span: Span, stays: impl Fn(&T) -> bool, _writers: &MutexGuard<'_, ()>) {
        loop {
            // INVARIANT: `writers` is locked.
            let mut change = self.tree.change();
            for _ in 0..AT_A_TIME {
                let mut others = change.within(span).filter(|other| !stays(other));
                let Some(other) = others.next().map(NonNull::from) else {
                    return;
                };
                drop(others);
                // SAFETY: It is in this index.
                unsafe { change.take_out(other) };
            }
        }
    }

    /// Takes objects out, and calls `erased` for each that was there until now: that is with the
    /// index locked, soon after it was taken out. May sleep, and so may `erased`; the iterator must
    /// not.
    ///
    /// Lookups that begin after this has returned do not find them.
    ///
    /// # Safety
    ///
    /// They are valid, and each is in no other index.
    pub unsafe fn erase(
        &self,
        mut objects: impl Iterator<Item = NonNull<T>>,
        mut erased: impl FnMut(&T),
    ) {
        loop {
            let mut gone = [None; AT_A_TIME];
            let _writers = self.writers.lock();

            let mut looked_at = 0;
            {
                // INVARIANT: `writers` is locked.
                let mut change = self.tree.change();
                for (slot, object) in iter::zip(&mut gone, objects.by_ref()) {
                    // OVERFLOW: At most the length of the array.
                    looked_at += 1;
                    // SAFETY: By the safety requirements.
                    let was_there = unsafe { change.take_out(object) };
                    *slot = was_there.then_some(object);
                }
            }
            for object in gone.iter().flatten() {
                // SAFETY: By the safety requirements it is valid.
                erased(unsafe { object.as_ref() });
            }
            if looked_at < AT_A_TIME {
                return;
            }
        }
    }

    /// Locks the index: nobody changes it for as long as the answer lives. May sleep.
    pub fn lock(&self) -> Locked<'_, T> {
        Locked::new(self, self.writers.lock())
    }

    /// Calls `f` for the objects of the index in order of address. May sleep, and so may `f`, which
    /// must not change the index.
    pub fn for_each(&self, f: impl FnMut(&T)) {
        let writers = self.writers.lock();

        self.all_from(0, &writers).for_each(f);
    }

    /// As [`RangeIndex::for_each`], for the objects that have anything of `span`.
    pub fn for_each_within(&self, span: Span, f: impl FnMut(&T)) {
        let writers = self.writers.lock();

        self.within(span, &writers).for_each(f);
    }

    /// The objects that have anything at `addr` or behind it, in order of address.
    fn all_from<'a>(
        &'a self,
        addr: usize,
        _writers: &'a MutexGuard<'_, ()>,
    ) -> impl Iterator<Item = &'a T> {
        // SAFETY: By the type invariants nobody changes the tree while `writers` is locked.
        unsafe { self.tree.all_from(addr) }
    }

    /// The objects that have anything of `span`, in order of address.
    fn within<'a>(
        &'a self,
        span: Span,
        writers: &'a MutexGuard<'_, ()>,
    ) -> impl Iterator<Item = &'a T> {
        self.all_from(span.start(), writers)
            .take_while(move |object| object.span().start() < span.end())
    }
}
