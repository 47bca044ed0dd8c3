// SPDX-License-Identifier: GPL-2.0

//! The oracle: does a device that mirrors a process see what the process sees?
//!
//! `run` does at random what programs do with memory, knows what that memory must look like, and
//! compares that with what the CPU and the device see. Runs in a guest, see
//! `tests/oracle/run`.

mod arena;
mod child;
mod choice;
mod crash;
mod device;
#[cfg(test)]
mod fake;
mod history;
mod mirror;
mod mismatch;
mod model;
mod op;
mod pagemap;
mod pipe;
mod player;
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
}

fn main() -> ExitCode {
    let passed = match Command::parse() {
        Command::Run(options) => run::main(&options),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
