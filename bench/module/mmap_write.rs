// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as amdkfd does: a list and one work item for a process, which takes
//! `mmap_lock` for writing for each object, removes its notifier, and where a part is left, inserts
//! notifiers for that.
//!
//! Reader protection: a mutex, which is held while an object is made, inserted, changed or
//! removed.
//!
//! The pieces are objects of their own where amdkfd inserts the same one again. Their insertion
//! tells lockdep that it may take `mmap_lock`, which it does not, so this is for kernels without.

use super::{
    arm::Arm,
    pending::Pending,
    queue::queue,
    region::Region,
    spent,
    tree::{
        Member,
        Node,
        Tree, //
    },
    user_lock::UserLock, //
};
use core::{
    convert::Infallible,
    mem::offset_of,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    mm::{
        Mm,
        MmWithUser, //
    },
    new_condvar,
    new_mutex,
    new_spinlock,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        CondVar,
        Mutex,
        SpinLock, //
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
    Event,
    MayBlock,
    Span, //
};

#[allow(
    improper_ctypes,
    reason = "some structs of the bindings have no fields in some kernels"
)]
extern "C" {
    fn odp_bench_mmap_write_lock(mm: *mut bindings::mm_struct);
    fn odp_bench_mmap_write_unlock(mm: *mut bindings::mm_struct);
}

/// The objects of a process.
#[pin_data]
struct Process {
    #[pin]
    work: Work<Process>,
    #[pin]
    pending: Pending<Arc<Object>>,
    /// Readers have it, and who changes an object.
    #[pin]
    ranges: Mutex<Tree<Object>>,
    /// How many objects there are.
    #[pin]
    objects: Mutex<usize>,
    /// How many of them have something to be changed.
    busy: Atomic<usize>,
    #[pin]
    progress: CondVar,
    mm: ARef<Mm>,
}

/// What callbacks have said about an object that the work item has yet to see.
#[derive(Clone, Copy, Default)]
struct Told {
    /// What is not mapped any more, as one span.
    unmapped: Option<Span>,
}

#[pin_data]
struct Object {
    #[pin]
    told: SpinLock<Told>,
    #[pin]
    registration: Mutex<Option<Registration<Watched>>>,
    process: Arc<Process>,
    region: Arc<Region>,
    lock: Arc<UserLock>,
    span: Span,
    node: Node,
}

// SAFETY: There is a node at that place, and nobody changes the span.
unsafe impl Member for Object {
    const NODE: usize = offset_of!(Self, node);

    fn span(&self) -> Span {
        self.span
    }
}

struct Watched {
    object: Arc<Object>,
}

impl_has_work! {
    impl HasWork<Self> for Process { self.work }
}

impl Invalidate for Watched {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watched);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let _spent = spent::callback();
        let object = &this.data().object;
        let goes = matches!(inv.event(), Event::Unmap | Event::Release);
        let (start, end) = inv.bounds();
        let (guard, handled) = match object.lock.begin(inv) {
            Ok(begun) => begun,
            Err(handled) => return handled,
        };
        if let Some(unmapped) = object.span.clip(start, end).filter(|_| goes) {
            object.tell(unmapped);
        }
        drop(guard);
        handled
    }
}

impl WorkItem for Process {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some(object) = this.pending.pop() {
            let mm = this.mm.mmget_not_zero().map(MmWithUser::into_mmput_async);
            if mm.is_some() {
                // SAFETY: The `mm_struct` is valid.
                unsafe { odp_bench_mmap_write_lock(this.mm.as_raw()) };
            }
            let mut ranges = this.ranges.lock();
            object.change(&mut ranges);
            drop(ranges);
            if mm.is_some() {
                // SAFETY: It was locked above.
                unsafe { odp_bench_mmap_write_unlock(this.mm.as_raw()) };
            }
            drop(mm);
            let region = object.region.clone();
            let span = object.span;
            drop(object);
            region.released(span, region.now());
            let mut objects = this.objects.lock();
            *objects -= 1;
            let was_last = this.busy.fetch_sub(1, Relaxed) == 1;
            if was_last || *objects == 0 {
                this.progress.notify_all();
            }
        }
    }
}

