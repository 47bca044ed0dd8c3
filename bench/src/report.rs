// SPDX-License-Identifier: GPL-2.0

//! The results, as a file for programs and as tables for people.

use crate::{
    conditions::Conditions,
    journal::Recorded,
    plan::{self, Cell, Measure},
    quantity::*,
    stats::{Interval, Summary},
    uapi,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::{self, Display, Formatter},
};

/// One series of samples, in the order in which they were taken.
#[derive(Debug, Deserialize, Serialize)]
pub struct Series {
    #[serde(flatten)]
    pub cell: Cell,
    /// What the samples are of.
    pub what: String,
    pub unit: Unit,
    pub summary: Summary,
    pub samples: Vec<u64>,
    /// How the median compares with that of others.
    pub ratios: BTreeMap<String, Interval>,
    /// Of munmap(): how much more the median is than that of an arm that does nothing in its
    /// callback, for each range.
    pub per_range: Option<Interval>,
}

/// What a sample is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Of the guest's clock.
    Nanoseconds,
    /// The more the better.
    PerSecond,
    Number,
    Bytes,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    /// Grows when a reader of the file would have to know.
    pub format: u32,
    pub conditions: Conditions,
    pub series: Vec<Series>,
    /// The library's, of all that was measured and warmed up.
    pub counters: BTreeMap<String, u64>,
}

fn unit(what: &str) -> Unit {
    match what {
        RATE | LOOKUPS_IDLE | LOOKUPS => Unit::PerSecond,
        GRACE_PERIODS | PHASES => Unit::Number,
        BYTES | OBJECTS | INDEX | MIRROR_BYTES => Unit::Bytes,
        _ => Unit::Nanoseconds,
    }
}

/// The arm of the question of 2020: removal in the callback, and a grace period for lookups.
const IN_CALLBACK: &str = "incb-srcu";

/// Not an arm: the same arm with as few ranges as there are.
const FEW: &str = "few";

/// What a series is compared with, of the arms that were measured.
fn baselines(measure: Measure, what: &str) -> &'static [&'static str] {
    match (measure, what) {
        (Measure::Munmap | Measure::Punch, TOOK) => &["none", "notify", IN_CALLBACK],
        (Measure::Callbacks, _) => &["notify", IN_CALLBACK],
        (Measure::Removal | Measure::Linger, LAST) => &[plan::FLOOR, IN_CALLBACK],
        (Measure::Linger, TOOK) => &["notify", IN_CALLBACK],
        (Measure::Untouched, _) => &["none", "notify"],
        (Measure::Storm | Measure::Bystanders | Measure::Processes, _) => &["notify", IN_CALLBACK],
        (Measure::Contention, _) => &["notify", IN_CALLBACK],
        (Measure::Faults | Measure::Stalled, _) => &[IN_CALLBACK, "refcount"],
        (Measure::Teardown, TOOK | GONE | RATE) | (Measure::Lookups, _) => {
            &[IN_CALLBACK, "refcount"]
        }
        (Measure::Many, BYTES | TOOK_EACH) => &[IN_CALLBACK, "refcount", FEW],
        (Measure::Many | Measure::Mirrors, _) => &[IN_CALLBACK, "refcount"],
        (Measure::Punch, SETTLED) => &[IN_CALLBACK, "mmap-write"],
        (Measure::Grace, _) => &[plan::EXPEDITED],
        _ => &[],
    }
}

fn excess(series: &[Series], i: usize, rng: &mut fastrand::Rng) -> Option<Interval> {
    let one = &series[i];
    let of = |s: &&Series| {
        s.cell.measure == Measure::Munmap && s.what == TOOK && s.cell.point == one.cell.point
    };
    let notify = series.iter().filter(of).find(|s| s.cell.arm == "notify")?;
    if !of(&one) || ["none", "notify"].contains(&&*one.cell.arm) {
        return None;
    }
    let per = f64::from(one.cell.point.ranges);
    Interval::of_difference(&one.samples, &notify.samples, per, rng)
}

