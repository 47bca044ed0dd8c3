// SPDX-License-Identifier: GPL-2.0

//! The blocking part, and what comes after it: lanes that remove, and releases.
//!
//! A lane is a task that helps to remove the objects of a batch. A batch needs none: the work item
//! that has begun it removes, too. A lane is made when there is more to remove than one task
//! should, and ends when nothing is left; how many there are is the worker's to say.

use super::{
    Worker,
    RELEASE, //
};
use crate::odp::engine::{
    completed::Completed,
    fifo::Fifo,
    library::Library,
    lockdep::{
        ReleaseScope,
        WorkerScope, //
    },
    queues::Queues,
    request::{
        Request,
        Tickets, //
    },
    state::{
        Effect,
        Step, //
    },
    trace, //
};
use core::ptr::NonNull;
use kernel::{
    alloc::AllocError,
    prelude::*,
    sync::{
        lock::spinlock::SpinLockGuard,
        Arc,
        ArcBorrow, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    }, //
};

/// What became of an object that was to be removed.
pub(super) struct Removed {
    /// Whether it is the caller's to release: nobody holds it.
    pub(super) is_ours: bool,
    /// Whether its notifier had to wait for invalidations of the address space to end.
    has_waited: bool,
}

/// How many objects a lane takes at a time at most, where removals do not wait.
const MOST_AT_A_TIME: usize = 16;

/// How many lanes a batch begins with, besides its own. There are more only where removals wait for
/// invalidations, and then the process's queue says how many.
pub(super) const FEW_LANES: usize = 7;

/// A lane, as its work item has it.
#[pin_data]
struct Lane {
    #[pin]
    work: Work<Lane>,
    worker: Arc<Worker>,
}

impl_has_work! {
    impl HasWork<Self> for Lane { self.work }
}

impl Lane {
    /// Has one run for `worker`, which has counted it. Does not sleep.
    fn start(worker: ArcBorrow<'_, Worker>) -> Result<(), AllocError> {
        // Not `Queue::try_spawn()`: the lock class of its work items is the kernel's, and its name
        // would go with this module.
        let lane = KBox::pin_init(
            pin_init!(Self {
                work <- new_work!("odp::Lane::work"),
                worker: worker.into(),
            }),
            GFP_NOWAIT | __GFP_NOWARN,
        );
        worker.process().enqueue(lane.map_err(|_| AllocError)?);
        Ok(())
    }
}

impl WorkItem for Lane {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        Worker::lane(this.worker.as_arc_borrow(), 1);
        // The next batch may begin with as many as this one did.
        this.worker.lane_has_ended();
        this.worker.kick_batch_if_idle();
    }
}

impl WorkItem<RELEASE> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut completed = Completed::default();
        loop {
            let mut queues = this.settle_completed(&completed);
            let Some(request) = queues.ready.pop() else {
                queues.releasing = false;
                return;
            };
            drop(queues);
            completed = Completed::default();
            // SAFETY: It was on `ready`, so that by the invariants of `Queues` `Effect::Release`
            // was answered.
            unsafe { this.release(request, &mut completed) };
        }
    }
}

impl Worker {
    /// Removes what there is to remove, until nothing is left.
    ///
    /// Takes several objects at a time, and so takes the lock that all lanes want twice for all of
    /// them; but no more than its part, because a removal may sleep for reasons of the driver's.
    /// Where one waits for invalidations, those that it has not begun with are given back: each of
    /// them is likely to wait as well, and in as many lanes they do that at the same time.
    ///
    /// Of what it takes at a time none is released before all are removed, so that few removals
    /// wait for the driver's `release`. `share` is how many it takes at first, at most.
    pub(crate) fn lane(this: ArcBorrow<'_, Self>, mut share: usize) {
        let mut completed = Completed::default();
        loop {
            let mut requests = {
                let mut queues = this.settle_completed(&completed);
                let part = queues.removing.len() / queues.lanes.max(1);
                queues.removing.take_first(share.min(part.max(1)))
            };
            if requests.is_empty() {
                return;
            }
            completed = Completed::default();
            let (mut ours, mut taken, mut waited) = (Fifo::new(), 0, false);
            while let Some(request) = requests.pop() {
                // OVERFLOW: No more than were taken.
                taken += 1;
                // SAFETY: It was on `removing`: by the invariants of `Queues` it has been taken and
                // unpublished, and its grace period is over.
                let removed = unsafe { this.remove(request, &mut completed) };
                if removed.is_ours {
                    // SAFETY: That it is ours says that `Effect::Release` was answered, which gives
                    // us the link. It is released below, after it has been taken out again.
                    unsafe { ours.push(request) };
                } else {
                    // Whoever holds it may wait for the removal.
                    drop(this.settle_completed(&core::mem::take(&mut completed)));
                }
                if removed.has_waited {
                    waited = true;
                    break;
                }
            }
            // INVARIANT: That is where they come from, and nothing has been done with them.
            this.settle_completed(&core::mem::take(&mut completed))
                .removing
                .append(requests);
            // OVERFLOW: Hundreds at most.
            share = MOST_AT_A_TIME.min(2 * share);
            if waited {
                share = 1;
                Self::widen(this, 2, usize::MAX);
            }
            while let Some(request) = ours.pop() {
                // SAFETY: `Effect::Release` was answered for all on this list.
                unsafe { this.release(request, &mut completed) };
            }
            completed.of_batch = taken;
        }
    }

