// SPDX-License-Identifier: GPL-2.0

//! What has been seen, so that a test that passes can be told from one that has tested nothing.

use std::{fmt, ops::AddAssign};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub ops: u64,
    /// Device accesses that succeeded, and how many of them took no fault.
    pub accesses: u64,
    pub hits: u64,
    /// That failed as they had to.
    pub refused: u64,
    /// That only were to use what the device has, and did.
    pub cached: u64,
    /// Pages that the device had and could not reach any more after the call that took them away.
    pub gone: u64,
    /// Pages that the device had beside what was unmapped, and how many it still had then.
    pub beside: u64,
    pub kept: u64,
    /// Accesses that had to be repeated, for which nobody is to blame.
    pub repeated: u64,
    /// mremap()s that the kernel refused.
    pub not_remapped: u64,
    pub forks: u64,
    /// At the end: how many ranges there are, and in how many windows.
    pub ranges: u64,
    pub windows: u64,
}

impl Tally {
    /// The share of accesses without a fault, in percent.
    pub fn share(&self) -> u64 {
        self.hits * 100 / self.accesses.max(1)
    }

    /// The share of pages that stayed when what is beside them was unmapped, in percent.
    pub fn kept_share(&self) -> u64 {
        self.kept * 100 / self.beside.max(1)
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.ops += other.ops;
        self.accesses += other.accesses;
        self.hits += other.hits;
        self.refused += other.refused;
        self.cached += other.cached;
        self.gone += other.gone;
        self.beside += other.beside;
        self.kept += other.kept;
        self.repeated += other.repeated;
        self.not_remapped += other.not_remapped;
        self.forks += other.forks;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} operations; {} % of {} device accesses without a fault, {} refused, {} repeated; \
             {} with only what the device had; {} pages out of reach at once; \
             {} of {} beside them kept; {} forks; {} mremap() refused; {} ranges in {} windows",
            self.ops,
            self.share(),
            self.accesses,
            self.refused,
            self.repeated,
            self.cached,
            self.gone,
            self.kept,
            self.beside,
            self.forks,
            self.not_remapped,
            self.ranges,
            self.windows,
        )
    }
}
