// SPDX-License-Identifier: GPL-2.0

//! Deferred removal: what a driver may ask for from `invalidate()`, and the worker that does it.
//!
//! Data flows one way:
//!
//! ```text
//!   core mm                       the library                            the driver
//!
//!   invalidate() ----> callback                              stops the device, says what is to go
//!                         |
//!                      request     what an object embeds; queued under a spinlock
//!                         |
//!                      worker      after the system call: unpublish, one grace period for a batch,
//!                         |        blocking remove, release
//!                         '----------------------------->    is told; frees
//!
//!   level 1, `retire`: the driver has the notifier, the table that lookups go through, and the
//!                      object. Retirer, Retirable, Request
//!   level 2, `mirror`: the library has them, and splits and shrinks ranges, too. The driver has
//!                      the device's page table and its lock. Mirror, Mirrored, Shared
//! ```
//!
//! `engine` is what both levels share, and `ffi` is both for C, `include/odp.h`. HACKING.md has a
//! glossary (*Words*); DESIGN.md says why it is as it is, and who holds which lock and reference.
//!
//! # Level 2, as a driver sees it
//!
//! ```rust
//! use core::convert::Infallible;
//! use kernel::{
//!     mm::MmWithUser,
//!     new_mutex,
//!     page::PAGE_SIZE,
//!     prelude::*,
//!     sync::{
//!         Arc,
//!         Mutex, //
//!     },
//!     time::msecs_to_jiffies, //
//! };
//! use odp::{
//!     hmm::{
//!         Access,
//!         Pages, //
//!     },
//!     Config,
//!     Event,
//!     FaultError,
//!     Handled,
//!     Hold,
//!     Invalidation,
//!     MayBlock,
//!     Mirror,
//!     Mirrored,
//!     MirroredOps,
//!     Retry,
//!     Shared,
//!     Span,
//!     WorkerContext, //
//! };
//!
//! module! {
//!     type: Driver,
//!     name: "odp_example_mirror",
//!     authors: ["The odp authors"],
//!     description: "A device with room for one page",
//!     license: "GPL",
//! }
//!
//! struct Driver;
//!
//! impl kernel::Module for Driver {
//!     fn init(_module: &'static ThisModule) -> Result<Self> {
//!         Ok(Self)
//!     }
//! }
//!
//! /// What the device may reach: at most one page, by address and page frame number.
//! struct Table(Option<(usize, usize)>);
//!
//! impl Table {
//!     fn clear(&mut self, span: Span) {
//!         // This is where a driver tells its device, and waits for it.
//!         self.0 = self.0.filter(|(addr, _)| !span.contains(*addr));
//!     }
//! }
//!
//! struct Device;
//!
//! impl Mirrored for Device {
//!     const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Device);
//!     type Table = Table;
//!     type Lock = Mutex<Table>;
//!
//!     fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
//!         let mut zap = match inv.begin() {
//!             Ok(zap) => zap,
//!             Err(handled) => return handled,
//!         };
//!         let span = zap.span();
//!         zap.clear(span);
//!         if zap.event() == Event::Unmap {
//!             // Returns at once; the worker shrinks the range, splits it, or removes all of it.
//!             let _ = zap.punch();
//!         }
//!         zap.done()
//!     }
//!
//!     fn zap(&self, table: &mut Table, dead: Span) {
//!         table.clear(dead);
//!     }
//!
//!     fn released(&self, span: Span, _ctx: &WorkerContext<'_>) {
//!         pr_debug!("nothing is left of the range at {:#x}\n", span.start());
//!     }
//! }
//!
//! /// The range at `page`; if there is none it is mirrored from now on.
//! fn range(
//!     mirror: &Mirror<Device>,
//!     shared: &Arc<Shared<Device>>,
//!     page: Span,
//!     p: &mut MayBlock<'_>,
//! ) -> Result<Hold<Device>> {
//!     if let Some(hold) = mirror.get(page.start(), p) {
//!         return Ok(hold);
//!     }
//!     // Whoever makes ranges pays for those that are on their way out.
//!     mirror.drain(p);
//!     let hold = mirror.insert(page, shared.clone(), p)?;
//!     // No callback has told of what was unmapped before the insertion.
//!     hold.punch_unmapped(p)?;
//!     Ok(hold)
//! }
//!
//! /// Serves a fault of the device's.
//! fn fault(
//!     mirror: &Mirror<Device>,
//!     shared: &Arc<Shared<Device>>,
//!     addr: usize,
//!     p: &mut MayBlock<'_>,
//! ) -> Result {
//!     let page = Span::new(addr - addr % PAGE_SIZE, PAGE_SIZE)?;
//!     let mut pages = Pages::new(1, GFP_KERNEL)?;
//!     loop {
//!         let hold = range(mirror, shared, page, p)?;
//!         let timeout = msecs_to_jiffies(1000);
//!         let section = match hold.fault(&mut pages, page, Access::Write, timeout, p) {
//!             Err(FaultError::Gone) => continue,
//!             other => other?,
//!         };
//!         let found = pages.get(addr).ok_or(EFAULT)?;
//!         let installed = hold.commit(section, |table| {
//!             table.0 = Some((page.start(), found.pfn()));
//!         });
//!         match installed {
//!             Ok(()) => return Ok(()),
//!             // An invalidation came between, or other ranges are in the place of this one.
//!             Err(Retry::Collided | Retry::Gone) => {}
//!         }
//!     }
//! }
//!
//! /// From the opening of a file to its end.
//! pub fn serve(mm: &MmWithUser, addr: usize) -> Result {
//!     MayBlock::enter(|p| {
//!         let mirror = Mirror::new(mm, Config::default(), p)?;
//!         let lock = new_mutex!(Table(None), "odp_example::Table");
//!         let shared = Shared::new::<Infallible>(Device, lock);
//!         let shared = Arc::pin_init(shared, GFP_KERNEL_ACCOUNT)?;
//!         let served = fault(&mirror, &shared, addr, p);
//!         // No code of the driver's is called after this.
//!         mirror.shutdown(p);
//!         served
//!     })
//! }
//! ```
//!
//! # Level 1, as a driver sees it
//!
//! How the driver's `invalidate()` finds its object and the retirer is its own business; no object
//! may own the retirer, whose end waits for the release of all of them.
//!
//! ```rust
//! use core::convert::Infallible;
//! use kernel::{
//!     mm::MmWithUser,
//!     new_mutex,
//!     new_spinlock,
//!     prelude::*,
//!     sync::{
//!         aref::ARef,
//!         Arc,
//!         ArcBorrow,
//!         Mutex,
//!         SpinLock, //
//!     }, //
//! };
//! use odp::{
//!     mmu_interval::{
//!         CallbackContext,
//!         Handled,
//!         Interval,
//!         Invalidate,
//!         InvalidateOps,
//!         Registration, //
//!     },
//!     MayBlock,
//!     Request,
//!     Retirable,
//!     RetirableOps,
//!     Retirer,
//!     Span,
//!     Until,
//!     WorkerContext, //
//! };
//!
//! module! {
//!     type: Driver,
//!     name: "odp_example_retire",
//!     authors: ["The odp authors"],
//!     description: "An object with a notifier of its own",
//!     license: "GPL",
//! }
//!
//! struct Driver;
//!
//! impl kernel::Module for Driver {
//!     fn init(_module: &'static ThisModule) -> Result<Self> {
//!         Ok(Self)
//!     }
//! }
//!
//! /// What the notifier calls.
//! #[pin_data]
//! struct Watch {
//!     /// The user lock: whether the device may access what is watched.
//!     #[pin]
//!     accessible: SpinLock<bool>,
//! }
//!
//! impl Invalidate for Watch {
//!     const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watch);
//!
//!     fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
//!         let mut accessible = this.data().accessible.lock();
//!         *accessible = false;
//!         inv.record()
//!     }
//! }
//!
//! /// What the driver retires.
//! #[pin_data]
//! struct Object {
//!     #[pin]
//!     registration: Mutex<Option<Registration<Watch>>>,
//!     #[pin]
//!     request: Request,
//! }
//!
//! odp::impl_has_request! {
//!     impl HasRequest for Object { self.request }
//! }
//!
//! impl Retirable for Object {
//!     const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Object);
//!
//!     fn unpublish(&self, _ctx: &WorkerContext<'_>) {
//!         // Here the object leaves the driver's table. A grace period follows.
//!     }
//!
//!     fn remove(&self, ctx: &WorkerContext<'_>) {
//!         let registration = self.registration.lock().take();
//!         if let Some(registration) = registration {
//!             // Sleeps until the invalidations that are going on have ended.
//!             drop(ctx.remove(registration));
//!         }
//!     }
//!
//!     fn release(this: Arc<Self>, _ctx: &WorkerContext<'_>) {
//!         // Nobody can reach it any more.
//!         drop(this);
//!     }
//! }
//!
//! /// Makes an object that watches `span`.
//! fn watch(mm: &MmWithUser, span: Span, p: &mut MayBlock<'_>) -> Result<Arc<Object>> {
//!     let object = Arc::pin_init(
//!         pin_init!(Object {
//!             registration <- new_mutex!(None, "odp_example::Object::registration"),
//!             request <- Request::new(),
//!         }),
//!         GFP_KERNEL_ACCOUNT,
//!     )?;
//!     let watch = pin_init!(Watch {
//!         accessible <- new_spinlock!(true, "odp_example::Watch::accessible"),
//!     });
//!     let interval = Arc::pin_init(
//!         Interval::new::<Infallible>(ARef::from(&**mm), span, watch),
//!         GFP_KERNEL_ACCOUNT,
//!     )?;
//!     *object.registration.lock() = Some(Interval::insert_and_wait(interval, p)?);
//!     Ok(object)
//! }
//!
//! /// Has an object go: in `invalidate()`, or anywhere else. Returns at once.
//! fn unmapped(retirer: &Retirer<Object>, object: ArcBorrow<'_, Object>) {
//!     let _ = retirer.retire(object);
//! }
//!
//! /// From the opening of a file to its end.
//! pub fn serve(mm: &MmWithUser, span: Span) -> Result {
//!     MayBlock::enter(|p| {
//!         let retirer = Retirer::new(c"odp-example")?;
//!         let object = watch(mm, span, p)?;
//!         unmapped(&retirer, object.as_arc_borrow());
//!         // After this no callback, lookup or access is left of what has been retired.
//!         retirer.flush(Until::Removed, p)?;
//!         retirer.shutdown(p);
//!         Ok(())
//!     })
//! }
//! ```

pub(crate) mod engine;
mod ffi;
mod mirror;
mod retire;

pub use self::{
    engine::{
        callbacks::WorkerContext,
        outcome::{
            Changed,
            Retire, //
        },
        queues::Until,
        request::Request,
        stats::Snapshot,
        worker::WakeupConfig, //
    },
    mirror::{
        access::{
            FaultError,
            Gone,
            Hold,
            Lookup,
            Retry,
            Section, //
        },
        driver::{
            Mirrored,
            MirroredOps, //
        },
        invalidation::{
            Handled,
            Invalidation,
            Zap, //
        },
        shared::{
            Shared,
            UserLock, //
        },
        walk::Walk,
        Config,
        InsertError,
        InsertErrorKind,
        Mirror, //
    },
    retire::{
        HasRequest,
        Held,
        ReadGuard,
        Retirable,
        RetirableOps,
        Retirer, //
    }, //
};
