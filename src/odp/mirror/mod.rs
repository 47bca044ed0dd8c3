// SPDX-License-Identifier: GPL-2.0

//! Level 2: one process's addresses, as one device context mirrors them.

pub(crate) mod access;
pub(crate) mod driver;
pub(crate) mod faults;
pub(crate) mod invalidation;
pub(crate) mod range;
pub(crate) mod shared;
mod trim;
pub(crate) mod walk;

use self::{
    access::{
        Hold,
        Lookup, //
    },
    driver::Mirrored,
    range::{
        space::{
            Room,
            Space, //
        },
        InTheWay,
        Range, //
    },
    shared::Shared,
    walk::Walk, //
};
use super::engine::{
    queues::Until,
    stats::Snapshot,
    worker::{
        OwnedWorker,
        WakeupConfig,
        Worker,
        WAKEUP_DELAY, //
    }, //
};
use crate::{
    may_block::MayBlock,
    memcg::MemCgroup,
    mmu_interval::{
        self,
        EventOwner,
        Interval, //
    },
    span::Span, //
};
use core::{
    iter,
    ptr::NonNull, //
};
use kernel::{
    alloc::AllocError,
    mm::{
        Mm,
        MmWithUser, //
    },
    page::PAGE_SIZE,
    prelude::*,
    str::CString,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        srcu,
        Arc, //
    },
    time::Delta, //
};

/// What can be chosen when a mirror is made.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many ranges there may be, counting those that are retired but not released;
    /// [`Config::MAX_RANGES`] by default. One that would have to be split beyond this stays as it
    /// is. One that takes the place of another, or of several, needs no room, so that there may be
    /// one more for each range that is held though another is in its place.
    ///
    /// It bounds what a mirror costs. A range takes 256 bytes; with the default that is 16 MiB, and
    /// what the driver has for them.
    pub max_ranges: usize,
    /// What the ends of pieces of a range are rounded to, in bytes: a power of two, and no less
    /// than a page. A device with huge pages wants the size of those. Pieces reach as far as this
    /// says, but never beyond the range that they are pieces of.
    pub grain: usize,
    /// Who the driver is when it migrates pages to its device, or makes them exclusive to it:
    /// [`Mirrored::invalidate`] is not called for what it does by that. Before it migrates pages it
    /// stops the device's access to them itself; a fault that has found them begins again. `None`
    /// for a driver that does neither.
    ///
    /// Two mirrors of one address space must not have the same owner, because neither is told of
    /// what is done for the other. A device that a process may open twice has one owner for its
    /// memory, which is what `migrate_vma_setup()` takes. Its mirrors have no owner, or one that
    /// only `make_device_exclusive()` is passed, and are told of migrations.
    pub owner: Option<EventOwner>,
    /// Whether grace periods are expedited (`synchronize_srcu_expedited()`). Ranges are gone sooner
    /// where removals follow each other closely; every one of them costs the machine more.
    pub expedited: bool,
    /// About how long after a request the worker is woken up, so that it does not run in the middle
    /// of the system call that the request came from. Between a fourth of this and four times as
    /// long, as calls have turned out to take; then longer, a few times, while the process's
    /// `mmap_lock` is taken, and a few times more while requests keep coming. Zero for at once, and
    /// at most [`Config::MAX_WAKEUP_DELAY`]. Who waits for the worker does not wait for this.
    pub wakeup_delay: Delta,
    /// Whether removals are done in two steps, where core mm has them
    /// (`mmu_interval_notifier_remove_start()`): all that leave together wait for invalidations
    /// once, in one task. True by default; the other way is for comparing the two.
    pub split_removal: bool,
}

impl Config {
    /// How many ranges there may be where nothing else is chosen: somewhat more than there can be
    /// mappings (`vm.max_map_count`), unless the administrator wants it otherwise.
    pub const MAX_RANGES: usize = 1 << 16;

