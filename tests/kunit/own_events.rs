// SPDX-License-Identifier: GPL-2.0

//! What a driver does to the process's pages itself.

#![cfg(CONFIG_DEVICE_PRIVATE)]

use kernel::prelude::*;

#[kunit_tests(odp_own_events)]
mod tests {
    use crate::{
        address_space::AddressSpace,
        check::check_eq,
        fixture::punching, //
    };
    use core::ptr::NonNull;
    use kernel::prelude::*;
    use odp::{
        mmu_interval::EventOwner,
        Config,
        MayBlock,
        Retry, //
    };

    /// What the driver itself does to a page neither reaches it nor comes between its fault; what
    /// another one does, and what ends its own doing, do.
    #[test]
    fn own_events_are_not_told() -> Result {
        MayBlock::enter(|p| {
            let (mine, other) = (0u32, 0u32);
            let (mine, other) = (NonNull::from(&mine), NonNull::from(&other));
            let config = Config {
                owner: Some(EventOwner::new(mine)),
                ..Config::default()
            };
            let s = punching(config, p)?;
            let span = s.space.map(2)?;
            let page = span.start();
            AddressSpace::write(page, 1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;

            let section = hold.begin(span, p).map_err(Error::from)?;
            s.space.make_exclusive(page, mine)?;
            hold.commit(section, |pages| pages.install(page))??;
            check_eq!(s.record.clears.get(), 0);

            // A CPU takes the page back.
            check_eq!(AddressSpace::read(page), Ok(1));
            check_eq!(s.record.clears.get(), 1);
            check_eq!(hold.access(|pages| pages.has(page)), Ok(false));

            let section = hold.begin(span, p).map_err(Error::from)?;
            s.space.make_exclusive(page, other)?;
            check_eq!(s.record.clears.get(), 2);
            let committed = hold.commit(section, |pages| pages.install(page));
            check_eq!(committed.err(), Some(Retry::Collided));
            Ok(())
        })
    }

    /// The pages may be others after that.
    #[test]
    fn own_migrations_collide_with_faults() -> Result {
        MayBlock::enter(|p| {
            let mine = 0u32;
            let mine = NonNull::from(&mine);
            let config = Config {
                owner: Some(EventOwner::new(mine)),
                ..Config::default()
            };
            let s = punching(config, p)?;
            let span = s.space.map(1)?;
            AddressSpace::write(span.start(), 1)?;
            let hold = s.mirror.insert(span, s.shared.clone(), p)?;
            let section = hold.begin(span, p).map_err(Error::from)?;
            s.space.migrate(span.start(), mine)?;
            check_eq!(s.record.clears.get(), 0);
            let committed = hold.commit(section, |pages| pages.install(span.start()));
            check_eq!(committed.err(), Some(Retry::Collided));
            Ok(())
        })
    }
}
