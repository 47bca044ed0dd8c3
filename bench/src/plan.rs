// SPDX-License-Identifier: GPL-2.0

//! What is measured, and in which order.

use crate::uapi::{self, ArmInfo};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// One kind of thing to measure.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// How long munmap() takes.
    Munmap,
    /// What of that is in the callbacks.
    Callbacks,
    /// How long after invalidate() the ranges are gone. Looking at the clock makes munmap() slower,
    /// so this is not measured along with the above.
    Removal,
    /// What the removal cannot do without.
    Floor,
    /// What munmap() costs, and how soon the ranges are gone when nobody waits for it: for the
    /// library, by how long its worker lingers.
    Linger,
    /// From munmap() until all ranges are gone, while something else of the process is invalidated
    /// again and again, slowly.
    Teardown,
    /// How often tasks and CPUs are woken up and interrupted until all ranges are gone.
    Events,
    /// A hole in a range.
    Punch,
    /// How many addresses readers look up while ranges go.
    Lookups,
    /// Several threads unmap one range after the other.
    Storm,
    /// A thread has new memory mirrored, and looks it up, while ranges go.
    Faults,
    /// What other threads of the process feel of a teardown.
    Bystanders,
    /// How long the lock of a process's notifiers is held while ranges go, as somebody else who
    /// wants it.
    Contention,
    /// munmap() of memory that is not mirrored, beside some that is.
    Untouched,
    /// Several processes do it.
    Processes,
    /// A device that waits for user space, in the middle of an access.
    Stalled,
    /// What many ranges cost, for each of them.
    Many,
    /// What the mirror of an address space costs before it has any range.
    Mirrors,
    /// A bare grace period, some time after another one.
    Grace,
}

/// A row of the result: a measure of an arm at one point.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Cell {
    pub measure: Measure,
    pub point: Point,
    pub arm: String,
}

/// Where something is measured; what does not matter there is zero.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
pub struct Point {
    /// How many ranges cover the region.
    pub ranges: u32,
    /// How much memory each of them covers.
    pub range_kib: u32,
    /// How many microseconds the other invalidations take.
    pub phase: u32,
    /// How many microseconds lie between two of them.
    pub gap: u32,
    /// How many tasks look up addresses.
    pub readers: u32,
    /// How many threads or processes do it.
    pub tasks: u32,
    /// How many mirrors are made.
    pub mirrors: u32,
}

impl Point {
    pub fn size(&self) -> usize {
        self.ranges as usize * self.range_size()
    }

    /// Whether pages are there when it is unmapped. There are not where that would be more memory
    /// than the machine need have: then it is ranges that are looked at.
    pub fn is_populated(&self) -> bool {
        self.size() <= 64 << 20
    }

    pub fn range_size(&self) -> usize {
        self.range_kib as usize * 1024
    }
}

impl Display for Point {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            ranges,
            range_kib,
            phase,
            gap,
            readers,
            tasks,
            mirrors,
        } = self;
        let mut parts = Vec::new();
        if *ranges != 0 {
            parts.push(format!("{ranges} × {range_kib} KiB"));
        }
        if *phase != 0 {
            parts.push(format!("phase {phase} µs"));
        }
        if *phase != 0 || (*ranges == 0 && *mirrors == 0) {
            parts.push(format!("gap {gap} µs"));
        }
        if *readers != 0 {
            parts.push(format!("{readers} readers"));
        }
        if *tasks != 0 {
            parts.push(format!("{tasks} tasks"));
        }
        if *mirrors != 0 {
            parts.push(format!("{mirrors} mirrors"));
        }
        f.pad(&parts.join(", "))
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {}, {}", self.measure, self.point, self.arm)
    }
}

/// The arms of measures that are none of the module's.
pub const FLOOR: &str = "floor";
pub const NORMAL: &str = "synchronize_srcu";
pub const EXPEDITED: &str = "synchronize_srcu_expedited";

/// How much of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Extent {
    /// Everything once, at one point.
    Short,
    /// What the table of `make bench` shows.
    #[default]
    Headline,
    /// All there is.
    Full,
}

