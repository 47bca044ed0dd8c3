// SPDX-License-Identifier: GPL-2.0

//! What has been measured, until it is printed: a console is slow, and not where caches are warm.

use kernel::{
    fmt,
    prelude::*, //
};

/// Where what is needed lies when it begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    /// As near as it is after it has been made, and has been done once before.
    Warm,
    /// Not in the cache of the CPU.
    Near,
    /// Not in the cache of the machine either.
    Far,
}

impl Cache {
    pub(crate) const ALL: [Self; 3] = [Self::Warm, Self::Near, Self::Far];

    fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Near => "cold",
            Self::Far => "far",
        }
    }
}

/// What a sample is of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) table: &'static str,
    pub(crate) name: &'static str,
    pub(crate) cache: Cache,
    /// How many ranges.
    pub(crate) ranges: usize,
}

/// All samples, in ticks.
pub(crate) struct Samples(KVVec<(Row, KVVec<u64>)>);

impl Samples {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        Self(KVVec::new())
    }

    /// Adds one. May sleep.
    pub(crate) fn add(&mut self, row: Row, ticks: u64) -> Result {
        let at = match self.0.iter().position(|(of, _)| *of == row) {
            Some(at) => at,
            None => {
                self.0.push((row, KVVec::new()), GFP_KERNEL)?;
                self.0.len() - 1
            }
        };
        let (_, ticks_of) = self.0.get_mut(at).ok_or(EINVAL)?;
        Ok(ticks_of.push(ticks, GFP_KERNEL)?)
    }

    /// Prints them, as many to a line as one takes.
    pub(crate) fn print(&self) {
        for (row, ticks) in self.0.iter() {
            for some in ticks.chunks(32) {
                pr_info!(
                    "row {} {} {} {}{}\n",
                    row.table,
                    row.name,
                    row.cache.name(),
                    row.ranges,
                    Line(some)
                );
            }
        }
    }
}

struct Line<'a>(&'a [u64]);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|ticks| write!(f, " {ticks}"))
    }
}
