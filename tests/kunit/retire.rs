// SPDX-License-Identifier: GPL-2.0

//! Level 1: objects whose notifiers are the driver's.

use kernel::prelude::*;

#[kunit_tests(odp_retire)]
mod tests {
    use crate::{
        check::check_eq,
        eventually::eventually,
        tally::Tally,
        thread::Thread, //
    };
    use kernel::{
        prelude::*,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
        time::Delta, //
    };
    use odp::{
        MayBlock,
        Request,
        Retirable,
        RetirableOps,
        Retire,
        Retirer,
        Until,
        WakeupConfig,
        WorkerContext, //
    };

    /// What happens to children, and how far they are let.
    struct Parent {
        unpublishing: Arc<Tally>,
        /// Whether an unpublish waits for `let_unpublish`.
        hold_unpublish: Atomic<bool>,
        let_unpublish: Arc<Tally>,
        unpublished: Arc<Tally>,
        removing: Arc<Tally>,
        removed: Arc<Tally>,
        released: Arc<Tally>,
        out_of_order: Arc<Tally>,
        /// A removal waits for this.
        let_remove: Arc<Tally>,
    }

    #[pin_data]
    struct Child {
        parent: Arc<Parent>,
        steps: Arc<Tally>,
        #[pin]
        request: Request,
    }

    odp::impl_has_request! { impl HasRequest for Child { self.request } }

    impl Child {
        /// Each step comes once, in its turn.
        fn step(&self, n: usize) {
            if self.steps.get() != n {
                self.parent.out_of_order.inc();
            }
            self.steps.inc();
        }
    }

    impl Retirable for Child {
        const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Child);

        fn unpublish(&self, _ctx: &WorkerContext<'_>) {
            self.step(0);
            self.parent.unpublishing.inc();
            if self.parent.hold_unpublish.load(Relaxed) {
                let _ = self.parent.let_unpublish.wait_for(1);
            }
            self.parent.unpublished.inc();
        }

        fn remove(&self, _ctx: &WorkerContext<'_>) {
            self.step(1);
            self.parent.removing.inc();
            let _ = self.parent.let_remove.wait_for(1);
            self.parent.removed.inc();
        }

