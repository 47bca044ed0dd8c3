// SPDX-License-Identifier: GPL-2.0

//! An object for each range, as mlx5 has its children: with a slot, a work item and a notifier.
//!
//! What an arm finds objects in are its [slots](super::slots). The callback takes the object out,
//! so that it happens once; how it goes from there is what the arms differ in, and is a
//! [`Design`].

use super::{
    queue::queue,
    region::Region,
    slots::Slots,
    spent,
    user_lock::UserLock, //
};
use core::{
    convert::Infallible,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        CondVar,
        Mutex, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};
use odp::{
    mmu_interval::{
        self,
        CallbackContext,
        Handled,
        Interval,
        Invalidate,
        InvalidateOps,
        Registration, //
    },
    range_tree::{
        Indexed,
        Place, //
    },
    Event,
    MayBlock,
    Span, //
};

/// How an object is protected from its end, and how it comes to it.
pub(crate) trait Design: Send + Sync + Sized + 'static {
    /// What each object has for it.
    type Own: Send + Sync;

    /// What objects are found in.
    type Slots: Slots<Self>;

    /// What core mm calls for it. A static item has no parameters, so each design brings its own.
    const OPS: &'static InvalidateOps<Watched<Self>>;

    /// Makes that.
    fn own() -> impl PinInit<Self::Own>;

    /// Memory for as many objects. May sleep.
    fn reserve(&self, objects: usize) -> Result {
        let _ = objects;
        Ok(())
    }

    /// The object has been taken out of its slot, in a callback: nothing that sleeps.
    fn retire(family: &Arc<Family<Self>>, child: Arc<Child<Self>>);

    /// The object's work item.
    fn work(child: Arc<Child<Self>>);

    /// Lets `f` look at the object at `addr`.
    fn find<R>(family: &Family<Self>, addr: usize, f: impl FnOnce(&Child<Self>) -> R) -> Option<R>;

    /// The lock that the callbacks of a new region take: its own, unless readers take it, too.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn user_lock(&self) -> Result<Arc<Lock<Self>>> {
        UserLock::new()
    }

    /// All objects are released, and none will be any more. May sleep.
    fn quiesce(&self) {}
}

/// The lock that callbacks take.
pub(crate) type Lock<D> = UserLock<<<D as Design>::Slots as Slots<D>>::Guarded>;

/// All objects of an address space.
#[pin_data]
pub(crate) struct Family<D: Design> {
    #[pin]
    pub(crate) design: D,
    #[pin]
    pub(crate) slots: D::Slots,
    range_size: Atomic<usize>,
    /// How many objects there are.
    outstanding: Atomic<usize>,
    #[pin]
    waiting: Mutex<()>,
    #[pin]
    gone: CondVar,
    mm: ARef<Mm>,
}

/// An object.
#[pin_data]
pub(crate) struct Child<D: Design> {
    #[pin]
    work: Work<Child<D>>,
    #[pin]
    registration: Mutex<Option<Registration<Watched<D>>>>,
    pub(crate) family: Arc<Family<D>>,
    region: Arc<Region>,
    pub(crate) span: Span,
    /// For its slot.
    pub(crate) node: <D::Slots as Slots<D>>::Node,
    #[pin]
    pub(crate) own: D::Own,
}

impl_has_work! {
    impl{D: Design} HasWork<Self> for Child<D> { self.work }
}

impl<D: Design> WorkItem for Child<D> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.region.begun(this.span, this.region.now());
        D::work(this);
    }
}

// SAFETY: The node is a field, and each function goes one step, there and back. The span is a field
// that nobody changes.
unsafe impl<D: Design> Indexed for Child<D>
where
    D::Slots: Slots<D, Node = Place>,
{
    fn span(&self) -> Span {
        self.span
    }

    unsafe fn place(this: NonNull<Self>) -> NonNull<Place> {
        // SAFETY: By the safety requirements it is valid, and so is its field.
        let place = unsafe { &raw mut (*this.as_ptr()).node };
        // SAFETY: A field of something valid is not at address null.
        unsafe { NonNull::new_unchecked(place) }
    }

    unsafe fn of_place(place: NonNull<Place>) -> NonNull<Self> {
        // SAFETY: By the safety requirements it is a field of an object.
        let this = unsafe { container_of!(place.as_ptr(), Self, node) };
        // SAFETY: What a field is part of is not at address null.
        unsafe { NonNull::new_unchecked(this) }
    }
}

/// What the notifier of an object has, in an allocation of its own, as a driver's umem.
pub(crate) struct Watched<D: Design> {
    child: Arc<Child<D>>,
    lock: Arc<Lock<D>>,
}

impl<D: Design> Invalidate for Watched<D> {
    const OPS: &'static InvalidateOps<Self> = D::OPS;

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let _spent = spent::callback();
        let Self { child, lock } = this.data();
        let (start, end) = inv.bounds();
        let span = child.span;
        let whole = start <= span.start() && end >= span.end();
        let goes = whole && matches!(inv.event(), Event::Unmap | Event::Release);
        let (mut guard, handled) = match lock.begin(inv) {
            Ok(begun) => begun,
            Err(handled) => return handled,
        };
        if goes {
            let now = child.region.now();
            // SAFETY: These are the slots of its family, and this is the user lock of its region.
            let taken = unsafe { child.family.slots.take(&mut guard, child) };
            if let Some(child) = taken {
                child.region.retired(span, now);
                D::retire(&child.family.clone(), child);
            }
        }
        drop(guard);
        handled
    }
}

