// SPDX-License-Identifier: GPL-2.0

//! The C interface of the retire level.

use super::{
    layout,
    retire_result,
    to_errno,
    until_from_raw, //
    wakeup_delay_from_raw,
};
use crate::{
    may_block::MayBlock,
    mmu_interval,
    odp::engine::{
        callbacks::RequestOps,
        request::{
            Link,
            Request,
            Tickets, //
        },
        state::State,
        stats::Snapshot,
        worker::{
            OwnedWorker,
            WakeupConfig,
            Worker, //
        }, //
    }, //
};
use core::{
    arch::global_asm,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::{
        c_char,
        c_int,
        c_uint, //
    },
    mm::Mm,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        SpinLock, //
    }, //
};

const LINK: usize = offset_of!(Request, link);
const TICKETS: usize = LINK + offset_of!(Link, tickets);

// The size and what is before and behind `link` leave one place only for the members that are
// private to the request.
layout! {
    "odp_request" = size_of::<Request>(),
    "odp_request.lock.size" = size_of::<SpinLock<()>>(),
    "odp_request.link" = LINK,
    "odp_request.link.next" = LINK + offset_of!(Link, next),
    "odp_request.link.tickets.removed" = TICKETS + offset_of!(Tickets, removed),
    "odp_request.link.tickets.released" = TICKETS + offset_of!(Tickets, released),
    "odp_request.link.has_waited" = LINK + offset_of!(Link, has_waited),
    "odp_request.link.since" = LINK + offset_of!(Link, since),

    "odp_retirer_ops" = size_of::<RequestOps>(),
    "odp_retirer_ops.owner" = offset_of!(RequestOps, owner),
    "odp_retirer_ops.unpublish" = offset_of!(RequestOps, unpublish),
    "odp_retirer_ops.remove" = offset_of!(RequestOps, remove),
    "odp_retirer_ops.release" = offset_of!(RequestOps, release),

    "odp_retirer_config" = size_of::<RetirerConfig>(),
    "odp_retirer_config.mm" = offset_of!(RetirerConfig, mm),
    "odp_retirer_config.wakeup_delay_us" = offset_of!(RetirerConfig, wakeup_delay_us),
    "odp_retirer_config.expedited" = offset_of!(RetirerConfig, expedited),
}

/// `struct odp_retirer_config`, in which 0 stands for the default.
#[repr(C)]
struct RetirerConfig {
    mm: *mut bindings::mm_struct,
    wakeup_delay_us: c_uint,
    expedited: bool,
}

/// `struct odp_retirer`: in a box from `odp_retirer_create` to `odp_retirer_shutdown`.
struct CRetirer {
    worker: OwnedWorker,
}

impl CRetirer {
    fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// Whether `request` belongs to this retirer; one that belongs to none does from now on.
    fn owns(&self, request: &Request) -> bool {
        self.worker.owns(request)
    }
}

