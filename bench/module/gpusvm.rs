// SPDX-License-Identifier: GPL-2.0

//! The arm that does it as drm_gpusvm does with xe: a notifier for a window of 512 MiB and ranges
//! below it, a list of those that have been unmapped, and one work item for a process that collects
//! them. The notifier goes with the last range of its window.
//!
//! Two locks, both of them `rw_semaphore`s. That of the vm is held for writing by whoever makes
//! ranges, looks them up or collects them. That of the notifiers is held for writing by callbacks,
//! and for reading, below that of the vm, by whoever changes the ranges of a window.
//!
//! Reader protection: the lock of the vm. A reader collects first, as a page fault of the device
//! does. Callbacks do not take that lock, so a reader may take as long as user space wants.
//!
//! An unmap of any part of a range is the end of it all. What has to do with a device, such as to
//! zap, to unbind and to unmap for DMA, with the locks for that, is as in all arms: there is none.

mod garbage;
mod ranges;

use self::{
    garbage::{
        Garbage,
        Ticket, //
    },
    ranges::{
        Links,
        Node,
        Ranges, //
    }, //
};
use super::{
    arm::Arm,
    queue::queue,
    region::Region,
    rw_sem::RwSem,
    spent, //
};
use core::{
    cell::UnsafeCell,
    convert::Infallible,
    ptr::NonNull, //
};
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_condvar,
    new_mutex,
    new_spinlock,
    prelude::*,
    rbtree::{
        Entry,
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        static_lock_class,
        Arc,
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

/// What a notifier watches: so many bytes, at a multiple of that.
const WINDOW: usize = 512 << 20;

/// The windows that have a range, by their number in the address space.
type Windows = RBTree<usize, Registration<Window>>;

/// All that is mirrored of an address space.
#[pin_data]
struct Svm {
    /// The collection.
    #[pin]
    work: Work<Svm>,
    #[pin]
    vm: RwSem<Windows>,
    #[pin]
    notifiers: RwSem<()>,
    #[pin]
    garbage: SpinLock<Garbage>,
    /// How many notifiers there are.
    #[pin]
    count: Mutex<usize>,
    #[pin]
    gone: CondVar,
    mm: ARef<Mm>,
}

/// What a notifier has besides its span.
struct Window {
    svm: Arc<Svm>,
    /// Used with the lock of the vm held, or that of the notifiers for writing; changed with the
    /// first of them held and the second for reading.
    ranges: UnsafeCell<Ranges>,
}

// SAFETY: What is in it may be used from any task.
unsafe impl Send for Window {}
// SAFETY: What several tasks do with the ranges at the same time is to look at them, by the locks.
unsafe impl Sync for Window {}

/// What is mirrored below a notifier: it goes as a whole.
///
/// # Invariants
///
/// From its insertion on it is in its window until whoever took it from the garbage takes it out.
struct Range {
    node: Node,
    links: UnsafeCell<Links>,
    ticket: UnsafeCell<Ticket>,
    /// Any of it is not mapped any more.
    unmapped: Atomic<bool>,
    region: Arc<Region>,
    span: Span,
}

impl_has_work! {
    impl HasWork<Self> for Svm { self.work }
}

impl WorkItem for Svm {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        MayBlock::enter(|p| this.collect(&mut this.vm.write(), p));
    }
}

impl Invalidate for Window {
    const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Window);

    fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
        let _spent = spent::callback();
        // It does not try, as there.
        let inv = match inv.would_block() {
            Ok(handled) => return handled,
            Err(inv) => inv,
        };
        let window = this.data();
        let goes = inv.event() == Event::Unmap;
        let (start, end) = inv.bounds();
        let guard = window.svm.notifiers.write();
        let handled = inv.record();
        if let Some(met) = this.span().clip(start, end) {
            // SAFETY: The lock of the notifiers is held for writing.
            for range in unsafe { window.ranges() }.within(met.start(), met.last()) {
                if goes {
                    window.svm.discard(range);
                }
            }
        }
        drop(guard);
        handled
    }
}