/// Ranges of the headline's regions.
const RANGES: [u32; 4] = [1, 8, 64, 512];
const RANGE_KIB: u32 = 64;
/// The ranges of amdkfd, and the largest of xe, if nobody asks for others: the region of 512
/// ranges in those.
const CHUNKS: u32 = 16;
const CHUNK_KIB: u32 = 2048;
/// A hole leaves a piece on both sides: see `subject.rs`.
const PUNCHED_KIB: u32 = 64;
/// Phase and gap of the other invalidations, in microseconds; first, none.
const DISTURBED: [(u32, u32); 6] = [
    (0, 0),
    (200, 2000),
    (200, 600),
    (200, 200),
    (200, 50),
    (200, 0),
];
/// The ranges that go while it is disturbed.
const TORN_DOWN: u32 = 512;
/// As many as a large process has, that exits: and where they go meanwhile.
const TORN_DOWN_MANY: [u32; 3] = [10_000, 100_000, 1_000_000];
const DISTURBED_MANY: [(u32, u32); 3] = [(0, 0), (200, 200), (200, 0)];
/// The arms of what takes long, and of what is about more than one thread: removal in a work queue
/// and in the callback, with each way to wait for readers; and what gpusvm makes of that.
const RIVALS: [&str; 12] = [
    "retire",
    "retire-each",
    "srcu-each",
    "refcount",
    "wq-rcu",
    "wq-mutex",
    "gpusvm",
    "incb-mutex",
    "incb-srcu",
    "incb-srcu-exp",
    "incb-batch",
    "incb-rcu",
];
/// Those of them for which there is time where the time is short.
const RIVALS_OF_HEADLINE: [&str; 5] = [
    "retire",
    "refcount",
    "incb-srcu",
    "incb-srcu-exp",
    "incb-batch",
];
const READERS: [u32; 3] = [1, 2, 4];
const MANY: [u32; 3] = [1_000, 10_000, 100_000];
/// For rivals only.
const MILLION: u32 = 1_000_000;
const TASKS: [u32; 3] = [1, 2, 4];
const PROCESSES: [u32; 2] = [8, 32];
/// The ranges that are mirrored, and not touched.
const UNTOUCHED: [u32; 3] = [1, 512, 10_000];
/// The ranges that are unmapped while a device is in one of them.
const STALLED: u32 = 8;
const GAPS: [u32; 10] = [0, 5, 10, 15, 20, 25, 30, 50, 100, 1000];

impl Measure {
    /// Whether it says something where instructions are counted: time that is slept through is
    /// none.
    pub fn counts_instructions(self) -> bool {
        match self {
            Self::Teardown | Self::Lookups | Self::Stalled => false,
            Self::Storm | Self::Faults | Self::Bystanders | Self::Processes => false,
            Self::Contention | Self::Events => false,
            // A gap that is waited for busily is as good as any other.
            _ => true,
        }
    }
}

