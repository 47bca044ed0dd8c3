// SPDX-License-Identifier: GPL-2.0

//! The C interface of the managed level: a range that is held.

use super::{
    layout,
    object::{
        odp_range,
        Object, //
    },
    retire_result,
    to_errno, //
};
use crate::{
    hmm::HmmRange,
    may_block::MayBlock,
    mmu_interval::Interval,
    odp::{
        engine::outcome::{
            Changed,
            Retire, //
        },
        mirror::{
            access::{
                FaultError,
                Hold,
                Retry,
                Section, //
            },
            faults::FaultId,
            range::Range, //
        }, //
    },
    span::Span, //
};
use core::{
    arch::global_asm,
    ffi::c_void,
    mem::forget,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::code,
    ffi::{
        c_int,
        c_ulong, //
    },
    prelude::*, //
};

/// The interval behind what C calls a range.
///
/// # Safety
///
/// `range` came from this file, and is held for `'a`, or `'a` is within a call of `zap` for it.
pub(super) unsafe fn interval<'a>(range: *const odp_range) -> &'a Interval<Range<Object>> {
    // SAFETY: By the safety requirements it is one, and valid.
    unsafe { &*range.cast() }
}

/// Gives a hold to C.
pub(super) fn into_raw(hold: Hold<Object>) -> *mut odp_range {
    let range = NonNull::from(hold.interval()).cast().as_ptr();
    forget(hold);
    range
}

/// Takes a hold back from C.
///
/// # Safety
///
/// `range` came from [`into_raw`], and is used for this only once.
pub(super) unsafe fn from_raw(range: NonNull<odp_range>) -> Hold<Object> {
    // SAFETY: By the safety requirements the hold is the caller's to give.
    unsafe { Hold::new(range.cast()) }
}

layout! {
    "odp_section" = size_of::<Section>(),
}
const _: () = assert!(align_of::<Section>() <= align_of::<c_ulong>());

