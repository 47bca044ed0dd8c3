// SPDX-License-Identifier: GPL-2.0

//! Lists of requests, first in, first out.
//!
//! `kernel::list` owns its elements through `Arc`. A request may as well be embedded in an object
//! of a C driver, so that this list is linked through [`Request`] itself and owns nothing.

use super::request::Request;
use core::ptr::{
    self,
    NonNull, //
};

/// A list of requests.
///
/// # Invariants
///
/// - `head` and `tail` are both null, or the ends of a chain of `len` valid requests, linked by
///   `link.next` and ended by null.
/// - The links of those requests are accessed through this list only.
pub(crate) struct Fifo {
    head: *mut Request,
    tail: *mut Request,
    len: usize,
}

// SAFETY: Requests are `Send`, and by the type invariants their links are accessed through the list
// only, wherever that is.
unsafe impl Send for Fifo {}

impl Fifo {
    pub(crate) const fn new() -> Self {
        // INVARIANT: No requests, no chain.
        Self {
            head: ptr::null_mut(),
            tail: ptr::null_mut(),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Appends `request`.
    ///
    /// # Safety
    ///
    /// It is valid until it has left this list (and those its content is moved to), and its link
    /// belongs to the caller.
    pub(crate) unsafe fn push(&mut self, request: NonNull<Request>) {
        // SAFETY: By the safety requirements the request is valid and its link the caller's.
        unsafe { Request::link(request) }.next = ptr::null_mut();
        // INVARIANT: A chain of one, which ends with null; the caller gives the link away.
        self.append(Fifo {
            head: request.as_ptr(),
            tail: request.as_ptr(),
            len: 1,
        });
    }

    /// Appends everything that is on `other`.
    pub(crate) fn append(&mut self, other: Fifo) {
        if other.is_empty() {
            return;
        }
        match NonNull::new(self.tail) {
            None => self.head = other.head,
            Some(tail) => {
                // SAFETY: By the type invariants the tail is valid and its link the list's.
                unsafe { Request::link(tail) }.next = other.head;
            }
        }
        // INVARIANT: The chain of `other` follows that of `self`, and it has no other list now.
        self.tail = other.tail;
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.len += other.len;
    }

    /// Takes the first request out.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Request>> {
        let first = NonNull::new(self.head)?;
        // INVARIANT: What follows the first one is a chain, too; and with its end it is none.
        //
        // SAFETY: By the type invariants the head is valid and its link the list's.
        self.head = unsafe { Request::link(first) }.next;
        if self.head.is_null() {
            self.tail = ptr::null_mut();
        }
        // OVERFLOW: It had an element.
        self.len -= 1;
        Some(first)
    }

    /// Takes the first `n` out, or as many as there are, as a list.
    pub(crate) fn take_first(&mut self, n: usize) -> Fifo {
        let mut first = Fifo::new();
        for _ in 0..n {
            let Some(request) = self.pop() else { break };
            // SAFETY: It was on this list, so that by the type invariants it is valid. Having been
            // taken out just now it is on no list, and its link this function's.
            unsafe { first.push(request) };
        }
        first
    }

    /// Takes everything out, as a list.
    pub(crate) fn take(&mut self) -> Fifo {
        core::mem::replace(self, Fifo::new())
    }

    /// The requests in order, without taking them out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = NonNull<Request>> + '_ {
        let mut next = self.head;
        core::iter::from_fn(move || {
            let this = NonNull::new(next)?;
            // SAFETY: By the type invariants it is valid and its link ours; `self` is borrowed, so
            // that it stays so.
            next = unsafe { Request::link(this) }.next;
            Some(this)
        })
    }
}
