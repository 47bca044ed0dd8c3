// SPDX-License-Identifier: GPL-2.0

//! What is not to go but to change.

use super::{
    Worker,
    CHANGE, //
};
use crate::odp::engine::{
    callbacks::MirrorOps,
    fifo::Fifo,
    latency::Moment,
    lockdep::WorkerScope,
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
            // SAFETY: They were on `changing`: by the invariants of `Queues` they have been taken
            // with the answer `Effect::Build`, and no function has been called for that.
            let replaced = unsafe { Self::replace(this.as_arc_borrow(), changing) };
            let mut queues = this.queues.lock();
            // INVARIANT: `replace` has marked them, and nobody has unpublished them since.
            queues.replaced.append(replaced);
            Self::go_on(this.as_arc_borrow(), queues);
        }
    }
}

impl Worker {
    /// Leaves what has been taken to be changed to the work item that is for that.
    ///
    /// # Safety
    ///
    /// The caller has taken all of `changing` with the answer [`Effect::Build`], and called no
    /// function for that.
    pub(super) unsafe fn change_later(this: ArcBorrow<'_, Self>, changing: Fifo) {
        let kick = {
            let mut queues = this.queues.lock();
            // INVARIANT: By the safety requirements they have been taken to be changed.
            queues.changing.append(changing);
            !core::mem::replace(&mut queues.replacing, true)
        };
        if kick {
            // The flag says that it is neither queued nor going to look again.
            let _ = this.process().enqueue::<Arc<Self>, CHANGE>(this.into());
        }
    }

    /// Changes objects, and returns those that others are in the place of.
    ///
    /// # Safety
    ///
    /// The caller has taken all of `changing` with the answer [`Effect::Build`], and called no
    /// function for that.
    ///
    /// # Guarantees
    ///
    /// What is returned has been marked by [`Step::Replace`], and not been unpublished.
    pub(super) unsafe fn replace(this: ArcBorrow<'_, Self>, mut changing: Fifo) -> Fifo {
        let mut replaced = Fifo::new();
        let Some(MirrorOps { change: ops, .. }) = this.mirror else {
            kernel::warn_on!(!changing.is_empty());
            return replaced;
        };
        let mut prepared = Fifo::new();
        while let Some(request) = changing.pop() {
            let there = {
                let _scope = WorkerScope::enter();
                // SAFETY: By the type invariants the table may be called with it, and by the safety
                // requirements `Effect::Build` was answered, for which no function has been called.
                unsafe { (ops.prepare)(request) }
            };
            if there {
                // SAFETY: It was taken from the list that its link belonged to, and is valid until
                // it is released, which nothing is that has been taken to be changed.
                unsafe { prepared.push(request) };
            }
        }
        while let Some(request) = prepared.pop() {
            let done = {
                let _scope = WorkerScope::enter();
                // SAFETY: By the type invariants the table may be called with it, and `prepare` has
                // said so in the loop above.
                unsafe { (ops.replace)(request, &mut replaced) }
            };
            if done {
                // SAFETY: It was taken from the list that its link belonged to, and is valid until
                // it is released, which nothing is that is on a list.
                unsafe { replaced.push(request) };
            } else {
                // SAFETY: By the safety requirements it has been taken to be changed, and it has
                // been left as it was.
                unsafe { Self::settle(this, request) };
            }
        }
        replaced
    }

