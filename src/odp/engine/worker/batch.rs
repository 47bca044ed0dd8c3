// SPDX-License-Identifier: GPL-2.0

//! What is taken together: by the worker, or by a caller of drain.

use super::{
    removal::FEW_LANES,
    Worker,
    BATCH, //
};
use crate::{
    may_block::MayBlock,
    odp::engine::{
        completed::Completed,
        fifo::Fifo,
        lockdep::WorkerScope,
        request::Request,
        state::{
            Effect,
            Step, //
        },
        trace, //
    }, //
};
use kernel::{
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

/// How many removals are begun before they are waited for. Who ends a phase takes all of them out of
/// core mm's tree with a spinlock held.
const AT_ONCE: usize = 512;

impl WorkItem<BATCH> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        while let Some((pending, mut leaving)) = this.take_batch() {
            // SAFETY: `take_batch` has just taken them off `pending`.
            let (retired, changing) = unsafe { this.take(pending) };
            let left = changing.len();
            trace::batch::emit(&this.subject(), retired.len(), left, leaving.len(), false);
            if !changing.is_empty() {
                // SAFETY: `take` was answered with `Effect::Build` for them just now.
                unsafe { Self::change_later(this.as_arc_borrow(), changing) };
            }
            leaving.append(retired);
            // SAFETY: `take` has taken those that are retired, and those before them were on
            // `replaced`, where by the invariants of `Queues` they have been marked and not been
            // unpublished.
            unsafe { this.expire(&leaving) };
            {
                let mut queues = this.queues.lock();
                // What is to be changed does not come to a lane.
                queues.in_flight = queues.in_flight.saturating_sub(left);
            }
            while !leaving.is_empty() {
                let mut part = leaving.take_first(AT_ONCE);
                // SAFETY: `expire` has been called for them, and nothing since.
                let started = unsafe { this.start_removal(&part) };
                if !started {
                    part.append(leaving.take());
                }
                let more = part.len().saturating_sub(1);
                // INVARIANT: `expire` has unpublished them all, and waited for a grace period after
                // that.
                this.queues.lock().removing.append(part);
                if started {
                    // Where all wait for the same, one task is enough, and none is released before
                    // all are removed.
                    Self::lane(this.as_arc_borrow(), AT_ONCE);
                } else {
                    Self::widen(this.as_arc_borrow(), more, FEW_LANES);
                    Self::lane(this.as_arc_borrow(), 1);
                }
            }
        }
    }
}

impl Worker {
    /// Takes everything that is pending, and what has been replaced, as the worker's next batch,
    /// unless it still has one.
    fn take_batch(&self) -> Option<(Fifo, Fifo)> {
        let mut queues = self.queues.lock();
        if queues.in_flight > 0 || queues.is_idle() {
            queues.batching = false;
            return None;
        }
        let (pending, replaced) = (queues.pending.take(), queues.replaced.take());
        // OVERFLOW: There cannot be as many requests as there are bytes.
        queues.in_flight = pending.len() + replaced.len();
        Some((pending, replaced))
    }

    /// Takes requests: returns those that are retired, and those that are to be changed.
    ///
    /// # Guarantees
    ///
    /// For those that are to be changed [`Effect::Build`] was answered. For neither has any
    /// function been called since.
    ///
    /// # Safety
    ///
    /// They come from `pending`, and nothing has been done with them.
    unsafe fn take(&self, mut pending: Fifo) -> (Fifo, Fifo) {
        let (mut retired, mut changing) = (Fifo::new(), Fifo::new());
        while let Some(request) = pending.pop() {
            // SAFETY: By the safety requirements it was on `pending`, so that by the invariants of
            // `Queues` it is valid until it is released, which is long after this.
            let effect = unsafe { request.as_ref() }.apply(Step::Take);
            let list = if effect == Effect::Build {
                let queues = self.queues.lock();
                // SAFETY: It was taken from the list that its link belonged to, so that this task
                // has the link now.
                let tickets = &mut unsafe { Request::link(request) }.tickets;
                tickets.removed = queues.removed.begin(tickets.removed);
                tickets.released = queues.released.begin(tickets.released);
                &mut changing
            } else {
                kernel::warn_on!(effect != Effect::None);
                &mut retired
            };
            // SAFETY: It was taken from the list that its link belonged to, and is valid until it
            // is released, which nothing is that is on a list.
            unsafe { list.push(request) };
        }
        (retired, changing)
    }