    /// The longest wakeup delay.
    pub const MAX_WAKEUP_DELAY: Delta = WakeupConfig::MAX_WAKEUP_DELAY;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_ranges: Self::MAX_RANGES,
            grain: PAGE_SIZE,
            owner: None,
            wakeup_delay: WAKEUP_DELAY,
            expedited: false,
            split_removal: true,
        }
    }
}

/// Why a range was not inserted, with the driver's object that it would have been part of.
pub struct InsertError<T: Mirrored> {
    /// What was passed in.
    pub value: Arc<Shared<T>>,
    /// The reason.
    pub cause: InsertErrorKind,
}

/// The reason for which a range was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertErrorKind {
    /// The address space is gone (`ESRCH`).
    NoUser,
    /// Part of the span is mirrored already (`EEXIST`). A range that is retired does not count;
    /// lookups find the new one from then on.
    Occupied,
    /// There are as many ranges as there may be, counting those whose release is outstanding
    /// (`ENOSPC`). [`Mirror::flush`] may help.
    Full,
    /// The driver's object is used with another mirror (`EXDEV`). It is from the first attempt on,
    /// successful or not.
    Foreign,
    /// The mirror has been shut down (`ESHUTDOWN`).
    Closed,
    /// The task has been killed while it waited for somebody else's insertion (`EINTR`).
    Killed,
    /// There is no memory (`ENOMEM`).
    AllocError(AllocError),
    /// What else core mm says of the notifier.
    Failed(Error),
}

impl From<AllocError> for InsertErrorKind {
    fn from(error: AllocError) -> Self {
        Self::AllocError(error)
    }
}

impl From<mmu_interval::InsertErrorKind> for InsertErrorKind {
    fn from(kind: mmu_interval::InsertErrorKind) -> Self {
        match kind {
            mmu_interval::InsertErrorKind::NoUser => Self::NoUser,
            mmu_interval::InsertErrorKind::AllocError(error) => Self::AllocError(error),
            other => Self::Failed(other.into()),
        }
    }
}

impl From<InsertErrorKind> for Error {
    fn from(kind: InsertErrorKind) -> Self {
        match kind {
            InsertErrorKind::NoUser => ESRCH,
            InsertErrorKind::Occupied => EEXIST,
            InsertErrorKind::Full => ENOSPC,
            InsertErrorKind::Foreign => EXDEV,
            InsertErrorKind::Closed => ESHUTDOWN,
            InsertErrorKind::Killed => EINTR,
            InsertErrorKind::AllocError(error) => error.into(),
            InsertErrorKind::Failed(error) => error,
        }
    }
}

impl<T: Mirrored> From<InsertError<T>> for Error {
    fn from(error: InsertError<T>) -> Self {
        error.cause.into()
    }
}

/// A process's addresses, as one device context mirrors them.
///
/// It pins the `mm_struct`, not the address space: the process may exit first, or last. It keeps
/// the driver's module loaded.
///
/// Dropping it is [`Mirror::shutdown`], so that must not happen in a callback of the library's:
/// nothing that ranges own may own the mirror. Forgetting it leaves the module loaded for good.
pub struct Mirror<T: Mirrored> {
    // The worker goes first: then nothing uses what is left.
    worker: OwnedWorker,
    space: Arc<Space<T>>,
    closed: Atomic<bool>,
}

/// Makes the names of files in debugfs unique.
static MIRRORS: Atomic<u64> = Atomic::new(0);

