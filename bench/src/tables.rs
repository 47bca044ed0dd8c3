// SPDX-License-Identifier: GPL-2.0

//! The results, as tables for people.

use crate::{
    plan::{Cell, Measure},
    quantity::*,
    report::{self, Report, Series, Unit, NOTIFY},
    stats::{Estimate, Interval, FEWEST},
};
use std::fmt::{self, Display, Formatter};

/// How wide the columns are: of a point, of the name of an arm, of a number, of a ratio with its
/// interval.
const POINT: usize = 42;
const ARM: usize = 28;
const NUMBER: usize = 12;
const RATIO: usize = 26;

impl Report {
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

    /// When it was measured, in which order, and how often.
    fn boots(&self) -> String {
        let rounds = || self.boots.iter().map(|boot| boot.rounds);
        let (least, most) = (rounds().min(), rounds().max());
        let [Some(least), Some(most)] = [least, most] else {
            return String::new();
        };
        match &self.boots[..] {
            [boot] => format!("{}; seed {}; {most} whole rounds", boot.date, boot.seed),
            boots => {
                let seeds: Vec<_> = boots.iter().map(|boot| boot.seed.to_string()).collect();
                format!(
                    "{} boots, {} to {}; seeds {}; {least} to {most} whole rounds in each",
                    boots.len(),
                    boots[0].date,
                    boots[boots.len() - 1].date,
                    seeds.join(", ")
                )
            }
        }
    }

    /// The rows of a table, as they were planned: the order of arms is that of the module.
    fn rows(&self, measure: Measure, what: &str) -> Vec<&Series> {
        let is = |s: &&Series| s.cell.measure == measure && s.what == what;
        let mut rows: Vec<_> = self.series.iter().filter(is).collect();
        rows.sort_by_key(|s| s.cell.point);
        rows
    }