impl Object {
    fn new(
        process: &Arc<Process>,
        region: &Arc<Region>,
        lock: &Arc<UserLock>,
        span: Span,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                told <- new_spinlock!(Told::default(), "odp_bench::Object::told"),
                registration <- new_mutex!(None, "odp_bench::Object::registration"),
                process: process.clone(),
                region: region.clone(),
                lock: lock.clone(),
                span,
                node: Node::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Has the work item see to it that `unmapped` is not watched any more. Does not sleep.
    fn tell(self: &Arc<Self>, unmapped: Span) {
        let now = self.region.now();
        let mut told = self.told.lock();
        let first = told.unmapped.is_none();
        told.unmapped = Some(told.unmapped.map_or(unmapped, |old| old.hull(&unmapped)));
        drop(told);
        if first {
            self.region.retired(self.span, now);
            self.process.busy.fetch_add(1, Relaxed);
            if self.process.pending.push(self.clone()) {
                // If it is queued already it will see this.
                let _ = queue().enqueue(self.process.clone());
            }
        }
    }

    /// Puts it into the tree and inserts its notifier.
    fn insert(self: &Arc<Self>, ranges: &mut Tree<Self>, p: &mut MayBlock<'_>) -> Result {
        let process = &self.process;
        let watched = Watched {
            object: self.clone(),
        };
        let mm = process.mm.clone();
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(mm, self.span, watched),
            GFP_KERNEL,
        )?;
        let raw = NonNull::from(&**self);
        // SAFETY: It is put there once, when it is made, and taken out before it goes.
        unsafe { ranges.put(raw) }.map_err(|_| EEXIST)?;
        *process.objects.lock() += 1;
        let mut registration = self.registration.lock();
        match Interval::insert(interval, p) {
            Ok(inserted) => *registration = Some(inserted),
            Err(error) => {
                // SAFETY: It is valid, and in no other tree.
                unsafe { ranges.take_out(raw) };
                *process.objects.lock() -= 1;
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Removes the notifier, and puts others in its place for what is left. `mmap_lock` is locked
    /// for writing if there are pieces to be had.
    fn change(&self, ranges: &mut Tree<Self>) {
        // SAFETY: It is valid, and in no other tree.
        unsafe { ranges.take_out(NonNull::from(self)) };
        let registration = self.registration.lock().take();
        MayBlock::enter(|p| {
            if let Some(registration) = registration {
                drop(registration.remove(p));
            }
            // After this no callback tells anything more.
            let told = *self.told.lock();
            let Some(unmapped) = told.unmapped else {
                return;
            };
            for (start, end) in [
                (self.span.start(), unmapped.start()),
                (unmapped.end(), self.span.end()),
            ] {
                let Ok(span) = Span::from_bounds(start, end) else {
                    continue;
                };
                // What cannot be had is not mirrored any more, as there.
                let _ = Self::new(&self.process, &self.region, &self.lock, span)
                    .and_then(|piece| piece.insert(ranges, p));
            }
        });
    }
}

/// Has amdkfd's way do it.
pub(crate) struct MmapWrite {
    process: Arc<Process>,
}

impl MmapWrite {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        let mm: &Mm = mm;
        let mm = ARef::from(mm);
        Ok(Self {
            process: Arc::pin_init(
                pin_init!(Process {
                    work <- new_work!("odp_bench::Process::work"),
                    pending <- Pending::new(),
                    ranges <- new_mutex!(Tree::default(), "odp_bench::Process::ranges"),
                    objects <- new_mutex!(0, "odp_bench::Process::objects"),
                    busy: Atomic::new(0),
                    progress <- new_condvar!("odp_bench::Process::progress"),
                    mm,
                }),
                GFP_KERNEL,
            )?,
        })
    }
}

impl MmapWrite {
    fn wait(&self, until: impl Fn(usize, usize) -> bool) {
        let process = &self.process;
        let mut objects = process.objects.lock();
        while !until(*objects, process.busy.load(Relaxed)) {
            process.progress.wait(&mut objects);
        }
    }
}

impl Arm for MmapWrite {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        // Every range may become two.
        self.process.pending.reserve(2 * region.len())?;
        let lock = UserLock::new()?;
        for span in region.ranges() {
            let object = Object::new(&self.process, region, &lock, span?)?;
            object.insert(&mut self.process.ranges.lock(), p)?;
        }
        Ok(())
    }

    fn settle(&self, _p: &mut MayBlock<'_>) -> Result {
        self.wait(|_, busy| busy == 0);
        Ok(())
    }

    fn finish(&self, region: &Region, _p: &mut MayBlock<'_>) -> Result {
        self.wait(|objects, _| objects == 0);
        region.removed(region.now());
        Ok(())
    }

    fn lookup(&self, addr: usize, _p: &mut MayBlock<'_>) -> bool {
        self.process.ranges.lock().get(addr).is_some()
    }
}

impl Drop for MmapWrite {
    fn drop(&mut self) {
        // Of a process that did not unmap what it had mirrored.
        let ranges = self.process.ranges.lock();
        let mut next = ranges.first_from(0);
        while let Some(object) = next {
            // SAFETY: Objects live in an `Arc`, and it is not gone while it is in the tree.
            let object: Arc<Object> = unsafe { ArcBorrow::from_raw(object) }.into();
            object.tell(object.span);
            next = ranges.first_from(object.span.end());
        }
        drop(ranges);
        self.wait(|objects, _| objects == 0);
    }
}
