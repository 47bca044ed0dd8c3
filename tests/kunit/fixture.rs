// SPDX-License-Identifier: GPL-2.0

//! What most tests begin with.

use crate::{
    address_space::AddressSpace,
    probe::{
        Probe,
        Record, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};
use odp::{
    Config,
    Event,
    MayBlock,
    Mirror,
    Shared, //
};

/// An address space, a mirror of it, and a driver's object.
///
/// The address space is dropped last.
pub(crate) struct Setup {
    pub(crate) mirror: Arc<Mirror<Probe>>,
    pub(crate) shared: Arc<Shared<Probe>>,
    pub(crate) record: Arc<Record>,
    pub(crate) space: AddressSpace,
}

/// With an object whose ranges retire at an event.
pub(crate) fn setup(retire_on: Option<Event>, p: &mut MayBlock<'_>) -> Result<Setup> {
    with(Probe::new(retire_on)?, Config::default(), p)
}

/// With an object whose ranges lose what is unmapped.
pub(crate) fn punching(config: Config, p: &mut MayBlock<'_>) -> Result<Setup> {
    with(Probe::punching()?, config, p)
}

fn with(
    (shared, record): (Arc<Shared<Probe>>, Arc<Record>),
    config: Config,
    p: &mut MayBlock<'_>,
) -> Result<Setup> {
    let space = AddressSpace::attach()?;
    let mirror = Arc::new(
        Mirror::<Probe>::new(&*space.user()?, config, p)?,
        GFP_KERNEL,
    )?;
    Ok(Setup {
        mirror,
        shared,
        record,
        space,
    })
}
