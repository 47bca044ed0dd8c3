// SPDX-License-Identifier: GPL-2.0

//! The C interface of the managed level: a [`Mirror`] of objects that are the C driver's.
//!
//! What a [`Mirrored`] object's types say in Rust is the driver's contract here: that what it does
//! is done under its lock, and that its functions are there while the mirror is.
//!
//! C header: `include/odp.h`

use super::{
    super::{
        answer::{
            Changed,
            Retire, //
        },
        callbacks::WorkerContext,
        faults::FaultId,
        invalidation::{
            Handled,
            Invalidation, //
        },
        mirror::{
            Config,
            Mirror, //
        },
        range::{
            Mirrored,
            MirroredOps,
            Range, //
        },
        read::{
            FaultError,
            Hold,
            Retry,
            Section, //
        },
        shared::{
            sealed,
            Shared,
            UserLock, //
        },
        stats::Snapshot, //
    },
    layout,
    linger_from_raw,
    retire_result,
    to_errno,
    until_from_raw, //
};
use crate::{
    hmm::HmmRange,
    may_block::MayBlock,
    mmu_interval::{
        Event,
        Interval, //
    },
    module_ref::ModuleRef,
    span::Span, //
};
use core::{
    arch::global_asm,
    ffi::c_void,
    mem::{
        forget,
        offset_of, //
    },
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    error::code,
    ffi::{
        c_int,
        c_uint,
        c_ulong, //
    },
    mm::MmWithUser,
    prelude::*,
    sync::Arc,
    types::NotThreadSafe, //
};

/// A range, as C sees it: the address of an `Interval<Range<Object>>`.
///
/// The name is that of the struct in C, which kCFI compares.
#[allow(non_camel_case_types)]
#[repr(C)]
struct odp_range {
    _opaque: [u8; 0],
}

/// `struct odp_span`; named like it for the same reason.
#[allow(non_camel_case_types)]
#[repr(C)]
struct odp_span {
    start: c_ulong,
    end: c_ulong,
}

// `Span` is `repr(C)`, too, with the same members in the same order.
const _: () = assert!(size_of::<odp_span>() == size_of::<Span>());
const _: () = assert!(align_of::<odp_span>() == align_of::<Span>());

/// `struct odp_mirror_config`, in which 0 stands for the default.
#[repr(C)]
struct MirrorConfig {
    max_ranges: usize,
    grain: usize,
    linger_us: c_uint,
    expedited: bool,
}