    /// One table: everything of one measure that is of one thing.
    fn table(&self, f: &mut Formatter<'_>, measure: Measure, what: &str) -> fmt::Result {
        let rows = self.rows(measure, what);
        let Some(first) = rows.first() else {
            return Ok(());
        };
        writeln!(f, "\n{}: {what}, {}", title(measure), self.unit(first.unit))?;
        write!(f, "  {:<POINT$}{:<ARM$}", "", "arm")?;
        write!(f, "{:>NUMBER$}{:>NUMBER$}", "p50", "p90")?;
        write!(f, "{:>NUMBER$}{:>NUMBER$}{:>7}", "p99", "max", "n")?;
        let is_shown = |baseline: &&&str| {
            rows.iter().any(|s| s.ratios.contains_key(**baseline))
                && !(**baseline == NOTIFY && rows.iter().any(|s| s.per_range.is_some()))
        };
        let baselines = report::baselines(measure, what).iter();
        let against: Vec<_> = baselines.filter(is_shown).collect();
        for baseline in &against {
            write!(f, "{:>RATIO$}", format!("/ {baseline} [95 %]"))?;
        }
        writeln!(f)?;
        let mut before = None;
        for series in rows {
            let Cell { point, arm, .. } = &series.cell;
            let is_same = before.replace(*point) == Some(*point);
            let point = (!is_same).then(|| point.to_string()).unwrap_or_default();
            write!(f, "  {point:<POINT$}{arm:<ARM$}{}", self.samples(series))?;
            for baseline in &against {
                let ratio = ratio(series.ratios.get(**baseline));
                write!(f, "{ratio:>RATIO$}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    /// Percentiles of the samples and their number; or where they are few, the samples.
    fn samples(&self, series: &Series) -> String {
        let value = |value| self.value(value, series.unit);
        let s = &series.summary;
        let numbers: String = if s.n < FEWEST {
            let samples = series.samples.iter().flatten();
            let samples: Vec<_> = samples.map(|&sample| value(sample)).collect();
            format!("{:>width$}", samples.join("  "), width = 4 * NUMBER)
        } else {
            let p99 = s.p99.map_or("-".into(), value);
            let numbers = [value(s.p50), value(s.p90), p99, value(s.max)];
            numbers.map(|number| format!("{number:>NUMBER$}")).concat()
        };
        format!("{numbers}{:>7}", s.n)
    }

    /// One table: what a measure takes more than with notifiers that only record, for each range,
    /// and the ratio of the two beside it.
    fn excess(&self, f: &mut Formatter<'_>, measure: Measure, what: &str) -> fmt::Result {
        let mut rows = self.rows(measure, what);
        rows.retain(|s| s.per_range.is_some());
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let unit = self.unit(first.unit);
        let title = title(measure);
        writeln!(
            f,
            "\n{title}: {what}, more than {NOTIFY}, for each range, {unit}"
        )?;
        write!(f, "  {:<POINT$}{:<ARM$}{:>NUMBER$}", "", "arm", "p50")?;
        writeln!(
            f,
            "{:>RATIO$}{:>RATIO$}",
            "[95 %]",
            format!("/ {NOTIFY} [95 %]")
        )?;
        let scale = if self.conditions.icount { 1.0 } else { 1000.0 };
        let mut before = None;
        for series in rows {
            let Some(Estimate { value, interval }) = series.per_range else {
                continue;
            };
            let Cell { point, arm, .. } = &series.cell;
            let is_same = before.replace(*point) == Some(*point);
            let point = (!is_same).then(|| point.to_string()).unwrap_or_default();
            let value = format!("{:.2}", value / scale);
            let interval = interval.map_or("-".into(), |Interval { low, high }| {
                format!("[{:.2}, {:.2}]", low / scale, high / scale)
            });
            let ratio = ratio(series.ratios.get(NOTIFY));
            write!(f, "  {point:<POINT$}{arm:<ARM$}{value:>NUMBER$}")?;
            writeln!(f, "{interval:>RATIO$}{ratio:>RATIO$}")?;
        }
        Ok(())
    }
}

/// A ratio with its interval, if it has one.
fn ratio(ratio: Option<&Estimate>) -> String {
    match ratio {
        Some(Estimate {
            value,
            interval: Some(Interval { low, high }),
        }) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        Some(Estimate { value, .. }) => format!("{value:.3}"),
        None => "-".into(),
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
        Measure::Events => "What CPUs do until a region is gone",
        Measure::Punch => "A hole in a range",
        Measure::Lookups => "Lookups",
        Measure::Many => "Many ranges",
        Measure::Grace => "A bare grace period, some time after another",
    }
}

pub const MEASURES: [(Measure, &[&str]); 19] = [
    (Measure::Munmap, &[TOOK]),
    (Measure::Callbacks, &[IN_FIRST, IN_OTHERS, IN_ALL]),
    (Measure::Removal, &[REMOVED, EACH, LAST]),
    (Measure::Floor, &[WORK, GRACE, REMOVE, CHAIN]),
    (Measure::Linger, &[TOOK, BEGUN, LAST]),
    (
        Measure::Teardown,
        &[TOOK, GONE, RATE, PHASES, GRACE_PERIODS],
    ),
    (Measure::Events, &[SWITCHES, INTERRUPTS]),
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
            "Linux {} ({}), {}{}, {} CPUs, {}, after {} at most that are not counted",
            c.kernel_release,
            c.kernel_config,
            c.accelerator,
            if c.icount {
                " counting instructions"
            } else {
                ""
            },
            c.cpus,
            self.boots(),
            c.warm_up_rounds
        )?;
        if c.icount {
            writeln!(
                f,
                "An emulated CPU: a nanosecond of the guest is an instruction. munmap(): those of \
                 its task. All else: those of the\nmachine, and time that it sleeps is skipped but \
                 counted."
            )?;
        } else if c.accelerator != "kvm" {
            writeln!(
                f,
                "An emulated CPU: times say nothing about a real one, only ratios within this run \
                 count."
            )?;
        }
        for (name, says) in &c.arms {
            writeln!(f, "  {name:<14} {says}")?;
        }
        if !c.absent.is_empty() {
            writeln!(f, "Not in this kernel: {}", c.absent.join(", "))?;
        }
        for (measure, metrics) in MEASURES {
            for what in metrics {
                self.excess(f, measure, what)?;
                self.table(f, measure, what)?;
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
mod tests {
    use super::*;
    use crate::report::tests::report;

    /// The lines of a table, by the beginning of its headline.
    fn table(report: &Report, headline: &str) -> Vec<String> {
        let text = report.to_string();
        let lines = text.lines().skip_while(|line| !line.starts_with(headline));
        lines
            .take_while(|line| !line.is_empty())
            .map(String::from)
            .collect()
    }

    fn line<'a>(table: &'a [String], arm: &str) -> &'a str {
        let is = |line: &&String| line.split_whitespace().any(|word| word == arm);
        table.iter().find(is).unwrap()
    }

    fn last_words<const N: usize>(line: &str) -> [&str; N] {
        let words: Vec<_> = line.split_whitespace().collect();
        words[words.len() - N..].try_into().unwrap()
    }

    #[test]
    fn few_samples_are_printed_and_have_no_interval() {
        let mut few = report(FEWEST - 1);
        let retire = |s: &&mut Series| s.cell.measure == Measure::Removal && s.what == LAST;
        let series = few.series.iter_mut().find(retire).unwrap();
        series.samples = vec![vec![1111, 5555, 3333, 2222, 4444]];
        let table = table(&few, "From invalidate(): released: the last range");
        assert!(line(&table, "retire").contains("1.11  5.55  3.33  2.22  4.44      5"));
        assert!(!few.to_string().contains(", 1.0"), "an interval");
    }

    #[test]
    fn enough_samples_are_summarised_and_have_an_interval() {
        let report = report(FEWEST);
        let table = table(&report, "From invalidate(): released: the last range");
        let words: Vec<_> = line(&table, "rcu").split_whitespace().collect();
        // The median, the p90, no p99, the worst; their number, and the first of the ratios.
        let ["rcu", p50, p90, "-", max, n, ratio, low, _] = words[..9] else {
            panic!("{words:?}");
        };
        assert!(p50 == p90 && p90 == max && n == FEWEST.to_string());
        assert!(low.starts_with(&format!("[{ratio}")), "{words:?}");
    }

    #[test]
    fn the_difference_to_notify_comes_first_and_the_ratio_is_beside_it() {
        let text = report(FEWEST).to_string();
        let difference = "munmap() of a region: munmap(), more than notify, for each range, µs";
        let difference = text.find(difference).unwrap();
        let whole = text.find("munmap() of a region: munmap(), µs").unwrap();
        assert!(difference < whole);
        let heads = |at: usize| text[at..].lines().nth(1).unwrap();
        assert!(heads(difference).ends_with("/ notify [95 %]"));
        let table: Vec<_> = text[difference..].lines().map(String::from).collect();
        let [value, _, _, ratio, low, high] = last_words(line(&table, "retire"));
        assert!(value.parse::<f64>().is_ok(), "{value}");
        let [low, high] = [low, high].map(|end| end.trim_matches(['[', ',', ']']));
        assert!(ratio == low && ratio == high && ratio.parse::<f64>().is_ok());
        assert!(!heads(whole).contains("/ notify"));
        // Where there is no difference for each range, the ratio is where it was.
        let hole = text.find("A hole in a range: munmap(), µs").unwrap();
        assert!(heads(hole).contains("/ notify"));
    }
}