/// # Safety
///
/// The caller holds `range`, which ends here.
#[no_mangle]
unsafe extern "C" fn odp_range_put(range: NonNull<odp_range>) {
    // SAFETY: By the safety requirements the hold is the caller's, who gives it away.
    drop(unsafe { from_raw(range) });
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_start(range: *const odp_range) -> c_ulong {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    unsafe { interval(range) }.span().start()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_end(range: *const odp_range) -> c_ulong {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    unsafe { interval(range) }.span().end()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_shared(range: *const odp_range) -> *mut c_void {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    unsafe { interval(range) }.data().shared().data().0.shared
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_live(range: *const odp_range) -> bool {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    unsafe { interval(range) }.data().is_live()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_retire(range: *mut odp_range) -> c_int {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    let interval = unsafe { interval(range) };
    to_errno(retire_result(interval.data().retire()))
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_punch(range: *mut odp_range, start: c_ulong, end: c_ulong) -> c_int {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    let interval = unsafe { interval(range) };
    let punch = |span| interval.data().punch(interval.span(), span);
    to_errno(change(start, end, punch))
}

/// # Safety
///
/// As for [`interval`], and the caller may sleep.
#[no_mangle]
unsafe extern "C" fn odp_range_punch_unmapped(range: *mut odp_range) -> c_int {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    let interval = unsafe { interval(range) };
    to_errno(MayBlock::assume(|p| {
        interval.data().punch_unmapped(interval.span(), p)
    }))
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_resize(
    range: *mut odp_range,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    let interval = unsafe { interval(range) };
    let resize = |span| interval.data().resize(interval.span(), span);
    to_errno(change(start, end, resize))
}

/// # Safety
///
/// The caller holds `range`, and may sleep.
#[no_mangle]
unsafe extern "C" fn odp_range_grow(range: *mut odp_range, start: c_ulong, end: c_ulong) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    let grow = |span| MayBlock::assume(|p| interval.data().grow(interval.span(), span, p));
    to_errno(change(start, end, grow))
}

/// # Safety
///
/// The caller holds `range`.
#[no_mangle]
unsafe extern "C" fn odp_range_merge(range: *mut odp_range, start: c_ulong, end: c_ulong) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    let merge = |span| interval.data().merge(interval.span(), span);
    to_errno(change(start, end, merge))
}

fn change(start: usize, end: usize, f: impl FnOnce(Span) -> Result<Changed>) -> Result {
    f(Span::from_bounds(start, end)?)?.accepted()
}

/// # Safety
///
/// The caller holds `range`, which ends here.
#[no_mangle]
unsafe extern "C" fn odp_range_remove(range: NonNull<odp_range>) -> c_int {
    // SAFETY: By the safety requirements the hold is the caller's, who gives it away.
    let hold = unsafe { from_raw(range) };
    match MayBlock::assume(|p| hold.remove(p)) {
        Err(error) => error.to_errno(),
        Ok(Retire::Replaced) => code::ESTALE.to_errno(),
        // Whoever was first, it is removed.
        Ok(Retire::Queued | Retire::Already | Retire::Closed | Retire::Foreign) => 0,
    }
}

/// # Safety
///
/// The caller holds `range`, `hmm` is a valid `struct hmm_range` with an entry for each page, and
/// `section` memory for a `struct odp_section`. Nobody else uses either.
#[no_mangle]
unsafe extern "C" fn odp_range_fault(
    range: *mut odp_range,
    hmm: NonNull<HmmRange>,
    timeout: c_ulong,
    section: *mut Section,
) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    // SAFETY: By the safety requirements `hmm` is a valid `struct hmm_range`.
    let span = unsafe { Interval::<Range<Object>>::bounds_of(hmm) };
    let found = span.map_err(FaultError::Failed).and_then(|span| {
        MayBlock::assume(|p| {
            Section::of_fault(interval, span, p, |p| {
                // SAFETY: By the safety requirements `hmm` is valid, has an entry for each page,
                // and is used by nobody else.
                unsafe { interval.fault_for(hmm, timeout, p) }
            })
        })
    });
    // SAFETY: By the safety requirements.
    unsafe { begun(section, found) }
}

/// # Safety
///
/// The caller holds `range`, and `section` is memory for a `struct odp_section`.
#[no_mangle]
unsafe extern "C" fn odp_read_begin(
    range: *const odp_range,
    start: c_ulong,
    end: c_ulong,
    section: *mut Section,
) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    let found = Span::from_bounds(start, end)
        .map_err(|error| FaultError::Failed(error.into()))
        .and_then(|span| {
            MayBlock::assume(|p| Section::of_fault(interval, span, p, |p| interval.read_begin(p)))
        });
    // SAFETY: By the safety requirements.
    unsafe { begun(section, found) }
}

/// # Safety
///
/// `section` is memory for a `struct odp_section`.
unsafe fn begun(section: *mut Section, found: Result<Section, FaultError>) -> c_int {
    match found {
        Ok(found) => {
            // SAFETY: By the safety requirements it is memory for a `struct odp_section`, which is
            // as large: `layout!` has seen to it.
            unsafe { section.write(found) };
            0
        }
        Err(error) => Error::from(error).to_errno(),
    }
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_notifier(
    range: *mut odp_range,
) -> *mut bindings::mmu_interval_notifier {
    // SAFETY: By the safety requirements `range` is held, or its `zap` is being called.
    unsafe { interval(range) }.as_raw()
}

/// # Safety
///
/// The caller holds `range`, `section` is memory for a `struct odp_section`, and `notifier_seq`
/// was read from the notifier of `range`.
#[no_mangle]
unsafe extern "C" fn odp_section_adopt(
    range: *mut odp_range,
    section: *mut Section,
    notifier_seq: c_ulong,
) {
    let adopted = Section {
        // SAFETY: By the safety requirements the caller holds `range`.
        sequence: unsafe { interval(range) }.sequence(notifier_seq),
        fault: FaultId::NONE,
    };
    // SAFETY: By the safety requirements it is memory for a `struct odp_section`, which is as
    // large: `layout!` has seen to it.
    unsafe { section.write(adopted) };
}

/// # Safety
///
/// The caller holds `range`, and one of the functions that begin a section has filled in `section`.
#[no_mangle]
unsafe extern "C" fn odp_commit_begin(range: *const odp_range, section: *const Section) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    // SAFETY: By the safety requirements `section` has been filled in.
    let section = unsafe { section.read() };
    match section.commit(interval) {
        Ok(locked) => {
            // It is now the caller's to unlock.
            forget(locked);
            0
        }
        Err(retry @ (Retry::Gone | Retry::Collided)) => Error::from(retry).to_errno(),
    }
}

/// # Safety
///
/// The caller holds `range`, and one of the functions that begin a section has filled in `section`.
#[no_mangle]
unsafe extern "C" fn odp_section_abandon(range: *const odp_range, section: *const Section) {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    // SAFETY: By the safety requirements `section` has been filled in.
    unsafe { section.read() }.abandon(interval);
}

/// # Safety
///
/// `odp_commit_begin` has returned 0 for `range`, and this is called once for that.
#[no_mangle]
unsafe extern "C" fn odp_commit_end(range: *const odp_range) {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    // SAFETY: By the safety requirements the lock was left locked for the caller, who gives it
    // back.
    unsafe { interval.data().shared().lock().unlock() };
}

/// # Safety
///
/// The caller holds `range`.
#[no_mangle]
unsafe extern "C" fn odp_access_begin(range: *const odp_range) -> c_int {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    let locked = interval.data().shared().locked();
    if !interval.data().is_live() {
        return code::ESTALE.to_errno();
    }
    // It is now the caller's to unlock.
    forget(locked);
    0
}

/// # Safety
///
/// `odp_access_begin` has returned 0 for `range`, and this is called once for that.
#[no_mangle]
unsafe extern "C" fn odp_access_end(range: *const odp_range) {
    // SAFETY: By the safety requirements the caller holds `range`.
    let interval = unsafe { interval(range) };
    // SAFETY: By the safety requirements the lock was left locked for the caller, who gives it
    // back.
    unsafe { interval.data().shared().lock().unlock() };
}
