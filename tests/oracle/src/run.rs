// SPDX-License-Identifier: GPL-2.0

//! Runs tests and prints their results.

use crate::{crash, device::Policy, mirror::Mirror, trial::Trial, watch::Watch};
use std::{
    thread,
    time::{Duration, Instant},
};

#[derive(clap::Args)]
#[command(args_override_self = true)]
pub struct Options {
    /// How many operations each test is, of all its threads.
    #[arg(long, default_value_t = 10_000)]
    ops: u64,

    /// Of everything that is left to chance; by the clock if not given. With one thread, it repeats
    /// a test exactly.
    #[arg(long)]
    seed: Option<u64>,

    /// How many threads; a test for each number.
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    threads: Vec<usize>,

    /// What becomes of a range that is partly unmapped; tests for each.
    #[arg(long, value_delimiter = ',', default_value = "retire,punch")]
    policy: Vec<Policy>,

    /// Repeat the tests with the next seeds for so long.
    #[arg(long)]
    seconds: Option<u64>,

    /// After how many seconds an operation that has not ended is a failure.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

/// Returns whether everything was as it must be.
pub fn main(options: &Options) -> bool {
    let mut seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let until = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    crash::explain();

    let tests: Vec<_> = options
        .policy
        .iter()
        .flat_map(|policy| options.threads.iter().map(|threads| (*policy, *threads)))
        .collect();
    println!("KTAP version 1");
    if until.is_none() {
        println!("1..{}", tests.len());
    }
    let (mut number, mut failed) = (0, 0);
    loop {
        for (policy, threads) in &tests {
            number += 1;
            let trial = Trial {
                policy: *policy,
                seed,
                threads: *threads,
                ops: options.ops,
                until,
                first: 0,
            };
            failed += usize::from(!report(number, &trial, options.patience));
        }
        seed = seed.wrapping_add(1);
        if failed > 0 || until.is_none_or(|until| Instant::now() >= until) {
            break;
        }
    }
    if until.is_some() {
        println!("1..{number}");
    }
    failed == 0
}

/// Runs a test and prints its result; false if it failed.
fn report(number: usize, trial: &Trial, patience: u64) -> bool {
    let Trial {
        policy,
        seed,
        threads,
        ..
    } = trial;
    let name = format!("{number} {policy:?}, {threads} threads").to_lowercase();
    let again = format!(
        "--policy {policy:?} --threads {threads} --ops {} --seed {seed}",
        trial.ops
    )
    .to_lowercase();
    println!("# {again}");
    let start = Instant::now();

    let mirror = match Mirror::open(*policy) {
        Ok(mirror) => mirror,
        Err(error) => {
            println!("# {error}\nnot ok {name}");
            return false;
        }
    };
    let watch = trial.watch();
    let (tally, wrong) = thread::scope(|scope| {
        scope.spawn(|| guard(&watch, &name, &again, Duration::from_secs(patience)));
        let result = trial.run(&mirror, &watch);
        watch.end();
        result
    });

    println!("# {tally}; {} ms", start.elapsed().as_millis());
    for mismatch in &wrong {
        println!("# {again}");
        for line in mismatch.to_string().lines() {
            println!("# {line}");
        }
    }
    println!("{} {name}", if wrong.is_empty() { "ok" } else { "not ok" });
    wrong.is_empty()
}

/// Shows that it moves, and ends the program if it does not: what hangs cannot be waited for.
fn guard(watch: &Watch, name: &str, again: &str, patience: Duration) {
    const PACE: u64 = 20;
    for second in 1u64.. {
        if watch.wait(Duration::from_secs(1)) {
            return;
        }
        if let Some(lines) = watch.stuck(patience) {
            println!("# {again}");
            for line in lines {
                println!("# {line}");
            }
            println!("not ok {name}: it hangs");
            std::process::exit(1);
        }
        if second % PACE == 0 {
            println!("# {second} s: {} operations", watch.ops());
        }
    }
}
