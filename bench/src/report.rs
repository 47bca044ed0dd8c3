// SPDX-License-Identifier: GPL-2.0

//! The results, as a file for programs and as a table for people.

use crate::{
    plan::{self, Measure, RANGES, RANGE_SIZE},
    stats::{Ratio, Summary},
    uapi,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

/// Where and how it was measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Conditions {
    pub date: String,
    pub kernel_release: String,
    pub kernel_config: String,
    pub accelerator: String,
    pub clocksource: String,
    pub cpus: usize,
    /// Whether a nanosecond of the guest is an instruction.
    pub icount: bool,
    pub seed: u64,
    pub rounds: usize,
    pub warm_up_rounds: usize,
    pub range_size: usize,
    pub arms: Vec<String>,
    /// Arms that the kernel could not have.
    pub absent: Vec<String>,
    pub resamples: usize,
    pub clock_overhead: Summary,
}

/// One series of samples, in the order in which they were taken.
#[derive(Debug, Deserialize, Serialize)]
pub struct Series {
    pub measure: Measure,
    pub arm: String,
    pub ranges: u32,
    /// What the samples are of.
    pub what: String,
    pub summary: Summary,
    pub samples: Vec<u64>,
}

/// How two arms compare.
#[derive(Debug, Deserialize, Serialize)]
pub struct Comparison {
    pub measure: Measure,
    pub arm: String,
    pub baseline: String,
    pub ranges: u32,
    pub ratio: Ratio,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    /// Grows when a reader of the file would have to know.
    pub format: u32,
    pub conditions: Conditions,
    pub series: Vec<Series>,
    pub comparisons: Vec<Comparison>,
    /// The library's, of all that was measured and warmed up.
    pub counters: BTreeMap<String, u64>,
}

/// What the samples of a series may be of.
pub const TOOK: &str = "munmap() took";
pub const REMOVED: &str = "removed: a task in flush() goes on";
pub const EACH: &str = "released: each range";
pub const LAST: &str = "released: the last range";
pub const WORK: &str = "work item runs";
pub const GRACE: &str = "grace period";
pub const REMOVE: &str = "all notifiers removed";
pub const CHAIN: &str = "sum, in one chain";

/// The arms that others are compared with.
const BASELINES: [&str; 2] = [uapi::ARMS[0], uapi::ARMS[1]];

impl Report {
    pub fn new(
        conditions: Conditions,
        series: Vec<Series>,
        counters: BTreeMap<String, u64>,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut comparisons = Vec::new();
        let mut compare = |above: &Series, below: Option<&Series>| {
            let Some(below) = below else {
                return;
            };
            if let Some(ratio) = Ratio::of(&above.samples, &below.samples, rng) {
                comparisons.push(Comparison {
                    measure: above.measure,
                    arm: above.arm.clone(),
                    baseline: below.arm.clone(),
                    ranges: above.ranges,
                    ratio,
                });
            }
        };
        for one in &series {
            let other = |arm: &str, what: &str| {
                series
                    .iter()
                    .find(|s| s.arm == arm && s.ranges == one.ranges && s.what == what)
            };
            if one.what == TOOK {
                for baseline in BASELINES.into_iter().filter(|name| *name != one.arm) {
                    compare(one, other(baseline, TOOK));
                }
            } else if one.what == LAST {
                compare(one, other(plan::FLOOR, CHAIN));
            }
        }
        Self {
            format: 1,
            conditions,
            series,
            comparisons,
            counters,
        }
    }

    /// Whether everything is there that should be.
    pub fn check(&self) -> Result<(), String> {
        let expect = |what: &str, arm: &str, ranges, n| {
            let mut found = self
                .series
                .iter()
                .filter(|s| s.what == what && s.arm == arm && s.ranges == ranges);
            match (found.next(), found.next()) {
                (Some(series), None) if series.samples.len() == n && Summary::of(&series.samples) == Some(series.summary) => Ok(()),
                (Some(series), None) => Err(format!(
                    "{what}, {arm}, {ranges} ranges: {} samples, not {n}, or not those of the summary",
                    series.samples.len()
                )),
                _ => Err(format!("{what}, {arm}, {ranges} ranges: not one series")),
            }
        };
        let n = self.conditions.rounds;
        if n == 0 {
            return Err("nothing was measured".into());
        }
        for ranges in RANGES {
            for arm in &self.conditions.arms {
                expect(TOOK, arm, ranges, n)?;
                for baseline in BASELINES.into_iter().filter(|name| name != arm) {
                    self.ratio(Measure::Munmap, arm, baseline, ranges)
                        .ok_or_else(|| {
                            format!("{arm}, {ranges} ranges: not compared with {baseline}")
                        })?;
                }
            }
            for arm in plan::deferred(&self.conditions.arms) {
                expect(REMOVED, arm, ranges, n)?;
                expect(LAST, arm, ranges, n)?;
                expect(EACH, arm, ranges, n * ranges as usize)?;
            }
            for what in [WORK, GRACE, REMOVE, CHAIN] {
                expect(what, plan::FLOOR, ranges, n)?;
            }
        }
        Ok(())
    }

