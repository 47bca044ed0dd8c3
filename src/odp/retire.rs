// SPDX-License-Identifier: GPL-2.0

//! Level 1: the driver owns its notifier, the library retires the object around it.
//!
//! For drivers whose notifier comes with something else (`ib_umem_odp`), or that use plain
//! notifiers. What is theirs: the table that lookups go through, and the blocking teardown. What is
//! the library's: that it happens once, in which order, after which grace period, and where.

use super::engine::{
    callbacks::{
        RequestOps,
        WorkerContext, //
    },
    outcome::Retire,
    queues::Until,
    request::Request,
    stats::Snapshot,
    worker::{
        OwnedWorker,
        WakeupConfig,
        Worker, //
    }, //
};
use crate::may_block::MayBlock;
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*,
    sync::{
        srcu,
        Arc,
        ArcBorrow, //
    }, //
};

/// Says where in an object its [`Request`] is; see [`impl_has_request!`](crate::impl_has_request).
///
/// # Safety
///
/// The two functions are inverse to each other, and the request belongs to the object.
pub unsafe trait HasRequest {
    /// The request of an object.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    unsafe fn raw_request(this: *const Self) -> *mut Request;

    /// The object of a request.
    ///
    /// # Safety
    ///
    /// `request` is the request of a valid object of this type.
    unsafe fn request_container_of(request: *mut Request) -> *const Self;
}

/// Implements [`HasRequest`] for a type with a field that is a [`Request`].
///
/// # Examples
///
/// ```ignore
/// odp::impl_has_request! {
///     impl HasRequest for Child { self.request }
/// }
/// ```
#[macro_export]
macro_rules! impl_has_request {
    ($(impl$({$($generics:tt)*})? HasRequest for $self:ty { self.$field:ident })*) => {$(
        // SAFETY: This compiles only if the field is a `Request`, and both go between an object and
        // that field.
        unsafe impl$(<$($generics)*>)? $crate::HasRequest for $self {
            unsafe fn raw_request(this: *const Self) -> *mut $crate::Request {
                // SAFETY: The caller promises that it is valid.
                unsafe { (&raw const (*this).$field).cast_mut() }
            }

            unsafe fn request_container_of(request: *mut $crate::Request) -> *const Self {
                // SAFETY: The caller promises that it is that field of an object.
                unsafe { ::kernel::container_of!(request, Self, $field) }
            }
        }
    )*};
}

/// An object that can be retired.
pub trait Retirable: HasRequest + Send + Sync + Sized + 'static {
    /// What the library calls for objects of this type: [`retirable_ops!`](crate::retirable_ops) of
    /// the type.
    const OPS: &'static RetirableOps<Self>;

    /// Takes the object out of the driver's table, so that no new lookup finds it. If the
    /// callback has done that already, there is nothing to do.
    ///
    /// Context: may sleep. A grace period of [`Retirer::read`] follows.
    fn unpublish(&self, ctx: &WorkerContext<'_>);

    /// Ends callbacks: stops the device again, under the user lock, for what was installed since
    /// `invalidate()`; then the driver's own blocking removal.
    ///
    /// The latter is best left to [`WorkerContext::remove`]: if that has to wait for invalidations,
    /// the worker has more objects removed at the same time. Otherwise there are eight at most.
    ///
    /// Context: may sleep and wait for invalidations. Several objects at the same time. Not called
    /// while a lookup in a read section that began before `unpublish` may see it; holds may remain.
    fn remove(&self, ctx: &WorkerContext<'_>);

    /// Gives back the reference that [`Retirer::retire`] took. The last hold is gone.
    ///
    /// Context: may sleep and wait for invalidations.
    fn release(this: Arc<Self>, ctx: &WorkerContext<'_>);
}

/// What the library calls for objects of a driver's, and the module whose text that is, which a
/// retirer keeps loaded.
///
/// Made by [`retirable_ops!`](crate::retirable_ops), as a static item of the module.
pub struct RetirableOps<R: Retirable> {
    pinned: RequestOps,
    /// The same, but the module is not kept loaded.
    unpinned: RequestOps,
    _objects: PhantomData<fn(Arc<R>)>,
}

impl<R: Retirable> RetirableOps<R> {
    /// Makes the tables for `R`. Not to be called but by the macro.
    ///
    /// # Safety
    ///
    /// For the initialiser of a static item, with `THIS_MODULE` of the crate that has the item.
    #[doc(hidden)]
    pub const unsafe fn new(module: &ThisModule) -> Self {
        Self {
            pinned: Self::table(module.as_ptr()),
            unpinned: Self::table(core::ptr::null_mut()),
            _objects: PhantomData,
        }
    }

    const fn table(owner: *mut bindings::module) -> RequestOps {
        RequestOps {
            owner,
            unpublish: Some(unpublish::<R>),
            remove: Some(remove::<R>),
            release: Some(release::<R>),
        }
    }
}

/// The tables for [`Retirable::OPS`] of a type, in the module that this is written in.
///
/// The type has no parameters that are those of the implementation around it: one table for all
/// types would be in one module, while the code for each type is in the module that uses it.
///
/// # Examples
///
/// ```ignore
/// const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Child);
/// ```
#[macro_export]
#[allow(
    clippy::crate_in_macro_def,
    reason = "it is the module of the crate that uses this"
)]
macro_rules! retirable_ops {
    ($type:ty) => {{
        static OPS: $crate::RetirableOps<$type> =
            // SAFETY: It is the initialiser of a static item, and the module is that of its crate.
            unsafe {
                $crate::RetirableOps::new(
                    &<crate::LocalModule as ::kernel::ModuleMetadata>::THIS_MODULE,
                )
            };
        &OPS
    }};
}