impl Report {
    /// The report of what is in a journal.
    pub fn of(recorded: Recorded) -> Self {
        let (rounds, samples) = (recorded.rounds(), recorded.samples());
        let Recorded { head, counters, .. } = recorded;
        let conditions = Conditions {
            rounds,
            ..head.conditions
        };
        let mut rng = fastrand::Rng::with_seed(conditions.seed);
        Self::new(conditions, samples, &head.run.cells, counters, &mut rng)
    }

    fn new(
        conditions: Conditions,
        samples: BTreeMap<(usize, String), Vec<u64>>,
        cells: &[Cell],
        counters: BTreeMap<String, u64>,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut series: Vec<_> = samples
            .into_iter()
            .filter_map(|((row, what), samples)| {
                Some(Series {
                    cell: cells[row].clone(),
                    unit: unit(&what),
                    what,
                    summary: Summary::of(&samples)?,
                    samples,
                    ratios: BTreeMap::new(),
                    per_range: None,
                })
            })
            .collect();
        for i in 0..series.len() {
            let one = &series[i];
            let Cell {
                measure,
                point,
                ref arm,
            } = one.cell;
            let mut ratios = BTreeMap::new();
            for &baseline in baselines(measure, &one.what) {
                let what = match baseline {
                    plan::FLOOR => CHAIN,
                    _ => &one.what,
                };
                let measure = match baseline {
                    plan::FLOOR => Measure::Floor,
                    _ => measure,
                };
                let of = |s: &&Series| s.cell.measure == measure && s.what == what;
                let other = if baseline == FEW {
                    let same = series.iter().filter(of).filter(|s| s.cell.arm == *arm);
                    let few = same.min_by_key(|s| s.cell.point.ranges);
                    few.filter(|s| s.cell.point != point)
                } else {
                    let there = |s: &&Series| s.cell.point == point && s.cell.arm == baseline;
                    series
                        .iter()
                        .filter(of)
                        .find(there)
                        .filter(|_| arm != baseline)
                };
                let ratio =
                    other.and_then(|other| Interval::of_ratio(&one.samples, &other.samples, rng));
                if let Some(ratio) = ratio {
                    ratios.insert(baseline.to_string(), ratio);
                }
            }
            series[i].ratios = ratios;
            series[i].per_range = excess(&series, i, rng);
        }
        Self {
            format: 3,
            conditions,
            series,
            counters,
        }
    }

    /// Whether everything is there that should be.
    pub fn check(&self) -> Result<(), String> {
        let c = &self.conditions;
        if c.rounds == 0 {
            return Err("there was no time for a whole round, so some rows are missing".into());
        }
        for arm in uapi::ARMS {
            let wanted = c.only.is_empty() && !arm.curve;
            if !wanted || c.absent.iter().any(|name| name == arm.name) {
                continue;
            }
            let measured =
                |s: &&Series| s.cell.arm == arm.name && s.cell.measure == Measure::Munmap;
            if !self.series.iter().any(|s| measured(&s)) {
                return Err(format!("{} was not measured", arm.name));
            }
        }
        for series in &self.series {
            let name = format!("{}, {}", series.cell, series.what);
            if Summary::of(&series.samples) != Some(series.summary) {
                return Err(format!("{name}: the samples are not those of the summary"));
            }
            let expected = |rounds| {
                let due = (0..rounds).filter(|&round| plan::is_due(&series.cell, round));
                match series.what.as_str() {
                    EACH => due.count() * series.cell.point.ranges as usize,
                    _ => due.count(),
                }
            };
            // The last round may have been cut off in its midst.
            let (least, most) = (expected(c.rounds), expected(c.rounds + 1));
            let n = series.samples.len();
            if n != least && n != most {
                return Err(format!("{name}: {n} samples, neither {least} nor {most}"));
            }
        }
        Ok(())
    }

    fn value(&self, value: u64, unit: Unit) -> String {
        match unit {
            Unit::Nanoseconds if self.conditions.icount => value.to_string(),
            Unit::Nanoseconds => format!("{:.2}", value as f64 / 1000.0),
            _ => value.to_string(),
        }
    }

