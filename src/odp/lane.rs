// SPDX-License-Identifier: GPL-2.0

//! A task that helps to remove the objects of a batch.
//!
//! A batch needs none: the work item that has begun it removes, too. A lane is made when there is more
//! to remove than one task should, and ends when nothing is left; how many there are is the worker's to say.

use super::worker::Worker;
use kernel::{
    alloc::AllocError,
    impl_has_work,
    new_work,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::{
        Work,
        WorkItem, //
    }, //
};

/// A lane, as its work item has it.
#[pin_data]
pub(super) struct Lane {
    #[pin]
    work: Work<Lane>,
    worker: Arc<Worker>,
}

impl_has_work! {
    impl HasWork<Self> for Lane { self.work }
}

impl Lane {
    /// Has one run for `worker`, which has counted it. Does not sleep.
    pub(super) fn start(worker: ArcBorrow<'_, Worker>) -> Result<(), AllocError> {
        // Not `Queue::try_spawn()`: the lock class of its work items is the kernel's, and its name would go with
        // this module.
        let lane = KBox::pin_init(
            pin_init!(Self {
                work <- new_work!("odp::Lane::work"),
                worker: worker.into(),
            }),
            GFP_NOWAIT | __GFP_NOWARN,
        );
        worker.queue().enqueue(lane.map_err(|_| AllocError)?);
        Ok(())
    }
}

impl WorkItem for Lane {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        Worker::lane(this.worker.as_arc_borrow());
        // The next batch may begin with as many as this one did.
        this.worker.lane_has_ended();
        this.worker.kick_batch_if_idle();
    }
}