    /// Has `n` more lanes run, as long as there is something to remove, there are fewer than
    /// `most`, and the process has not as many as it may have.
    ///
    /// Where removals wait for invalidations, each lane removes one in the time of an invalidation.
    /// So a lane that has waited brings others along, and as many as there may be are there after a
    /// few invalidations. Where nothing sleeps they would only be in each other's way, and so they
    /// would where a removal sleeps for anything else, such as a lock of the driver's.
    pub(super) fn widen(this: ArcBorrow<'_, Self>, n: usize, most: usize) {
        for _ in 0..n {
            {
                let mut queues = this.queues.lock();
                if queues.removing.is_empty() || queues.lanes >= most || !this.process.add_lane() {
                    return;
                }
                // OVERFLOW: The queue's limit is far less.
                queues.lanes += 1;
            }
            if Lane::start(this).is_err() {
                // The batch has its own, which is enough for it to end.
                this.lane_has_ended();
                return;
            }
        }
    }

    /// A lane that `widen` counted is not there any more.
    pub(crate) fn lane_has_ended(&self) {
        self.process.lane_has_ended();
        // OVERFLOW: Incremented by `widen`.
        self.progress_made(|queues| queues.lanes -= 1);
    }

    /// Takes an object away for good. To be followed by [`Worker::settle_completed`].
    ///
    /// # Safety
    ///
    /// The caller has taken `request`, unpublished it, and waited for a grace period.
    #[must_use]
    pub(super) unsafe fn remove(
        &self,
        request: NonNull<Request>,
        completed: &mut Completed,
    ) -> Removed {
        let traced = (trace::remove_begin::is_on() || trace::remove_end::is_on()).then(|| {
            // SAFETY: By the safety requirements it has been taken and not been removed, and so not
            // been released; the same goes for as long as the step below has not been made.
            unsafe { self.subject_of(request) }
        });
        if let Some(of) = &traced {
            trace::remove_begin::emit(of);
        }
        if let Some(remove) = self.ops.remove {
            let _scope = WorkerScope::enter();
            // SAFETY: By the type invariants the table may be called with it, and by the safety
            // requirements it has been taken and unpublished, once.
            unsafe { remove(request.as_ptr()) };
        }
        // SAFETY: By the safety requirements the caller has taken the request, and so has its link.
        // It must be looked at now, because once the state has changed somebody else may release
        // the object.
        let link = unsafe { Request::link(request) };
        let removed = link.tickets.removed;
        let has_waited = core::mem::take(&mut link.has_waited);
        // As a rule nobody measures, and what all workers share need not be looked at.
        if !link.since.is_none() {
            link.since = Library::get().latency().removed(link.since);
        }
        if let Some(of) = &traced {
            trace::remove_end::emit(of, has_waited);
        }
        // Before anybody can see that it is removed, and look at the counters.
        self.stats.removed.inc();
        completed.removed.add(removed);
        // SAFETY: By the safety requirements the caller has taken it, and nobody is told to release
        // it before this step.
        let effect = unsafe { request.as_ref() }.apply(Step::Remove);
        let is_ours = effect == Effect::Release;
        if !is_ours {
            kernel::warn_on!(effect != Effect::None);
            self.stats.held_back.inc();
        }
        Removed {
            is_ours,
            has_waited,
        }
    }

    /// Gives an object back to the driver. To be followed by [`Worker::settle_completed`].
    ///
    /// # Safety
    ///
    /// The caller got the answer [`Effect::Release`], or the request from somebody who did; and
    /// this is called once for that.
    pub(super) unsafe fn release(&self, request: NonNull<Request>, completed: &mut Completed) {
        // SAFETY: By the safety requirements `Effect::Release` was answered, which by the
        // invariants of `Request` makes the link ours.
        let link = unsafe { Request::link(request) };
        let Tickets { released, .. } = link.tickets;
        if !link.since.is_none() {
            Library::get().latency().released(link.since);
        }
        let traced = (trace::release_begin::is_on() || trace::release_end::is_on()).then(|| {
            // SAFETY: By the safety requirements it is to be released, and has not been.
            unsafe { self.subject_of(request) }
        });
        if let Some(of) = &traced {
            trace::release_begin::emit(of);
        }
        if let Some(release) = self.ops.release {
            let _scope = ReleaseScope::enter();
            // SAFETY: By the type invariants the table may be called with it. `Effect::Release` is
            // answered once in a life, after `remove` has returned.
            unsafe { release(request.as_ptr()) };
        }
        if let Some(of) = &traced {
            trace::release_end::emit(of);
        }
        completed.released.add(released);
    }

    /// Has an object released by the worker.
    ///
    /// # Safety
    ///
    /// The caller got the answer [`Effect::Release`].
    pub(super) unsafe fn release_later(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        let mut queues = this.queues.lock();
        // INVARIANT: By the safety requirements this is what `Effect::Release` was answered for.
        //
        // SAFETY: That answer makes the link the caller's, by the invariants of `Request`, and
        // leaves it to the caller when the request ends to be valid.
        unsafe { queues.ready.push(request) };
        let kick = !core::mem::replace(&mut queues.releasing, true);
        drop(queues);
        if kick {
            // The flag says that it is neither queued nor going to look again. Until it has run,
            // the object is outstanding, which keeps the worker from being shut down.
            let _ = this.process().enqueue::<Arc<Self>, RELEASE>(this.into());
        }
    }

    /// Counts what is completed, and has those who wait for it look again; returns with the queues
    /// locked.
    pub(super) fn settle_completed(&self, completed: &Completed) -> SpinLockGuard<'_, Queues> {
        if !completed.released.is_empty() {
            // Before the tickets: who flushes looks at the counters.
            self.stats.released.add(completed.released.len());
        }
        let mut queues = self.queues.lock();
        queues.settle(completed);
        if queues.waiters > 0 && !completed.is_empty() {
            self.progress.notify_all();
        }
        queues
    }
}