    fn ratio(&self, measure: Measure, arm: &str, baseline: &str, ranges: u32) -> Option<Ratio> {
        self.comparisons
            .iter()
            .find(|c| {
                c.measure == measure && c.arm == arm && c.baseline == baseline && c.ranges == ranges
            })
            .map(|c| c.ratio)
    }

    fn row(&self, f: &mut Formatter<'_>, series: &Series, name: &str) -> fmt::Result {
        let Summary {
            n,
            p50,
            p90,
            p99,
            max,
        } = series.summary;
        let [p50, p90, p99, max] = [p50, p90, p99, max].map(|time| self.time(time));
        write!(
            f,
            "{:>6}  {name:<43}{p50:>11}{p90:>11}{p99:>11}{max:>11}{n:>7}",
            series.ranges
        )
    }

    /// Microseconds, or instructions.
    fn time(&self, time: u64) -> String {
        if self.conditions.icount {
            time.to_string()
        } else {
            format!("{}.{:02}", time / 1000, time % 1000 / 10)
        }
    }
}

fn head(f: &mut Formatter<'_>, title: &str, unit: &str, more: &str) -> fmt::Result {
    writeln!(f, "\n{title}, {unit}")?;
    let (ranges, p50, p90, p99, max, n) = ("ranges", "p50", "p90", "p99", "max", "n");
    writeln!(
        f,
        "{ranges:>6}  {:<43}{p50:>11}{p90:>11}{p99:>11}{max:>11}{n:>7}{more}",
        ""
    )
}

fn show(ratio: Option<Ratio>) -> String {
    ratio.map_or(String::from("-"), |Ratio { value, low, high }| {
        format!("{value:.3} [{low:.3}, {high:.3}]")
    })
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let c = &self.conditions;
        let unit = if c.icount { "instructions" } else { "µs" };
        writeln!(
            f,
            "Linux {} ({}), {}{}, {} CPUs, {}; seed {}; {} rounds, after {} to warm up that are not counted",
            c.kernel_release,
            c.kernel_config,
            c.accelerator,
            if c.icount { " counting instructions" } else { "" },
            c.cpus,
            c.date,
            c.seed,
            c.rounds,
            c.warm_up_rounds
        )?;
        if c.icount {
            writeln!(f, "An emulated CPU: a nanosecond of the guest is an instruction. Time that it sleeps is skipped but counted.")?;
        } else if c.accelerator != "kvm" {
            writeln!(f, "An emulated CPU: times say nothing about a real one, only ratios within this run count.")?;
        }

        let title = format!(
            "munmap() of memory that is mirrored as ranges of {} KiB",
            RANGE_SIZE >> 10
        );
        let against = BASELINES
            .map(|name| format!("{:>26}", format!("p50 / {name} [95 %]")))
            .concat();
        head(f, &title, unit, &against)?;
        for series in self.series.iter().filter(|s| s.what == TOOK) {
            self.row(f, series, &series.arm)?;
            for baseline in BASELINES {
                let ratio = self.ratio(Measure::Munmap, &series.arm, baseline, series.ranges);
                write!(f, "{:>26}", show(ratio))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "none: no notifier ever in that address space; notify: interval notifiers that only record the sequence,\n\
             removed by the process afterwards; retire: the library. incb: removal in the callback, by a patch of core mm;\n\
             faithful: as posted in 2020, readers take the user lock; mutex: repaired, readers as before; srcu: repaired,\n\
             readers take no lock, one call_srcu() a range. What it takes to look at the clock is included: {} {unit}.",
            self.time(c.clock_overhead.p50)
        )?;
        if !c.absent.is_empty() {
            writeln!(
                f,
                "Left out, because this kernel cannot have them: {}.",
                c.absent.join(", ")
            )?;
        }

        let against = format!("{:>26}", "p50 / floor [95 %]");
        head(
            f,
            "From invalidate() until the ranges are gone, and the floor of that",
            unit,
            &against,
        )?;
        for series in self.series.iter().filter(|s| s.what != TOOK) {
            self.row(f, series, &format!("{}, {}", series.arm, series.what))?;
            if series.what == LAST {
                let ratio = self.ratio(Measure::Removal, &series.arm, plan::FLOOR, series.ranges);
                write!(f, "{:>26}", show(ratio))?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "removed and the last released: since the first range was retired. The library does not say when it has removed a\n\
             range, so that is when the process goes on that calls flush() after munmap(): an upper bound, with that task's\n\
             wake-up in it. floor: a bare work item, then a bare synchronize_srcu(), then bare removals, in an idle process."
        )?;

        writeln!(f, "\nThe library's counters, warm-up included:")?;
        for (name, value) in self.counters.iter().filter(|(_, value)| **value != 0) {
            write!(f, "  {name} {value}")?;
        }
        writeln!(f)
    }
}