    fn unit(&self, unit: Unit) -> &'static str {
        match unit {
            Unit::Nanoseconds if self.conditions.icount => "instructions",
            Unit::Nanoseconds => "µs",
            Unit::PerSecond => "1/s, more is better",
            Unit::Number => "number",
            Unit::Bytes => "bytes",
        }
    }

    /// One table: everything of one measure that is of one thing.
    fn table(&self, f: &mut Formatter<'_>, measure: Measure, what: &str) -> fmt::Result {
        let mut rows: Vec<_> = self
            .series
            .iter()
            .filter(|s| s.cell.measure == measure && s.what == what)
            .collect();
        // As they were planned: the order of arms is that of the module.
        rows.sort_by_key(|s| s.cell.point);
        let Some(first) = rows.first() else {
            return Ok(());
        };
        writeln!(f, "\n{}: {what}, {}", title(measure), self.unit(first.unit))?;
        write!(
            f,
            "  {:<42}{:<28}{:>12}{:>12}{:>12}{:>12}{:>7}",
            "", "arm", "p50", "p90", "p99", "max", "n"
        )?;
        let has = |baseline: &&&str| rows.iter().any(|s| s.ratios.contains_key(**baseline));
        let against: Vec<_> = baselines(measure, what).iter().filter(has).collect();
        for baseline in &against {
            write!(f, "{:>26}", format!("/ {baseline} [95 %]"))?;
        }
        writeln!(f)?;
        let mut before = None;
        for series in rows {
            let Series {
                cell: Cell { point, arm, .. },
                summary: s,
                unit,
                ..
            } = series;
            if before.replace(*point) == Some(*point) {
                write!(f, "  {:<42}", "")?;
            } else {
                write!(f, "  {point:<42}")?;
            }
            let [p50, p90, p99, max] =
                [s.p50, s.p90, s.p99, s.max].map(|value| self.value(value, *unit));
            write!(f, "{arm:<28}{p50:>12}{p90:>12}{p99:>12}{max:>12}{:>7}", s.n)?;
            for baseline in &against {
                let ratio = series.ratios.get(**baseline).map_or("-".into(), |ratio| {
                    format!("{:.3} [{:.3}, {:.3}]", ratio.value, ratio.low, ratio.high)
                });
                write!(f, "{ratio:>26}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// What munmap() takes more than with notifiers that only record, for each range.
    fn excess(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self
            .series
            .iter()
            .filter(|s| s.per_range.is_some())
            .collect();
        rows.sort_by_key(|s| s.cell.point);
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\nmunmap() of a region: more than notify, for each range, {}",
            self.unit(Unit::Nanoseconds)
        )?;
        writeln!(f, "  {:<42}{:<28}{:>12}{:>26}", "", "arm", "p50", "[95 %]")?;
        let scale = if self.conditions.icount { 1.0 } else { 1000.0 };
        for series in rows {
            let Some(Interval { value, low, high }) = series.per_range else {
                continue;
            };
            let [value, low, high] = [value, low, high].map(|v| format!("{:.2}", v / scale));
            writeln!(
                f,
                "  {:<42}{:<28}{value:>12}{:>26}",
                series.cell.point,
                series.cell.arm,
                format!("[{low}, {high}]")
            )?;
        }
        Ok(())
    }
}

fn title(measure: Measure) -> &'static str {
    match measure {
        Measure::Munmap => "munmap() of a region",
        Measure::Callbacks => "In the callbacks of that",
        Measure::Linger => "A region, and nobody waits",
        Measure::Storm => "munmap() of one range after the other",
        Measure::Faults => "A thread mirrors more, while ranges go one by one",
        Measure::Bystanders => "Beside a teardown under a disturber",
        Measure::Contention => "A region, while somebody else takes the lock of the notifiers",
        Measure::Untouched => "munmap() of other memory of a process",
        Measure::Processes => "Several processes at the same time",
        Measure::Stalled => "Unmapped with a device in one range, that waits 20 ms for user space",
        Measure::Mirrors => "Mirrors without a range",
        Measure::Removal => "From invalidate()",
        Measure::Floor => "The floor of that, in an idle process",
        Measure::Teardown => "Teardown under a disturber",
        Measure::Punch => "A hole in a range",
        Measure::Lookups => "Lookups",
        Measure::Many => "Many ranges",
        Measure::Grace => "A bare grace period, some time after another",
    }
}

const MEASURES: [(Measure, &[&str]); 18] = [
    (Measure::Munmap, &[TOOK]),
    (Measure::Callbacks, &[IN_FIRST, IN_OTHERS]),
    (Measure::Removal, &[REMOVED, EACH, LAST]),
    (Measure::Floor, &[WORK, GRACE, REMOVE, CHAIN]),
    (Measure::Linger, &[TOOK, BEGUN, LAST]),
    (
        Measure::Teardown,
        &[TOOK, GONE, RATE, PHASES, GRACE_PERIODS],
    ),
    (Measure::Punch, &[TOOK, SETTLED]),
    (Measure::Lookups, &[LOOKUPS_IDLE, LOOKUPS, GONE]),
    (Measure::Storm, &[TYPICAL_CALL, WORST_CALL, GONE, RATE]),
    (
        Measure::Faults,
        &[FAULT_IDLE, FAULT, WORST_FAULT, TYPICAL_CALL, GONE],
    ),
    (
        Measure::Bystanders,
        &[COPY, WORST_COPY, DROP, WORST_DROP, WORST_BEGIN, TOOK, GONE],
    ),
    (Measure::Contention, &[LOCKED, WORST_LOCKED, TOOK]),
    (Measure::Untouched, &[TYPICAL_CALL]),
    (Measure::Processes, &[TYPICAL_CALL, WORST_CALL, RATE]),
    (Measure::Stalled, &[TOOK, OTHERS_GONE, HELD_GONE]),
    (Measure::Mirrors, &[MIRROR_BYTES, MIRROR_MADE]),
    (
        Measure::Many,
        &[OBJECTS, INDEX, BYTES, MIRRORED_EACH, TOOK_EACH, GONE_EACH],
    ),
    (Measure::Grace, &[GRACE]),
];

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let c = &self.conditions;
        writeln!(
            f,
            "Linux {} ({}), {}{}, {} CPUs, {}; seed {}; {} whole rounds, after {} at most that are not counted",
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
            writeln!(
                f,
                "An emulated CPU: a nanosecond of the guest is an instruction. munmap(): those of its task. All else: those of the\n\
                 machine, and time that it sleeps is skipped but counted."
            )?;
        } else if c.accelerator != "kvm" {
            writeln!(f, "An emulated CPU: times say nothing about a real one, only ratios within this run count.")?;
        }
        for (name, says) in &c.arms {
            writeln!(f, "  {name:<14} {says}")?;
        }
        if !c.absent.is_empty() {
            writeln!(f, "Not in this kernel: {}", c.absent.join(", "))?;
        }
        for (measure, metrics) in MEASURES {
            for what in metrics {
                self.table(f, measure, what)?;
            }
            if measure == Measure::Munmap {
                self.excess(f)?;
            }
        }
        writeln!(
            f,
            "\nTo look at the clock is included, in munmap(): {}, in all else less.",
            self.value(c.clock_overhead.p50, Unit::Nanoseconds)
        )?;
        if self.counters.is_empty() {
            return writeln!(
                f,
                "The run did not come to its end: the library's counters are not known."
            );
        }
        writeln!(f, "The library's counters, warm-up included:")?;
        for (name, value) in self.counters.iter().filter(|(_, value)| **value != 0) {
            write!(f, "  {name} {value}")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
impl Conditions {
    pub fn of_tests() -> Self {
        Self {
            date: "today".into(),
            kernel_release: "7.3.4".into(),
            kernel_config: "plain".into(),
            accelerator: "tcg".into(),
            clocksource: "tsc".into(),
            cpus: 2,
            cpu_model: "a model".into(),
            icount: false,
            seed: 1,
            rounds: 0,
            warm_up_rounds: 0,
            only: Vec::new(),
            arms: BTreeMap::new(),
            absent: Vec::new(),
            resamples: crate::stats::RESAMPLES,
            clock_overhead: Summary::of(&[1]).unwrap(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Extent;

    fn report(rounds: usize) -> Report {
        let cells = plan::cells(Extent::Short, false, |_| true);
        let mut samples = BTreeMap::new();
        for (row, cell) in cells.iter().enumerate() {
            let what = MEASURES
                .iter()
                .find(|(measure, _)| *measure == cell.measure);
            for &what in what.unwrap().1 {
                let due = (0..rounds)
                    .filter(|&round| plan::is_due(cell, round))
                    .count();
                let n = match what {
                    EACH => due * cell.point.ranges as usize,
                    _ => due,
                };
                samples.insert((row, what.to_string()), vec![1000 + row as u64; n]);
            }
        }
        let conditions = Conditions {
            rounds,
            ..Conditions::of_tests()
        };
        let rng = &mut fastrand::Rng::with_seed(1);
        Report::new(conditions, samples, &cells, BTreeMap::new(), rng)
    }

    #[test]
    fn what_is_complete_passes() {
        assert_eq!(report(3).check(), Ok(()));
        assert!(report(0).check().is_err());
        let mut report = report(3);
        report.conditions.rounds = 2;
        assert_eq!(report.check(), Ok(()));
        report.conditions.rounds = 1;
        assert!(report.check().is_err());
    }

    #[test]
    fn what_is_missing_is_found() {
        let mut report = report(3);
        report.series[0].samples.pop();
        assert!(report.check().is_err());
        let mut report = self::report(3);
        report.series.retain(|s| s.cell.arm != "rcu");
        assert!(report.check().is_err());
        report.conditions.absent = vec!["rcu".into()];
        assert_eq!(report.check(), Ok(()));
        report.conditions.absent.clear();
        report.conditions.only = vec![Measure::Munmap];
        assert_eq!(report.check(), Ok(()));
    }

    #[test]
    fn every_ratio_is_with_the_same_point() {
        let report = report(2);
        let series = |arm: &str| {
            report
                .series
                .iter()
                .find(|s| s.cell.arm == arm && s.cell.measure == Measure::Munmap)
        };
        let ratio = series("retire").unwrap().ratios["notify"];
        assert!((ratio.value - 1.001).abs() < 0.001);
        assert!(series("none").unwrap().ratios.contains_key("notify"));
        assert!(!series("none").unwrap().ratios.contains_key("none"));
    }

    #[test]
    fn many_ranges_are_compared_with_few_of_the_same_arm() {
        let cell = |arm: &str, ranges| Cell {
            measure: Measure::Many,
            point: plan::Point {
                ranges,
                range_kib: 4,
                ..Default::default()
            },
            arm: arm.into(),
        };
        let cells = [
            cell("retire", 1_000),
            cell("rcu", 1_000),
            cell("retire", 1_000_000),
        ];
        let samples = [(0, 300), (1, 100), (2, 330)]
            .map(|(row, bytes)| ((row, BYTES.to_string()), vec![bytes; 3]));
        let rng = &mut fastrand::Rng::with_seed(1);
        let conditions = report(1).conditions;
        let report = Report::new(conditions, samples.into(), &cells, BTreeMap::new(), rng);
        let ratio = report.series[2].ratios[FEW].value;
        assert!((ratio - 1.1).abs() < 1e-9);
        assert!(!report.series[0].ratios.contains_key(FEW));
    }

    #[test]
    fn what_a_range_costs_in_munmap_is_more_than_notify() {
        let report = report(2);
        let per_range = |arm: &str| {
            let of = |s: &&Series| s.cell.arm == arm && s.cell.measure == Measure::Munmap;
            let all: Vec<_> = report.series.iter().filter(of).collect();
            all.iter().map(|s| s.per_range).collect::<Vec<_>>()
        };
        assert!(per_range("none").iter().all(Option::is_none));
        assert!(per_range("notify").iter().all(Option::is_none));
        let rows = plan::cells(Extent::Short, false, |_| true);
        let row = |arm, ranges| {
            let at =
                |c: &Cell| (c.measure, &*c.arm, c.point.ranges) == (Measure::Munmap, arm, ranges);
            rows.iter().position(at).unwrap() as f64
        };
        // The samples are the numbers of the rows.
        let expected = (row("retire", 8) - row("notify", 8)) / 8.0;
        let found = per_range("retire")[1].unwrap();
        assert_eq!((found.value, found.low), (expected, expected));
    }

    #[test]
    fn it_survives_the_file() {
        let json = serde_json::to_string(&report(2)).unwrap();
        let again: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(again.check(), Ok(()));
        assert!(again.to_string().contains("retire"));
    }
}