impl<D: Design> Child<D> {
    /// Has the work item run, which gets the reference.
    pub(crate) fn enqueue(self: Arc<Self>) {
        // It is queued once in a life.
        let _ = queue().enqueue(self);
    }

    /// The blocking removal.
    pub(crate) fn remove(&self) {
        // Locked while the notifier is being inserted.
        let registration = self.registration.lock().take();
        if let Some(registration) = registration {
            MayBlock::enter(|p| drop(registration.remove(p)));
        }
    }

    /// Nobody uses it any more.
    pub(crate) fn released(&self) {
        self.ended();
        self.family.one_less();
    }

    /// As [`Child::released`], but the family has yet to be told by [`Family::one_less`].
    pub(crate) fn ended(&self) {
        self.region.released(self.span, self.region.now());
    }
}

impl<D: Design> Family<D> {
    /// Where a range would begin that `addr` is part of.
    pub(crate) fn range_start(&self, addr: usize) -> usize {
        let size = self.range_size.load(Relaxed);
        addr - addr.checked_rem(size).unwrap_or_default()
    }

    /// An object is released.
    pub(crate) fn one_less(&self) {
        if self.outstanding.fetch_sub(1, Full) == 1 {
            // Whoever waits has either seen that, or is woken up.
            let _waiting = self.waiting.lock();
            self.gone.notify_all();
        }
    }
}

/// The objects with their owner.
pub(crate) struct Children<D: Design> {
    family: Arc<Family<D>>,
}

impl<D: Design> Children<D> {
    /// Prepares an address space for them.
    pub(crate) fn new<E>(
        mm: &MmWithUser,
        design: impl PinInit<D, E>,
        p: &mut MayBlock<'_>,
    ) -> Result<Self>
    where
        Error: From<E>,
    {
        mmu_interval::prepare(mm, p)?;
        let mm: &Mm = mm;
        let mm = ARef::from(mm);
        let family = Arc::pin_init::<Error>(
            try_pin_init!(Family {
                design <- design,
                slots <- D::Slots::new(),
                range_size: Atomic::new(1),
                outstanding: Atomic::new(0),
                waiting <- new_mutex!((), "odp_bench::Family::waiting"),
                gone <- new_condvar!("odp_bench::Family::gone"),
                mm,
            }? Error),
            GFP_KERNEL,
        )?;
        Ok(Self { family })
    }

    /// Makes an object for each range of a region.
    pub(crate) fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        let family = &self.family;
        let lock = family.design.user_lock()?;
        family.range_size.store(region.range_size(), Relaxed);
        family.design.reserve(region.len())?;
        for span in region.ranges() {
            let span = span?;
            let child = Arc::pin_init(
                try_pin_init!(Child {
                    work <- new_work!("odp_bench::Child::work"),
                    registration <- new_mutex!(None, "odp_bench::Child::registration"),
                    family: family.clone(),
                    region: region.clone(),
                    span,
                    node: D::Slots::node(),
                    own <- D::own(),
                }),
                GFP_KERNEL,
            )?;
            let data = Watched {
                child: child.clone(),
                lock: lock.clone(),
            };
            let mm = family.mm.clone();
            let interval = Arc::pin_init(Interval::new::<Infallible>(mm, span, data), GFP_KERNEL)?;
            family.outstanding.fetch_add(1, Relaxed);
            let slot = child.clone();
            let mut registration = child.registration.lock();
            // SAFETY: These are the slots of its family, and it has just been made.
            let put = unsafe { family.slots.put(&family.design, slot) };
            let inserted = put.and_then(|()| Ok(Interval::insert(interval, p)?));
            match inserted {
                Ok(inserted) => *registration = Some(inserted),
                Err(error) => {
                    drop(registration);
                    let mut user = lock.lock();
                    // SAFETY: As in the callback.
                    let taken = unsafe { family.slots.take(&mut user, &child) };
                    drop(user);
                    match taken {
                        // It may have been looked up.
                        Some(taken) => D::retire(family, taken),
                        None => child.released(),
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits until all objects are gone.
    pub(crate) fn finish(&self, region: &Region) {
        self.wait();
        region.removed(region.now());
    }

    fn wait(&self) {
        let family = &self.family;
        let mut waiting = family.waiting.lock();
        while family.outstanding.load(Acquire) != 0 {
            family.gone.wait(&mut waiting);
        }
    }

    /// Whether there is a range at `addr`.
    pub(crate) fn lookup(&self, addr: usize) -> bool {
        D::find(&self.family, addr, |child| child.span.contains(addr)).unwrap_or(false)
    }

    /// Lets `f` run while a device is in the range at `addr`.
    pub(crate) fn access(&self, addr: usize, f: &mut dyn FnMut() -> Result) -> Result {
        D::find(&self.family, addr, |_| f()).ok_or(ENOENT)?
    }

    /// For the arms' counters.
    pub(crate) fn design(&self) -> &D {
        &self.family.design
    }
}

impl<D: Design> Drop for Children<D> {
    fn drop(&mut self) {
        // Of a process that did not unmap what it had mirrored.
        let family = &self.family;
        while let Some(child) = family.slots.take_any(&family.design) {
            D::retire(family, child);
        }
        self.wait();
        family.design.quiesce();
    }
}