/// Retires objects of one kind, for one device context.
///
/// Dropping it is [`Retirer::shutdown`].
pub struct Retirer<R: Retirable> {
    worker: OwnedWorker,
    _objects: PhantomData<fn(Arc<R>)>,
}

impl<R: Retirable> Retirer<R> {
    /// Makes a retirer; `name` is that of its counters in debugfs. May sleep.
    ///
    /// The driver's module cannot be unloaded before the retirer is shut down, so this is for what
    /// is made and ended while the module is in use: an open file, an object of user space's. One
    /// for each address space is best: a removal waits for invalidations, and then all that come
    /// after it do. Its work runs on a workqueue that it shares with what else the current process
    /// has of retirers and mirrors.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `ENODEV` if the driver's module is about to be unloaded.
    pub fn new(name: &CStr) -> Result<Self> {
        Self::with_wakeup(name, WakeupConfig::default())
    }

    /// As [`Retirer::new`], with a choice of how soon objects are removed.
    ///
    /// # Errors
    ///
    /// Also `EINVAL` if the wakeup delay is negative or more than
    /// [`WakeupConfig::MAX_WAKEUP_DELAY`].
    pub fn with_wakeup(name: &CStr, wakeup: WakeupConfig) -> Result<Self> {
        Ok(Self {
            worker: OwnedWorker::new(name, &R::OPS.pinned, None, wakeup)?,
            _objects: PhantomData,
        })
    }

    /// As [`Retirer::with_wakeup`], but does not keep the module loaded, for what lives as long as
    /// the module.
    ///
    /// # Safety
    ///
    /// It is shut down or dropped before the module's exit returns.
    pub unsafe fn new_unpinned(name: &CStr, wakeup: WakeupConfig) -> Result<Self> {
        Ok(Self {
            worker: OwnedWorker::new(name, &R::OPS.unpinned, None, wakeup)?,
            _objects: PhantomData,
        })
    }

    /// Retires `object`. The first to do so has [`Retirable::release`] called, once, later.
    ///
    /// An object belongs to the retirer that it is first used with.
    ///
    /// Context: any process context, `invalidate()` included, non-blockable or not. Allocates
    /// nothing, does not sleep.
    pub fn retire(&self, object: ArcBorrow<'_, R>) -> Retire {
        let raw = Arc::into_raw(Arc::from(object));
        // SAFETY: The reference that was leaked just now keeps the object valid.
        let request = unsafe { request_of(raw) };
        // SAFETY: The same reference keeps the request.
        let retire = if self.worker.owns(unsafe { request.as_ref() }) {
            // SAFETY: It is that of an `R`, which the tables of `R::OPS` are for, and belongs to
            // this worker. The reference that was leaked keeps the object until `release` takes it
            // back, unless the answer is that it will not; and `self` is borrowed, so that it is
            // not shut down meanwhile.
            unsafe { Worker::retire(self.worker.as_arc_borrow(), request) }
        } else {
            Retire::Foreign
        };
        if retire != Retire::Queued {
            // SAFETY: The worker has not taken it. This is not the last one, as it was borrowed.
            drop(unsafe { Arc::from_raw(raw) });
        }
        retire
    }

