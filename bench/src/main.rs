// SPDX-License-Identifier: GPL-2.0

//! The benchmark: what does it cost a process that its memory is mirrored, when it unmaps it?
//!
//! Runs in a guest in which `odp_bench.ko` is loaded; see `bench/run`.

mod device;
mod disturber;
mod journal;
mod plan;
mod report;
mod stall;
mod stats;
mod subject;
#[path = "../module/uapi.rs"]
mod uapi;

use clap::Parser;
use journal::{Journal, Run};
use plan::{Extent, Measure};
use report::{Conditions, Report};
use stats::Summary;
use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};
use subject::Subject;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What it costs a process that its memory is mirrored, when it unmaps it.
#[derive(Parser)]
#[command(args_override_self = true)]
struct Options {
    /// How much is measured.
    #[arg(long, value_enum, default_value_t)]
    extent: Extent,

    /// How often each row of the tables is measured.
    #[arg(long, default_value_t = 100)]
    rounds: usize,

    /// How often before that, not to be counted.
    #[arg(long, default_value_t = 5)]
    warm_up: usize,

    /// Begin no round after so many seconds; then there are fewer, of all rows alike.
    #[arg(long, default_value_t = 600)]
    seconds: u64,

    /// Of the order within the rounds, and of the confidence intervals; by the clock if not given.
    #[arg(long)]
    seed: Option<u64>,

    /// A nanosecond is an instruction (QEMU's `-icount shift=0,sleep=off`).
    #[arg(long)]
    icount: bool,

    /// Measure only this: "teardown", or several with commas between them.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,

    /// Where to write the results for programs.
    #[arg(long)]
    json: Option<PathBuf>,

    /// Where to note every repetition as it comes.
    #[arg(long)]
    journal: Option<PathBuf>,

    /// The journal of a run that was interrupted, to go on with.
    #[arg(long, requires = "journal")]
    resume: Option<PathBuf>,

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
        return Ok(subject::live(arm, options.icount)?);
    }
    if options.tsc_khz {
        println!("{}", device::tsc_khz());
        return Ok(());
    }
    if let Some(path) = &options.check {
        let report: Report = serde_json::from_slice(&fs::read(path)?)?;
        return Ok(report.check()?);
    }

    let mut subjects = BTreeMap::new();
    let mut absent = Vec::new();
    let others = [plan::FLOOR, plan::NORMAL, plan::EXPEDITED];
    for arm in uapi::ARMS.iter().map(|arm| arm.name).chain(others) {
        match Subject::start(arm, options.icount).map_err(|e| format!("{arm}: {e}"))? {
            Some(subject) => drop(subjects.insert(arm, subject)),
            None => absent.push(arm.to_string()),
        }
    }
    let has = |arm: &str| subjects.contains_key(arm);
    let mut cells = plan::cells(options.extent, options.icount, has);
    if !options.only.is_empty() {
        cells.retain(|cell| options.only.contains(&cell.measure));
    }

    let mut conditions = conditions(options, absent)?;
    let mut run = Run {
        kernel_release: conditions.kernel_release.clone(),
        kernel_config: conditions.kernel_config.clone(),
        accelerator: conditions.accelerator.clone(),
        cpus: conditions.cpus,
        icount: options.icount,
        seed: conditions.seed,
        cells,
    };
    let file: Box<dyn std::io::Write> = match &options.journal {
        Some(path) => Box::new(File::create(path)?),
        None => Box::new(std::io::sink()),
    };
    let before = match &options.resume {
        Some(path) => journal::open(path)?,
        None => None,
    };
    let mut journal = Journal::begin(file, &mut run, before)?;
    if journal.len() > 0 {
        eprintln!("odp-bench: {} repetitions are known", journal.len());
    }
    conditions.seed = run.seed;
    let cells = run.cells;

    let mut samples = BTreeMap::<(usize, String), Vec<u64>>::new();
    let mut progress = Progress::new(options);
    for number in 0..options.warm_up + options.rounds {
        if !progress.round(number) {
            break;
        }
        // Warming up again is part of going on.
        let counted = number.checked_sub(options.warm_up);
        for row in plan::round(cells.len(), run.seed, number) {
            let cell = &cells[row];
            if !plan::is_due(cell, counted.unwrap_or(0))
                || (counted.is_none() && !plan::warms_up(cell))
            {
                continue;
            }
            let known = counted.and_then(|round| journal.get(row, round));
            let answer = match known {
                Some(answer) => answer.clone(),
                None => {
                    let subject = subjects
                        .get_mut(&*cell.arm)
                        .ok_or("an arm without a process")?;
                    let answer = subject.ask(cell).map_err(|e| format!("{cell}: {e}"))?;
                    if let Some(round) = counted {
                        journal.note(row, round, answer.clone())?;
                    }
                    answer
                }
            };
            if counted.is_some() {
                for (what, values) in answer {
                    samples.entry((row, what)).or_default().extend(values);
                }
            }
        }
        conditions.rounds = counted.map_or(0, |round| round + 1);
    }
    // The counters are gone with the last of those who are counted.
    let counters = counters(Path::new("/sys/kernel/debug/odp"))?;
    for subject in subjects.into_values() {
        subject.end()?;
    }

    let mut rng = fastrand::Rng::with_seed(conditions.seed);
    let report = Report::new(conditions, samples, &cells, counters, &mut rng);
    print!("{report}");
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string(&report)? + "\n")?;
    }
    Ok(report.check()?)
}

