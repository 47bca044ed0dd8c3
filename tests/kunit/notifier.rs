// SPDX-License-Identifier: GPL-2.0

//! Level 1: an object with a notifier of its own, which goes with it.

use kernel::prelude::*;

#[kunit_tests(odp_notifier)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        tally::Tally, //
    };
    use kernel::{
        mm::Mm,
        new_mutex,
        prelude::*,
        sync::{
            aref::ARef,
            Arc,
            Mutex, //
        }, //
    };
    use odp::{
        mmu_interval::{
            CallbackContext,
            Handled,
            Interval,
            Invalidate,
            InvalidateOps,
            Registration, //
        },
        MayBlock,
        Request,
        Retirable,
        RetirableOps,
        Retirer,
        Until,
        WorkerContext, //
    };

    /// What the notifier of a window calls.
    struct Watch(Arc<Tally>);

    impl Invalidate for Watch {
        const OPS: &'static InvalidateOps<Self> = odp::invalidate_ops!(Watch);

        fn invalidate<'cb>(this: &'cb Interval<Self>, inv: CallbackContext<'cb>) -> Handled<'cb> {
            this.data().0.inc();
            inv.record()
        }
    }

    #[pin_data]
    struct Window {
        #[pin]
        registration: Mutex<Option<Registration<Watch>>>,
        #[pin]
        request: Request,
    }

    odp::impl_has_request! { impl HasRequest for Window { self.request } }

    impl Retirable for Window {
        const OPS: &'static RetirableOps<Self> = odp::retirable_ops!(Window);

        fn unpublish(&self, _ctx: &WorkerContext<'_>) {}

        fn remove(&self, ctx: &WorkerContext<'_>) {
            let registration = self.registration.lock().take();
            if let Some(registration) = registration {
                drop(ctx.remove(registration));
            }
        }

        fn release(_this: Arc<Self>, _ctx: &WorkerContext<'_>) {}
    }

    #[test]
    fn a_notifier_of_the_drivers_goes_with_its_object() -> Result {
        MayBlock::enter(|p| {
            let space = AddressSpace::attach()?;
            let span = space.map(1)?;
            let retirer = Retirer::new(c"kunit-window")?;
            let invalidated = Tally::new("invalidated")?;
            let mm = space.user()?;
            let mm: &Mm = &mm;
            let watch = Ok(Watch(invalidated.clone()));
            let interval = Arc::pin_init(
                Interval::new::<Error>(ARef::from(mm), span, watch),
                GFP_KERNEL,
            )?;
            let registration = Interval::insert_and_wait(interval, p)?;
            let window = Arc::pin_init(
                pin_init!(Window {
                    registration <- new_mutex!(Some(registration), "Window::registration"),
                    request <- Request::new(),
                }),
                GFP_KERNEL,
            )?;
            AddressSpace::unmap(span)?;
            check_eq!(invalidated.get(), 1);

            retirer.retire(window.as_arc_borrow());
            retirer.flush(Until::Removed, p)?;
            check_eq!(window.registration.lock().is_none(), true);
            space.map_at(span)?;
            AddressSpace::unmap(span)?;
            check_eq!(invalidated.get(), 1);
            Ok(())
        })
    }
}