    /// Says that an object made with [`Request::building`] is in the driver's table now. If it was
    /// retired before that, it goes from here. Context: as for [`Retirer::retire`].
    ///
    /// Events pass by a notifier that is not in core mm's tree yet, so that the object is to be
    /// published when [`Interval::insert_and_wait`](crate::mmu_interval::Interval::insert_and_wait)
    /// has returned.
    pub fn publish(&self, object: ArcBorrow<'_, R>) {
        // What is queued here is freed in the end, so this is not by way of the borrow.
        let object = Arc::from(object);
        // SAFETY: `object` keeps it valid.
        let request = unsafe { request_of::<R>(Arc::as_ptr(&object)) };
        // SAFETY: It is that of an `R`, which the tables of `R::OPS` are for. If it was retired,
        // that has leaked a reference, which keeps it until `release`; and `self` is borrowed, so
        // that it is not shut down meanwhile.
        unsafe { Worker::publish(self.worker.as_arc_borrow(), request) };
    }

    /// Begins a section in which objects that are found in the driver's table, without a lock, stay
    /// valid. It may sleep for short; who needs longer takes a hold.
    pub fn read<'g>(&'g self, p: &'g mut MayBlock<'_>) -> ReadGuard<'g> {
        let _ = p;
        ReadGuard(self.worker.read_lock())
    }

    /// Begins a long hold: `release` waits for its end, nothing else does. `None` if the object is
    /// retired. Context: as for [`Retirer::retire`].
    pub fn hold<'h>(&'h self, object: ArcBorrow<'_, R>) -> Option<Held<'h, R>> {
        let object = Arc::from(object);
        // SAFETY: `object` keeps it valid.
        let request = unsafe { request_of(Arc::as_ptr(&object)) };
        // SAFETY: `object`, which the request is part of, keeps it valid.
        if !self.worker.hold(unsafe { request.as_ref() }) {
            return None;
        }
        // INVARIANT: The hold was begun just now.
        Some(Held {
            retirer: self,
            object,
        })
    }

    /// Whether commits of this object may succeed. A driver asks this together with
    /// `mmu_interval_read_retry()`, under its user lock: the sequence of a notifier that has been
    /// removed meanwhile says nothing.
    pub fn is_live(&self, object: ArcBorrow<'_, R>) -> bool {
        let object: &R = &object;
        // SAFETY: The reference is a valid pointer.
        let request = unsafe { request_of(object) };
        // SAFETY: It is part of `object`, which is borrowed.
        unsafe { request.as_ref() }.state().is_live()
    }

    /// Unpublishes and removes here what nobody has taken yet; returns how many. Never waits for
    /// the worker, and leaves releases to it.
    ///
    /// Context: may sleep; without locks that `unpublish` and `remove` take.
    pub fn drain(&self, p: &mut MayBlock<'_>) -> usize {
        Worker::drain(self.worker.as_arc_borrow(), p)
    }

    /// Waits for everything that was retired, and published, before the call.
    ///
    /// Context: may sleep; without locks that callbacks of [`Retirable`] take, in none of them, not
    /// in a read section of any retirer, and for releases, not while holding what is retired.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed. What is waited for goes on, and nobody else who flushes
    /// is concerned.
    pub fn flush(&self, until: Until, p: &mut MayBlock<'_>) -> Result {
        Worker::flush(self.worker.as_arc_borrow(), until, p)
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        self.worker.stats().snapshot()
    }

    /// Waits until everything that was retired is released and the worker has come to rest.
    ///
    /// What has not been retired is not waited for: the driver does that first. No signal ends
    /// this; the kernel's log tells of one that takes more than 10 s.
    pub fn shutdown(self, p: &mut MayBlock<'_>) -> Snapshot {
        self.worker.shutdown(p, || true)
    }
}

/// A read section of [`Retirer::read`].
pub struct ReadGuard<'g>(#[expect(dead_code)] srcu::Guard<'g>);