/// Says on standard error how far it is, and for how long it will take.
struct Progress {
    begin: Instant,
    said: Instant,
    rounds: usize,
    limit: Duration,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(10);

    fn new(options: &Options) -> Self {
        Self {
            begin: Instant::now(),
            said: Instant::now(),
            rounds: options.warm_up + options.rounds,
            limit: Duration::from_secs(options.seconds),
        }
    }

    /// Before each round; whether there is time for it.
    fn round(&mut self, number: usize) -> bool {
        let spent = self.begin.elapsed();
        if number > 0 && self.said.elapsed() >= Self::EVERY {
            self.said = Instant::now();
            let left = spent.mul_f64((self.rounds - number) as f64 / number as f64);
            let left = left.min(self.limit.saturating_sub(spent));
            eprintln!(
                "odp-bench: round {number} of {}, {} s left",
                self.rounds,
                left.as_secs()
            );
        }
        spent < self.limit
    }
}

const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

fn conditions(options: &Options, absent: Vec<String>) -> Result<Conditions> {
    let environment = |name| std::env::var(name).unwrap_or_else(|_| "unknown".into());
    let clocksource = fs::read_to_string(CLOCKSOURCE)?.trim().to_string();
    if clocksource.contains("jiffies") {
        let advice = "boot with tsc=reliable if it is emulated";
        return Err(format!("the kernel's clock only knows jiffies; {advice}").into());
    }
    let date = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%MZ"])
        .output()?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let has = |arm: &&uapi::ArmInfo| !absent.iter().any(|name| name == arm.name);
    Ok(Conditions {
        date: String::from_utf8(date.stdout)?.trim().into(),
        kernel_release: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .into(),
        kernel_config: environment("ODP_KERNEL"),
        accelerator: environment("ODP_ACCEL"),
        clocksource,
        cpus: std::thread::available_parallelism()?.get(),
        cpu_model: model
            .map_or("", |model| model.trim_matches([' ', '\t', ':']))
            .into(),
        icount: options.icount,
        seed: options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000)),
        rounds: 0,
        warm_up_rounds: options.warm_up,
        only: options.only.clone(),
        arms: uapi::ARMS
            .iter()
            .filter(has)
            .map(|arm| (arm.name.into(), arm.says.into()))
            .collect(),
        absent,
        resamples: stats::RESAMPLES,
        clock_overhead: Summary::of(&subject::clock_overhead(options.icount))
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
