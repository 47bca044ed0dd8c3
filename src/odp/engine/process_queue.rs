// SPDX-License-Identifier: GPL-2.0

//! The workqueue of a process: all work for its mirrors and retirers runs there, and nobody else's.
//!
//! A removal sleeps until no part of the address space is being invalidated. How long that takes is
//! for the process's threads to say, and how many such sleeps there are at the same time is for it
//! to say, too: it may have as many mirrors as it has files. A workqueue runs a limited number of
//! work items, so on one that all processes shared, one of them could fill it with sleepers and
//! keep the others from theirs. The same holds for the one rescuer that a workqueue has.
//!
//! A queue that its process does not use any more is the next one's, once there is nothing on it.

use crate::owned_queue::OwnedQueue;
use core::ops::Deref;
use kernel::{
    mm::Mm,
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
            Atomic,
            Relaxed, //
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

/// A workqueue, and the lanes on it.
pub(crate) struct ProcessQueue {
    queue: OwnedQueue,
    lanes: Atomic<usize>,
}

impl ProcessQueue {
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
            },
            GFP_KERNEL,
        )?)
    }

    /// Counts another lane, unless there are as many as there may be. To be followed by
    /// [`ProcessQueue::lane_has_ended`].
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

impl Deref for ProcessQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.queue
    }
}

/// The queue of one process, and who uses it.
struct Entry {
    queue: Arc<ProcessQueue>,
    /// How many [`QueueUse`]s there are.
    users: usize,
    /// Keeps the address, which is the key, from being another one's.
    _mm: ARef<Mm>,
}

/// How many queues that nobody uses are kept for the next processes, because to make one and to
/// destroy it takes long. Each is a kernel thread that sleeps, and a structure for each CPU.
const MOST_SPARE: usize = 4;

/// All queues there are.
struct Queues {
    /// Those that are used, by the address of their process's `mm_struct`.
    by_mm: RBTree<usize, Entry>,
    /// Those that are not, with nothing on them.
    spare: [Option<Arc<ProcessQueue>>; MOST_SPARE],
}

/// The queues of all processes that have one, and some to spare.
#[pin_data]
pub(crate) struct ProcessQueues {
    #[pin]
    queues: Mutex<Queues>,
}

impl ProcessQueues {
    pub(crate) fn new() -> impl PinInit<Self> {
        let queues = Queues {
            by_mm: RBTree::new(),
            spare: [const { None }; MOST_SPARE],
        };
        pin_init!(Self {
            queues <- new_mutex!(queues, "odp::ProcessQueues::queues"),
        })
    }

    /// A queue that nobody uses.
    fn unused(&self) -> Result<Arc<ProcessQueue>> {
        let spare = self.queues.lock().spare.iter_mut().find_map(Option::take);
        spare.map_or_else(ProcessQueue::new, Ok)
    }

    /// Keeps `queue`, on which there is nothing, for somebody else, if there is room. What is
    /// returned is to be dropped without the lock.
    fn spare(&self, queue: Arc<ProcessQueue>) -> Option<Arc<ProcessQueue>> {
        let mut queues = self.queues.lock();
        match queues.spare.iter_mut().find(|place| place.is_none()) {
            Some(place) => place.replace(queue),
            None => Some(queue),
        }
    }
}

/// The use of a process's queue by one worker. After the last one the queue is somebody else's, or
/// goes.
///
/// Dropping it may sleep: then it waits for what runs on the queue. So it is not dropped by work on
/// the queue; a worker's owner has it, while the worker has a reference to the queue as such.
pub(crate) struct QueueUse {
    queues: &'static ProcessQueues,
    queue: Arc<ProcessQueue>,
    /// Null if the queue is nobody else's.
    key: usize,
}

impl QueueUse {
    /// Has the queue of `mm`, or of the current process if that is not known, used. May sleep.
    ///
    /// A kernel thread is no process: what it makes gets a queue of its own.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; also if the current task is killed meanwhile, since a queue has a kernel thread.
    pub(crate) fn new(queues: &'static ProcessQueues, mm: Option<&Mm>) -> Result<Self> {
        let current = current!();
        let Some(mm) = mm.or_else(|| current.mm().map(Deref::deref)) else {
            return Ok(Self {
                queues,
                queue: queues.unused()?,
                key: 0,
            });
        };
        let key = mm.as_raw().addr();
        if let Some(entry) = queues.queues.lock().by_mm.get_mut(&key) {
            return Ok(entry.join(queues, key));
        }
        // Without the lock, because it takes long. Somebody else may be faster.
        let unused = ScopeGuard::new_with_data(queues.unused()?, |queue| drop(queues.spare(queue)));
        let node = RBTreeNodeReservation::new(GFP_KERNEL)?;
        // Unlocked before `unused`, which was made first, may be spared.
        let mut locked = queues.queues.lock();
        let entry = match locked.by_mm.entry(key) {
            rbtree::Entry::Occupied(entry) => entry.into_mut(),
            rbtree::Entry::Vacant(entry) => entry.insert(
                Entry {
                    queue: unused.dismiss(),
                    users: 0,
                    _mm: ARef::from(mm),
                },
                node,
            ),
        };
        Ok(entry.join(queues, key))
    }

    pub(crate) fn queue(&self) -> &Arc<ProcessQueue> {
        &self.queue
    }

    /// Counts one user less, and returns the entry if that was the last one.
    fn leave(&self) -> Option<Entry> {
        let mut queues = self.queues.queues.lock();
        let entry = queues.by_mm.get_mut(&self.key)?;
        // OVERFLOW: `join` has counted this one.
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        queues.by_mm.remove(&self.key)
    }
}

impl Entry {
    fn join(&mut self, queues: &'static ProcessQueues, key: usize) -> QueueUse {
        // OVERFLOW: There cannot be as many workers as there are bytes.
        self.users += 1;
        QueueUse {
            queues,
            queue: self.queue.clone(),
            key,
        }
    }
}

impl Drop for QueueUse {
    fn drop(&mut self) {
        if self.key == 0 || self.leave().is_some() {
            // A lane has a reference to its worker, and so to the queue, until its very end. The
            // queue must not be destroyed there: a work item would wait for itself. Nor may there
            // be anything on it of one process when it is another's.
            self.queue.queue.flush();
            drop(self.queues.spare(self.queue.clone()));
        }
    }
}
