// SPDX-License-Identifier: GPL-2.0

//! The C interface of the managed level: a [`Mirror`] of objects that are the C driver's.

use super::{
    layout,
    object::{
        odp_range,
        CMirrorOps,
        Calls,
        Driver,
        Lock,
        Object, //
    },
    range::{
        from_raw,
        into_raw, //
    },
    to_errno,
    until_from_raw, //
    wakeup_delay_from_raw,
};
use crate::{
    may_block::MayBlock,
    mmu_interval::EventOwner,
    module_ref::ModuleRef,
    odp::{
        engine::stats::Snapshot,
        mirror::{
            shared::Shared,
            Config,
            Mirror, //
        }, //
    },
    span::Span, //
};
use core::{
    arch::global_asm,
    ffi::c_void,
    mem::offset_of,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_uint,
        c_ulong, //
    },
    mm::MmWithUser,
    prelude::*,
    sync::Arc, //
};

/// `struct odp_mirror_config`, in which 0 stands for the default.
#[repr(C)]
struct MirrorConfig {
    max_ranges: usize,
    grain: usize,
    owner: *mut c_void,
    wakeup_delay_us: c_uint,
    expedited: bool,
}

impl From<&MirrorConfig> for Config {
    fn from(raw: &MirrorConfig) -> Self {
        let mut config = Config {
            wakeup_delay: wakeup_delay_from_raw(raw.wakeup_delay_us),
            expedited: raw.expedited,
            owner: NonNull::new(raw.owner).map(EventOwner::new),
            ..Config::default()
        };
        if raw.max_ranges != 0 {
            config.max_ranges = raw.max_ranges;
        }
        if raw.grain != 0 {
            config.grain = raw.grain;
        }
        config
    }
}

layout! {
    "odp_mirror_config" = size_of::<MirrorConfig>(),
    "odp_mirror_config.max_ranges" = offset_of!(MirrorConfig, max_ranges),
    "odp_mirror_config.grain" = offset_of!(MirrorConfig, grain),
    "odp_mirror_config.owner" = offset_of!(MirrorConfig, owner),
    "odp_mirror_config.wakeup_delay_us" = offset_of!(MirrorConfig, wakeup_delay_us),
    "odp_mirror_config.expedited" = offset_of!(MirrorConfig, expedited),
}

/// `struct odp_mirror`: in a box from `odp_mirror_create` to `odp_mirror_shutdown`.
struct CMirror {
    // Goes first: after that nothing of the driver's is called.
    mirror: Mirror<Object>,
    calls: Arc<Calls>,
    _module: ModuleRef,
}

/// # Safety
///
/// `mm` has users during the call. `ops` is valid during the call, and its functions keep to the
/// contract of the header until the mirror has been shut down. `config` is null or valid during the
/// call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_create(
    mm: *mut bindings::mm_struct,
    ops: *const CMirrorOps,
    config: *const MirrorConfig,
) -> *mut CMirror {
    // SAFETY: By the safety requirements it has users during the call.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    // SAFETY: By the safety requirements it is valid during the call.
    let ops = unsafe { &*ops };
    // SAFETY: By the safety requirements it is null or valid during the call.
    let config = unsafe { config.as_ref() }.map_or_else(Config::default, Config::from);
    match create(mm, ops, config) {
        Ok(mirror) => KBox::into_raw(mirror),
        Err(error) => error.to_ptr(),
    }
}

fn create(mm: &MmWithUser, ops: &CMirrorOps, config: Config) -> Result<KBox<CMirror>> {
    let calls = Arc::new(Calls::new(ops).ok_or(EINVAL)?, GFP_KERNEL_ACCOUNT)?;
    // SAFETY: A driver is at least being initialised when it passes a table of its own.
    let module = unsafe { ModuleRef::get(ops.owner) }?;
    let mirror = MayBlock::assume(|p| Mirror::new(mm, config, p))?;
    Ok(KBox::new(
        CMirror {
            mirror,
            calls,
            _module: module,
        },
        GFP_KERNEL_ACCOUNT,
    )?)
}