impl<T: Mirrored> Mirror<T> {
    /// Makes the mirror of an address space, with nothing in it.
    ///
    /// Context: may sleep. The first one of a process takes `mmap_lock` for writing, and the locks
    /// of all mappings.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, `EINTR` if a signal arrived, `ENODEV` if the driver's module is about to be
    /// unloaded, `EINVAL` if the grain or the wakeup delay is not what it has to be.
    pub fn new(mm: &MmWithUser, config: Config, p: &mut MayBlock<'_>) -> Result<Self> {
        if !config.grain.is_power_of_two() || config.grain < PAGE_SIZE {
            return Err(EINVAL);
        }
        let wakeup = WakeupConfig {
            wakeup_delay: config.wakeup_delay,
            expedited: config.expedited,
            mm: Some(ARef::from(&**mm)),
        };
        wakeup.check()?;

        let id = MIRRORS.fetch_add(1, Relaxed);
        let name = CString::try_from_fmt(fmt!("mirror-{id}"))?;
        let memcg = MemCgroup::of_caller(mm);
        let worker = memcg
            .charged(|| OwnedWorker::new(&name, &T::OPS.request, Some(&T::OPS.mirror), wakeup))?;
        worker.process().prepare(mm, p)?;
        let space = Arc::pin_init(
            Space::new((*worker).clone(), ARef::from(&**mm), memcg, config),
            GFP_KERNEL_ACCOUNT,
        )?;
        Ok(Self {
            worker,
            space,
            closed: Atomic::new(false),
        })
    }

    /// The address space.
    pub fn mm(&self) -> &Mm {
        &self.space.mm
    }

    /// Mirrors a span of addresses from now on, through `shared`.
    ///
    /// The caller gets a hold on the new range, which may have been retired already, by an
    /// invalidation that came before this returned. Nobody finds it before its notifier is in core
    /// mm's tree: what is mapped when that is looked at after this, callbacks tell of the end of.
    ///
    /// Its memory is charged to the memory cgroup that the mirror was made in, whoever the caller
    /// is; so is that of the ranges that take its place later.
    ///
    /// Context: may sleep; under neither the user lock nor `mmap_lock`. Waits until the
    /// invalidations of the address space that are going on have ended, of whatever addresses; and
    /// for somebody else who is inserting a range that overlaps, who waits for the same.
    ///
    /// # Errors
    ///
    /// See [`InsertErrorKind`].
    pub fn insert(
        &self,
        span: Span,
        shared: Arc<Shared<T>>,
        p: &mut MayBlock<'_>,
    ) -> Result<Hold<T>, InsertError<T>> {
        p.for_invalidate();
        self.worker.may_synchronize(p);
        let stats = self.worker.stats();
        let inserted = self.charged(|| self.try_insert(span, shared.clone(), p));
        match inserted {
            Ok(hold) => {
                stats.inserted.inc();
                stats.holds.inc();
                Ok(hold)
            }
            Err(cause) => {
                stats.insert_failed.inc();
                if cause == InsertErrorKind::NoUser {
                    stats.mm_dead.inc();
                }
                // Somebody may wait for this, or for the number of ranges to drop to zero.
                self.worker.insertion_failed();
                Err(InsertError {
                    value: shared,
                    cause,
                })
            }
        }
    }

    /// Runs `f`, and has charged to the memory cgroup that the mirror was made in what it allocates
    /// with
    /// [`GFP_KERNEL_ACCOUNT`]: for what a driver keeps for a mirror, and allocates in a kernel
    /// thread.
    pub fn charged<R>(&self, f: impl FnOnce() -> R) -> R {
        self.space.memcg.charged(f)
    }