impl From<&MirrorConfig> for Config {
    fn from(raw: &MirrorConfig) -> Self {
        let mut config = Config {
            linger: linger_from_raw(raw.linger_us),
            expedited: raw.expedited,
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

type SharedFn = unsafe extern "C" fn(*mut c_void);
type TryLockFn = unsafe extern "C" fn(*mut c_void) -> bool;
type ZapFn = unsafe extern "C" fn(*mut c_void, *mut odp_range, c_ulong, c_ulong, c_uint) -> c_int;
type SpanFn = unsafe extern "C" fn(*mut c_void, c_ulong, c_ulong);
type ReplacedFn = unsafe extern "C" fn(*mut c_void, c_ulong, c_ulong, *const odp_span, usize);

/// `struct odp_mirror_ops`.
#[repr(C)]
struct MirrorOps {
    owner: *mut bindings::module,
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
}

layout! {
    "odp_mirror_ops" = size_of::<MirrorOps>(),
    "odp_mirror_ops.owner" = offset_of!(MirrorOps, owner),
    "odp_mirror_ops.lock" = offset_of!(MirrorOps, lock),
    "odp_mirror_ops.trylock" = offset_of!(MirrorOps, trylock),
    "odp_mirror_ops.unlock" = offset_of!(MirrorOps, unlock),
    "odp_mirror_ops.zap" = offset_of!(MirrorOps, zap),
    "odp_mirror_ops.zap_dead" = offset_of!(MirrorOps, zap_dead),
    "odp_mirror_ops.zapped" = offset_of!(MirrorOps, zapped),
    "odp_mirror_ops.replaced" = offset_of!(MirrorOps, replaced),
    "odp_mirror_ops.released" = offset_of!(MirrorOps, released),
    "odp_mirror_ops.get" = offset_of!(MirrorOps, get),
    "odp_mirror_ops.put" = offset_of!(MirrorOps, put),

    "odp_mirror_config" = size_of::<MirrorConfig>(),
    "odp_mirror_config.max_ranges" = offset_of!(MirrorConfig, max_ranges),
    "odp_mirror_config.grain" = offset_of!(MirrorConfig, grain),
    "odp_mirror_config.linger_us" = offset_of!(MirrorConfig, linger_us),
    "odp_mirror_config.expedited" = offset_of!(MirrorConfig, expedited),

    "odp_span" = size_of::<odp_span>(),
    "odp_span.start" = offset_of!(odp_span, start),
    "odp_span.end" = offset_of!(odp_span, end),

    "odp_section" = size_of::<Section>(),
}
const _: () = assert!(align_of::<Section>() <= align_of::<c_ulong>());

/// An `enum odp_verdict` other than `ODP_KEEP`.
const ODP_RETIRE: c_int = 1;
const ODP_PUNCH: c_int = 2;

/// The functions that must be there, and those that need not.
#[derive(Clone, Copy)]
struct Calls {
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
}

impl Calls {
    fn new(ops: &MirrorOps) -> Option<Self> {
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
struct Driver {
    shared: *mut c_void,
    calls: Arc<Calls>,
}

// SAFETY: The functions may be called in any task.
unsafe impl Send for Driver {}
// SAFETY: As above, and several at the same time, as far as the user lock does not exclude that.
unsafe impl Sync for Driver {}

/// An object that C mirrors a range through. There is one for each range; the lock, which they may have in
/// common, is the driver's.
///
/// # Invariants
///
/// `get` has been called for this.
struct Object(Driver);

impl Object {
    /// # Safety
    ///
    /// `driver.shared` is valid during the call.
    unsafe fn new(driver: Driver) -> Self {
        if let Some(get) = driver.calls.get {
            // SAFETY: By the type invariants of `Driver`.
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
struct Lock(Driver);

impl Lock {
    /// # Safety
    ///
    /// The caller has locked it.
    unsafe fn unlock(&self) {
        // SAFETY: By the safety requirements, and the type invariants of `Driver`.
        unsafe { (self.0.calls.unlock)(self.0.shared) };
    }
}

impl sealed::UserLock for Lock {}

impl UserLock for Lock {
    /// What it guards is C's business.
    type Table = ();
    type Guard<'a> = Guard<'a>;

    fn lock(&self) -> Guard<'_> {
        // SAFETY: By the type invariants of `Driver`.
        unsafe { (self.0.calls.lock)(self.0.shared) };
        // INVARIANT: It is locked.
        Guard {
            lock: self,
            table: (),
            _not_send: NotThreadSafe,
        }
    }

    fn try_lock(&self) -> Option<Guard<'_>> {
        // SAFETY: By the type invariants of `Driver`.
        let locked = unsafe { (self.0.calls.trylock)(self.0.shared) };
        if !locked {
            return None;
        }
        // INVARIANT: It is locked.
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
struct Guard<'a> {
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
        // SAFETY: By the type invariants.
        unsafe { self.lock.unlock() };
    }
}

impl Mirrored for Object {
    /// The library's own: the driver's module is kept by the mirror.
    const OPS: &'static MirroredOps<Self> = crate::mirrored_ops!(Object);
    type Table = ();
    type Lock = Lock;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
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

/// `struct odp_mirror`: in a box from `odp_mirror_create` to `odp_mirror_shutdown`.
struct CMirror {
    // Goes first: after that nothing of the driver's is called.
    mirror: Mirror<Object>,
    calls: Arc<Calls>,
    _module: ModuleRef,
}

/// The interval behind what C calls a range.
///
/// # Safety
///
/// `range` came from this file, and is held for `'a`, or `'a` is within a call of `zap` for it.
unsafe fn interval<'a>(range: *const odp_range) -> &'a Interval<Range<Object>> {
    // SAFETY: By the safety requirements it is one, and valid.
    unsafe { &*range.cast() }
}

/// Gives a hold to C.
fn into_raw(hold: Hold<Object>) -> *mut odp_range {
    let range = NonNull::from(hold.interval()).cast().as_ptr();
    forget(hold);
    range
}

/// Takes a hold back from C.
///
/// # Safety
///
/// `range` came from [`into_raw`], and is used for this only once.
unsafe fn from_raw(range: NonNull<odp_range>) -> Hold<Object> {
    // SAFETY: By the safety requirements the hold is the caller's to give.
    unsafe { Hold::new(range.cast()) }
}

/// # Safety
///
/// `mm` has users during the call. `ops` is valid during the call, and its functions keep to the
/// contract of the header until the mirror has been shut down. `config` is null or valid during the
/// call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_create(
    mm: *mut bindings::mm_struct,
    ops: *const MirrorOps,
    config: *const MirrorConfig,
) -> *mut CMirror {
    // SAFETY: As required here.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    // SAFETY: As required here.
    let ops = unsafe { &*ops };
    // SAFETY: As required here.
    let config = unsafe { config.as_ref() }.map_or_else(Config::default, Config::from);
    match create(mm, ops, config) {
        Ok(mirror) => KBox::into_raw(mirror),
        Err(error) => error.to_ptr(),
    }
}

fn create(mm: &MmWithUser, ops: &MirrorOps, config: Config) -> Result<KBox<CMirror>> {
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
    // SAFETY: As required here.
    let mirror = unsafe { KBox::from_raw(mirror) };
    MayBlock::assume(|p| mirror.mirror.shutdown(p));
}

/// # Safety
///
/// `shared` is valid during the call, and may be passed to the functions of the mirror until the
/// range has been released.
#[no_mangle]
unsafe extern "C" fn odp_range_insert(
    mirror: *const CMirror,
    start: c_ulong,
    len: c_ulong,
    shared: *mut c_void,
) -> *mut odp_range {
    // SAFETY: It has not been shut down.
    let mirror = unsafe { &*mirror };
    // INVARIANT: By the safety requirements.
    let driver = || Driver {
        shared,
        calls: mirror.calls.clone(),
    };
    // SAFETY: As required here.
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
    // SAFETY: As required here.
    let mirror = unsafe { &*mirror };
    MayBlock::assume(|p| mirror.mirror.get(addr, p)).map_or(ptr::null_mut(), into_raw)
}

/// # Safety
///
/// The caller holds `range`, which ends here.
#[no_mangle]
unsafe extern "C" fn odp_range_put(range: NonNull<odp_range>) {
    // SAFETY: As required here.
    drop(unsafe { from_raw(range) });
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_start(range: *const odp_range) -> c_ulong {
    // SAFETY: As required here.
    unsafe { interval(range) }.span().start()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_end(range: *const odp_range) -> c_ulong {
    // SAFETY: As required here.
    unsafe { interval(range) }.span().end()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_shared(range: *const odp_range) -> *mut c_void {
    // SAFETY: As required here.
    unsafe { interval(range) }.data().shared().data().0.shared
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_live(range: *const odp_range) -> bool {
    // SAFETY: As required here.
    unsafe { interval(range) }.data().is_live()
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_retire(range: *mut odp_range) -> c_int {
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    to_errno(retire_result(interval.data().retire()))
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_punch(range: *mut odp_range, start: c_ulong, end: c_ulong) -> c_int {
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    let punch = |span| interval.data().punch(interval.span(), span);
    to_errno(change(start, end, punch))
}

/// # Safety
///
/// As for [`interval`], and the caller may sleep.
#[no_mangle]
unsafe extern "C" fn odp_range_punch_unmapped(range: *mut odp_range) -> c_int {
    // SAFETY: As required here.
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
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    let resize = |span| interval.data().resize(interval.span(), span);
    to_errno(change(start, end, resize))
}

fn change(start: usize, end: usize, f: impl FnOnce(Span) -> Result<Changed>) -> Result {
    f(Span::from_bounds(start, end)?)?.accepted()
}

/// # Safety
///
/// The caller holds `range`, which ends here.
#[no_mangle]
unsafe extern "C" fn odp_range_remove(range: NonNull<odp_range>) -> c_int {
    // SAFETY: As required here.
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
/// The caller holds `range`, `hmm` is a valid `struct hmm_range` with an entry for each page, and `section`
/// memory for a `struct odp_section`. Nobody else uses either.
#[no_mangle]
unsafe extern "C" fn odp_range_fault(
    range: *mut odp_range,
    hmm: NonNull<HmmRange>,
    timeout: c_ulong,
    section: *mut Section,
) -> c_int {
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    // SAFETY: As required here.
    let span = unsafe { Interval::<Range<Object>>::bounds_of(hmm) };
    let found = span.map_err(FaultError::Failed).and_then(|span| {
        MayBlock::assume(|p| {
            Section::of_fault(interval, span, || {
                // SAFETY: As required here.
                unsafe { interval.fault_for(hmm, timeout, p) }
            })
        })
    });
    match found {
        Ok(found) => {
            // SAFETY: As required here; `layout!` has seen to it that it fits.
            unsafe { section.write(found) };
            0
        }
        Err(error) => Error::from(error).to_errno(),
    }
}

/// # Safety
///
/// The caller holds `range`, and `section` is memory for a `struct odp_section`.
#[no_mangle]
unsafe extern "C" fn odp_read_begin(range: *const odp_range, section: *mut Section) -> c_int {
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    if !interval.data().is_live() {
        return code::ESTALE.to_errno();
    }
    match MayBlock::assume(|p| interval.read_begin(p)) {
        Ok(sequence) => {
            let begun = Section {
                sequence,
                fault: FaultId::NONE,
            };
            // SAFETY: As required here; `layout!` has seen to it that it fits.
            unsafe { section.write(begun) };
            0
        }
        Err(_) => code::ESTALE.to_errno(),
    }
}

/// # Safety
///
/// As for [`interval`].
#[no_mangle]
unsafe extern "C" fn odp_range_notifier(
    range: *mut odp_range,
) -> *mut bindings::mmu_interval_notifier {
    // SAFETY: As required here.
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
        // SAFETY: As required here.
        sequence: unsafe { interval(range) }.sequence(notifier_seq),
        fault: FaultId::NONE,
    };
    // SAFETY: As required here; `layout!` has seen to it that it fits.
    unsafe { section.write(adopted) };
}

/// # Safety
///
/// The caller holds `range`, and one of the functions that begin a section has filled in `section`.
#[no_mangle]
unsafe extern "C" fn odp_commit_begin(range: *const odp_range, section: *const Section) -> c_int {
    // SAFETY: As required here.
    let interval = unsafe { interval(range) };
    // SAFETY: As required here.
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
/// `odp_commit_begin` has returned 0 for `range`, and this is called once for that.
#[no_mangle]
unsafe extern "C" fn odp_commit_end(range: *const odp_range) {
    // SAFETY: The caller still holds it.
    let interval = unsafe { interval(range) };
    // SAFETY: It was left locked for the caller.
    unsafe { interval.data().shared().lock().unlock() };
}

/// # Safety
///
/// The caller holds `range`.
#[no_mangle]
unsafe extern "C" fn odp_access_begin(range: *const odp_range) -> c_int {
    // SAFETY: As required here.
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
    // SAFETY: The caller still holds it.
    let interval = unsafe { interval(range) };
    // SAFETY: It was left locked for the caller.
    unsafe { interval.data().shared().lock().unlock() };
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_drain(mirror: *const CMirror) -> usize {
    // SAFETY: As required here.
    let mirror = unsafe { &*mirror };
    MayBlock::assume(|p| mirror.mirror.drain(p))
}

/// # Safety
///
/// `mirror` has not been shut down, and is not during the call.
#[no_mangle]
unsafe extern "C" fn odp_mirror_flush(mirror: *const CMirror, until: c_uint) -> c_int {
    // SAFETY: As required here.
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
    // SAFETY: As required here.
    let mirror = unsafe { &*mirror };
    mirror.mirror.retire_all();
}

/// # Safety
///
/// `stats` is memory for a `struct odp_stats`.
#[no_mangle]
unsafe extern "C" fn odp_mirror_stats(mirror: *const CMirror, stats: *mut Snapshot) {
    // SAFETY: It has not been shut down.
    let mirror = unsafe { &*mirror };
    // SAFETY: As required here.
    unsafe { stats.write(mirror.mirror.stats()) };
}
