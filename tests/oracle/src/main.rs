// SPDX-License-Identifier: GPL-2.0

//! The oracle: does a device that mirrors a process see what the process sees?
//!
//! `run` does at random what programs do with memory, knows what that memory must look like, and
//! compares that with what the CPU and the device see. `check` looks at other programs, whose
//! memory a device touches, from outside. Both run in a guest, see `tests/oracle/run` and
//! `tests/foreign/run`.

mod arena;
mod check;
mod child;
mod choice;
mod crash;
mod device;
#[cfg(test)]
mod fake;
mod history;
mod mappings;
mod mirror;
mod mismatch;
mod model;
mod op;
mod pagemap;
mod pipe;
mod player;
mod process;
mod run;
mod tally;
#[cfg(test)]
mod tests;
mod trial;
mod uapi;
mod verdict;
mod watch;

use clap::Parser;
use std::process::ExitCode;

/// Compares what a device sees of a process with what is there.
#[derive(Parser)]
enum Command {
    /// Does things with memory at random, and prints KTAP.
    Run(run::Options),
    /// Looks at processes that have a mirror.
    Check(check::Options),
}

fn main() -> ExitCode {
    let passed = match Command::parse() {
        Command::Run(options) => run::main(&options),
        Command::Check(options) => check::main(&options),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
