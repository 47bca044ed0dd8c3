// SPDX-License-Identifier: GPL-2.0

//! The benchmark: what does it cost a process that its memory is mirrored, when it unmaps it?
//!
//! Runs in a guest in which `odp_bench.ko` is loaded; see `bench/run`.

mod conditions;
mod device;
mod disturber;
mod events;
mod journal;
mod plan;
mod quantity;
mod report;
mod stall;
mod stats;
mod subject;
mod tables;
#[path = "../module/uapi.rs"]
mod uapi;

use clap::Parser;
use conditions::Conditions;
use journal::{Counters, Head, Journal, Run};
use plan::{Extent, Measure};
use report::Report;
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

    /// How often each row of the tables is measured, at most.
    #[arg(long, default_value_t = 100)]
    rounds: usize,

    /// How often before that, not to be counted.
    #[arg(long, default_value_t = 5)]
    warm_up: usize,

    /// End after so many seconds, with what is measured by then; without it, when all rounds are
    /// done.
    #[arg(long)]
    seconds: Option<u64>,

    /// Of the order within the rounds, and of the confidence intervals; by the clock if not given.
    #[arg(long)]
    seed: Option<u64>,

    /// A nanosecond is an instruction (QEMU's `-icount shift=0,sleep=off`).
    #[arg(long)]
    icount: bool,

    /// Measure only this: "teardown", or several with commas between them.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,

    /// Where every repetition is noted as it comes.
    #[arg(long, required_unless_present_any = ["report", "tsc_khz", "subject"])]
    journal: Option<PathBuf>,

    /// The journal of a run that was interrupted, to go on with.
    #[arg(long, requires = "journal")]
    resume: Option<PathBuf>,

    /// Measure nothing, but print the tables of what is in this journal, or in these, each of a
    /// boot of its own.
    #[arg(long, conflicts_with = "journal", num_args = 1..)]
    report: Vec<PathBuf>,

    /// Where the report also writes the results for programs.
    #[arg(long, requires = "report")]
    json: Option<PathBuf>,

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
    if !options.report.is_empty() {
        return report(&options.report, options.json.as_deref());
    }
    measure(options)
}

/// Measures, and notes it in the journal.
fn measure(options: &Options) -> Result<()> {
    let mut budget = Budget::new(options);
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

    let conditions = conditions(options, absent)?;
    let run = Run {
        kernel_release: conditions.kernel_release.clone(),
        kernel_config: conditions.kernel_config.clone(),
        accelerator: conditions.accelerator.clone(),
        cpus: conditions.cpus,
        icount: options.icount,
        seed: conditions.seed,
        cells,
    };
    let path = options.journal.as_ref().ok_or("there is no journal")?;
    let before = match &options.resume {
        Some(path) => journal::open(path)?,
        None => None,
    };
    let mut journal = Journal::begin(File::create(path)?, Head { run, conditions }, before)?;
    if journal.len() > 0 {
        eprintln!("odp-bench: {} repetitions are known", journal.len());
    }
    let Run { seed, cells, .. } = journal.head().run.clone();

    let mut number = 0;
    'rounds: while number < options.warm_up + options.rounds {
        budget.say(number);
        // Warming up again is part of going on.
        let counted = number.checked_sub(options.warm_up);
        for row in plan::round(cells.len(), seed, number) {
            let cell = &cells[row];
            if !plan::is_due(cell, counted.unwrap_or(0))
                || (counted.is_none() && !plan::warms_up(cell))
                || counted.is_some_and(|round| journal.get(row, round).is_some())
            {
                continue;
            }
            if counted.is_none() && budget.is_warm() {
                number = options.warm_up;
                continue 'rounds;
            }
            if budget.is_over() {
                break 'rounds;
            }
            let subject = subjects
                .get_mut(&*cell.arm)
                .ok_or("an arm without a process")?;
            let answer = subject.ask(cell).map_err(|e| format!("{cell}: {e}"))?;
            if let Some(round) = counted {
                journal.note(row, round, answer)?;
            }
        }
        number += 1;
    }
    // The counters are gone with the last of those who are counted.
    journal.note_counters(counters(Path::new("/sys/kernel/debug/odp"))?)?;
    subjects.into_values().try_for_each(Subject::end)?;
    Ok(())
}

/// Makes the tables of what is in journals, whether or not they were ended.
fn report(paths: &[PathBuf], json: Option<&Path>) -> Result<()> {
    let mut boots = Vec::new();
    for path in paths {
        let file = journal::open(path)?.ok_or("nothing was measured: there is no journal")?;
        boots.push(journal::read(file)?);
    }
    let report = Report::of(boots)?;
    print!("{report}");
    if let Some(path) = json {
        fs::write(path, serde_json::to_string(&report)? + "\n")?;
    }
    Ok(report.check()?)
}

/// How much time there is, and for how much of what it is enough.
struct Budget {
    began: Instant,
    limit: Option<Duration>,
    rounds: usize,
    said: Instant,
    last: Instant,
    longest: Duration,
}

impl Budget {
    /// What is not counted takes one part in so many, at most.
    const WARM_UP: u32 = 4;
    const SAY_EVERY: Duration = Duration::from_secs(10);

    fn new(options: &Options) -> Self {
        let began = Instant::now();
        Self {
            began,
            limit: options.seconds.map(Duration::from_secs),
            rounds: options.warm_up + options.rounds,
            said: began,
            last: began,
            longest: Duration::ZERO,
        }
    }

    /// Says on standard error, now and then, how far it is and for how long it will take.
    fn say(&mut self, done: usize) {
        if done == 0 || self.said.elapsed() < Self::SAY_EVERY {
            return;
        }
        self.said = Instant::now();
        let spent = self.began.elapsed();
        let mut left = spent.mul_f64(self.rounds.saturating_sub(done) as f64 / done as f64);
        if let Some(limit) = self.limit {
            left = left.min(limit.saturating_sub(spent));
        }
        let (rounds, left) = (self.rounds, left.as_secs());
        eprintln!("odp-bench: {done} of at most {rounds} rounds done, {left} s left");
    }

    /// Whether enough time was spent on what is not counted.
    fn is_warm(&self) -> bool {
        self.limit
            .is_some_and(|limit| self.began.elapsed() >= limit / Self::WARM_UP)
    }

    /// Whether there is no time for another repetition. To be asked before each: the next may take
    /// as long as the longest so far.
    fn is_over(&mut self) -> bool {
        self.longest = self.longest.max(self.last.elapsed());
        self.last = Instant::now();
        self.limit
            .is_some_and(|limit| self.began.elapsed() + self.longest > limit)
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
        warm_up_rounds: options.warm_up,
        only: options.only.clone(),
        arms: uapi::ARMS
            .iter()
            .filter(has)
            .map(|arm| (arm.name.into(), arm.says.into()))
            .collect(),
        absent,
        resamples: stats::RESAMPLES,
        clock_overhead: Summary::of(&[subject::clock_overhead(options.icount)])
            .ok_or("the clock was not measured")?,
    })
}

/// Adds up what the library has counted, in all mirrors there are.
fn counters(directory: &Path) -> Result<Counters> {
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))? {
        for line in fs::read_to_string(entry?.path())?.lines() {
            let (name, value) = line.split_once(' ').ok_or("a counter without a value")?;
            *sums.entry(name.into()).or_default() += value.trim().parse::<u64>()?;
        }
    }
    Ok(sums)
}