/// # Safety
///
/// `mirror` is null, or comes from `odp_mirror_create` and is not used during the call or after.
#[no_mangle]
unsafe extern "C" fn odp_mirror_shutdown(mirror: *mut CMirror) {
    if mirror.is_null() {
        return;
    }
    // SAFETY: By the safety requirements `odp_mirror_create` gave it away, and it is ours now.
    let mirror = unsafe { KBox::from_raw(mirror) };
    MayBlock::assume(|p| mirror.mirror.shutdown(p));
}

/// # Safety
///
/// `shared` is valid during the call, and may be passed to the functions of the mirror until the
/// range has been released. `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_range_insert(
    mirror: *const CMirror,
    start: c_ulong,
    len: c_ulong,
    shared: *mut c_void,
) -> *mut odp_range {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    // INVARIANT: By the safety requirements.
    let driver = || Driver {
        shared,
        calls: mirror.calls.clone(),
    };
    // SAFETY: By the safety requirements `shared` is valid during the call.
    let object = unsafe { Object::new(driver()) };
    let inserted = Span::new(start, len).map_err(Error::from).and_then(|span| {
        let shared = Shared::new::<Error>(Ok(object), Ok(Lock(driver())));
        let shared = mirror
            .mirror
            .charged(|| Arc::pin_init(shared, GFP_KERNEL_ACCOUNT))?;
        let hold = MayBlock::assume(|p| mirror.mirror.insert(span, shared, p))?;
        Ok(hold)
    });
    match inserted {
        Ok(hold) => into_raw(hold),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_range_lookup(mirror: *const CMirror, addr: c_ulong) -> *mut odp_range {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    MayBlock::assume(|p| mirror.mirror.get(addr, p)).map_or(ptr::null_mut(), into_raw)
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_range_first(
    mirror: *const CMirror,
    start: c_ulong,
    end: c_ulong,
) -> *mut odp_range {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    first_within(unsafe { &*mirror }, start, end)
}

/// # Safety
///
/// As for `odp_range_first`, and the caller holds `range`, which ends here.
#[no_mangle]
unsafe extern "C" fn odp_range_next(
    mirror: *const CMirror,
    range: NonNull<odp_range>,
    end: c_ulong,
) -> *mut odp_range {
    // SAFETY: By the safety requirements the hold is the caller's, who gives it away.
    let start = unsafe { from_raw(range) }.span().end();
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    first_within(unsafe { &*mirror }, start, end)
}

/// Holds the first range in service that has anything of the bytes `start..end`.
fn first_within(mirror: &CMirror, start: usize, end: usize) -> *mut odp_range {
    // Bytes that are not in any span have no range, for no range ends behind the last one that is.
    let Some(span) = Span::ALL.clip(start, end) else {
        return ptr::null_mut();
    };
    MayBlock::assume(|p| mirror.mirror.walk(span).get_next(p)).map_or(ptr::null_mut(), into_raw)
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_drain(mirror: *const CMirror) -> usize {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    MayBlock::assume(|p| mirror.mirror.drain(p))
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_flush(mirror: *const CMirror, until: c_uint) -> c_int {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    to_errno(MayBlock::assume(|p| {
        mirror.mirror.flush(until_from_raw(until), p)
    }))
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_retire_all(mirror: *const CMirror) {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    mirror.mirror.retire_all();
}

/// # Safety
///
/// `stats` is memory for a `struct odp_stats`. `mirror` has not been shut down, and is not during
/// the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_stats(mirror: *const CMirror, stats: *mut Snapshot) {
    // SAFETY: By the safety requirements `mirror` is valid: it is not shut down during the call.
    let mirror = unsafe { &*mirror };
    // SAFETY: By the safety requirements it is memory for a `struct odp_stats`, which is laid out
    // like this: `layout!` has seen to it.
    unsafe { stats.write(mirror.mirror.stats()) };
}