/// A long hold on an object of level 1. Its end may be in any process context.
///
/// With it may go the last reference to the object, so the destructor of `R` has to be fit for that
/// context; what is not belongs into [`Retirable::release`].
///
/// # Invariants
///
/// A hold of `object` was begun with the worker of `retirer`, and belongs to this.
pub struct Held<'h, R: Retirable> {
    retirer: &'h Retirer<R>,
    object: Arc<R>,
}

impl<R: Retirable> Held<'_, R> {
    /// Waits until `remove` has returned. Context: as for [`Retirer::flush`].
    ///
    /// # Errors
    ///
    /// `EINVAL` if the object has not been retired, or not been published since: nobody knows how
    /// long that would take. `EINTR` if the task has been killed.
    pub fn wait(&self, p: &mut MayBlock<'_>) -> Result {
        // SAFETY: `self.object` keeps it valid.
        let request = unsafe { request_of::<R>(Arc::as_ptr(&self.object)) };
        // SAFETY: It is part of `self.object`, which lives as long as `self`.
        let request = unsafe { request.as_ref() };
        if !request.state().is_leaving() {
            return Err(EINVAL);
        }
        Worker::wait_removed(self.retirer.worker.as_arc_borrow(), request, p)
    }
}

impl<R: Retirable> Deref for Held<'_, R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.object
    }
}

impl<R: Retirable> Drop for Held<'_, R> {
    fn drop(&mut self) {
        // SAFETY: `self.object` keeps it valid.
        let request = unsafe { request_of(Arc::as_ptr(&self.object)) };
        // SAFETY: By the type invariants a hold was begun that belongs to this, and it ends here.
        // The reference to the object is dropped after this.
        unsafe { Worker::put(self.retirer.worker.as_arc_borrow(), request) };
    }
}

/// # Safety
///
/// `object` is valid.
unsafe fn request_of<R: HasRequest>(object: *const R) -> NonNull<Request> {
    // SAFETY: By the safety requirements `object` is valid.
    let request = unsafe { R::raw_request(object) };
    // SAFETY: The field of a valid object is not at address null.
    unsafe { NonNull::new_unchecked(request) }
}

/// # Safety
///
/// Called by a worker with the table of `Retirer<R>`, for the request of an object, in the order of
/// the table.
unsafe extern "C" fn unpublish<R: Retirable>(request: *mut Request) {
    // SAFETY: By the safety requirements it is the request of an `R`, which is valid until
    // `release`.
    let object = unsafe { R::request_container_of(request) };
    // SAFETY: The reference that `Retirer::retire` leaked keeps it until `release`.
    let object = unsafe { &*object };
    // SAFETY: By the safety requirements a worker is calling this, as `RequestOps::unpublish`.
    unsafe { WorkerContext::enter(|ctx| object.unpublish(ctx)) };
}

/// # Safety
///
/// As for [`unpublish`].
unsafe extern "C" fn remove<R: Retirable>(request: *mut Request) {
    // SAFETY: By the safety requirements it is the request of an `R`, which is valid until
    // `release`.
    let object = unsafe { R::request_container_of(request) };
    // SAFETY: The reference that `Retirer::retire` leaked keeps it until `release`.
    let object = unsafe { &*object };
    let run = |ctx: &WorkerContext<'_>| {
        object.remove(ctx);
        ctx.has_waited()
    };
    // SAFETY: By the safety requirements a worker is calling this, as `RequestOps::remove`.
    let has_waited = unsafe { WorkerContext::enter(run) };
    // SAFETY: By the safety requirements it is that of an object, which is kept until `release`.
    let request = unsafe { &*request };
    // SAFETY: By the safety requirements a worker is calling `RequestOps::remove` for this request.
    unsafe { request.note_wait(has_waited) };
}

/// # Safety
///
/// As for [`unpublish`].
unsafe extern "C" fn release<R: Retirable>(request: *mut Request) {
    // SAFETY: By the safety requirements it is the request of an `R`, which is valid until this.
    let object = unsafe { R::request_container_of(request) };
    // SAFETY: `Retirer::retire` leaked a reference for this call, of which there is one, by the
    // order of the table.
    let object = unsafe { Arc::from_raw(object) };
    // SAFETY: By the safety requirements a worker is calling this, as `RequestOps::release`.
    unsafe { WorkerContext::enter(|ctx| R::release(object, ctx)) };
}
