// SPDX-License-Identifier: GPL-2.0

//! The processes whose memory is mirrored.
//!
//! There is one for each arm, because an address space that once had a notifier is never again as
//! fast as one that had none. They wait for a line on their standard input, do one repetition, which
//! is the same for all arms, and answer with a line.

use crate::{
    device::{self, Addresses, Device},
    plan::{self, Measure, RANGE_SIZE},
    uapi,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, BufRead, BufReader, Error, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// What a subject is asked for.
#[derive(Debug, Deserialize, Serialize)]
struct Order {
    measure: Measure,
    ranges: u32,
}

/// What it answers, in nanoseconds.
#[derive(Debug, Deserialize, Serialize)]
pub enum Answer {
    Munmap {
        took: u64,
    },
    /// All since the first range was retired.
    Removal {
        /// Until a task that waited for all removals went on.
        removed: u64,
        /// Until the last range was released.
        released: u64,
        /// For each range, from its retirement to its release.
        each: Vec<u64>,
    },
    Floor {
        work: u64,
        grace: u64,
        remove: u64,
    },
}

/// How a program is told to be a subject.
pub const OPTION: &str = "--subject";

/// A subject, as seen by the one who asks.
pub struct Subject {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Subject {
    pub fn start(arm: &str) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([OPTION, arm])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || Error::other("a subject without its pipes");
        Ok(Self {
            orders: process.stdin.take().ok_or_else(gone)?,
            answers: BufReader::new(process.stdout.take().ok_or_else(gone)?),
            process,
        })
    }

    pub fn ask(&mut self, measure: Measure, ranges: u32) -> io::Result<Answer> {
        let mut line = serde_json::to_string(&Order { measure, ranges })?;
        line.push('\n');
        self.orders.write_all(line.as_bytes())?;
        line.clear();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Error::other("a subject has died"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub fn end(self) -> io::Result<()> {
        let Self {
            mut process,
            orders,
            ..
        } = self;
        drop(orders);
        let status = process.wait()?;
        if !status.success() {
            return Err(Error::other(format!("a subject ended with {status}")));
        }
        Ok(())
    }
}

/// The life of a subject.
pub fn live(arm: &str) -> io::Result<()> {
    let device = Device::open()?;
    if arm != plan::FLOOR {
        device.choose(arm)?;
    }
    let most = plan::RANGES.into_iter().max().unwrap_or_default() as usize * RANGE_SIZE;
    let addresses = Addresses::reserve(most)?;
    for line in io::stdin().lines() {
        let Order { measure, ranges } = serde_json::from_str(&line?)?;
        let answer = repeat(&device, &addresses, measure, ranges)?;
        println!("{}", serde_json::to_string(&answer)?);
    }
    Ok(())
}

fn repeat(
    device: &Device,
    addresses: &Addresses,
    measure: Measure,
    ranges: u32,
) -> io::Result<Answer> {
    let size = ranges as usize * RANGE_SIZE;
    let region = uapi::Region {
        start: addresses.start() as u64,
        range_size: RANGE_SIZE as u64,
        ranges,
        stamped: (measure != Measure::Munmap).into(),
    };
    addresses.populate(size)?;
    if measure == Measure::Floor {
        let floor = device.floor(region)?;
        addresses.unmap(size)?;
        return Ok(Answer::Floor {
            work: floor.ran - floor.queued,
            grace: floor.grace - floor.ran,
            remove: floor.removed - floor.grace,
        });
    }

    device.mirror(region)?;
    let took = addresses.unmap(size)?;
    let (stamps, removed) = device.finish(ranges)?;
    if measure == Measure::Munmap {
        return Ok(Answer::Munmap { took });
    }

    let since = |from: u64, to: u64| {
        let happened = from != 0 && to >= from;
        happened.then(|| to - from).ok_or_else(|| {
            Error::other(format!(
                "retired at {from} and done at {to}, says {stamps:?}"
            ))
        })
    };
    let first = stamps
        .iter()
        .map(|stamp| stamp.retired)
        .min()
        .unwrap_or_default();
    let last = stamps
        .iter()
        .map(|stamp| stamp.released)
        .max()
        .unwrap_or_default();
    let each = stamps
        .iter()
        .map(|stamp| since(stamp.retired, stamp.released));
    Ok(Answer::Removal {
        removed: since(first, removed)?,
        released: since(first, last)?,
        each: each.collect::<io::Result<_>>()?,
    })
}

/// What two looks at the clock take with nothing between them.
pub fn clock_overhead() -> Vec<u64> {
    (0..1000)
        .map(|_| {
            let begin = device::now();
            device::now() - begin
        })
        .collect()
}
