// SPDX-License-Identifier: GPL-2.0

//! The owner of a worker, who shuts it down.

use super::{
    WakeupConfig,
    Worker,
    BATCH,
    CHANGE,
    RELEASE, //
};
use crate::{
    may_block::MayBlock,
    module_ref::ModuleRef,
    odp::engine::{
        callbacks::{
            MirrorOps,
            RequestOps, //
        },
        library::Library,
        lockdep::may_wait_for_worker,
        process::ProcessUse,
        stats::Snapshot, //
    }, //
};
use core::ops::Deref;
use kernel::{
    bindings,
    prelude::*,
    sync::Arc,
    workqueue::{
        HasWork,
        Work, //
    }, //
};

fn flush_work<const ID: u64>(worker: &Worker)
where
    Worker: HasWork<Worker, ID>,
{
    // SAFETY: A reference is a valid pointer.
    let work = unsafe { Worker::raw_get_work(core::ptr::from_ref(worker).cast_mut()) };
    // SAFETY: It points to a field of that worker, which the reference keeps.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: The work item is initialised, and the caller's reference to the worker keeps it.
    unsafe { bindings::flush_work(work) };
}

/// A worker with its owner: the one who shuts it down.
///
/// May hold the module that the worker's callbacks are text of. Dropping it shuts the worker down.
///
/// The order of the fields is that of their destruction: the worker's last work item may end after
/// this one's reference, but before the use of the process does.
pub(crate) struct OwnedWorker {
    worker: Arc<Worker>,
    _process: ProcessUse,
    _module: Option<ModuleRef>,
}

impl OwnedWorker {
    /// Makes a worker that calls `ops`; `name` is that of its file in debugfs. May sleep.
    ///
    /// It keeps the module `ops.owner` loaded, so that even forgetting it does no harm. Where the
    /// owner is null nothing is kept loaded.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also if the current task is killed meanwhile; `ENODEV` if the module is about to
    /// go; and those of [`WakeupConfig::check`].
    pub(crate) fn new(
        name: &CStr,
        ops: &'static RequestOps,
        mirror: Option<&'static MirrorOps>,
        wakeup: WakeupConfig,
    ) -> Result<Self> {
        wakeup.check()?;
        let module = if ops.owner.is_null() {
            None
        } else {
            // SAFETY: A table of operations belongs to a module that is at least being initialised.
            Some(unsafe { ModuleRef::get(ops.owner) }?)
        };
        let process = ProcessUse::new(Library::get().processes(), wakeup.mm.as_deref())?;
        Ok(Self {
            worker: Worker::new(name, ops, mirror, wakeup, process.process().clone())?,
            _process: process,
            _module: module,
        })
    }

    /// Refuses requests, waits until everything that was accepted is released and `until` holds,
    /// and until the worker does nothing any more. May be called again.
    pub(crate) fn shutdown(&self, p: &mut MayBlock<'_>, until: impl Fn() -> bool) -> Snapshot {
        may_wait_for_worker(p);
        p.for_readers(&self.worker.srcu);
        let worker = self.worker.as_arc_borrow();
        // After this nobody sets the alarm any more.
        worker.queues.lock().closed = true;
        Worker::wait_for_shutdown(worker, |queues| {
            queues.released.outstanding() == 0 && until()
        });
        // What has been counted may still be on its way out of the work function. A batch may have
        // handed something over, and so may a change.
        flush_work::<BATCH>(&self.worker);
        flush_work::<CHANGE>(&self.worker);
        flush_work::<BATCH>(&self.worker);
        Worker::wait_for_shutdown(worker, |queues| queues.lanes == 0);
        flush_work::<RELEASE>(&self.worker);
        self.worker.stats().snapshot()
    }
}

impl Deref for OwnedWorker {
    type Target = Arc<Worker>;

    fn deref(&self) -> &Arc<Worker> {
        &self.worker
    }
}

impl Drop for OwnedWorker {
    fn drop(&mut self) {
        MayBlock::enter(|p| self.shutdown(p, || true));
    }
}