impl Window {
    /// Its ranges, to look at.
    ///
    /// # Safety
    ///
    /// As long as the answer lives the lock of the vm is held, or that of the notifiers for
    /// writing.
    unsafe fn ranges(&self) -> &Ranges {
        // SAFETY: Whoever changes them has both locks, and one of these keeps that out.
        unsafe { &*self.ranges.get() }
    }
}

impl Range {
    fn new(region: &Arc<Region>, span: Span) -> Result<Arc<Self>> {
        let range = Self {
            node: ranges::node(span),
            links: UnsafeCell::default(),
            ticket: UnsafeCell::default(),
            unmapped: Atomic::new(false),
            region: region.clone(),
            span,
        };
        Ok(Arc::new(range, GFP_KERNEL)?)
    }
}

impl Svm {
    /// Has a range of this collected. The lock of the notifiers is held for writing. Does not
    /// sleep.
    fn discard(self: &Arc<Self>, range: &Range) {
        let now = range.region.now();
        range.unmapped.store(true, Relaxed);
        let mut garbage = self.garbage.lock();
        // SAFETY: It is of this, and stays in its window until it has been taken from there.
        let is_new = unsafe { garbage.add(range) };
        drop(garbage);
        if is_new {
            range.region.retired(range.span, now);
        }
        // For each of them, as there. If it is queued already it will see this.
        let _ = queue().enqueue(self.clone());
    }

    fn next_garbage(&self) -> Option<NonNull<Range>> {
        self.garbage.lock().take()
    }

    /// Removes what has been discarded.
    fn collect(&self, windows: &mut Windows, p: &mut MayBlock<'_>) {
        while let Some(raw) = self.next_garbage() {
            // SAFETY: It is in its window, so that it is valid, until it is taken out below.
            let range = unsafe { raw.as_ref() };
            range.region.begun(range.span, range.region.now());
            let number = range.span.start() / WINDOW;
            let Some(registration) = windows.get(&number) else {
                kernel::warn_on!(true);
                continue;
            };
            let ranges = registration.interval().data().ranges.get();
            let guard = self.notifiers.read();
            // SAFETY: The lock of the vm is held, without which there is no `windows`, and that of
            // the notifiers for reading: nobody else has them.
            let ranges = unsafe { &mut *ranges };
            // SAFETY: It was in the garbage, where it is once, so that it is in its window yet.
            let range = unsafe { ranges.remove(raw) };
            let is_empty = ranges.is_empty();
            drop(guard);
            range.region.released(range.span, range.region.now());
            drop(range);
            if !is_empty {
                continue;
            }
            if let Some(registration) = windows.remove(&number) {
                drop(registration.remove(p));
                self.one_less();
            }
        }
    }

    /// A notifier has been removed.
    fn one_less(&self) {
        let mut count = self.count.lock();
        *count -= 1;
        if *count == 0 {
            self.gone.notify_all();
        }
    }

    fn wait(&self) {
        let mut count = self.count.lock();
        while *count != 0 {
            self.gone.wait(&mut count);
        }
    }

    /// Inserts the notifier of a window.
    fn watch(
        self: &Arc<Self>,
        number: usize,
        p: &mut MayBlock<'_>,
    ) -> Result<Registration<Window>> {
        let span = Span::new(number * WINDOW, WINDOW)?;
        let window = Window {
            svm: self.clone(),
            ranges: UnsafeCell::new(Ranges::new()),
        };
        let interval = Arc::pin_init(
            Interval::new::<Infallible>(self.mm.clone(), span, window),
            GFP_KERNEL,
        )?;
        let registration = Interval::insert(interval, p)?;
        *self.count.lock() += 1;
        Ok(registration)
    }

