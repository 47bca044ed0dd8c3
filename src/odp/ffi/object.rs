// SPDX-License-Identifier: GPL-2.0

//! The C interface of the managed level: the driver's object, its functions and its lock.
//!
//! What a [`Mirrored`] object's types say in Rust is the driver's contract here: that what it does
//! is done under its lock, and that its functions are there while the mirror is.

use super::layout;
use crate::{
    mmu_interval::Event,
    odp::{
        engine::callbacks::WorkerContext,
        mirror::{
            driver::{
                Mirrored,
                MirroredOps, //
            },
            invalidation::{
                Handled,
                Invalidation, //
            },
            shared::{
                sealed,
                Shared,
                UserLock, //
            }, //
        }, //
    },
    span::Span, //
};
use core::{
    arch::global_asm,
    ffi::c_void,
    mem::offset_of,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    ffi::{
        c_int,
        c_uint,
        c_ulong, //
    },
    prelude::*,
    sync::Arc,
    types::NotThreadSafe, //
};

/// A range, as C sees it: the address of an `Interval<Range<Object>>`.
///
/// The name is that of the struct in C, which kCFI compares.
#[allow(non_camel_case_types)]
#[repr(C)]
pub(super) struct odp_range {
    _opaque: [u8; 0],
}

/// `struct odp_span`; named like it for the same reason.
#[allow(non_camel_case_types)]
#[repr(C)]
pub(super) struct odp_span {
    start: c_ulong,
    end: c_ulong,
}

// `Span` is `repr(C)`, too, with the same members in the same order.
const _: () = assert!(size_of::<odp_span>() == size_of::<Span>());
const _: () = assert!(align_of::<odp_span>() == align_of::<Span>());

type SharedFn = unsafe extern "C" fn(*mut c_void);
type TryLockFn = unsafe extern "C" fn(*mut c_void) -> bool;
type ZapFn = unsafe extern "C" fn(*mut c_void, *mut odp_range, c_ulong, c_ulong, c_uint) -> c_int;
type SpanFn = unsafe extern "C" fn(*mut c_void, c_ulong, c_ulong);
type ReplacedFn = unsafe extern "C" fn(*mut c_void, c_ulong, c_ulong, *const odp_span, usize);

/// `struct odp_mirror_ops`.
#[repr(C)]
pub(super) struct CMirrorOps {
    pub(super) owner: *mut bindings::module,
    lock: Option<SharedFn>,
    trylock: Option<TryLockFn>,
    unlock: Option<SharedFn>,
    zap: Option<ZapFn>,
    zap_dead: Option<SpanFn>,
    zapped: Option<SpanFn>,
    replaced: Option<ReplacedFn>,
    released: Option<SpanFn>,
    get: Option<SharedFn>,
    put: Option<SharedFn>,
    zap_sleeps: bool,
}

layout! {
    "odp_mirror_ops" = size_of::<CMirrorOps>(),
    "odp_mirror_ops.owner" = offset_of!(CMirrorOps, owner),
    "odp_mirror_ops.lock" = offset_of!(CMirrorOps, lock),
    "odp_mirror_ops.trylock" = offset_of!(CMirrorOps, trylock),
    "odp_mirror_ops.unlock" = offset_of!(CMirrorOps, unlock),
    "odp_mirror_ops.zap" = offset_of!(CMirrorOps, zap),
    "odp_mirror_ops.zap_dead" = offset_of!(CMirrorOps, zap_dead),
    "odp_mirror_ops.zapped" = offset_of!(CMirrorOps, zapped),
    "odp_mirror_ops.replaced" = offset_of!(CMirrorOps, replaced),
    "odp_mirror_ops.released" = offset_of!(CMirrorOps, released),
    "odp_mirror_ops.get" = offset_of!(CMirrorOps, get),
    "odp_mirror_ops.put" = offset_of!(CMirrorOps, put),
    "odp_mirror_ops.zap_sleeps" = offset_of!(CMirrorOps, zap_sleeps),
    "odp_span" = size_of::<odp_span>(),
    "odp_span.start" = offset_of!(odp_span, start),
    "odp_span.end" = offset_of!(odp_span, end),
}

/// An `enum odp_verdict` other than `ODP_KEEP`.
const ODP_RETIRE: c_int = 1;
const ODP_PUNCH: c_int = 2;

