// SPDX-License-Identifier: GPL-2.0

//! A driver that does little and notes everything.

use crate::tally::Tally;
use kernel::{
    bindings,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};
use odp::{
    Event,
    Handled,
    Invalidation,
    Mirrored,
    MirroredOps,
    Shared,
    Span,
    WorkerContext, //
};

/// What has happened to the ranges of a probe; outlives them.
pub(crate) struct Record {
    /// Calls of `invalidate()`, each for itself.
    pub(crate) unmaps: Arc<Tally>,
    pub(crate) clears: Arc<Tally>,
    pub(crate) releases: Arc<Tally>,
    /// How many of those that the end of the address space is told by came in no work item.
    pub(crate) ended_here: Arc<Tally>,
    /// Ranges that the worker has zapped, after it unpublished them.
    pub(crate) zapped: Arc<Tally>,
    /// Ranges replaced by smaller ones, and how many those were.
    pub(crate) replaced: Arc<Tally>,
    pub(crate) pieces: Arc<Tally>,
    /// Replacements that the driver is being told of.
    pub(crate) replacing: Arc<Tally>,
    /// Whether they wait for `may_replace`, each for one more.
    pub(crate) hold_replacements: Atomic<bool>,
    pub(crate) may_replace: Arc<Tally>,
    pub(crate) released: Arc<Tally>,
    /// Releases that have begun.
    pub(crate) releasing: Arc<Tally>,
    /// Whether they wait for `may_release`.
    pub(crate) hold_releases: Atomic<bool>,
    pub(crate) may_release: Arc<Tally>,
    /// How often `released` ran where it must not: while an address space was being changed by the
    /// same task, or in atomic context; or something was said of addresses that are not the range's.
    pub(crate) misplaced: Arc<Tally>,
    pub(crate) dropped: Arc<Tally>,
}

/// The pages that the device may reach. Room for all is there before the lock is taken.
pub(crate) struct Pages(KVec<usize>);

impl Pages {
    pub(crate) fn install(&mut self, addr: usize) -> Result {
        self.0.push_within_capacity(addr).map_err(|_| ENOSPC)
    }

    pub(crate) fn has(&self, addr: usize) -> bool {
        self.0.contains(&addr)
    }

    fn zap(&mut self, span: Span) {
        self.0.retain(|addr| !span.contains(*addr));
    }
}

/// The driver.
pub(crate) struct Probe {
    record: Arc<Record>,
    /// Which event retires the range in the callback.
    retire_on: Option<Event>,
    /// Whether munmap() punches out what is unmapped, of ranges of so many pages or more.
    punch: Option<usize>,
    /// How many pages at its start munmap() leaves of a range, if that is for munmap() to say.
    keep: Option<usize>,
}

/// How many pages a probe has room for.
const ROOM: usize = 256;

impl Probe {
    /// Makes a driver's object; ranges made from it retire themselves at `retire_on`.
    pub(crate) fn new(retire_on: Option<Event>) -> Result<(Arc<Shared<Self>>, Arc<Record>)> {
        Self::with(retire_on, None, None)
    }

    /// Makes one whose ranges lose what is unmapped.
    pub(crate) fn punching() -> Result<(Arc<Shared<Self>>, Arc<Record>)> {
        Self::punching_from(0)
    }

    /// Makes one whose ranges lose what is unmapped if they have so many pages or more.
    pub(crate) fn punching_from(pages: usize) -> Result<(Arc<Shared<Self>>, Arc<Record>)> {
        Self::with(None, Some(pages), None)
    }

    /// Makes one whose ranges are cut to so many pages when any of theirs is unmapped.
    pub(crate) fn keeping(pages: usize) -> Result<(Arc<Shared<Self>>, Arc<Record>)> {
        Self::with(None, None, Some(pages))
    }

    fn with(
        retire_on: Option<Event>,
        punch: Option<usize>,
        keep: Option<usize>,
    ) -> Result<(Arc<Shared<Self>>, Arc<Record>)> {
        let record = Arc::new(
            Record {
                unmaps: Tally::new("unmaps")?,
                clears: Tally::new("clears")?,
                releases: Tally::new("releases")?,
                ended_here: Tally::new("ended here")?,
                zapped: Tally::new("zapped")?,
                replaced: Tally::new("replaced")?,
                pieces: Tally::new("pieces")?,
                replacing: Tally::new("replacing")?,
                hold_replacements: Atomic::new(false),
                may_replace: Tally::new("may replace")?,
                released: Tally::new("released")?,
                releasing: Tally::new("releasing")?,
                may_release: Tally::new("may release")?,
                hold_releases: Atomic::new(false),
                misplaced: Tally::new("misplaced")?,
                dropped: Tally::new("dropped")?,
            },
            GFP_KERNEL,
        )?;
        let probe = Self {
            record: record.clone(),
            retire_on,
            punch,
            keep,
        };
        let pages = Pages(KVec::with_capacity(ROOM, GFP_KERNEL)?);
        let shared = Arc::pin_init(
            Shared::new(probe, new_mutex!(pages, "Probe::pages")),
            GFP_KERNEL,
        )?;
        Ok((shared, record))
    }
}

/// Whether a work function is running.
fn in_work_item() -> bool {
    // SAFETY: May be called anywhere; null outside of a work function.
    let work = unsafe { bindings::current_work() };
    !work.is_null()
}

impl Mirrored for Probe {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Probe);
    type Table = Pages;
    type Lock = Mutex<Pages>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        match inv.event() {
            Event::Unmap => self.record.unmaps.inc(),
            Event::Release => {
                if !in_work_item() {
                    self.record.ended_here.inc();
                }
                self.record.releases.inc();
            }
            _ => self.record.clears.inc(),
        }
        let mut zap = match inv.begin() {
            Ok(zap) => zap,
            Err(handled) => return handled,
        };
        let span = zap.span();
        zap.zap(span);
        if Some(zap.event()) == self.retire_on {
            let _ = zap.retire();
        }
        let punches = self.punch.is_some_and(|from| zap.range().pages() >= from);
        if punches && zap.event() == Event::Unmap {
            let _ = zap.punch();
        }
        if let (Some(pages), Event::Unmap) = (self.keep, zap.event()) {
            let kept = Span::new(zap.range().start(), pages * PAGE_SIZE);
            let resized = kept.map(|kept| zap.resize(kept));
            if !matches!(resized, Ok(Ok(_))) {
                self.record.misplaced.inc();
            }
        }
        zap.done()
    }

    fn zap(&self, table: &mut Pages, dead: Span) {
        table.zap(dead);
    }

    fn zapped(&self, _dead: Span, _ctx: &WorkerContext<'_>) {
        self.record.zapped.inc();
    }

    fn replaced(&self, old: Span, pieces: &[Span], _ctx: &WorkerContext<'_>) {
        kernel::task::might_sleep();
        let turn = self.record.replacing.next();
        if self.record.hold_replacements.load(Relaxed) {
            let _ = self.record.may_replace.wait_for(turn);
        }
        self.record.replaced.inc();
        for piece in pieces {
            if !old.covers(piece) {
                self.record.misplaced.inc();
            }
            self.record.pieces.inc();
        }
    }

    fn released(&self, _span: Span, _ctx: &WorkerContext<'_>) {
        if !in_work_item() {
            self.record.misplaced.inc();
        }
        // A place that may sleep; the debug kernel reports if it is not.
        kernel::task::might_sleep();
        self.record.releasing.inc();
        if self.record.hold_releases.load(Relaxed) {
            let _ = self.record.may_release.wait_for(1);
        }
        self.record.released.inc();
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.record.dropped.inc();
    }
}
