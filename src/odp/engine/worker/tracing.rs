// SPDX-License-Identifier: GPL-2.0

//! What whoever traces is told of objects, and the moments that are measured from.
//!
//! None of this is called where nobody listens.

use super::Worker;
use crate::odp::engine::{
    latency::Moment,
    queues::Queues,
    request::Request,
    trace::{
        self,
        Asked,
        Subject, //
    }, //
};
use core::{
    ffi::c_void,
    ptr::NonNull, //
};

impl Worker {
    /// This worker.
    pub(super) fn subject(&self) -> Subject<'_> {
        let mm = self.mm.as_deref().map_or(core::ptr::null(), |mm| {
            mm.as_raw().cast_const().cast::<c_void>()
        });
        Subject::of_worker(&self.name, mm)
    }

    /// An object of its.
    ///
    /// # Safety
    ///
    /// `request` is that of an object which the worker's tables of functions are for, and which has
    /// not been released.
    pub(super) unsafe fn subject_of(&self, request: NonNull<Request>) -> Subject<'_> {
        // SAFETY: By the safety requirements the table may be called with it.
        let span = self.mirror.map(|mirror| unsafe { (mirror.span)(request) });
        self.subject().with_object(request, span)
    }

    /// Tells whoever traces that something has been asked of an object, and notes when, if it has
    /// been `queued`.
    ///
    /// Takes one branch where nobody traces: this is in callbacks.
    ///
    /// # Safety
    ///
    /// As for [`Worker::trace_request_now`].
    #[inline(always)]
    pub(super) unsafe fn trace_request(
        &self,
        queues: &mut Queues,
        request: NonNull<Request>,
        queued: bool,
        asked: impl FnOnce() -> Asked,
    ) {
        if trace::request::is_on() {
            // SAFETY: By the safety requirements.
            unsafe { self.trace_request_now(queues, request, queued, asked()) };
        }
    }

    /// The same, where somebody does.
    ///
    /// # Safety
    ///
    /// As for [`Worker::subject_of`]; and if it has been queued, that was done with `queues`
    /// locked as it is now.
    #[cold]
    #[inline(never)]
    unsafe fn trace_request_now(
        &self,
        _queues: &mut Queues,
        request: NonNull<Request>,
        queued: bool,
        asked: Asked,
    ) {
        if queued {
            // SAFETY: By the safety requirements it is on a list of the queues, which are locked.
            unsafe { Self::note_queued(request) };
        }
        // SAFETY: By the safety requirements it has not been released.
        let of = unsafe { self.subject_of(request) };
        let (start, end) = match asked.span {
            None => of.bounds(),
            span => trace::bounds(span),
        };
        trace::request::emit(&of, asked.what as u32, start, end);
    }

    /// Notes when an object is queued: now.
    ///
    /// # Safety
    ///
    /// It is valid, and its link belongs to the caller, or to a list that the caller has locked.
    #[cold]
    pub(super) unsafe fn note_queued(request: NonNull<Request>) {
        // SAFETY: By the safety requirements it is valid, and nobody else accesses the link.
        unsafe { Request::link(request) }.since = Moment::now();
    }

    /// Tells that `pieces` others are in the place of a range.
    ///
    /// # Safety
    ///
    /// As for [`Worker::subject_of`].
    #[inline(never)] // The tracepoint is not exported, and generic code of drivers calls this.
    pub(crate) unsafe fn trace_replaced(&self, request: NonNull<Request>, pieces: usize) {
        if trace::replace::is_on() {
            // SAFETY: By the safety requirements it has not been released.
            trace::replace::emit(&unsafe { self.subject_of(request) }, pieces);
        }
    }

    /// Tells of one of those.
    ///
    /// # Safety
    ///
    /// As for [`Worker::subject_of`].
    #[inline(never)] // As above.
    pub(crate) unsafe fn trace_piece(&self, request: NonNull<Request>) {
        if trace::piece::is_on() {
            // SAFETY: By the safety requirements it has not been released.
            trace::piece::emit(&unsafe { self.subject_of(request) });
        }
    }
}