/// Every row for the arms that the kernel has, in the order of the report.
pub fn cells(extent: Extent, icount: bool, has: impl Fn(&str) -> bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let every = |filter: &dyn Fn(&ArmInfo) -> bool| -> Vec<&'static str> {
        let arms = uapi::ARMS.iter().filter(|arm| filter(arm));
        arms.map(|arm| arm.name).filter(|name| has(name)).collect()
    };
    let arms = |filter: fn(&ArmInfo) -> bool| every(&|arm| !arm.curve && filter(arm));
    let rivals = every(&|arm| match extent {
        Extent::Headline => RIVALS_OF_HEADLINE.contains(&arm.name),
        _ => RIVALS.contains(&arm.name),
    });
    let with = |others: &[&str]| {
        let wanted = |arm: &ArmInfo| RIVALS.contains(&arm.name) || others.contains(&arm.name);
        every(&wanted)
    };
    let mut add = |measure, point: Point, arms: &[&str]| {
        cells.extend(arms.iter().map(|&arm| Cell {
            measure,
            point,
            arm: arm.into(),
        }));
    };
    let at = |ranges, range_kib| Point {
        ranges,
        range_kib,
        ..Point::default()
    };
    let short = extent == Extent::Short;
    let full = extent == Extent::Full;

    let ranges = if short { &RANGES[..2] } else { &RANGES };
    for &ranges in ranges {
        add(Measure::Munmap, at(ranges, RANGE_KIB), &arms(|_| true));
    }
    if full {
        add(Measure::Munmap, at(CHUNKS, CHUNK_KIB), &arms(|_| true));
    }
    let several = if short { &RANGES[1..2] } else { &RANGES[1..] };
    for &ranges in several {
        // Whoever has a callback.
        let arms = arms(|arm| arm.name != "none");
        if full || short || icount {
            add(Measure::Callbacks, at(ranges, RANGE_KIB), &arms);
        }
    }
    let ranges = if short { &RANGES[..1] } else { ranges };
    for &ranges in ranges {
        let arms = arms(|arm| arm.removes);
        add(Measure::Removal, at(ranges, RANGE_KIB), &arms);
        add(Measure::Floor, at(ranges, RANGE_KIB), &[FLOOR]);
    }
    if full {
        let arms = arms(|arm| arm.removes);
        add(Measure::Removal, at(CHUNKS, CHUNK_KIB), &arms);
        add(Measure::Floor, at(CHUNKS, CHUNK_KIB), &[FLOOR]);
    }
    let disturbed = match extent {
        Extent::Short => &DISTURBED[3..4],
        _ => &DISTURBED[..],
    };
    for &(phase, gap) in disturbed {
        let point = Point {
            phase,
            gap,
            ..at(if short { 8 } else { TORN_DOWN }, 4)
        };
        add(Measure::Teardown, point, &arms(|arm| arm.removes));
    }
    let many = match extent {
        Extent::Short | Extent::Headline => &TORN_DOWN_MANY[..1],
        Extent::Full => &TORN_DOWN_MANY[..],
    };
    for &ranges in many {
        let disturbed = match extent {
            Extent::Short | Extent::Headline => &DISTURBED_MANY[1..2],
            Extent::Full => &DISTURBED_MANY[..],
        };
        for &(phase, gap) in disturbed {
            let point = Point {
                phase,
                gap,
                ..at(ranges, 4)
            };
            add(Measure::Teardown, point, &rivals);
        }
    }
    let punching = arms(|arm| arm.punches || !arm.removes);
    add(Measure::Punch, at(1, PUNCHED_KIB), &punching);
    if full || short {
        for &readers in if short { &READERS[..1] } else { &READERS } {
            let point = Point {
                readers,
                ..at(if short { 8 } else { TORN_DOWN }, 4)
            };
            add(Measure::Lookups, point, &arms(|arm| arm.looks_up));
        }
        for &ranges in if short { &RANGES[..1] } else { &[1, 64][..] } {
            let arms = every(&|arm| {
                arm.curve
                    || ["notify", "retire", "retire-now"].contains(&arm.name)
                    || RIVALS.contains(&arm.name)
            });
            add(Measure::Linger, at(ranges, RANGE_KIB), &arms);
        }
        let torn_down = if short { 8 } else { TORN_DOWN };
        for &tasks in if short { &TASKS[1..2] } else { &TASKS } {
            let point = Point {
                tasks,
                ..at(torn_down, 4)
            };
            add(Measure::Storm, point, &with(&["notify"]));
        }
        add(Measure::Faults, at(torn_down, 4), &with(&[]));
        for &(phase, gap) in if short {
            &DISTURBED_MANY[1..2]
        } else {
            &DISTURBED_MANY
        } {
            let point = Point {
                phase,
                gap,
                ..at(torn_down, 4)
            };
            add(Measure::Bystanders, point, &with(&["notify"]));
        }
        for &ranges in if short { &RANGES[1..2] } else { &RANGES[2..] } {
            let arms = with(&["notify"]);
            add(Measure::Contention, at(ranges, RANGE_KIB), &arms);
        }
        for &ranges in if short { &RANGES[1..2] } else { &RANGES[2..] } {
            let arms = arms(|arm| arm.removes || arm.name == "notify");
            add(Measure::Events, at(ranges, RANGE_KIB), &arms);
        }
        for &ranges in if short { &UNTOUCHED[..1] } else { &UNTOUCHED } {
            let arms = with(&["none", "notify", "whole"]);
            add(Measure::Untouched, at(ranges, 4), &arms);
        }
        for &tasks in if short { &[2][..] } else { &PROCESSES } {
            let point = Point {
                tasks,
                ..at(8, RANGE_KIB)
            };
            add(Measure::Processes, point, &with(&["notify"]));
        }
        let holders = every(&|arm| RIVALS.contains(&arm.name) && arm.holds);
        add(Measure::Stalled, at(STALLED, RANGE_KIB), &holders);
        for &gap in if short { &GAPS[..1] } else { &GAPS } {
            let point = Point {
                gap,
                ..Point::default()
            };
            add(Measure::Grace, point, &[NORMAL, EXPEDITED]);
        }
        for &ranges in if short { &MANY[..1] } else { &MANY } {
            let arms = arms(|arm| arm.name != "none");
            add(Measure::Many, at(ranges, 4), &arms);
        }
        if full {
            add(Measure::Many, at(MILLION, 4), &with(&["notify"]));
        }
        let mirrors = Point {
            mirrors: if short { 4 } else { 64 },
            ..Point::default()
        };
        add(Measure::Mirrors, mirrors, &arms(|arm| arm.removes));
    }
    cells.retain(|cell| !icount || cell.measure.counts_instructions());
    cells
}

