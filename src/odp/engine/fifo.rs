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

// SAFETY: Requests may be taken out in another task than they were queued in.
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
        // SAFETY: By the safety requirements the link is the caller's.
        unsafe { (*request.as_ref().link.get()).next = ptr::null_mut() };
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
        if self.tail.is_null() {
            self.head = other.head;
        } else {
            // SAFETY: By the type invariants the tail is valid and its link ours.
            unsafe { (*(*self.tail).link.get()).next = other.head };
        }
        // INVARIANT: The chain of `other` follows that of `self`, and it has no other list now.
        self.tail = other.tail;
        // OVERFLOW: There cannot be as many requests as there are bytes.
        self.len += other.len;
    }

    /// Takes the first request out.
    pub(crate) fn pop(&mut self) -> Option<NonNull<Request>> {
        let first = NonNull::new(self.head)?;
        // SAFETY: By the type invariants the head is valid and its link ours.
        self.head = unsafe { (*first.as_ref().link.get()).next };
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
            // SAFETY: By the type invariants it is valid, and as it has just been taken out its link is ours.
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
            next = unsafe { (*this.as_ref().link.get()).next };
            Some(this)
        })
    }
}