/// # Safety
///
/// `name` is a string; `ops` stays valid and unchanged until the retirer has been shut down, as
/// does the text of its functions. `config` is null or valid during the call, as is the `mm` in it.
#[no_mangle]
unsafe extern "C" fn odp_retirer_create(
    name: *const c_char,
    ops: *const RequestOps,
    config: *const RetirerConfig,
) -> *mut CRetirer {
    // SAFETY: By the safety requirements it is a string, which outlives the call.
    let name = unsafe { CStr::from_char_ptr(name) };
    // SAFETY: By the safety requirements it is valid for as long as the worker uses it, though not
    // for ever: nothing but the worker gets this reference.
    let ops: &'static RequestOps = unsafe { &*ops };

    // SAFETY: By the safety requirements it is valid unless it is null.
    let config = unsafe { config.as_ref() };
    let wakeup = config.map_or_else(WakeupConfig::default, |config| WakeupConfig {
        wakeup_delay: wakeup_delay_from_raw(config.wakeup_delay_us),
        expedited: config.expedited,
        mm: (!config.mm.is_null()).then(|| {
            // SAFETY: By the safety requirements it is valid during the call.
            ARef::from(unsafe { Mm::from_raw(config.mm) })
        }),
    });

    let retirer = OwnedWorker::new(name, ops, None, wakeup)
        .and_then(|worker| Ok(KBox::new(CRetirer { worker }, GFP_KERNEL_ACCOUNT)?));
    match retirer {
        Ok(retirer) => KBox::into_raw(retirer),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// `retirer` is null, or comes from `odp_retirer_create` and is not used during the call or after.
#[no_mangle]
unsafe extern "C" fn odp_retirer_shutdown(retirer: *mut CRetirer) {
    if retirer.is_null() {
        return;
    }
    // SAFETY: By the safety requirements `odp_retirer_create` gave it away, and it is ours now.
    let retirer = unsafe { KBox::from_raw(retirer) };
    MayBlock::assume(|p| retirer.worker.shutdown(p, || true));
}

/// # Safety
///
/// `request` is memory for a request that nobody uses.
unsafe fn init(request: *mut Request, state: State) {
    // SAFETY: By the safety requirements the memory is ours to write. C does not move what it
    // embeds a lock in. There is no destructor that would have to run.
    unsafe { pin_init::raw_init(request, Request::in_state(state)) };
}

/// # Safety
///
/// `request` is memory for a request that nobody uses.
#[no_mangle]
unsafe extern "C" fn odp_request_init(request: *mut Request) {
    // SAFETY: By the safety requirements it is memory for a request, which nobody uses.
    unsafe { init(request, State::live()) };
}

/// # Safety
///
/// `request` is memory for a request that nobody uses.
#[no_mangle]
unsafe extern "C" fn odp_request_init_building(request: *mut Request) {
    // SAFETY: By the safety requirements it is memory for a request, which nobody uses.
    unsafe { init(request, State::building(1)) };
}

/// # Safety
///
/// `request` was made by `odp_request_init_building`, the caller has the hold it was made with, and
/// what `odp_retire` wants of it is so. `retirer` has not been shut down, and is not during the
/// call.
#[no_mangle]
unsafe extern "C" fn odp_publish(retirer: *const CRetirer, request: NonNull<Request>) -> c_int {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements the caller has a hold, and nothing that is held is
    // released.
    if !retirer.owns(unsafe { request.as_ref() }) {
        return EXDEV.to_errno();
    }
    // SAFETY: By the safety requirements it is that of an object which the worker's functions are
    // for. The hold keeps it during the call, and whoever has retired it has promised that it is
    // valid until its release.
    unsafe { Worker::publish(retirer.worker().as_arc_borrow(), request) };
    0
}

/// # Safety
///
/// `request` is that of an object which the retirer's functions are for. It is valid during the
/// call and, if it is not retired yet, until its release. `retirer` has not been shut down, and is
/// not during the call.
#[no_mangle]
unsafe extern "C" fn odp_retire(retirer: *const CRetirer, request: NonNull<Request>) -> c_int {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements it is valid during the call.
    if !retirer.owns(unsafe { request.as_ref() }) {
        return EXDEV.to_errno();
    }
    // SAFETY: By the safety requirements it is that of an object which the worker's functions are
    // for, and valid for as long as that takes; it belongs to this worker, as has just been found.
    // The retirer, and so the worker, is not shut down during the call.
    let retire = unsafe { Worker::retire(retirer.worker().as_arc_borrow(), request) };
    to_errno(retire_result(retire))
}

/// # Safety
///
/// `request` is that of an object whose `remove` the caller is in, and `notifier` is inserted and
/// not removed by anybody else.
#[no_mangle]
unsafe extern "C" fn odp_remove_notifier(
    request: *const Request,
    notifier: *mut bindings::mmu_interval_notifier,
) {
    // SAFETY: By the safety requirements the notifier is inserted, and nobody else removes it.
    let has_waited = MayBlock::assume(|p| unsafe { mmu_interval::remove_raw(notifier, p) });
    // SAFETY: By the safety requirements the caller is in the object's `remove`, and its release
    // comes later.
    let request = unsafe { &*request };
    // SAFETY: By the safety requirements a worker is calling `remove` for this request.
    unsafe { request.note_wait(has_waited) };
}

/// # Safety
///
/// `request` is valid.
#[no_mangle]
unsafe extern "C" fn odp_request_live(request: *const Request) -> bool {
    // SAFETY: By the safety requirements it is valid.
    unsafe { &*request }.state().is_live()
}

/// # Safety
///
/// `request` is valid during the call. `retirer` has not been shut down, and is not during the
/// call.
#[no_mangle]
unsafe extern "C" fn odp_hold(retirer: *const CRetirer, request: *const Request) -> bool {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements it is valid during the call.
    retirer.worker().hold(unsafe { &*request })
}

/// # Safety
///
/// The caller has a hold of `request`, which ends here. `retirer` has not been shut down: that
/// waits for the release, which this hold delays.
#[no_mangle]
unsafe extern "C" fn odp_put(retirer: *const CRetirer, request: NonNull<Request>) {
    // SAFETY: By the safety requirements `retirer` is valid, until the hold ends.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements the caller has a hold, which is one that `Worker::hold`
    // has begun or that the request was made with, and it ends here.
    unsafe { Worker::put(retirer.worker().as_arc_borrow(), request) };
}

/// # Safety
///
/// `retirer` has not been shut down, and is not before the section has ended.
#[no_mangle]
unsafe extern "C" fn odp_read_lock(retirer: *const CRetirer) -> c_int {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: The domain is initialised and lives as long as the worker.
    unsafe { bindings::srcu_read_lock(retirer.worker().srcu()) }
}

/// # Safety
///
/// `idx` was returned by `odp_read_lock` in this task, and not passed to this function before.
/// `retirer` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_read_unlock(retirer: *const CRetirer, idx: c_int) {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements `idx` is that of a section of this domain's which this
    // task is in.
    unsafe { bindings::srcu_read_unlock(retirer.worker().srcu(), idx) };
}

/// # Safety
///
/// `retirer` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_drain(retirer: *const CRetirer) -> usize {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    MayBlock::assume(|p| Worker::drain(retirer.worker().as_arc_borrow(), p))
}

