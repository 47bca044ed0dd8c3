// SPDX-License-Identifier: GPL-2.0

//! What is measured, and in which order.

use serde::{Deserialize, Serialize};

/// The region that is unmapped is covered by that many ranges.
pub const RANGES: [u32; 3] = [1, 8, 64];

/// How much memory a range covers.
pub const RANGE_SIZE: usize = 64 << 10;

/// One thing to measure.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measure {
    /// How long munmap() takes.
    Munmap,
    /// How long after invalidate() the ranges are gone. Looking at the clock makes munmap() slower,
    /// so this is not measured along with the above.
    Removal,
    /// What the removal cannot do without.
    Floor,
}

/// A row of the result: a measure of an arm for a region of so many ranges.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cell {
    pub measure: Measure,
    pub arm: &'static str,
    pub ranges: u32,
}

/// Arms that remove ranges because of the callback, so that there is a time to measure from.
pub const DEFERRED: [&str; 4] = ["retire", "incb-faithful", "incb-mutex", "incb-srcu"];

/// The arm of the floor is none of the module's.
pub const FLOOR: &str = "floor";

/// Those of [`DEFERRED`] that are among `arms`.
pub fn deferred(arms: &[impl AsRef<str>]) -> Vec<&'static str> {
    let there = |name: &&str| arms.iter().any(|arm| arm.as_ref() == *name);
    DEFERRED.into_iter().filter(there).collect()
}

/// Every row for these arms, in the order of the report.
pub fn cells(arms: &[&'static str]) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut add = |measure, arms: &[&'static str], ranges| {
        cells.extend(arms.iter().map(|&arm| Cell {
            measure,
            arm,
            ranges,
        }));
    };
    for ranges in RANGES {
        add(Measure::Munmap, arms, ranges);
    }
    for ranges in RANGES {
        add(Measure::Removal, &deferred(arms), ranges);
        add(Measure::Floor, &[FLOOR], ranges);
    }
    cells
}

/// One round: every row once, in an order of its own, so that drift hits all alike.
pub fn round(rows: usize, rng: &mut fastrand::Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    rng.shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uapi;

    #[test]
    fn a_round_has_each_row_once() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut order = round(15, &mut rng);
        assert_ne!(order, round(15, &mut rng));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..15));
    }

    #[test]
    fn all_arms_are_measured_for_all_sizes() {
        let cells = cells(&uapi::ARMS);
        for arm in uapi::ARMS {
            for ranges in RANGES {
                let cell = Cell {
                    measure: Measure::Munmap,
                    arm,
                    ranges,
                };
                assert_eq!(cells.iter().filter(|other| **other == cell).count(), 1);
            }
        }
    }

    #[test]
    fn an_arm_that_is_not_there_is_not_measured() {
        let absent = "incb-srcu";
        let arms: Vec<_> = uapi::ARMS
            .into_iter()
            .filter(|arm| *arm != absent)
            .collect();
        assert!(cells(&uapi::ARMS).iter().any(|cell| cell.arm == absent));
        assert!(cells(&arms).iter().all(|cell| cell.arm != absent));
    }
}
