// SPDX-License-Identifier: GPL-2.0

//! What is measured, and in which order.

use crate::uapi::{self, ArmInfo};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// One kind of thing to measure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// How long munmap() takes.
    Munmap,
    /// How long after invalidate() the ranges are gone. Looking at the clock makes munmap() slower,
    /// so this is not measured along with the above.
    Removal,
    /// What the removal cannot do without.
    Floor,
    /// From munmap() until all ranges are gone, while something else of the process is invalidated
    /// again and again, slowly.
    Teardown,
    /// A hole in a range.
    Punch,
    /// How many addresses readers look up while ranges go.
    Lookups,
    /// What many ranges cost, for each of them.
    Many,
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
}

impl Point {
    pub fn size(&self) -> usize {
        self.ranges as usize * self.range_size()
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
        } = self;
        let mut parts = Vec::new();
        if *ranges != 0 {
            parts.push(format!("{ranges} × {range_kib} KiB"));
        }
        if *phase != 0 {
            parts.push(format!("phase {phase} µs"));
        }
        if *phase != 0 || *ranges == 0 {
            parts.push(format!("gap {gap} µs"));
        }
        if *readers != 0 {
            parts.push(format!("{readers} readers"));
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
const READERS: [u32; 3] = [1, 2, 4];
const MANY: [u32; 3] = [1_000, 10_000, 100_000];
const GAPS: [u32; 10] = [0, 5, 10, 15, 20, 25, 30, 50, 100, 1000];

impl Measure {
    /// Whether it says something where instructions are counted: time that is slept through is none.
    pub fn counts_instructions(self) -> bool {
        match self {
            Self::Teardown | Self::Lookups => false,
            // A gap that is waited for busily is as good as any other.
            _ => true,
        }
    }
}

/// Every row for the arms that the kernel has, in the order of the report.
pub fn cells(extent: Extent, has: impl Fn(&str) -> bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    let arms = |filter: fn(&ArmInfo) -> bool| -> Vec<&'static str> {
        let arms = uapi::ARMS.iter().filter(|arm| filter(arm));
        arms.map(|arm| arm.name).filter(|name| has(name)).collect()
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
    let ranges = if short { &RANGES[..1] } else { ranges };
    for &ranges in ranges {
        let arms = arms(|arm| arm.removes);
        add(Measure::Removal, at(ranges, RANGE_KIB), &arms);
        add(Measure::Floor, at(ranges, RANGE_KIB), &[FLOOR]);
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
        for &gap in if short { &GAPS[..1] } else { &GAPS } {
            let point = Point {
                gap,
                ..Point::default()
            };
            add(Measure::Grace, point, &[NORMAL, EXPEDITED]);
        }
        for &ranges in if short { &MANY[..1] } else { &MANY } {
            add(Measure::Many, at(ranges, 4), &arms(|arm| arm.removes));
        }
    }
    cells
}

/// Whether a row has its turn in a round: those that take long have fewer.
pub fn is_due(cell: &Cell, round: usize) -> bool {
    let every = match cell.measure {
        Measure::Many => 10,
        _ => 1,
    };
    round % every == 0
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
            let cells = cells(extent, |_| true);
            let unique: BTreeSet<_> = cells.iter().collect();
            assert_eq!(unique.len(), cells.len());
        }
    }

    #[test]
    fn every_arm_is_in_every_extent() {
        for extent in [Extent::Short, Extent::Headline, Extent::Full] {
            let cells = cells(extent, |_| true);
            for arm in uapi::ARMS {
                assert!(cells.iter().any(|cell| cell.arm == arm.name));
                let removal = |c: &&Cell| c.measure == Measure::Removal && c.arm == arm.name;
                assert_eq!(cells.iter().any(|c| removal(&c)), arm.removes);
            }
        }
    }

    #[test]
    fn an_arm_that_the_kernel_does_not_have_is_left_out() {
        let cells = cells(Extent::Full, |name| name != "rcu");
        assert!(cells.iter().all(|cell| cell.arm != "rcu"));
        assert!(cells.iter().any(|cell| cell.arm == "retire"));
    }

    #[test]
    fn the_first_round_has_every_row() {
        assert!(cells(Extent::Full, |_| true)
            .iter()
            .all(|cell| is_due(cell, 0)));
    }

    #[test]
    fn the_baselines_come_first() {
        assert_eq!(uapi::ARMS[0].name, "none");
        assert_eq!(uapi::ARMS[1].name, "notify");
    }
}
