// SPDX-License-Identifier: GPL-2.0

//! What most tests begin with.

use crate::{
    address_space::AddressSpace,
    check::check_eq,
    probe::{
        Probe,
        Record, //
    },
    reader::Reader,
    watcher::Watcher, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use odp::{
    Config,
    Event,
    Hold,
    MayBlock,
    Mirror,
    Retire,
    Shared,
    Span,
    Until, //
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

/// The same, where each removal waits for invalidations by itself, in lanes.
pub(crate) fn one_by_one(p: &mut MayBlock<'_>) -> Result<Setup> {
    let config = Config {
        split_removal: false,
        ..Config::default()
    };
    with(Probe::new(None)?, config, p)
}

/// With an object whose ranges lose what is unmapped.
pub(crate) fn punching(config: Config, p: &mut MayBlock<'_>) -> Result<Setup> {
    with(Probe::punching()?, config, p)
}

/// The same, if the ranges have so many pages or more.
pub(crate) fn punching_from(pages: usize, p: &mut MayBlock<'_>) -> Result<Setup> {
    with(Probe::punching_from(pages)?, Config::default(), p)
}

/// With an object whose ranges are cut to so many pages when any of theirs is unmapped.
pub(crate) fn keeping(pages: usize, p: &mut MayBlock<'_>) -> Result<Setup> {
    with(Probe::keeping(pages)?, Config::default(), p)
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

/// One page of `of`.
pub(crate) fn page(of: Span, n: usize) -> Result<Span> {
    pages(of, n, 1)
}

/// `count` pages of `of`, or of what lies around it, from page `first` on.
pub(crate) fn pages(of: Span, first: usize, count: usize) -> Result<Span> {
    Ok(Span::new(
        of.start() + first * PAGE_SIZE,
        count * PAGE_SIZE,
    )?)
}

/// Maps and mirrors some pages, and has the device reach each of them.
pub(crate) fn mirrored(
    s: &Setup,
    count: usize,
    p: &mut MayBlock<'_>,
) -> Result<(Span, Hold<Probe>)> {
    let span = s.space.map(count)?;
    Ok((span, mirrored_at(s, &s.shared, span, p)?))
}

/// Maps some pages, and mirrors each in a range of its own.
pub(crate) fn page_by_page(
    s: &Setup,
    count: usize,
    p: &mut MayBlock<'_>,
) -> Result<(Span, KVec<Hold<Probe>>)> {
    let span = s.space.map(count)?;
    let mut holds = KVec::new();
    for n in 0..count {
        let hold = s.mirror.insert(page(span, n)?, s.shared.clone(), p)?;
        holds.push(hold, GFP_KERNEL)?;
    }
    Ok((span, holds))
}

/// Mirrors `at` through `shared`, and has the device reach each page of it.
pub(crate) fn mirrored_at(
    s: &Setup,
    shared: &Arc<Shared<Probe>>,
    at: Span,
    p: &mut MayBlock<'_>,
) -> Result<Hold<Probe>> {
    let hold = s.mirror.insert(at, shared.clone(), p)?;
    let section = hold.begin(at, p).map_err(Error::from)?;
    for n in 0..at.pages() {
        let addr = page(at, n)?.start();
        hold.commit(section, |pages| pages.install(addr))??;
    }
    Ok(hold)
}

/// Sees that an address is found all the time, by lookups and by holds, and what the device has
/// there reached.
pub(crate) fn watch(s: &Setup, addr: usize) -> Result<Watcher> {
    let mirror = s.mirror.clone();
    Watcher::begin(&s.space, move |p| {
        let found = mirror.lookup(addr, p);
        // It may have gone out of service since, and others are in its place.
        let reached = found.map(|found| found.access(|pages| pages.has(addr)));
        !matches!(reached, None | Some(Ok(false))) && mirror.get(addr, p).is_some()
    })
}

/// The range in service at a page, if any.
pub(crate) fn range_at(mirror: &Mirror<Probe>, page: Span, p: &mut MayBlock<'_>) -> Option<Span> {
    mirror.lookup(page.start(), p).map(|range| range.span())
}

/// Whether the device reaches a page through the range that it is in.
pub(crate) fn reaches(mirror: &Mirror<Probe>, page: Span, p: &mut MayBlock<'_>) -> bool {
    let Some(range) = mirror.lookup(page.start(), p) else {
        return false;
    };
    range.access(|pages| pages.has(page.start())) == Ok(true)
}

/// Takes as long as another mirror takes to insert and remove several ranges.
pub(crate) fn take_a_while(s: &Setup, p: &mut MayBlock<'_>) -> Result {
    let clock = Mirror::<Probe>::new(&*s.space.user()?, Config::default(), p)?;
    let (ticks, _) = Probe::new(None)?;
    let span = s.space.map(1)?;
    for _ in 0..8 {
        let hold = clock.insert(span, ticks.clone(), p)?;
        hold.remove(p)?;
    }
    Ok(())
}

/// Has the worker wait for a reader, with a range that is made for it.
pub(crate) fn hold_worker(s: &Setup, p: &mut MayBlock<'_>) -> Result<Reader> {
    let other = s.space.map(1)?;
    let (bystander, record) = Probe::new(None)?;
    let hold = s.mirror.insert(other, bystander, p)?;
    let reader = Reader::begin(&s.space, &s.mirror, other.start())?;
    check_eq!(hold.retire(), Retire::Queued);
    drop(hold);
    // It has been taken, and waits for the reader.
    record.zapped.wait_for(1)?;
    Ok(reader)
}

/// Calls `f` while the worker is busy with something else, and returns when the worker has done
/// what `f` has asked for.
pub(crate) fn held(
    s: &Setup,
    p: &mut MayBlock<'_>,
    f: impl FnOnce(&mut MayBlock<'_>) -> Result,
) -> Result<Arc<Mirror<Probe>>> {
    let mirror = s.mirror.clone();
    let reader = hold_worker(s, p)?;
    let result = f(p);
    reader.end()?;
    // What the caller holds is not waited for.
    mirror.flush(Until::Removed, p)?;
    result?;
    Ok(mirror)
}