/// The functions that must be there, and those that need not.
#[derive(Clone, Copy)]
pub(super) struct Calls {
    lock: SharedFn,
    trylock: TryLockFn,
    unlock: SharedFn,
    zap: ZapFn,
    zap_dead: SpanFn,
    zapped: Option<SpanFn>,
    replaced: Option<ReplacedFn>,
    released: Option<SpanFn>,
    get: Option<SharedFn>,
    put: Option<SharedFn>,
    zap_sleeps: bool,
}

impl Calls {
    pub(super) fn new(ops: &CMirrorOps) -> Option<Self> {
        Some(Self {
            lock: ops.lock?,
            trylock: ops.trylock?,
            unlock: ops.unlock?,
            zap: ops.zap?,
            zap_dead: ops.zap_dead?,
            zapped: ops.zapped,
            replaced: ops.replaced,
            released: ops.released,
            get: ops.get,
            put: ops.put,
            zap_sleeps: ops.zap_sleeps,
        })
    }
}

/// The driver's object, with what can be done to it.
///
/// # Invariants
///
/// - `shared` was passed to `odp_range_insert` of a mirror that was made with `calls`, so that the
///   functions may be called with it, each in its context.
/// - The object is valid until this is dropped, by the driver's word or by its `get`.
/// - `lock` and `trylock` lock one lock, and nobody else has it until `unlock` is called, by the
///   driver's word.
pub(super) struct Driver {
    pub(super) shared: *mut c_void,
    pub(super) calls: Arc<Calls>,
}

// SAFETY: By the type invariants the functions may be called, and none of their contexts is bound
// to a task.
unsafe impl Send for Driver {}
// SAFETY: By the type invariants each function may be called in its context, and none of those
// excludes other tasks at the same time but for the user lock.
unsafe impl Sync for Driver {}

/// An object that C mirrors a range through. There is one for each range; the lock, which they may
/// have in common, is the driver's.
///
/// # Invariants
///
/// `get` has been called for this.
pub(super) struct Object(pub(super) Driver);

impl Object {
    /// # Safety
    ///
    /// `driver.shared` is valid during the call.
    pub(super) unsafe fn new(driver: Driver) -> Self {
        if let Some(get) = driver.calls.get {
            // SAFETY: By the type invariants of `Driver` it may be called with `shared`, which by
            // the safety requirements is valid.
            unsafe { get(driver.shared) };
        }
        // INVARIANT: It was called just now.
        Self(driver)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        if let Some(put) = self.0.calls.put {
            // SAFETY: By the type invariants `get` has been called for this.
            unsafe { put(self.0.shared) };
        }
    }
}

/// The user lock, which is C's.
pub(super) struct Lock(pub(super) Driver);

impl Lock {
    /// # Safety
    ///
    /// The caller has locked it.
    pub(super) unsafe fn unlock(&self) {
        // SAFETY: By the safety requirements, and the type invariants of `Driver`.
        unsafe { (self.0.calls.unlock)(self.0.shared) };
    }
}

// SAFETY: By the type invariants of `Driver` the lock excludes; it is unlocked by a guard's end, or
// by `Lock::unlock`, whose caller has locked it.
unsafe impl sealed::UserLock for Lock {}

impl UserLock for Lock {
    /// What it guards is C's business.
    type Table = ();
    type Guard<'a> = Guard<'a>;

    fn lock(&self) -> Guard<'_> {
        // SAFETY: By the type invariants of `Driver` it may be called with `shared`, in the context
        // of a lock.
        unsafe { (self.0.calls.lock)(self.0.shared) };
        // INVARIANT: It has just been locked, and the guard is the only one to know.
        Guard {
            lock: self,
            table: (),
            _not_send: NotThreadSafe,
        }
    }

    fn try_lock(&self) -> Option<Guard<'_>> {
        // SAFETY: By the type invariants of `Driver` it may be called with `shared`, in any
        // context.
        let locked = unsafe { (self.0.calls.trylock)(self.0.shared) };
        if !locked {
            return None;
        }
        // INVARIANT: It has just been locked, and the guard is the only one to know.
        Some(Guard {
            lock: self,
            table: (),
            _not_send: NotThreadSafe,
        })
    }
}

/// The locked state.
///
/// # Invariants
///
/// The lock is locked, and nobody else is going to unlock it.
pub(super) struct Guard<'a> {
    lock: &'a Lock,
    table: (),
    _not_send: NotThreadSafe,
}

