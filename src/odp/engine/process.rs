// SPDX-License-Identifier: GPL-2.0

//! What the mirrors and retirers of a process share: a workqueue, and an address space that is
//! prepared for notifiers.
//!
//! All work for them runs on that queue, and nobody else's. A removal sleeps until no part of the
//! address space is being invalidated. How long that takes is for the process's threads to say, and
//! how many such sleeps there are at the same time is for it to say, too: it may have as many
//! mirrors as it has files. A workqueue runs a limited number of work items, so on one that all
//! processes shared, one of them could fill it with sleepers and keep the others from theirs. The
//! same holds for the one rescuer that a workqueue has.
//!
//! What a process does not use any more is the next one's, once there is nothing on its queue.

use crate::{
    may_block::MayBlock,
    mmu_interval,
    owned_queue::OwnedQueue, //
};
use core::ops::Deref;
use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    prelude::*,
    rbtree::{
        self,
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        Mutex, //
    },
    types::ScopeGuard,
    workqueue::Queue, //
};

/// How many work items of a process run at the same time: its lanes, and with them the batches,
/// changes and releases of a hundred mirrors. Kernel threads that sleep are all that more would be.
const MAX_ACTIVE: u16 = 512;

/// How many lanes all workers of a process have at most.
const MOST_LANES: usize = 127;

/// A workqueue, the lanes on it, and the state of an address space.
pub(crate) struct Process {
    queue: OwnedQueue,
    lanes: Atomic<usize>,
    /// Whether the address space has been prepared for notifiers.
    prepared: Atomic<bool>,
}

impl Process {
    fn new() -> Result<Arc<Self>> {
        let queue = OwnedQueue::new_unbound()
            .mem_reclaim()
            .max_active(MAX_ACTIVE)
            .one_of_many()
            .build(c"odp")?;
        Ok(Arc::new(
            Self {
                queue,
                lanes: Atomic::new(0),
                prepared: Atomic::new(false),
            },
            GFP_KERNEL,
        )?)
    }

    /// Prepares the address space of the process for notifiers, unless that has been done
    /// ([`mmu_interval::prepare`]).
    ///
    /// Context: may sleep, takes `mmap_lock` for writing, and the locks of all mappings; the next
    /// time nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EINTR` if a signal arrived.
    pub(crate) fn prepare(&self, mm: &MmWithUser, p: &mut MayBlock<'_>) -> Result {
        if !self.prepared.load(Acquire) {
            mmu_interval::prepare(mm, p)?;
            // Core mm keeps what it has prepared for as long as the `mm_struct`. Who sees the flag
            // sees that, too.
            self.prepared.store(true, Release);
        }
        Ok(())
    }

    /// Counts another lane, unless there are as many as there may be. To be followed by
    /// [`Process::lane_has_ended`].
    #[must_use]
    pub(crate) fn add_lane(&self) -> bool {
        // OVERFLOW: Each task that has overshot takes its one back.
        let room = self.lanes.fetch_add(1, Relaxed) < MOST_LANES;
        if !room {
            self.lane_has_ended();
        }
        room
    }

    /// One lane less.
    pub(crate) fn lane_has_ended(&self) {
        // OVERFLOW: `add_lane` has counted it.
        let _ = self.lanes.fetch_sub(1, Relaxed);
    }
}

impl Deref for Process {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// One process, and who uses what is there for it.
struct Entry {
    process: Arc<Process>,
    /// How many [`ProcessUse`]s there are.
    users: usize,
    /// Keeps the address, which is the key, from being another one's.
    _mm: ARef<Mm>,
}

/// How many that nobody uses are kept for the next processes, because to make one and to destroy it
/// takes long. Each is a kernel thread that sleeps, and a structure for each CPU.
const MOST_SPARE: usize = 4;

/// All there are.
struct Table {
    /// Those that are used, by the address of their process's `mm_struct`.
    by_mm: RBTree<usize, Entry>,
    /// Those that are not, with nothing on their queues.
    spare: [Option<Arc<Process>>; MOST_SPARE],
}

/// All processes that have mirrors or retirers, and some to spare.
#[pin_data]
pub(crate) struct Processes {
    #[pin]
    table: Mutex<Table>,
}

impl Processes {
    pub(crate) fn new() -> impl PinInit<Self> {
        let table = Table {
            by_mm: RBTree::new(),
            spare: [const { None }; MOST_SPARE],
        };
        pin_init!(Self {
            table <- new_mutex!(table, "odp::Processes::table"),
        })
    }

