// SPDX-License-Identifier: GPL-2.0

//! The results, as a file for programs; [`tables`](crate::tables) has them for people.

use crate::{
    conditions::Conditions,
    journal::Recorded,
    plan::{self, Cell, Measure, Point},
    quantity::*,
    stats::{Estimate, Summary},
    uapi,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One series of samples, in the order in which they were taken.
#[derive(Debug, Deserialize, Serialize)]
pub struct Series {
    #[serde(flatten)]
    pub cell: Cell,
    /// What the samples are of.
    pub what: String,
    pub unit: Unit,
    pub summary: Summary,
    /// Those of each boot.
    pub samples: Vec<Vec<u64>>,
    /// How the median compares with that of others.
    pub ratios: BTreeMap<String, Estimate>,
    /// How much more the median is than that of an arm that does nothing in its callback, for each
    /// range; of what [`ranges`] knows.
    pub per_range: Option<Estimate>,
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

/// One time that the machine was started.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Boot {
    pub date: String,
    pub seed: u64,
    /// Those that came to their end; of the next one there may be samples, too.
    pub rounds: usize,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Report {
    /// Grows when a reader of the file would have to know.
    pub format: u32,
    /// Those of the first boot.
    pub conditions: Conditions,
    pub boots: Vec<Boot>,
    pub series: Vec<Series>,
    /// The library's, of all that was measured and warmed up, if all boots came to their end.
    pub counters: BTreeMap<String, u64>,
}

fn unit(what: &str) -> Unit {
    match what {
        RATE | LOOKUPS_IDLE | LOOKUPS => Unit::PerSecond,
        GRACE_PERIODS | PHASES | SWITCHES | INTERRUPTS => Unit::Number,
        BYTES | OBJECTS | INDEX | MIRROR_BYTES => Unit::Bytes,
        _ => Unit::Nanoseconds,
    }
}

/// The arm of the question of 2020: removal in the callback, and a grace period for lookups.
const IN_CALLBACK: &str = "incb-srcu";

/// The arm with the library's grace periods and lookups, that removes in the callback.
const BATCH: &str = "incb-batch";

/// The arm that does nothing in its callback.
pub const NOTIFY: &str = "notify";

/// The arm that the tables are about: it is compared with every other one, in the file.
const LIBRARY: &str = "retire";

/// Not an arm: the same arm with as few ranges as there are.
const FEW: &str = "few";

/// What a series is compared with, of the arms that were measured.
pub fn baselines(measure: Measure, what: &str) -> &'static [&'static str] {
    match (measure, what) {
        (Measure::Munmap, TOOK) => &["none", NOTIFY, IN_CALLBACK, BATCH],
        (Measure::Punch, TOOK) => &["none", NOTIFY, IN_CALLBACK],
        (Measure::Callbacks, _) => &[NOTIFY, IN_CALLBACK, BATCH],
        (Measure::Removal | Measure::Linger, LAST) => &[plan::FLOOR, IN_CALLBACK, BATCH],
        (Measure::Linger, TOOK) => &[NOTIFY, IN_CALLBACK, BATCH],
        (Measure::Untouched, _) => &["none", NOTIFY],
        (Measure::Storm | Measure::Bystanders | Measure::Processes, _) => &[NOTIFY, IN_CALLBACK],
        (Measure::Contention, _) => &[NOTIFY, IN_CALLBACK],
        (Measure::Faults | Measure::Stalled, _) => &[IN_CALLBACK, "refcount"],
        (Measure::Teardown, TOOK | GONE | RATE) => &[IN_CALLBACK, BATCH, "refcount"],
        (Measure::Lookups, _) => &[IN_CALLBACK, "refcount"],
        (Measure::Many, BYTES) => &[IN_CALLBACK, "refcount", FEW],
        (Measure::Many, TOOK_EACH) => &[NOTIFY, IN_CALLBACK, "refcount", FEW],
        (Measure::Many | Measure::Mirrors, _) => &[IN_CALLBACK, "refcount"],
        (Measure::Punch, SETTLED) => &[IN_CALLBACK, "mmap-write"],
        (Measure::Grace, _) => &[plan::EXPEDITED],
        _ => &[],
    }
}

/// How many ranges a sample is of, where it is the difference to [`NOTIFY`] that says something of
/// a design: most of a munmap() is the same for all.
pub fn ranges(measure: Measure, what: &str, point: &Point) -> Option<u32> {
    match (measure, what) {
        (Measure::Munmap | Measure::Linger, TOOK) => Some(point.ranges),
        (Measure::Callbacks, IN_ALL) => Some(point.ranges),
        (Measure::Callbacks, IN_FIRST | IN_OTHERS) => Some(1),
        (Measure::Storm, TYPICAL_CALL) | (Measure::Many, TOOK_EACH) => Some(1),
        _ => None,
    }
}

/// How much more a series is than that of [`NOTIFY`], for each range.
fn excess(series: &[Series], i: usize, rng: &mut fastrand::Rng) -> Option<Estimate> {
    let one = &series[i];
    let Cell {
        measure,
        point,
        ref arm,
    } = one.cell;
    let per = f64::from(ranges(measure, &one.what, &point)?);
    if ["none", NOTIFY].contains(&&**arm) {
        return None;
    }
    let is_baseline = |s: &&Series| {
        (s.cell.measure, s.cell.point, &*s.cell.arm) == (measure, point, NOTIFY)
            && s.what == one.what
    };
    let notify = series.iter().find(is_baseline)?;
    Estimate::of_difference(&one.samples, &notify.samples, per, rng)
}

impl Report {
    /// The report of what is in a journal, or in those of several boots.
    pub fn of(recorded: Vec<Recorded>) -> Result<Self, String> {
        let first = recorded.first().ok_or("there is no journal")?;
        if !recorded.iter().all(|boot| boot.is_like(first)) {
            return Err("these are journals of different kernels, machines or rows".into());
        }
        let boots = recorded.iter().map(|boot| Boot {
            date: boot.head.conditions.date.clone(),
            seed: boot.head.run.seed,
            rounds: boot.rounds(),
        });
        let boots: Vec<_> = boots.collect();
        let mut samples = BTreeMap::new();
        for (number, boot) in recorded.iter().enumerate() {
            for (key, of_boot) in boot.samples() {
                let of_all = samples.entry(key);
                of_all.or_insert_with(|| vec![Vec::new(); boots.len()])[number] = of_boot;
            }
        }
        let mut counters = BTreeMap::new();
        if recorded.iter().all(|boot| !boot.counters.is_empty()) {
            for (name, value) in recorded.iter().flat_map(|boot| &boot.counters) {
                *counters.entry(name.clone()).or_default() += value;
            }
        }
        let head = recorded.into_iter().next().map(|boot| boot.head);
        let head = head.ok_or("there is no journal")?;
        let mut rng = fastrand::Rng::with_seed(head.run.seed);
        Ok(Self::new(
            head.conditions,
            boots,
            samples,
            &head.run.cells,
            counters,
            &mut rng,
        ))
    }

    fn new(
        conditions: Conditions,
        boots: Vec<Boot>,
        samples: BTreeMap<(usize, String), Vec<Vec<u64>>>,
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
            let mut against = baselines(measure, &one.what).to_vec();
            if arm == LIBRARY {
                let beside = |s: &&Series| {
                    (s.cell.measure, s.cell.point) == (measure, point) && s.what == one.what
                };
                against.extend(series.iter().filter(beside).map(|s| &*s.cell.arm));
            }
            for baseline in against {
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
                    other.and_then(|other| Estimate::of_ratio(&one.samples, &other.samples, rng));
                if let Some(ratio) = ratio {
                    ratios.insert(baseline.to_string(), ratio);
                }
            }
            series[i].ratios = ratios;
            series[i].per_range = excess(&series, i, rng);
        }
        Self {
            format: 5,
            conditions,
            boots,
            series,
            counters,
        }
    }

    /// Whether everything is there that should be.
    pub fn check(&self) -> Result<(), String> {
        let c = &self.conditions;
        if self.boots.iter().any(|boot| boot.rounds == 0) {
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
            if series.samples.len() != self.boots.len() {
                return Err(format!("{name}: samples of another number of boots"));
            }
            for (boot, samples) in self.boots.iter().zip(&series.samples) {
                // The last round may have been cut off in its midst.
                let (least, most) = (expected(boot.rounds), expected(boot.rounds + 1));
                let n = samples.len();
                if n != least && n != most {
                    return Err(format!("{name}: {n} samples, neither {least} nor {most}"));
                }
            }
        }
        Ok(())
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
            warm_up_rounds: 0,
            only: Vec::new(),
            arms: BTreeMap::new(),
            absent: Vec::new(),
            resamples: crate::stats::RESAMPLES,
            clock_overhead: Summary::of(&[vec![1]]).unwrap(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::{
        journal::{self, Head, Journal, Run},
        plan::Extent,
        stats::{Interval, FEWEST},
        subject::Answer,
        tables::MEASURES,
    };

    /// A report of one boot, in which the samples of a row are all the same.
    pub fn report(rounds: usize) -> Report {
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
                samples.insert((row, what.to_string()), vec![vec![1000 + row as u64; n]]);
            }
        }
        let rng = &mut fastrand::Rng::with_seed(1);
        let boots = vec![boot(rounds)];
        let counters = BTreeMap::new();
        Report::new(
            Conditions::of_tests(),
            boots,
            samples,
            &cells,
            counters,
            rng,
        )
    }

    fn boot(rounds: usize) -> Boot {
        Boot {
            date: "today".into(),
            seed: 1,
            rounds,
        }
    }

    #[test]
    fn what_is_complete_passes() {
        assert_eq!(report(3).check(), Ok(()));
        assert!(report(0).check().is_err());
        let mut report = report(3);
        report.boots[0].rounds = 2;
        assert_eq!(report.check(), Ok(()));
        report.boots[0].rounds = 1;
        assert!(report.check().is_err());
    }

    #[test]
    fn what_is_missing_is_found() {
        let mut report = report(3);
        report.series[0].samples[0].pop();
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
    fn the_library_is_compared_with_every_arm_but_itself() {
        let report = report(2);
        let is = |s: &&Series| s.cell.measure == Measure::Punch && s.cell.arm == LIBRARY;
        let retire = report.series.iter().find(is).unwrap();
        for arm in ["refcount", "whole", "incb-rcu"] {
            let is = |s: &&Series| {
                (s.cell.measure, s.cell.point) == (Measure::Punch, retire.cell.point)
                    && s.cell.arm == arm
            };
            let is_there = report.series.iter().any(|s| is(&s));
            assert_eq!(retire.ratios.contains_key(arm), is_there, "{arm}");
        }
        assert!(retire.ratios.contains_key("incb-rcu"));
        assert!(!retire.ratios.contains_key(LIBRARY));
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
            .map(|(row, bytes)| ((row, BYTES.to_string()), vec![vec![bytes; 3]]));
        let rng = &mut fastrand::Rng::with_seed(1);
        let (conditions, boots) = (Conditions::of_tests(), vec![boot(3)]);
        let counters = BTreeMap::new();
        let report = Report::new(conditions, boots, samples.into(), &cells, counters, rng);
        let ratio = report.series[2].ratios[FEW].value;
        assert!((ratio - 1.1).abs() < 1e-9);
        assert!(!report.series[0].ratios.contains_key(FEW));
    }

    /// The rows of a measure, by arm and number of ranges: their samples are all 1000 more.
    fn row(measure: Measure, arm: &str, ranges: u32) -> f64 {
        let rows = plan::cells(Extent::Short, false, |_| true);
        let is = |c: &Cell| (c.measure, &*c.arm, c.point.ranges) == (measure, arm, ranges);
        rows.iter().position(is).unwrap() as f64
    }

    #[test]
    fn what_a_range_costs_is_the_difference_to_notify_by_the_number_of_ranges() {
        let report = report(FEWEST);
        let found = |measure, what: &str, arm: &str, ranges| {
            let is = |s: &&Series| {
                let c = &s.cell;
                (c.measure, &*c.arm, c.point.ranges) == (measure, arm, ranges) && s.what == what
            };
            report.series.iter().find(is).unwrap().per_range
        };
        let expected = |measure, arm, ranges, per: f64| {
            let value = (row(measure, arm, ranges) - row(measure, NOTIFY, ranges)) / per;
            let interval = Some(Interval {
                low: value,
                high: value,
            });
            Some(Estimate { value, interval })
        };
        let munmap = Measure::Munmap;
        assert_eq!(found(munmap, TOOK, "none", 8), None);
        assert_eq!(found(munmap, TOOK, NOTIFY, 8), None);
        for arm in ["retire", "incb-batch"] {
            let all_eight = found(munmap, TOOK, arm, 8);
            assert_eq!(all_eight, expected(munmap, arm, 8, 8.0));
            let callbacks = Measure::Callbacks;
            let each = found(callbacks, IN_OTHERS, arm, 8);
            assert_eq!(each, expected(callbacks, arm, 8, 1.0));
            let all = found(callbacks, IN_ALL, arm, 8);
            assert_eq!(all, expected(callbacks, arm, 8, 8.0));
        }
        assert_eq!(found(Measure::Removal, LAST, "retire", 1), None);
    }

    /// A journal of a boot with one sample of the first row in each round.
    fn recorded(seed: u64, accelerator: &str, values: &[u64]) -> Recorded {
        let cells = plan::cells(Extent::Short, false, |_| true);
        let conditions = Conditions {
            seed,
            ..Conditions::of_tests()
        };
        let run = Run {
            kernel_release: conditions.kernel_release.clone(),
            kernel_config: conditions.kernel_config.clone(),
            accelerator: accelerator.into(),
            cpus: conditions.cpus,
            icount: false,
            seed,
            cells: cells[..1].to_vec(),
        };
        let mut file = Vec::new();
        let nothing = None::<&[u8]>;
        let mut journal = Journal::begin(&mut file, Head { run, conditions }, nothing).unwrap();
        for (round, &value) in values.iter().enumerate() {
            let answer = Answer::from([(TOOK.to_string(), vec![value])]);
            journal.note(0, round, answer).unwrap();
        }
        let counters = BTreeMap::from([("queued".to_string(), 2)]);
        journal.note_counters(counters).unwrap();
        journal::read(&*file).unwrap()
    }

    #[test]
    fn boots_are_put_together_and_stay_apart() {
        let boots = vec![recorded(1, "tcg", &[5, 7]), recorded(2, "tcg", &[6])];
        let report = Report::of(boots).unwrap();
        assert_eq!(report.series[0].samples, [vec![5, 7], vec![6]]);
        assert_eq!(report.series[0].summary.n, 3);
        let rounds: Vec<_> = report.boots.iter().map(|b| (b.seed, b.rounds)).collect();
        assert_eq!(rounds, [(1, 2), (2, 1)]);
        assert_eq!(report.counters["queued"], 4);
        let text = report.to_string();
        let boots =
            "2 boots, today to today; seeds 1, 2; 1 to 2 whole rounds in each, after 0 at most";
        assert!(text.contains(boots));
    }

    #[test]
    fn boots_of_different_machines_are_not_put_together() {
        let boots = vec![recorded(1, "tcg", &[5]), recorded(2, "kvm", &[6])];
        assert!(Report::of(boots).is_err());
        assert!(Report::of(Vec::new()).is_err());
    }

    #[test]
    fn what_is_missing_in_one_boot_is_found() {
        let boots = || vec![recorded(1, "tcg", &[5, 7]), recorded(2, "tcg", &[6])];
        let check = |report: &mut Report| {
            report.conditions.only = vec![Measure::Munmap];
            report.check()
        };
        assert_eq!(check(&mut Report::of(boots()).unwrap()), Ok(()));
        let mut report = Report::of(boots()).unwrap();
        report.boots[0].rounds = 3;
        assert!(check(&mut report).is_err());
        let mut report = Report::of(boots()).unwrap();
        report.series[0].samples.pop();
        assert!(check(&mut report).is_err());
    }

    #[test]
    fn it_survives_the_file() {
        for rounds in [2, FEWEST] {
            let report = report(rounds);
            let json = serde_json::to_string(&report).unwrap();
            let again: Report = serde_json::from_str(&json).unwrap();
            assert_eq!(again.check(), Ok(()));
            assert_eq!(again.to_string(), report.to_string());
        }
    }
}