impl Deref for Guard<'_> {
    type Target = ();

    fn deref(&self) -> &() {
        &self.table
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut () {
        &mut self.table
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is locked, and nobody but this guard unlocks it.
        unsafe { self.lock.unlock() };
    }
}

/// Whether C has passed the same for two ranges of a mirror.
fn is_same(one: &Shared<Object>, other: &Shared<Object>) -> bool {
    core::ptr::eq(one.data().0.shared, other.data().0.shared)
}

impl Mirrored for Object {
    /// The library's own: the driver's module is kept by the mirror.
    const OPS: &'static MirroredOps<Self> = {
        static OPS: MirroredOps<Object> = {
            let module = &<crate::LocalModule as ::kernel::ModuleMetadata>::THIS_MODULE;
            // SAFETY: It is the initialiser of a static item, and the module is that of its crate.
            let ops = unsafe { MirroredOps::new(module) };
            // SAFETY: The functions are the mirror's, which has both, so that they do the same with
            // what is passed to them, and by the type invariants of `Driver` lock one lock for
            // that.
            unsafe { ops.with_same(is_same) }
        };
        &OPS
    };
    type Table = ();
    type Lock = Lock;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        let inv = if self.0.calls.zap_sleeps {
            match inv.refuse() {
                Ok(handled) => return handled,
                Err(inv) => inv,
            }
        } else {
            inv
        };
        let mut zap = match inv.begin() {
            Ok(zap) => zap,
            Err(handled) => return handled,
        };
        let span = zap.span();
        let range = NonNull::from(zap.interval).cast().as_ptr();
        let event = event_to_raw(zap.event());
        // SAFETY: By the type invariants of `Driver`; the user lock is held.
        let verdict =
            unsafe { (self.0.calls.zap)(self.0.shared, range, span.start(), span.end(), event) };
        match verdict {
            ODP_RETIRE => {
                let _ = zap.retire();
            }
            ODP_PUNCH => {
                let _ = zap.punch();
            }
            _ => {}
        }
        zap.done()
    }

    fn zap(&self, (): &mut (), dead: Span) {
        // SAFETY: By the type invariants of `Driver`; the user lock is held.
        unsafe { (self.0.calls.zap_dead)(self.0.shared, dead.start(), dead.end()) };
    }

    fn zapped(&self, dead: Span, _ctx: &WorkerContext<'_>) {
        if let Some(zapped) = self.0.calls.zapped {
            // SAFETY: By the type invariants of `Driver`; a worker's callback is running.
            unsafe { zapped(self.0.shared, dead.start(), dead.end()) };
        }
    }

    fn replaced(&self, old: Span, pieces: &[Span], _ctx: &WorkerContext<'_>) {
        if let Some(replaced) = self.0.calls.replaced {
            let spans = pieces.as_ptr().cast();
            // SAFETY: By the type invariants of `Driver`; a worker's callback is running. The spans
            // are laid out like C's, as asserted above.
            unsafe { replaced(self.0.shared, old.start(), old.end(), spans, pieces.len()) };
        }
    }

    fn released(&self, span: Span, _ctx: &WorkerContext<'_>) {
        if let Some(released) = self.0.calls.released {
            // SAFETY: By the type invariants of `Driver`; a worker's callback is running.
            unsafe { released(self.0.shared, span.start(), span.end()) };
        }
    }
}

fn event_to_raw(event: Event) -> c_uint {
    match event {
        Event::Unmap => bindings::mmu_notifier_event_MMU_NOTIFY_UNMAP,
        Event::Clear => bindings::mmu_notifier_event_MMU_NOTIFY_CLEAR,
        Event::ProtectVma => bindings::mmu_notifier_event_MMU_NOTIFY_PROTECTION_VMA,
        Event::ProtectPage => bindings::mmu_notifier_event_MMU_NOTIFY_PROTECTION_PAGE,
        Event::SoftDirty => bindings::mmu_notifier_event_MMU_NOTIFY_SOFT_DIRTY,
        Event::Release => bindings::mmu_notifier_event_MMU_NOTIFY_RELEASE,
        Event::Migrate => bindings::mmu_notifier_event_MMU_NOTIFY_MIGRATE,
        Event::Exclusive => bindings::mmu_notifier_event_MMU_NOTIFY_EXCLUSIVE,
    }
}