    /// One that nobody uses.
    fn unused(&self) -> Result<Arc<Process>> {
        let spare = self.table.lock().spare.iter_mut().find_map(Option::take);
        spare.map_or_else(Process::new, Ok)
    }

    /// Keeps `process`, with nothing on its queue, for somebody else, if there is room. What is
    /// returned is to be dropped without the lock.
    fn spare(&self, process: Arc<Process>) -> Option<Arc<Process>> {
        process.prepared.store(false, Relaxed);
        let mut table = self.table.lock();
        match table.spare.iter_mut().find(|place| place.is_none()) {
            Some(place) => place.replace(process),
            None => Some(process),
        }
    }
}

/// The use of what a process has by one worker. After the last one it is somebody else's, or goes.
///
/// Dropping it may sleep: then it waits for what runs on the queue. So it is not dropped by work on
/// the queue; a worker's owner has it, while the worker has a reference to the process as such.
pub(crate) struct ProcessUse {
    processes: &'static Processes,
    process: Arc<Process>,
    /// Null if it is nobody else's.
    key: usize,
}

impl ProcessUse {
    /// Uses that of `mm`, or of the current process if that is not known. May sleep.
    ///
    /// A kernel thread is no process: what it makes gets one of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; also if the current task is killed meanwhile, since a queue has a kernel thread.
    pub(crate) fn new(processes: &'static Processes, mm: Option<&Mm>) -> Result<Self> {
        let current = current!();
        let Some(mm) = mm.or_else(|| current.mm().map(Deref::deref)) else {
            return Ok(Self {
                processes,
                process: processes.unused()?,
                key: 0,
            });
        };
        let key = mm.as_raw().addr();
        if let Some(entry) = processes.table.lock().by_mm.get_mut(&key) {
            return Ok(entry.join(processes, key));
        }
        // Without the lock, because it takes long. Somebody else may be faster.
        let unused = ScopeGuard::new_with_data(processes.unused()?, |process| {
            drop(processes.spare(process));
        });
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        // Unlocked before `unused`, which was made first, may be spared.
        let mut table = processes.table.lock();
        let entry = match table.by_mm.entry(key) {
            rbtree::Entry::Occupied(entry) => entry.into_mut(),
            rbtree::Entry::Vacant(entry) => entry.insert(
                Entry {
                    process: unused.dismiss(),
                    users: 0,
                    _mm: ARef::from(mm),
                },
                node,
            ),
        };
        Ok(entry.join(processes, key))
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Counts one user less, and returns the entry if that was the last one.
    fn leave(&self) -> Option<Entry> {
        let mut table = self.processes.table.lock();
        let entry = table.by_mm.get_mut(&self.key)?;
        // OVERFLOW: `join` has counted this one.
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        table.by_mm.remove(&self.key)
    }
}

impl Entry {
    fn join(&mut self, processes: &'static Processes, key: usize) -> ProcessUse {
        // OVERFLOW: There cannot be as many workers as there are bytes.
        self.users += 1;
        ProcessUse {
            processes,
            process: self.process.clone(),
            key,
        }
    }
}

impl Drop for ProcessUse {
    fn drop(&mut self) {
        if self.key == 0 || self.leave().is_some() {
            // A lane has a reference to its worker, and so to the queue, until its very end. The
            // queue must not be destroyed there: a work item would wait for itself. Nor may there
            // be anything on it of one process when it is another's.
            self.process.queue.flush();
            drop(self.processes.spare(self.process.clone()));
        }
    }
}