    fn try_insert(
        &self,
        span: Span,
        shared: Arc<Shared<T>>,
        p: &mut MayBlock<'_>,
    ) -> Result<Hold<T>, InsertErrorKind> {
        if self.closed.load(Relaxed) {
            return Err(InsertErrorKind::Closed);
        }
        let interval = Range::new(
            self.space.clone(),
            span,
            shared,
            1,
            Room::Limited,
            GFP_KERNEL_ACCOUNT,
        )?;
        let raw = NonNull::from(&*interval);

        // Until it is published lookups skip the range.
        //
        // SAFETY: The range is kept until a grace period has passed after `erase`: below if the
        // insertion fails, by the worker otherwise.
        unsafe { self.reserve(raw) }?;

        // `shutdown` looks at the index after it has set this: either it finds the range, or we see
        // that it has begun. Both look with the index locked in between.
        let inserted = if self.closed.load(Relaxed) {
            Err(InsertErrorKind::Closed)
        } else {
            // Events pass by a notifier that is not in the tree. Who finds a range, looks at what
            // is mapped of it and sees that all is, relies on being told of whatever ends after
            // that.
            Interval::insert_and_wait(interval.clone(), p).map_err(|error| error.cause.into())
        };
        match inserted {
            Ok(registration) => {
                let _ = registration.into_raw();
                drop(interval);
                // SAFETY: The registration's reference keeps the range, and the hold that it was
                // made with keeps it from being released.
                unsafe {
                    Worker::publish(
                        self.worker.as_arc_borrow(),
                        NonNull::from(raw.as_ref().data().request()),
                    )
                };
                // SAFETY: The range was made with one hold, which is this.
                Ok(unsafe { Hold::new(raw) })
            }
            Err(error) => {
                // SAFETY: It is valid, and in this index if in any.
                unsafe { self.space.index.erase(iter::once(raw), |_| ()) };
                self.worker.synchronize();
                Err(error)
            }
        }
    }

    /// Puts a range that is about to be inserted in the index, as soon as nobody else is inserting
    /// one there.
    ///
    /// # Safety
    ///
    /// As for [`RangeIndex::insert`](crate::range_index::RangeIndex::insert).
    unsafe fn reserve(&self, raw: NonNull<Interval<Range<T>>>) -> Result<(), InsertErrorKind> {
        let mut seen = None;
        loop {
            // SAFETY: By the safety requirements the caller keeps the range for as long as `insert`
            // wants.
            let reserved = unsafe {
                let make_way = |other: &Interval<Range<T>>| other.data().make_way(other.span());
                self.space.index.insert(raw, make_way)
            };
            match reserved {
                Ok(()) => return Ok(()),
                Err(InTheWay::Building) => {}
                Err(InTheWay::Live) => return Err(InsertErrorKind::Occupied),
            }
            if let Some(seen) = seen {
                Worker::wait_for_insertion(self.worker.as_arc_borrow(), seen)
                    .map_err(|_| InsertErrorKind::Killed)?;
            }
            // Before the next look, after which it may be over.
            seen = Some(self.worker.insertions());
        }
    }