        fn release(this: Arc<Self>, _ctx: &WorkerContext<'_>) {
            this.step(2);
            this.parent.released.inc();
        }
    }

    fn parent() -> Result<Arc<Parent>> {
        Ok(Arc::new(
            Parent {
                unpublishing: Tally::new("unpublishing")?,
                hold_unpublish: Atomic::new(false),
                let_unpublish: Tally::new("let unpublish")?,
                unpublished: Tally::new("unpublished")?,
                removing: Tally::new("removing")?,
                removed: Tally::new("removed")?,
                released: Tally::new("released")?,
                out_of_order: Tally::new("out of order")?,
                let_remove: Tally::new("let remove")?,
            },
            GFP_KERNEL,
        )?)
    }

    fn child(parent: &Arc<Parent>) -> Result<Arc<Child>> {
        child_with(parent, Request::new())
    }

    fn child_with(parent: &Arc<Parent>, request: impl PinInit<Request>) -> Result<Arc<Child>> {
        let parent = parent.clone();
        let steps = Tally::new("steps")?;
        Arc::pin_init(
            pin_init!(Child {
                parent,
                steps,
                request <- request,
            }),
            GFP_KERNEL,
        )
    }

    #[test]
    fn each_step_is_taken_once_and_in_order() -> Result {
        MayBlock::enter(|p| {
            let (parent, retirer) = (parent()?, Retirer::new(c"kunit-order")?);
            parent.let_remove.inc();
            for _ in 0..20 {
                let child = child(&parent)?;
                check_eq!(retirer.retire(child.as_arc_borrow()), Retire::Queued);
                check_eq!(retirer.retire(child.as_arc_borrow()), Retire::Already);
            }
            retirer.flush(Until::Released, p)?;
            check_eq!(parent.released.get(), 20);
            check_eq!(parent.out_of_order.get(), 0);
            check_eq!(retirer.stats().coalesced, 20);
            Ok(())
        })
    }

    #[test]
    fn what_is_retired_before_it_is_published_goes_then() -> Result {
        MayBlock::enter(|p| {
            let (parent, retirer) = (parent()?, Retirer::new(c"kunit-building")?);
            parent.let_remove.inc();
            let child = child_with(&parent, Request::building())?;
            check_eq!(retirer.is_live(child.as_arc_borrow()), false);
            check_eq!(retirer.retire(child.as_arc_borrow()), Retire::Queued);
            retirer.flush(Until::Released, p)?;
            check_eq!(child.steps.get(), 0);
            retirer.publish(child.as_arc_borrow());
            retirer.flush(Until::Released, p)?;
            check_eq!(child.steps.get(), 3);
            Ok(())
        })
    }

    #[test]
    fn what_has_not_been_retired_is_not_waited_for() -> Result {
        MayBlock::enter(|p| {
            let (parent, retirer) = (parent()?, Retirer::new(c"kunit-not-retired")?);
            parent.let_remove.inc();
            let child = child(&parent)?;
            let held = retirer.hold(child.as_arc_borrow()).ok_or(ESRCH)?;
            check_eq!(held.wait(p), Err(EINVAL));
            retirer.retire(child.as_arc_borrow());
            check_eq!(held.wait(p), Ok(()));
            check_eq!(held.steps.get(), 2);
            drop(held);
            retirer.flush(Until::Released, p)?;
            check_eq!(child.steps.get(), 3);
            Ok(())
        })
    }

    #[test]
    fn drain_does_what_the_worker_has_not_begun() -> Result {
        const MORE: usize = 5;
        MayBlock::enter(|p| {
            // SAFETY: It is dropped before this returns, and the module stays for as long.
            let retirer = unsafe { Retirer::new_unpinned(c"kunit-drain", WakeupConfig::default()) };
            let retirer = Arc::new(retirer?, GFP_KERNEL)?;
            // The worker is kept in the grace period of a first one, so that the others are
            // nobody's until they are drained.
            let (first, others) = (parent()?, parent()?);
            first.let_remove.inc();
            others.let_remove.inc();
            let looking = retirer.read(p);
            retirer.retire(child(&first)?.as_arc_borrow());
            first.unpublished.wait_for(1)?;
            for _ in 0..MORE {
                retirer.retire(child(&others)?.as_arc_borrow());
            }
            let drained = Tally::new("drained")?;
            let drainer = Thread::spawn({
                let (retirer, drained) = (retirer.clone(), drained.clone());
                move || {
                    for _ in 0..MayBlock::enter(|p| retirer.drain(p)) {
                        drained.inc();
                    }
                }
            })?;
            others.unpublished.wait_for(MORE)?;
            drop(looking);
            drainer.join()?;
            check_eq!(drained.get(), MORE);
            check_eq!(others.removed.get(), MORE);
            retirer.flush(Until::Released, p)?;
            check_eq!(others.released.get(), MORE);
            Ok(())
        })
    }

    /// Takes as long as several objects take on their way.
    fn take_a_while(p: &mut MayBlock<'_>) -> Result {
        let (parent, clock) = (parent()?, Retirer::new(c"kunit-clock")?);
        parent.let_remove.inc();
        for _ in 0..8 {
            clock.retire(child(&parent)?.as_arc_borrow());
            clock.flush(Until::Released, p)?;
        }
        Ok(())
    }

    /// Who looks while an object is being unpublished may still find it.
    #[test]
    fn the_grace_period_comes_after_the_unpublish() -> Result {
        MayBlock::enter(|p| {
            let retirer = Arc::new(Retirer::new(c"kunit-grace")?, GFP_KERNEL)?;
            let parent = parent()?;
            parent.let_remove.inc();
            parent.hold_unpublish.store(true, Relaxed);
            retirer.retire(child(&parent)?.as_arc_borrow());
            parent.unpublishing.wait_for(1)?;
            let (looking, enough) = (Tally::new("looking")?, Tally::new("enough")?);
            let looker = Thread::spawn({
                let (retirer, looking, enough) = (retirer.clone(), looking.clone(), enough.clone());
                move || {
                    MayBlock::enter(|p| {
                        let section = retirer.read(p);
                        looking.inc();
                        let _ = enough.wait_for(1);
                        drop(section);
                    })
                }
            })?;
            looking.wait_for(1)?;
            parent.let_unpublish.inc();
            parent.unpublished.wait_for(1)?;
            take_a_while(p)?;
            let removing = parent.removing.get();
            enough.inc();
            looker.join()?;
            check_eq!(removing, 0);
            retirer.flush(Until::Released, p)?;
            check_eq!(parent.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn removals_of_a_batch_sleep_at_the_same_time() -> Result {
        const LANES: usize = 8;
        MayBlock::enter(|p| {
            let retirer = Retirer::new(c"kunit-lanes")?;
            // The worker is kept in the grace period of a first one, so that the others make one
            // batch.
            let (first, others) = (parent()?, parent()?);
            first.let_remove.inc();
            let looking = retirer.read(p);
            retirer.retire(child(&first)?.as_arc_borrow());
            first.unpublished.wait_for(1)?;
            for _ in 0..LANES {
                retirer.retire(child(&others)?.as_arc_borrow());
            }
            drop(looking);
            // None may end before all have begun.
            others.removing.wait_for(LANES)?;
            check_eq!(others.removed.get(), 0);
            others.let_remove.inc();
            retirer.flush(Until::Released, p)?;
            check_eq!(others.released.get(), LANES);
            check_eq!(others.out_of_order.get(), 0);
            check_eq!(retirer.stats().grace_periods, 2);
            Ok(())
        })
    }

    /// A driver's removals, which wait for something of the driver's; how many do at the same time.
    struct Lock {
        unpublished: Arc<Tally>,
        waiting: Arc<Tally>,
        /// One that waits goes on for each of these, the first of them first.
        let_go: Arc<Tally>,
        inside: Atomic<usize>,
        most: Atomic<usize>,
    }

    #[pin_data]
    struct Locked {
        lock: Arc<Lock>,
        #[pin]
        request: Request,
    }

    odp::impl_has_request! { impl HasRequest for Locked { self.request } }

    impl Retirable for Locked {
        const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Locked);

        fn unpublish(&self, _ctx: &WorkerContext<'_>) {
            self.lock.unpublished.inc();
        }

        fn remove(&self, _ctx: &WorkerContext<'_>) {
            let lock = &self.lock;
            let inside = lock.inside.fetch_add(1, Relaxed) + 1;
            let mut most = lock.most.load(Relaxed);
            while most < inside {
                match lock.most.cmpxchg(most, inside, Relaxed) {
                    Ok(_) => break,
                    Err(now) => most = now,
                }
            }
            let turn = lock.waiting.next();
            let _ = lock.let_go.wait_for(turn);
            let _ = lock.inside.fetch_sub(1, Relaxed);
        }

        fn release(_this: Arc<Self>, _ctx: &WorkerContext<'_>) {}
    }

    fn lock() -> Result<Arc<Lock>> {
        Ok(Arc::new(
            Lock {
                unpublished: Tally::new("unpublished")?,
                waiting: Tally::new("waiting")?,
                let_go: Tally::new("let go")?,
                inside: Atomic::new(0),
                most: Atomic::new(0),
            },
            GFP_KERNEL,
        )?)
    }

    fn locked(lock: &Arc<Lock>) -> Result<Arc<Locked>> {
        let lock = lock.clone();
        Arc::pin_init(
            pin_init!(Locked {
                lock,
                request <- Request::new(),
            }),
            GFP_KERNEL,
        )
    }

    #[test]
    fn removals_that_wait_for_the_driver_bring_no_lanes_along() -> Result {
        const LANES: usize = 8;
        const N: usize = 40 * LANES;
        MayBlock::enter(|p| {
            let retirer = Retirer::new(c"kunit-driver-lock")?;
            // The worker is kept in the grace period of a first one, so that the others make one
            // batch.
            let (first, lock) = (lock()?, lock()?);
            first.let_go.inc();
            let looking = retirer.read(p);
            retirer.retire(locked(&first)?.as_arc_borrow());
            first.unpublished.wait_for(1)?;
            for _ in 0..N {
                let locked = locked(&lock)?;
                check_eq!(retirer.retire(locked.as_arc_borrow()), Retire::Queued);
            }
            drop(looking);
            lock.waiting.wait_for(LANES)?;
            for turn in 1..=N {
                lock.waiting.wait_for(turn)?;
                lock.let_go.inc();
            }
            retirer.flush(Until::Released, p)?;
            check_eq!(lock.most.load(Relaxed), LANES);
            Ok(())
        })
    }

    /// The work item of a batch may be through when a lane is not. Then the lane ends the batch.
    #[test]
    fn what_comes_while_a_lane_is_busy_has_its_turn() -> Result {
        MayBlock::enter(|p| {
            let retirer = Retirer::new(c"kunit-last-lane")?;
            // The worker is kept in the grace period of a first one, so that two others make one
            // batch.
            let (first, lock) = (lock()?, lock()?);
            first.let_go.inc();
            let looking = retirer.read(p);
            retirer.retire(locked(&first)?.as_arc_borrow());
            first.unpublished.wait_for(1)?;
            for _ in 0..2 {
                retirer.retire(locked(&lock)?.as_arc_borrow());
            }
            drop(looking);
            lock.waiting.wait_for(2)?;
            retirer.retire(locked(&lock)?.as_arc_borrow());
            // The first to wait is most likely the one that made the other.
            lock.let_go.inc();
            eventually("one of two is removed", || retirer.stats().removed == 2)?;
            lock.let_go.inc();
            lock.let_go.inc();
            retirer.flush(Until::Released, p)?;
            check_eq!(retirer.stats().released, 4);
            Ok(())
        })
    }

    #[test]
    fn a_worker_has_the_wakeup_delay_that_was_chosen() -> Result {
        let of = |wakeup_delay| WakeupConfig {
            wakeup_delay,
            ..WakeupConfig::default()
        };
        for wakeup_delay in [
            Delta::from_nanos(-1),
            WakeupConfig::MAX_WAKEUP_DELAY + Delta::from_nanos(1),
        ] {
            let refused = Retirer::<Child>::with_wakeup(c"kunit-wakeup", of(wakeup_delay)).err();
            check_eq!(refused, Some(EINVAL));
        }
        MayBlock::enter(|p| {
            let retirer = Retirer::with_wakeup(c"kunit-wakeup", of(Delta::ZERO))?;
            let parent = parent()?;
            parent.let_remove.inc();
            retirer.retire(child(&parent)?.as_arc_borrow());
            // Nobody waits, and nothing has to come later.
            check_eq!(retirer.stats().kicks, 1);
            retirer.flush(Until::Released, p)?;
            check_eq!(parent.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn a_hold_delays_the_release_and_nothing_else() -> Result {
        MayBlock::enter(|p| {
            let (parent, retirer) = (parent()?, Retirer::new(c"kunit-hold")?);
            parent.let_remove.inc();
            let child = child(&parent)?;
            let held = retirer.hold(child.as_arc_borrow()).ok_or(ESTALE)?;
            let again = retirer.hold(child.as_arc_borrow()).ok_or(ESTALE)?;
            check_eq!(retirer.is_live(child.as_arc_borrow()), true);
            retirer.retire(child.as_arc_borrow());
            check_eq!(retirer.is_live(child.as_arc_borrow()), false);
            check_eq!(retirer.hold(child.as_arc_borrow()).is_none(), true);
            // What was refused has not ended anybody's hold.
            check_eq!(retirer.stats().puts, 0);
            held.wait(p)?;
            check_eq!(parent.removed.get(), 1);
            drop(held);
            retirer.flush(Until::Removed, p)?;
            check_eq!(parent.released.get(), 0);
            drop(again);
            retirer.flush(Until::Released, p)?;
            check_eq!(parent.released.get(), 1);
            check_eq!(parent.out_of_order.get(), 0);
            Ok(())
        })
    }

    #[test]
    fn an_object_belongs_to_one_retirer() -> Result {
        MayBlock::enter(|p| {
            let (one, two) = (Retirer::new(c"kunit-one")?, Retirer::new(c"kunit-two")?);
            let parent = parent()?;
            parent.let_remove.inc();
            let child = child(&parent)?;
            let held = one.hold(child.as_arc_borrow()).ok_or(ESTALE)?;
            check_eq!(two.hold(child.as_arc_borrow()).is_none(), true);
            check_eq!(two.stats().puts, 0);
            check_eq!(two.retire(child.as_arc_borrow()), Retire::Foreign);
            check_eq!(one.retire(child.as_arc_borrow()), Retire::Queued);
            drop(held);
            two.shutdown(p);
            one.shutdown(p);
            check_eq!(parent.released.get(), 1);
            Ok(())
        })
    }

    #[test]
    fn shutdown_waits_for_what_was_retired() -> Result {
        MayBlock::enter(|p| {
            let (parent, retirer) = (parent()?, Retirer::new(c"kunit-shutdown")?);
            for _ in 0..10 {
                let child = child(&parent)?;
                retirer.retire(child.as_arc_borrow());
            }
            parent.removing.wait_for(1)?;
            parent.let_remove.inc();
            let stats = retirer.shutdown(p);
            check_eq!(parent.released.get(), 10);
            check_eq!(stats.released, 10);
            Ok(())
        })
    }
}