    /// Takes `request`, if nobody has it and nobody has asked for it to change, for one to be put
    /// in its place and in that of `with`, which the caller has taken to change it. Returns the
    /// answer to [`Step::Claim`]: with [`Effect::Build`] it is the caller's now, and who waits for
    /// what was asked of `with` waits for this one, too.
    ///
    /// The caller is to let go of it by [`Worker::settle`], or to apply [`Step::Replace`].
    ///
    /// # Safety
    ///
    /// The caller has taken `with`, and as for [`Worker::retire`].
    pub(crate) unsafe fn claim(
        this: ArcBorrow<'_, Self>,
        request: NonNull<Request>,
        with: NonNull<Request>,
    ) -> Effect {
        let mut queues = this.queues.lock();
        // SAFETY: By the safety requirements it is valid during the call.
        let effect = unsafe { request.as_ref() }.apply(Step::Claim);
        if effect != Effect::Build {
            return effect;
        }
        // SAFETY: By the safety requirements the caller has taken it, so that the link is the
        // caller's.
        let of = unsafe { Request::link(with) }.tickets;
        let tickets = Tickets {
            removed: queues.removed.join(of.removed),
            released: queues.released.join(of.released),
        };
        // SAFETY: `Effect::Build` was answered to one that was on no list, which gives the link to
        // this task; and it is valid until it is released, which is after it has been let go of.
        unsafe { Request::link(request) }.tickets = Tickets {
            removed: queues.removed.begin(tickets.removed),
            released: queues.released.begin(tickets.released),
        };
        effect
    }

    /// Ends the work on a change of `request`, which is left as it is: if anything has been asked
    /// for meanwhile, it is queued.
    ///
    /// # Safety
    ///
    /// The caller has taken it to change it, or claimed or activated it, and not let go of it. It
    /// is valid until it is released.
    pub(crate) unsafe fn settle(this: ArcBorrow<'_, Self>, request: NonNull<Request>) {
        let mut queues = this.queues.lock();
        // SAFETY: By the safety requirements the caller has it: it is valid, and nobody else has
        // the link before the step below.
        let link = unsafe { Request::link(request) };
        // What was asked for then is done with.
        link.since = Moment::NONE;
        let tickets = link.tickets;
        // SAFETY: By the safety requirements it is valid. It stays so while it is looked at here:
        // with `queues` locked nobody takes it, and nothing that has not been taken is released.
        let request_ref = unsafe { request.as_ref() };
        if request_ref.apply(Step::Unclaim) != Effect::Queue {
            queues.removed.exit(tickets.removed);
            queues.released.exit(tickets.released);
            if queues.waiters > 0 {
                this.progress.notify_all();
            }
            return;
        }
        if trace::request::is_on() {
            // SAFETY: `Effect::Queue` was answered, which gives the link to this task.
            unsafe { Self::note_queued(request) };
        }
        // Nobody takes it before it is on the list.
        if request_ref.state().is_leaving() {
            this.stats.queued.inc();
        } else {
            let tickets = Tickets {
                removed: queues.removed.renew(tickets.removed),
                released: queues.released.renew(tickets.released),
            };
            // SAFETY: `Effect::Queue` was answered, which gives the link to this task.
            unsafe { Request::link(request) }.tickets = tickets;
            if queues.waiters > 0 {
                this.progress.notify_all();
            }
        }
        // INVARIANT: `Effect::Queue` was answered, and with `queues` locked nobody has taken it
        // since.
        //
        // SAFETY: That answer gives the link to this task, and it is valid until it is released,
        // which nothing is that is on a list.
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
        // SAFETY: By the safety requirements it has been activated, and it is valid until it is
        // released.
        let owned = this.owns(unsafe { piece.as_ref() });
        kernel::warn_on!(!owned);
        {
            let mut queues = this.queues.lock();
            // SAFETY: By the safety requirements the caller has taken it, so that the link is the
            // caller's.
            let of = unsafe { Request::link(old) }.tickets;
            let tickets = Tickets {
                removed: queues.removed.join(of.removed),
                released: queues.released.join(of.released),
            };
            // SAFETY: By the safety requirements the caller has activated it, and until it lets go
            // of it nobody is answered with `Effect::Queue` for it: the link is the caller's.
            unsafe { Request::link(piece) }.tickets = tickets;
        }
        // SAFETY: By the safety requirements the caller has activated it, and it is let go of here.
        unsafe { Self::settle(this, piece) };
    }
}