/// Whether a row has its turn in a round: those that take long have fewer.
pub fn is_due(cell: &Cell, round: usize) -> bool {
    round % period(cell) == 0
}

/// Whether it is worth the time to do it without counting it.
pub fn warms_up(cell: &Cell) -> bool {
    period(cell) == 1
}

fn period(cell: &Cell) -> usize {
    match (cell.measure, cell.point.ranges) {
        (Measure::Teardown | Measure::Many, 100_000..) => 20,
        (Measure::Teardown, 10_000..) | (Measure::Many | Measure::Mirrors, _) => 10,
        (Measure::Processes, _) => 5,
        _ => 1,
    }
}

/// One round: every row once, in an order of its own, so that drift hits all alike.
///
/// The order depends on the seed and the number of the round, so that a run that goes on where
/// another was interrupted has the same one.
pub fn round(rows: usize, seed: u64, number: usize) -> Vec<usize> {
    let mut rng = fastrand::Rng::with_seed(seed ^ (number as u64).rotate_left(32));
    let mut order: Vec<usize> = (0..rows).collect();
    rng.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use std::collections::BTreeSet;

    #[test]
    fn a_round_has_each_row_once() {
        let mut order = round(15, 5, 0);
        assert_ne!(order, round(15, 5, 1));
        assert_ne!(order, round(15, 6, 0));
        assert_eq!(order, round(15, 5, 0));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..15));
    }

    #[test]
    fn no_row_is_there_twice() {
        for extent in [Extent::Short, Extent::Headline, Extent::Full] {
            let cells = cells(extent, false, |_| true);
            let unique: BTreeSet<_> = cells.iter().collect();
            assert_eq!(unique.len(), cells.len());
        }
    }

    #[test]
    fn every_arm_is_in_every_extent() {
        for extent in [Extent::Short, Extent::Headline, Extent::Full] {
            let cells = cells(extent, false, |_| true);
            for arm in uapi::ARMS.iter().filter(|arm| !arm.curve) {
                assert!(cells.iter().any(|cell| cell.arm == arm.name));
                let removal = |c: &&Cell| c.measure == Measure::Removal && c.arm == arm.name;
                assert_eq!(cells.iter().any(|c| removal(&c)), arm.removes);
            }
        }
    }

    #[test]
    fn an_arm_that_the_kernel_does_not_have_is_left_out() {
        let cells = cells(Extent::Full, false, |name| name != "rcu");
        assert!(cells.iter().all(|cell| cell.arm != "rcu"));
        assert!(cells.iter().any(|cell| cell.arm == "retire"));
    }

    #[test]
    fn arms_of_the_curve_are_in_nothing_else() {
        for extent in [Extent::Short, Extent::Headline, Extent::Full] {
            let mut on_curve = false;
            for cell in cells(extent, false, |_| true) {
                let info = uapi::ARMS.iter().find(|arm| arm.name == cell.arm);
                if info.is_some_and(|arm| arm.curve) {
                    assert_eq!(cell.measure, Measure::Linger);
                    on_curve = true;
                }
            }
            assert_eq!(on_curve, extent != Extent::Headline);
        }
    }

    #[test]
    fn rivals_are_arms_and_meet_at_every_point_of_theirs() {
        assert!(RIVALS
            .iter()
            .all(|name| uapi::ARMS.iter().any(|arm| arm.name == *name)));
        assert!(RIVALS_OF_HEADLINE.iter().all(|name| RIVALS.contains(name)));
        let cells = cells(Extent::Full, false, |_| true);
        let many = |cell: &&Cell| cell.measure == Measure::Teardown && cell.point.ranges == MILLION;
        let arms = |gap| -> Vec<_> {
            let there = cells.iter().filter(many).filter(|c| c.point.gap == gap);
            there.map(|cell| &*cell.arm).collect()
        };
        assert_eq!(arms(200), RIVALS);
        // Both the one without phases and the one without a gap.
        assert_eq!(arms(0).len(), 2 * RIVALS.len());
    }

    #[test]
    fn each_way_to_wait_for_readers_has_rivals_in_both_places() {
        let ways = [
            ["incb-srcu", "srcu-each"],
            ["incb-batch", "retire"],
            ["incb-rcu", "wq-rcu"],
            ["incb-mutex", "wq-mutex"],
        ];
        for arm in ways.as_flattened() {
            assert!(RIVALS.contains(arm), "{arm}");
        }
    }

    #[test]
    fn rivals_are_in_every_measure_that_they_can_be_in() {
        let floor_and_grace = [Measure::Floor, Measure::Grace];
        for extent in [Extent::Short, Extent::Full] {
            let cells = cells(extent, false, |_| true);
            let measures: BTreeSet<_> = cells.iter().map(|cell| cell.measure).collect();
            assert_eq!(measures.len(), Measure::value_variants().len());
            for measure in measures.iter().filter(|m| !floor_and_grace.contains(m)) {
                for arm in uapi::ARMS.iter().filter(|arm| RIVALS.contains(&arm.name)) {
                    let can = match measure {
                        Measure::Punch => arm.punches,
                        Measure::Lookups => arm.looks_up,
                        Measure::Stalled => arm.holds,
                        _ => true,
                    };
                    let is = |cell: &Cell| cell.measure == *measure && cell.arm == arm.name;
                    assert_eq!(cells.iter().any(is), can, "{measure:?}, {}", arm.name);
                }
            }
        }
    }

    #[test]
    fn only_what_can_be_counted_is_counted() {
        for extent in [Extent::Short, Extent::Headline, Extent::Full] {
            let counted = cells(extent, true, |_| true);
            assert!(counted.iter().all(|c| c.measure.counts_instructions()));
            let callbacks = |cell: &Cell| cell.measure == Measure::Callbacks;
            assert!(counted.iter().any(callbacks));
        }
    }

    #[test]
    fn what_takes_long_has_fewer_turns_and_is_not_warmed_up() {
        let long = Cell {
            measure: Measure::Teardown,
            point: Point {
                ranges: 100_000,
                range_kib: 4,
                ..Point::default()
            },
            arm: "retire".into(),
        };
        assert!(!warms_up(&long) && !long.point.is_populated());
        assert_eq!((0..100).filter(|&round| is_due(&long, round)).count(), 5);
        let short = Cell {
            point: Point {
                ranges: TORN_DOWN,
                ..long.point
            },
            ..long
        };
        assert!(warms_up(&short) && short.point.is_populated() && is_due(&short, 7));
    }

    #[test]
    fn the_first_round_has_every_row() {
        assert!(cells(Extent::Full, false, |_| true)
            .iter()
            .all(|cell| is_due(cell, 0)));
    }

    #[test]
    fn the_baselines_come_first() {
        assert_eq!(uapi::ARMS[0].name, "none");
        assert_eq!(uapi::ARMS[1].name, "notify");
    }
}
