// SPDX-License-Identifier: GPL-2.0

//! What is not to go but to change.

use super::{
    Worker,
    CHANGE, //
};
use crate::{
    may_block::WorkerScope,
    odp::engine::{
        callbacks::MirrorOps,
        fifo::Fifo,
        request::{
            Request,
            Tickets, //
        },
        state::{
            Effect,
            Step, //
        }, //
    }, //
};
use core::ptr::NonNull;
use kernel::{
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

impl WorkItem<CHANGE> for Worker {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let changing = {
                let mut queues = this.queues.lock();
                let changing = queues.changing.take();
                queues.replacing = !changing.is_empty();
                changing
            };
            if changing.is_empty() {
                return;
            }
            let replaced = Self::replace(this.as_arc_borrow(), changing);
            let mut queues = this.queues.lock();
            queues.replaced.append(replaced);
            Self::go_on(this.as_arc_borrow(), queues);
        }
    }
}

impl Worker {
    /// Leaves what has been taken to be changed to the work item that is for that.
    pub(super) fn change_later(this: ArcBorrow<'_, Self>, changing: Fifo) {
        let kick = {
            let mut queues = this.queues.lock();
            queues.changing.append(changing);
            !core::mem::replace(&mut queues.replacing, true)
        };
        if kick {
            // The flag says that it is neither queued nor going to look again.
            let _ = this.queue().enqueue::<Arc<Self>, CHANGE>(this.into());
        }
    }

    /// Changes objects, and returns those that others are in the place of.
    pub(super) fn replace(this: ArcBorrow<'_, Self>, mut changing: Fifo) -> Fifo {
        let mut replaced = Fifo::new();
        let Some(MirrorOps { change: ops, .. }) = this.mirror else {
            kernel::warn_on!(!changing.is_empty());
            return replaced;
        };
        for request in changing.iter() {
            let _scope = WorkerScope::enter();
            // SAFETY: It is a request of this worker's, and has been taken to be changed.
            unsafe { (ops.prepare)(request) };
        }
        while let Some(request) = changing.pop() {
            let done = {
                let _scope = WorkerScope::enter();
                // SAFETY: As above, and it has been prepared.
                unsafe { (ops.replace)(request) }
            };
            if done {
                // SAFETY: It has just been taken from a list.
                unsafe { replaced.push(request) };
            } else {
                // SAFETY: It has been taken to be changed.
                unsafe { Self::settle(this, request) };
            }
        }
        replaced
    }

    /// Ends the work on a change of `request`, which is left as it is: if anything has been asked for
    /// meanwhile, it is queued.
    ///
    /// # Safety
    ///
    /// The caller has taken it to change it, or activated it.
    pub(super) unsafe fn settle(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        let mut queues = this.queues.lock();
        // SAFETY: By the safety requirements it is valid and the link is the caller's, until:
        let tickets = unsafe { (*request.as_ref().link.get()).tickets };
        // SAFETY: As above.
        let request_ref = unsafe { request.as_ref() };
        if request_ref.apply(Step::Unclaim) != Effect::Queue {
            queues.removed.exit(tickets.removed);
            queues.released.exit(tickets.released);
            if queues.waiters > 0 {
                this.progress.notify_all();
            }
            return;
        }
        // Nobody takes it before it is on the list.
        if request_ref.state().is_leaving() {
            this.stats.queued.inc();
        } else {
            let tickets = Tickets {
                removed: queues.removed.renew(tickets.removed),
                released: queues.released.renew(tickets.released),
            };
            // SAFETY: By the answer the link is ours.
            unsafe { (*request.as_ref().link.get()).tickets = tickets };
            if queues.waiters > 0 {
                this.progress.notify_all();
            }
        }
        // SAFETY: By the answer the link is ours; it is valid until it is released.
        unsafe { queues.pending.push(request) };
        Self::go_on(this, queues);
    }

    /// Ends the work on `piece`, which is in service in the place of `old` from now on.
    ///
    /// What it was asked for meanwhile is queued, and who waits for what was asked of `old` waits
    /// for that.
    ///
    /// # Safety
    ///
    /// The caller has activated `piece` and taken `old`, and as for [`Worker::retire`].
    pub(crate) unsafe fn unclaim_piece(
        this: ArcBorrow<'_, Self>,
        piece: NonNull<Request>,
        old: NonNull<Request>,
    ) {
        // SAFETY: By the safety requirements it is valid.
        let owned = this.owns(unsafe { piece.as_ref() });
        kernel::warn_on!(!owned);
        {
            let mut queues = this.queues.lock();
            // SAFETY: By the safety requirements it is valid, and its link the caller's.
            let of = unsafe { (*old.as_ref().link.get()).tickets };
            let tickets = Tickets {
                removed: queues.removed.join(of.removed),
                released: queues.released.join(of.released),
            };
            // SAFETY: As above.
            unsafe { (*piece.as_ref().link.get()).tickets = tickets };
        }
        // SAFETY: By the safety requirements.
        unsafe { Self::settle(this, piece) };
    }
}
