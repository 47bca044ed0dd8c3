// SPDX-License-Identifier: GPL-2.0

//! The least that a deferred removal can take: a work item, a grace period, and the removals, with
//! nobody in the way and nothing around them.

use super::{
    notify::Watcher,
    region::Region,
    user_lock::UserLock, //
};
use kernel::{
    mm::Mm,
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        aref::ARef,
        srcu::new_srcu,
        Arc,
        CondVar,
        Mutex,
        Srcu, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};
use odp::{
    mmu_interval::Registration,
    owned_queue::OwnedQueue,
    MayBlock, //
};

/// When each step was over.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    /// The work item was about to be queued.
    pub(crate) queued: u64,
    /// It ran.
    pub(crate) ran: u64,
    /// The grace period was over.
    pub(crate) grace: u64,
    /// All notifiers were removed.
    pub(crate) removed: u64,
}

/// What a work item has to do, and what it has done.
enum Job {
    Idle,
    Queued {
        region: Arc<Region>,
        registrations: KVVec<Registration<Watcher>>,
        at: u64,
    },
    Done(Times),
}

#[pin_data]
struct Chain {
    #[pin]
    work: Work<Chain>,
    // Not made anew each time: a grace period soon after the one before is another thing.
    #[pin]
    srcu: Srcu,
    #[pin]
    job: Mutex<Job>,
    #[pin]
    done: CondVar,
}

impl_has_work! {
    impl HasWork<Self> for Chain { self.work }
}

impl WorkItem for Chain {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let job = core::mem::replace(&mut *this.job.lock(), Job::Idle);
        let Job::Queued {
            region,
            registrations,
            at: queued,
        } = job
        else {
            return;
        };
        let ran = region.now();
        this.srcu.synchronize();
        let grace = region.now();
        MayBlock::enter(|p| {
            for registration in registrations {
                registration.remove(p);
            }
        });
        let removed = region.now();
        *this.job.lock() = Job::Done(Times {
            queued,
            ran,
            grace,
            removed,
        });
        this.done.notify_all();
    }
}

/// A queue like the library's, and a work item.
pub(crate) struct Floor {
    // Goes first, so that the work item is not running when the rest goes.
    queue: OwnedQueue,
    chain: Arc<Chain>,
}

impl Floor {
    /// Makes them.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            queue: OwnedQueue::new_unbound()
                .mem_reclaim()
                .build(c"odp_bench")?,
            chain: Arc::pin_init(
                try_pin_init!(Chain {
                    work <- new_work!("odp_bench::Chain::work"),
                    srcu <- new_srcu!("odp_bench::Chain::srcu"),
                    job <- new_mutex!(Job::Idle, "odp_bench::Chain::job"),
                    done <- new_condvar!("odp_bench::Chain::done"),
                }),
                GFP_KERNEL,
            )?,
        })
    }

    /// Watches all ranges of a region, and measures how they are removed.
    pub(crate) fn measure(
        &self,
        mm: &ARef<Mm>,
        region: Arc<Region>,
        p: &mut MayBlock<'_>,
    ) -> Result<Times> {
        let lock = UserLock::new()?;
        let mut registrations = KVVec::with_capacity(region.len(), GFP_KERNEL)?;
        for span in region.ranges() {
            registrations.push(Watcher::insert(mm, span?, &lock, p)?, GFP_KERNEL)?;
        }

        let mut job = self.chain.job.lock();
        let at = region.now();
        *job = Job::Queued {
            region,
            registrations,
            at,
        };
        drop(job);
        let _ = self.queue.enqueue(self.chain.clone());

        let mut job = self.chain.job.lock();
        loop {
            if let Job::Done(times) = *job {
                *job = Job::Idle;
                return Ok(times);
            }
            self.chain.done.wait(&mut job);
        }
    }
}
