// SPDX-License-Identifier: GPL-2.0

//! The benchmark: what does it cost a process that its memory is mirrored, when it unmaps it?
//!
//! Runs in a guest in which `odp_bench.ko` is loaded; see `bench/run`.

mod device;
mod plan;
mod report;
mod stats;
mod subject;
#[path = "../module/uapi.rs"]
mod uapi;

use clap::Parser;
use device::Device;
use plan::{Cell, Measure};
use report::{Conditions, Report, Series};
use stats::Summary;
use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};
use subject::{Answer, Subject};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What it costs a process that its memory is mirrored, when it unmaps it.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    /// How often each row of the table is measured.
    #[arg(long, default_value_t = 300)]
    rounds: usize,

    /// How often before that, not to be counted.
    #[arg(long, default_value_t = 20)]
    warm_up: usize,

    /// Begin no round after so many seconds; then there are fewer, of all rows alike.
    #[arg(long, default_value_t = 200)]
    seconds: u64,

    /// Of the order within the rounds, and of the confidence intervals; by the clock if not given.
    #[arg(long)]
    seed: Option<u64>,

    /// A nanosecond is an instruction (QEMU's `-icount shift=0,sleep=off`).
    #[arg(long)]
    icount: bool,

    /// Where to write the results for programs.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Measure nothing, but see whether there is all in this file that should be.
    #[arg(long, conflicts_with = "json")]
    check: Option<PathBuf>,

    /// Measure nothing, but print how many thousand times a second the TSC ticks.
    #[arg(long, hide = true)]
    tsc_khz: bool,

    /// Be the process whose memory is mirrored.
    #[arg(long, hide = true)]
    subject: Option<String>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("odp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(arm) = &options.subject {
        return Ok(subject::live(arm)?);
    }
    if options.tsc_khz {
        println!("{}", device::tsc_khz());
        return Ok(());
    }
    if let Some(path) = &options.check {
        let report: Report = serde_json::from_slice(&fs::read(path)?)?;
        return Ok(report.check()?);
    }

    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut arms = Vec::new();
    for arm in uapi::ARMS {
        if Device::offers(arm)? {
            arms.push(arm);
        }
    }
    let mut conditions = conditions(options, seed, &arms)?;
    let cells = plan::cells(&arms);

    let mut subjects = BTreeMap::new();
    for cell in &cells {
        if !subjects.contains_key(cell.arm) {
            subjects.insert(cell.arm, Subject::start(cell.arm)?);
        }
    }
    let mut answers: Vec<Vec<Answer>> = cells.iter().map(|_| Vec::new()).collect();
    let begin = Instant::now();
    conditions.rounds = 0;
    for number in 0..options.warm_up + options.rounds {
        let counts = number >= options.warm_up;
        if begin.elapsed().as_secs() >= options.seconds {
            break;
        }
        conditions.rounds += usize::from(counts);
        for row in plan::round(cells.len(), &mut rng) {
            let Cell {
                measure,
                arm,
                ranges,
            } = cells[row];
            let subject = subjects.get_mut(arm).ok_or("an arm without a process")?;
            let answer = subject
                .ask(measure, ranges)
                .map_err(|e| format!("{arm}, {ranges} ranges: {e}"))?;
            if counts {
                answers[row].push(answer);
            }
        }
    }
    // The counters are gone with the last of those who are counted.
    let counters = counters(Path::new("/sys/kernel/debug/odp"))?;
    for subject in subjects.into_values() {
        subject.end()?;
    }

    let series = cells
        .iter()
        .zip(answers)
        .flat_map(|(cell, answers)| series(cell, answers))
        .collect();
    let report = Report::new(conditions, series, counters, &mut rng);
    print!("{report}");
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string(&report)? + "\n")?;
    }
    Ok(report.check()?)
}

/// The series that the answers of a row are made of.
fn series(cell: &Cell, answers: Vec<Answer>) -> Vec<Series> {
    let names: &[&str] = match cell.measure {
        Measure::Munmap => &[report::TOOK],
        Measure::Removal => &[report::REMOVED, report::EACH, report::LAST],
        Measure::Floor => &[report::WORK, report::GRACE, report::REMOVE, report::CHAIN],
    };
    let mut samples = vec![Vec::new(); names.len()];
    for answer in answers {
        match answer {
            Answer::Munmap { took } => samples[0].push(took),
            Answer::Removal {
                removed,
                released,
                each,
            } => {
                samples[0].push(removed);
                samples[1].extend(each);
                samples[2].push(released);
            }
            Answer::Floor {
                work,
                grace,
                remove,
            } => {
                samples[0].push(work);
                samples[1].push(grace);
                samples[2].push(remove);
                samples[3].push(work + grace + remove);
            }
        }
    }
    let series = |(what, samples): (&&str, Vec<u64>)| {
        Some(Series {
            measure: cell.measure,
            arm: cell.arm.into(),
            ranges: cell.ranges,
            what: (*what).into(),
            summary: Summary::of(&samples)?,
            samples,
        })
    };
    names.iter().zip(samples).filter_map(series).collect()
}

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn conditions(options: &Options, seed: u64, arms: &[&str]) -> Result<Conditions> {
    let environment = |name| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let clocksource = fs::read_to_string(CLOCKSOURCE)?.trim().to_string();
    if clocksource.contains("jiffies") {
        let advice = "boot with tsc=reliable if it is emulated";
        return Err(format!("the kernel's clock only knows jiffies; {advice}").into());
    }
    let date = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%MZ"])
        .output()?;
    Ok(Conditions {
        date: String::from_utf8(date.stdout)?.trim().into(),
        kernel_release: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .into(),
        kernel_config: environment("ODP_KERNEL"),
        accelerator: environment("ODP_ACCEL"),
        clocksource,
        cpus: std::thread::available_parallelism()?.get(),
        icount: options.icount,
        seed,
        rounds: options.rounds,
        warm_up_rounds: options.warm_up,
        range_size: plan::RANGE_SIZE,
        arms: arms.iter().copied().map(String::from).collect(),
        absent: uapi::ARMS
            .into_iter()
            .filter(|arm| !arms.contains(arm))
            .map(String::from)
            .collect(),
        resamples: stats::RESAMPLES,
        clock_overhead: Summary::of(&subject::clock_overhead())
            .ok_or("the clock was not measured")?,
    })
}

/// Adds up what the library has counted, in all mirrors there are.
fn counters(directory: &Path) -> Result<BTreeMap<String, u64>> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let (name, value) = line.split_once(' ').ok_or("a counter without a value")?;
            *sums.entry(name.into()).or_default() += value.trim().parse::<u64>()?;
        }
    }
    Ok(sums)
}