    /// Sees to it that nobody can reach objects that are to go.
    ///
    /// # Safety
    ///
    /// The caller has taken all of `leaving` to go, or marked them as replaced, and not unpublished
    /// them.
    ///
    /// # Guarantees
    ///
    /// They have been unpublished, and a grace period has begun and ended after that.
    unsafe fn expire(&self, leaving: &Fifo) {
        if let Some(mirror) = self.mirror {
            let _scope = WorkerScope::enter();
            // SAFETY: By the type invariants the table may be called with them, and by the safety
            // requirements they have been taken and not been unpublished.
            unsafe { (mirror.unpublish)(leaving) };
        } else if let Some(unpublish) = self.ops.unpublish {
            for request in leaving.iter() {
                let _scope = WorkerScope::enter();
                // SAFETY: By the type invariants the table may be called with it, and by the safety
                // requirements it has been taken and not been unpublished.
                unsafe { unpublish(request.as_ptr()) };
            }
        }
        if !leaving.is_empty() {
            // The order is what makes this safe: after the last object was unpublished.
            self.synchronize();
        }
        self.stats.batches.inc();
    }

    /// Begins the removal of objects that are to go, where that is a step of its own; says whether
    /// it did.
    ///
    /// # Safety
    ///
    /// [`Worker::expire`] has been called for all of `leaving`, once, and nothing since.
    unsafe fn start_removal(&self, leaving: &Fifo) -> bool {
        let Some(mirror) = self.mirror else {
            return false;
        };
        let _scope = WorkerScope::enter();
        // SAFETY: By the type invariants the table may be called with them, and by the safety
        // requirements they have been unpublished, a grace period is over, and `remove` has not
        // been called.
        let started = unsafe { (mirror.start_removal)(leaving) };
        if started {
            self.stats.started.add(leaving.len());
        }
        started
    }

    /// Removes here what the worker has not begun to remove; returns how many objects that was.
    ///
    /// Never waits for the worker: what that has taken is left to it, and so are all releases, and
    /// the removal of what others are in the place of. A fault path calls this before it looks for
    /// addresses, with locks held if need be that `release` takes, too.
    pub(crate) fn drain(this: ArcBorrow<'_, Self>, p: &mut MayBlock<'_>) -> usize {
        p.for_invalidate();
        p.for_readers(&this.srcu);
        let (pending, mut changing, mut batch) = {
            let mut queues = this.queues.lock();
            (
                queues.pending.take(),
                queues.changing.take(),
                queues.replaced.take(),
            )
        };
        // OVERFLOW: There cannot be as many requests as there are bytes.
        let drained = pending.len() + changing.len() + batch.len();
        if drained == 0 {
            return 0;
        }
        this.stats.drained.add(drained);
        // SAFETY: They have been taken off `pending` just now.
        let (retired, more) = unsafe { this.take(pending) };
        trace::batch::emit(
            &this.subject(),
            retired.len(),
            changing.len() + more.len(),
            batch.len(),
            true,
        );
        batch.append(retired);
        changing.append(more);
        // First what is to go: a change may have to wait for `mmap_lock`.
        // SAFETY: `take` has taken those that are retired. The others were on `replaced`, where by
        // the invariants of `Queues` they have been marked and not been unpublished.
        unsafe { Self::remove_all(this, batch) };
        // SAFETY: `take` was answered with `Effect::Build` for some of them. The others were on
        // `changing`, where by the invariants of `Queues` the same has been answered, and no
        // function has been called.
        let replaced = unsafe { Self::replace(this, changing) };
        if !replaced.is_empty() {
            // Lookups find the pieces, and that is what the caller wants. It need not wait for a
            // grace period of what they are in the place of.
            let mut queues = this.queues.lock();
            // INVARIANT: As `replace` guarantees, they have been marked and not been unpublished.
            queues.replaced.append(replaced);
            Self::go_on(this, queues);
        }
        drained
    }

    /// Takes objects away for good here, and leaves releases to the worker.
    ///
    /// # Safety
    ///
    /// As for [`Worker::expire`].
    unsafe fn remove_all(this: ArcBorrow<'_, Self>, mut leaving: Fifo) {
        if leaving.is_empty() {
            return;
        }
        // SAFETY: By the safety requirements they have been taken, or marked, and not unpublished.
        unsafe { this.expire(&leaving) };
        while !leaving.is_empty() {
            let mut part = leaving.take_first(AT_ONCE);
            // SAFETY: `expire` has been called for them, and nothing since. What this does not do
            // `remove` does.
            let _ = unsafe { this.start_removal(&part) };
            while let Some(request) = part.pop() {
                let mut completed = Completed::default();
                // SAFETY: By the safety requirements it has been taken, or marked; and as `expire`
                // guarantees, it has been unpublished, and a grace period is over.
                let removed = unsafe { this.remove(request, &mut completed) };
                drop(this.settle_completed(&completed));
                if removed.is_ours {
                    // SAFETY: That it is ours says that `Effect::Release` was answered.
                    unsafe { Self::release_later(this, request) };
                }
            }
        }
    }
}