    /// Mirrors a range, as a page fault of the device does at an address that has none.
    fn fault(self: &Arc<Self>, region: &Arc<Region>, span: Span, p: &mut MayBlock<'_>) -> Result {
        let number = span.start() / WINDOW;
        if span.last() / WINDOW != number {
            return Err(EINVAL);
        }
        let mut windows = self.vm.write();
        self.collect(&mut windows, p);
        if Self::finds(&windows, span.start()) {
            return Err(EEXIST);
        }
        let range = Range::new(region, span)?;
        let registration = match windows.entry(number) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let room = RBTreeNodeReservation::new(GFP_KERNEL)?;
                entry.insert(self.watch(number, p)?, room)
            }
        };
        let ranges = registration.interval().data().ranges.get();
        let guard = self.notifiers.read();
        // SAFETY: The lock of the vm is held, and that of the notifiers for reading: nobody else
        // has them.
        let ranges = unsafe { &mut *ranges };
        // SAFETY: It is new.
        // INVARIANT: Nobody takes it out but `collect`.
        unsafe { ranges.insert(range) };
        drop(guard);
        Ok(())
    }

    /// Whether there is a range at `addr` of which nothing has been unmapped. The lock of the vm is
    /// held, without which there is no `windows`.
    fn finds(windows: &Windows, addr: usize) -> bool {
        let Some(registration) = windows.get(&(addr / WINDOW)) else {
            return false;
        };
        let window = registration.interval().data();
        // SAFETY: The lock of the vm is held as long as `windows` lives.
        let mut met = unsafe { window.ranges() }.within(addr, addr);
        met.next()
            .is_some_and(|range| !range.unmapped.load(Relaxed))
    }
}

/// Has drm_gpusvm's way do it.
pub(crate) struct GpuSvm {
    svm: Arc<Svm>,
}

impl GpuSvm {
    /// Makes the arm.
    pub(crate) fn new(mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result<Self> {
        mmu_interval::prepare(mm, p)?;
        let mm: &Mm = mm;
        let mm = ARef::from(mm);
        let svm = Arc::pin_init(
            pin_init!(Svm {
                work <- new_work!("odp_bench::Svm::work"),
                vm <- RwSem::new(RBTree::new(), c"odp_bench::Svm::vm", static_lock_class!()),
                notifiers <- RwSem::new((), c"odp_bench::Svm::notifiers", static_lock_class!()),
                garbage <- new_spinlock!(Garbage::default(), "odp_bench::Svm::garbage"),
                count <- new_mutex!(0, "odp_bench::Svm::count"),
                gone <- new_condvar!("odp_bench::Svm::gone"),
                mm,
            }),
            GFP_KERNEL,
        )?;
        Ok(Self { svm })
    }
}

impl Arm for GpuSvm {
    fn mirror(&self, region: &Arc<Region>, p: &mut MayBlock<'_>) -> Result {
        for span in region.ranges() {
            self.svm.fault(region, span?, p)?;
        }
        Ok(())
    }

    fn finish(&self, region: &Region, _p: &mut MayBlock<'_>) -> Result {
        self.svm.wait();
        region.removed(region.now());
        Ok(())
    }

    fn lookup(&self, addr: usize, p: &mut MayBlock<'_>) -> bool {
        let mut windows = self.svm.vm.write();
        self.svm.collect(&mut windows, p);
        Svm::finds(&windows, addr)
    }

    fn access(&self, addr: usize, p: &mut MayBlock<'_>, f: &mut dyn FnMut() -> Result) -> Result {
        let mut windows = self.svm.vm.write();
        self.svm.collect(&mut windows, p);
        if !Svm::finds(&windows, addr) {
            return Err(ENOENT);
        }
        f()
    }
}

impl Drop for GpuSvm {
    fn drop(&mut self) {
        let svm = &self.svm;
        let mut windows = svm.vm.write();
        let guard = svm.notifiers.write();
        // Of a process that did not unmap what it had mirrored.
        for registration in windows.values() {
            let window = registration.interval().data();
            // SAFETY: Both locks are held.
            for range in unsafe { window.ranges() }.within(0, usize::MAX) {
                svm.discard(range);
            }
        }
        drop(guard);
        MayBlock::enter(|p| svm.collect(&mut windows, p));
    }
}
