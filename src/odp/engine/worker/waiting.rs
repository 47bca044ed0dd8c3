// SPDX-License-Identifier: GPL-2.0

//! Who waits for the worker, and for what.

use super::Worker;
use crate::{
    may_block::MayBlock,
    odp::engine::{
        lockdep::may_wait_for_worker,
        queues::{
            Queues,
            Until, //
        },
        request::Request, //
    },
    wait_queue::{
        self,
        Sleep, //
    }, //
};
use kernel::{
    ffi::c_long,
    prelude::*,
    sync::ArcBorrow,
    task::MAX_SCHEDULE_TIMEOUT,
    time::{
        msecs_to_jiffies,
        Msecs, //
    }, //
};

/// How long a shutdown waits before it says for what, in milliseconds.
const SILENT: Msecs = 10_000;

impl Worker {
    /// Waits until `until` is so, or for `left` jiffies.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed and the sleep is a killable one, `ETIMEDOUT`.
    pub(super) fn wait(
        this: ArcBorrow<'_, Self>,
        sleep: Sleep,
        mut left: c_long,
        mut until: impl FnMut(&mut Queues) -> bool,
    ) -> Result {
        // From here on nobody sets the alarm, so after `hurry` it is not set until this has ended:
        // who sets it has the lock and sees that nobody waits. The other way round, a request that
        // comes between the two sets it, and who waits then waits for it to go off.
        //
        // OVERFLOW: There cannot be as many tasks.
        this.queues.lock().waiters += 1;
        Self::hurry(this);
        let mut queues = this.queues.lock();
        let result = loop {
            if until(&mut queues) {
                break Ok(());
            }
            if sleep == Sleep::Killable && wait_queue::is_killed() {
                break Err(EINTR);
            }
            if left == 0 {
                break Err(ETIMEDOUT);
            }
            queues = this.progress.wait(queues, sleep, &mut left);
        };
        // OVERFLOW: Incremented above.
        queues.waiters -= 1;
        result
    }

    /// Has those who wait look again, because something has changed that they look at.
    pub(crate) fn notify(&self) {
        self.progress_made(|_| ());
    }

    pub(super) fn progress_made(&self, change: impl FnOnce(&mut Queues)) {
        let mut queues = self.queues.lock();
        change(&mut queues);
        if queues.waiters > 0 {
            self.progress.notify_all();
        }
    }

    /// Waits for everything that was retired, and published, before the call.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed. What was asked for is going on.
    pub(crate) fn flush(this: ArcBorrow<'_, Self>, until: Until, p: &mut MayBlock<'_>) -> Result {
        may_wait_for_worker(p);
        p.for_readers(&this.srcu);
        let epoch = this.queues.lock().epochs(until).current();
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |queues| {
            queues.epochs(until).is_over(epoch)
        })
    }

    /// Waits until no callback, lookup or access is left of one object that the caller holds, and
    /// that is on its way out.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed.
    pub(crate) fn wait_removed(
        this: ArcBorrow<'_, Self>,
        request: &Request,
        p: &mut MayBlock<'_>,
    ) -> Result {
        may_wait_for_worker(p);
        p.for_readers(&this.srcu);
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |_| {
            request.state().is_removed()
        })
    }

    pub(super) fn insertion_over(&self, queues: &mut Queues) {
        queues.insertions = queues.insertions.wrapping_add(1);
        if queues.waiters > 0 {
            self.progress.notify_all();
        }
    }

    /// Says that an object is not going to be in service.
    pub(crate) fn insertion_failed(&self) {
        self.insertion_over(&mut self.queues.lock());
    }

    /// How many insertions are over by now, to be compared with later answers.
    pub(crate) fn insertions(&self) -> usize {
        self.queues.lock().insertions
    }

    /// Waits until [`Worker::insertions`] is not `seen` any more.
    ///
    /// # Errors
    ///
    /// `EINTR` if the task has been killed.
    pub(crate) fn wait_for_insertion(this: ArcBorrow<'_, Self>, seen: usize) -> Result {
        Self::wait(this, Sleep::Killable, MAX_SCHEDULE_TIMEOUT, |queues| {
            queues.insertions != seen
        })
    }

    /// Waits until `until` is so, however long that takes; after a while it says for what.
    pub(super) fn wait_for_shutdown(
        this: ArcBorrow<'_, Self>,
        mut until: impl FnMut(&mut Queues) -> bool,
    ) {
        let sleep = Sleep::Uninterruptible;
        // CAST: Some thousands.
        let silent = msecs_to_jiffies(SILENT) as c_long;
        if Self::wait(this, sleep, silent, &mut until).is_ok() {
            return;
        }
        let left = this.queues.lock().released.outstanding();
        // Read one after the other, so that it may seem that more have ended than begun.
        let (puts, holds) = (this.stats.puts.get(), this.stats.holds.get());
        pr_info!(
            "{}: shutdown still waits: {} not released, {} holds\n",
            &*this.name,
            left,
            holds.saturating_sub(puts)
        );
        // Once is enough: from here on it also counts as a hung task. This cannot fail.
        let _ = Self::wait(this, sleep, MAX_SCHEDULE_TIMEOUT, until);
    }
}
