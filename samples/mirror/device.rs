// SPDX-License-Identifier: GPL-2.0

//! The device, which is simulated, and what the driver tells the library about it.

use crate::{
    gate::Gate,
    page_table::PageTable,
    uapi::{
        EVENTS,
        PUNCH_UNMAP,
        RETIRE_EVERY,
        RETIRE_NEVER, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    task::might_sleep, //
};
use odp::{
    Event,
    Handled,
    Invalidation,
    Mirrored,
    MirroredOps,
    Span,
    WorkerContext, //
};

/// The driver's object: one for each file, shared by all its ranges.
pub(crate) struct Device {
    /// Which events make it give up a range.
    retire: Atomic<u64>,
    /// Where callbacks wait if a test wants it.
    callback: Arc<Gate>,
    /// Where the worker does.
    worker: Arc<Gate>,
    pub(crate) counters: Counters,
}

/// What has happened.
pub(crate) struct Counters {
    pub(crate) events: [Atomic<u64>; EVENTS],
    pub(crate) zapped: Atomic<u64>,
    pub(crate) told: Atomic<u64>,
    pub(crate) told_by_worker: Atomic<u64>,
    pub(crate) told_replaced: Atomic<u64>,
}

/// What an event makes of a range.
enum Fate {
    /// It stays as it is.
    Kept,
    /// It is removed.
    Retired,
    /// What the event is about is taken out of it.
    Punched,
}

impl Device {
    pub(crate) fn new(callback: Arc<Gate>, worker: Arc<Gate>) -> Self {
        Self {
            retire: Atomic::new(crate::uapi::RETIRE_UNMAP),
            callback,
            worker,
            counters: Counters {
                events: [const { Atomic::new(0) }; EVENTS],
                zapped: Atomic::new(0),
                told: Atomic::new(0),
                told_by_worker: Atomic::new(0),
                told_replaced: Atomic::new(0),
            },
        }
    }

    /// Chooses which events make it give up a range, or part of one.
    pub(crate) fn retire_on(&self, which: u64) {
        self.retire.store(which, Relaxed);
    }

    /// Whether a range loses what is unmapped, and not all.
    pub(crate) fn punches(&self) -> bool {
        self.retire.load(Relaxed) == PUNCH_UNMAP
    }

    fn fate(&self, event: Event) -> Fate {
        match (self.retire.load(Relaxed), event) {
            (RETIRE_EVERY, _) => Fate::Retired,
            (RETIRE_NEVER, _) => Fate::Kept,
            (PUNCH_UNMAP, Event::Unmap) => Fate::Punched,
            (PUNCH_UNMAP, _) => Fate::Kept,
            (_, Event::Unmap) => Fate::Retired,
            _ => Fate::Kept,
        }
    }
}

/// The index of an event in the statistics.
fn index(event: Event) -> usize {
    match event {
        Event::Unmap => 0,
        Event::Clear => 1,
        Event::ProtectVma => 2,
        Event::ProtectPage => 3,
        Event::SoftDirty => 4,
        Event::Release => 5,
        Event::Migrate => 6,
        Event::Exclusive => 7,
    }
}

// What keeps the page table's invariant: `invalidate` clears what it is told, whatever the event,
// and `zap` what a range leaves behind.
impl Mirrored for Device {
    const OPS: &'static MirroredOps<Self> = odp::mirrored_ops!(Device);
    type Table = PageTable;
    type Lock = Mutex<PageTable>;

    fn invalidate<'cb>(&'cb self, inv: Invalidation<'cb, Self>) -> Handled<'cb> {
        // Only for tests: they want to do things while an invalidation is going on. The last one
        // never waits, for then the process that could end the wait may be gone.
        if inv.blockable() && inv.event() != Event::Release {
            let _ = self.callback.pass();
        }

        let mut zap = match inv.begin() {
            Ok(zap) => zap,
            Err(handled) => return handled,
        };
        let (event, span) = (zap.event(), zap.span());
        // Whatever happens to the pages, the device starts over with a fault.
        let cleared = zap.clear(span);
        match self.fate(event) {
            Fate::Kept => {}
            Fate::Retired => {
                let _ = zap.retire();
            }
            // If the range has gone or been replaced, others are told of the event, too.
            Fate::Punched => {
                let _ = zap.punch();
            }
        }
        self.counters.zapped.add(cleared, Relaxed);
        self.counters.events[index(event)].add(1, Relaxed);
        zap.done()
    }

    fn zap(&self, table: &mut PageTable, dead: Span) {
        let cleared = table.clear(dead);
        self.counters.zapped.add(cleared, Relaxed);
    }

    fn zapped(&self, _dead: Span, _ctx: &WorkerContext<'_>) {
        // A real device would be waited for here. Whoever waits for the worker meanwhile does so
        // for as long as the gate lets it.
        let _ = self.worker.pass();
    }

    fn replaced(&self, old: Span, pieces: &[Span], _ctx: &WorkerContext<'_>) {
        // Entries go by address, so they are the pieces' already. One that has grown is larger.
        let grown = pieces.len() == 1;
        kernel::warn_on!(!grown && !pieces.iter().all(|piece| old.covers(piece)));
        kernel::warn_on!(!pieces.is_sorted_by(|a, b| a.end() <= b.start()));
        self.counters.told_replaced.add(1, Relaxed);
    }

    fn released(&self, _span: Span, _ctx: &WorkerContext<'_>) {
        might_sleep();
        self.counters.told.add(1, Relaxed);
        // Kernel threads have no address space.
        if current!().mm().is_none() {
            self.counters.told_by_worker.add(1, Relaxed);
        }
    }
}