/// # Safety
///
/// `retirer` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_flush(retirer: *const CRetirer, until: c_uint) -> c_int {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    let until = until_from_raw(until);
    to_errno(MayBlock::assume(|p| {
        Worker::flush(retirer.worker().as_arc_borrow(), until, p)
    }))
}

/// # Safety
///
/// The caller has a hold of `request`. `retirer` has not been shut down, and is not during the
/// call.
#[no_mangle]
unsafe extern "C" fn odp_wait_removed(retirer: *const CRetirer, request: *const Request) -> c_int {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements the caller has a hold, and nothing that is held is
    // released.
    let request = unsafe { &*request };
    if !retirer.owns(request) {
        return EXDEV.to_errno();
    }
    // Nobody might ever retire it, or publish it.
    if !request.state().is_leaving() {
        return EINVAL.to_errno();
    }
    to_errno(MayBlock::assume(|p| {
        Worker::wait_removed(retirer.worker().as_arc_borrow(), request, p)
    }))
}

/// # Safety
///
/// `stats` is memory for a `struct odp_stats`. `retirer` has not been shut down, and is not during
/// the call.
#[no_mangle]
unsafe extern "C" fn odp_retirer_stats(retirer: *const CRetirer, stats: *mut Snapshot) {
    // SAFETY: By the safety requirements `retirer` is valid: it is not shut down during the call.
    let retirer = unsafe { &*retirer };
    // SAFETY: By the safety requirements it is memory for a `struct odp_stats`, which is laid out
    // like this: `layout!` has seen to it.
    unsafe { stats.write(retirer.worker().stats().snapshot()) };
}