    /// Finds the range in service at `addr`. Takes no lock.
    ///
    /// Context: process context; may sleep while it has the answer, but not for long.
    pub fn lookup<'g>(&'g self, addr: usize, _p: &'g mut MayBlock<'_>) -> Option<Lookup<'g, T>> {
        let section = self.worker.read_lock();
        // SAFETY: `section`, which is of this mirror's worker, lasts until the answer is dropped.
        let look = || unsafe { self.space.index.load(addr) };
        // SAFETY: As above, and `look` looks in the index.
        let range = unsafe { self.in_service(&section, look) }.ok()?;
        // SAFETY: `in_service` has found it in that section, which is of this mirror.
        Some(unsafe { Lookup::new(range, section) })
    }

    /// Asks `look` for a range until what it has found in the index is in service.
    ///
    /// # Errors
    ///
    /// Where the range is that is not in service, nor is anything in its place; or `None` if `look`
    /// has found none.
    ///
    /// # Safety
    ///
    /// The section is of this mirror, and what `look` returns it has just found in the index.
    unsafe fn in_service(
        &self,
        _section: &srcu::Guard<'_>,
        look: impl Fn() -> Option<NonNull<Interval<Range<T>>>>,
    ) -> Result<NonNull<Interval<Range<T>>>, Option<Span>> {
        let mut stale = None;
        loop {
            let raw = look().ok_or(None)?;
            // SAFETY: By the safety requirements it was found in the index after the section had
            // been entered, and its release waits for a grace period after it has left the index.
            let interval = unsafe { raw.as_ref() };
            if interval.data().is_live() {
                return Ok(raw);
            }
            // Pieces may be in its place, which were there before it was marked.
            if stale == Some(raw) {
                return Err(Some(interval.span()));
            }
            stale = Some(raw);
        }
    }

    /// Finds the range in service at `addr` and holds it. `None` also if it cannot be held any more
    /// often.
    pub fn get(&self, addr: usize, p: &mut MayBlock<'_>) -> Option<Hold<T>> {
        loop {
            // Between the two it may go, or be replaced.
            let found = self.lookup(addr, p)?;
            let full = found.is_full();
            if let Ok(hold) = found.hold() {
                return Some(hold);
            }
            if full {
                return None;
            }
        }
    }

    /// Goes through the ranges in service of which any part lies in `span`, in order of address:
    /// the pieces of a range that has been replaced, say.
    ///
    /// # Examples
    ///
    /// ```ignore
    /// let mut ranges = mirror.walk(old.span());
    /// while let Some(piece) = ranges.get_next(p) {
    ///     pr_info!("{:#x} to {:#x}\n", piece.span().start(), piece.span().end());
    /// }
    /// ```
    pub fn walk(&self, span: Span) -> Walk<'_, T> {
        Walk::new(self, span)
    }

    /// Removes and changes here what the worker has not begun to; returns how many ranges that was.
    ///
    /// Never waits for the worker, and leaves to it releases, and the removal of a range that has
    /// been replaced. A fault path does this first: it bounds the number of ranges, because it
    /// makes who creates them pay, and holes are made by the time that it returns. If ranges have
    /// been released since, it has another try made for up to eight changes that could not be made;
    /// the next call goes on with others.
    ///
    /// Context: may sleep; not in a lookup, not in a callback, not under the user lock, nor
    /// `mmap_lock`.
    pub fn drain(&self, p: &mut MayBlock<'_>) -> usize {
        p.for_mmap_lock(self.mm());
        self.space.retry_some();
        Worker::drain(self.worker.as_arc_borrow(), p)
    }

    /// Waits for everything that was retired before the call, and whose insertion had returned; and
    /// for everything that was asked to change, whether or not there was memory for that. What had
    /// failed for want of memory is tried once more.
    ///
    /// How long that takes may be for user space to say, see [`Until`]; so it ends when the task is
    /// killed.
    ///
    /// Context: as for [`Hold::remove`]; for releases, without a hold on what is retired.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed. What is waited for goes on, and nobody else who flushes
    /// is concerned.
    pub fn flush(&self, until: Until, p: &mut MayBlock<'_>) -> Result {
        p.for_mmap_lock(self.mm());
        self.space.retry_all();
        Worker::flush(self.worker.as_arc_borrow(), until, p)
    }

    /// Retires every range that is in service, and does not wait for it.
    ///
    /// Context: may sleep; not under the user lock, and not in a callback.
    pub fn retire_all(&self) {
        self.space.index.for_each(|interval| {
            let _ = interval.data().retire();
        });
    }

    /// How many ranges have not been released yet.
    pub fn ranges(&self) -> usize {
        self.space.ranges()
    }

    /// The counters.
    pub fn stats(&self) -> Snapshot {
        self.worker.stats().snapshot()
    }

    /// Refuses insertions, retires all ranges, and waits until they are released and no code of the
    /// driver's is going to be called any more. May be called again.
    ///
    /// No signal ends this, because what comes after it frees what the ranges use. The kernel's log
    /// tells of one that takes more than 10 s, with the mirror's name in debugfs and how many holds
    /// there are.
    ///
    /// Context: as for [`Hold::remove`]. Waits for every hold; the caller must have none.
    pub fn shutdown(&self, p: &mut MayBlock<'_>) -> Snapshot {
        p.for_mmap_lock(self.mm());
        self.closed.store(true, Relaxed);
        self.retire_all();
        self.worker.shutdown(p, || self.space.ranges() == 0)
    }
}

impl<T: Mirrored> Drop for Mirror<T> {
    fn drop(&mut self) {
        MayBlock::enter(|p| self.shutdown(p));
    }
}
