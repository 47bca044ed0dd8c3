// SPDX-License-Identifier: GPL-2.0

//! The events that say where time goes, as `trace.h` has them.
//!
//! An event that is off is a branch that is not taken: where the kernel patches its text for that,
//! an instruction that does nothing. It is found out here, so that nothing is called and nothing
//! worked out for it. A kernel without tracepoints has not even the branch.
//!
//! [`kernel::declare_trace`] is for tracepoints that the kernel crate has bindings of, which the
//! library, where it is a module, has not.

use crate::span::Span;
use core::{
    ffi::c_void,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    ffi::{
        c_char,
        c_int, //
    },
    prelude::*, //
};

/// `struct odp_subject`: what an event is about.
///
/// # Invariants
///
/// `name` is a string that is valid for `'a`. The other addresses are but numbers.
#[repr(C)]
pub(crate) struct Subject<'a> {
    name: *const c_char,
    mm: *const c_void,
    object: *const c_void,
    start: usize,
    end: usize,
    _name: PhantomData<&'a CStr>,
}

impl<'a> Subject<'a> {
    /// The worker of that name, for the address space whose `mm_struct` has that address.
    pub(crate) fn of_worker(name: &'a CStr, mm: *const c_void) -> Self {
        // INVARIANT: It is borrowed for `'a`.
        Self {
            name: name.as_char_ptr(),
            mm,
            object: core::ptr::null(),
            start: 0,
            end: 0,
            _name: PhantomData,
        }
    }

    /// An object of that worker's, at `span` if that is known.
    pub(crate) fn with_object<T>(self, object: NonNull<T>, span: Option<Span>) -> Self {
        let (start, end) = bounds(span);
        Self {
            object: object.as_ptr().cast_const().cast(),
            start,
            end,
            ..self
        }
    }

    /// Where the object begins and ends; both 0 if that is not known.
    pub(crate) fn bounds(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

/// Where `span` begins and ends; both 0 if it is not known.
pub(crate) fn bounds(span: Option<Span>) -> (usize, usize) {
    span.map_or((0, 0), |span| (span.start(), span.end()))
}

/// What is asked for, as `odp_show_asked` of `trace.h` has it.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// All of it is to go.
    Retire = 0,
    /// What is unmapped is to go.
    Punch = 1,
    /// No more than this is to stay, or it is to be just this.
    Resize = 2,
    /// What has been asked for earlier is to be done.
    Change = 3,
    /// It is to become one with its neighbours, as far as they lie in this.
    Merge = 4,
}

/// What is asked for, and for which addresses: if none are named, for those of the object.
pub(crate) struct Asked {
    pub(crate) what: What,
    pub(crate) span: Option<Span>,
}

impl Asked {
    /// That all of it is to go.
    pub(crate) const ALL: Self = Self {
        what: What::Retire,
        span: None,
    };
}

impl What {
    /// This, for `span`.
    pub(crate) fn to(self, span: Span) -> Asked {
        Asked {
            what: self,
            span: Some(span),
        }
    }
}

/// Declares a module for each event, with `is_on()` and `emit()`.
macro_rules! events {
    ($($(#[$doc:meta])* $event:ident($($arg:ident: $type:ty),*);)*) => { kernel::macros::paste! {
        #[cfg(CONFIG_TRACEPOINTS)]
        mod shim {
            use super::Subject;

            // SAFETY: The tracepoints are those that trace.c makes, and the prototypes are those
            // that trace.h declares for them. The functions read the subject, which by its
            // invariants can be read, during the call.
            #[allow(
                improper_ctypes,
                reason = "some structs of the bindings have no fields in some kernels"
            )]
            unsafe extern "C" {
                $(
                    pub(super) static mut [<__tracepoint_odp_ $event>]: kernel::bindings::tracepoint;
                    pub(super) safe fn [<rust_do_trace_odp_ $event>](
                        of: &Subject<'_>, $($arg: $type),*
                    );
                )*
            }
        }

        $(
            $(#[$doc])*
            pub(crate) mod $event {
                use super::*;

                /// Whether anybody listens. Context: any.
                #[inline(always)]
                pub(crate) fn is_on() -> bool {
                    #[cfg(CONFIG_TRACEPOINTS)]
                    {
                        // SAFETY: It is a tracepoint, and each has a static key.
                        unsafe {
                            kernel::jump_label::static_branch_unlikely!(
                                shim::[<__tracepoint_odp_ $event>],
                                kernel::bindings::tracepoint,
                                key
                            )
                        }
                    }
                    #[cfg(not(CONFIG_TRACEPOINTS))]
                    {
                        false
                    }
                }

                /// Tells whoever listens. Context: any but an NMI.
                #[inline(always)]
                pub(crate) fn emit(of: &Subject<'_>, $($arg: $type),*) {
                    if is_on() {
                        #[cfg(CONFIG_TRACEPOINTS)]
                        shim::[<rust_do_trace_odp_ $event>](of, $($arg),*);
                        #[cfg(not(CONFIG_TRACEPOINTS))]
                        let _ = (of, $($arg),*);
                    }
                }
            }
        )*
    } };
}

events! {
    /// Somebody has asked for something.
    request(what: u32, asked_start: usize, asked_end: usize);
    /// What has been asked for has been taken.
    batch(retired: usize, changing: usize, replaced: usize, drained: bool);
    /// A grace period is waited for.
    grace_begin();
    /// It is over.
    grace_end();
    /// A notifier is being removed.
    remove_begin();
    /// It has been removed.
    remove_end(waited: bool);
    /// The driver's release is called.
    release_begin();
    /// It has returned.
    release_end();
    /// Others are in the place of a range.
    replace(pieces: usize);
    /// One of those.
    piece();
}

// The prototype is that of trace.c.
unsafe extern "C" {
    safe fn odp_request_probe(on: bool) -> c_int;
}

/// Has [`request::is_on`] answer that it is, whoever else listens, or takes that back. Not more
/// often than once in a row: the caller sees to it.
///
/// Context: may sleep.
///
/// # Errors
///
/// `EOPNOTSUPP` if the kernel has no tracepoints, `ENOMEM`.
pub(super) fn watch_requests(on: bool) -> Result {
    to_result(odp_request_probe(on))
}
