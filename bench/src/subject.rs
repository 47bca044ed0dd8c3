// SPDX-License-Identifier: GPL-2.0

//! The processes whose memory is mirrored.
//!
//! There is one for each arm, because an address space that once had a notifier is never again as
//! fast as one that had none. They wait for a line on their standard input, do one repetition,
//! which is the same for all arms, and answer with a line.

mod crowd;

use crate::{
    device::{self, Addresses, Device},
    disturber::Disturber,
    events::Events,
    plan::{self, Cell, Measure, Point},
    quantity, uapi,
};
use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Error, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// What it answers: samples, by what they are of.
pub type Answer = BTreeMap<String, Vec<u64>>;

/// How a program is told to be a subject.
pub const OPTION: &str = "--subject";

/// What it is told if its kernel cannot have the arm, or that it can.
const ABSENT: &str = "absent";
const READY: &str = "ready";

/// A subject, as seen by the one who asks.
pub struct Subject {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Subject {
    /// Starts one; `None` if this kernel cannot have the arm.
    pub fn start(arm: &str, icount: bool) -> io::Result<Option<Self>> {
        let mut command = Command::new(std::env::current_exe()?);
        if icount {
            command.arg("--icount");
        }
        let mut process = command
            .args([OPTION, arm])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let gone = || Error::other("a subject without its pipes");
        let mut subject = Self {
            orders: process.stdin.take().ok_or_else(gone)?,
            answers: BufReader::new(process.stdout.take().ok_or_else(gone)?),
            process,
        };
        if subject.answer()?.trim() == ABSENT {
            subject.end()?;
            return Ok(None);
        }
        Ok(Some(subject))
    }

    fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(Error::other("a subject has died"));
        }
        Ok(line)
    }

    pub fn ask(&mut self, cell: &Cell) -> io::Result<Answer> {
        self.order(cell)?;
        self.answered()
    }

    /// Asks, and does not wait for the answer.
    fn order(&mut self, cell: &Cell) -> io::Result<()> {
        let mut line = serde_json::to_string(cell)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes())
    }

    /// The answer to that.
    fn answered(&mut self) -> io::Result<Answer> {
        Ok(serde_json::from_str(&self.answer()?)?)
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
pub fn live(arm: &str, icount: bool) -> io::Result<()> {
    let device = Device::open()?;
    let info = uapi::ARMS.iter().find(|info| info.name == arm);
    match info.map(|_| device.choose(arm)).transpose() {
        Ok(_) => println!("{READY}"),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            println!("{ABSENT}");
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    let mut subject = Life {
        device,
        addresses: Addresses::reserve(0)?,
        icount,
        removes: info.is_some_and(|info| info.removes),
        family: Vec::new(),
    };
    for line in io::stdin().lines() {
        let cell: Cell = serde_json::from_str(&line?)?;
        println!("{}", serde_json::to_string(&subject.repeat(&cell)?)?);
    }
    subject.family.into_iter().try_for_each(Subject::end)
}

struct Life {
    device: Device,
    addresses: Addresses,
    icount: bool,
    /// Whether ranges go because of the callback.
    removes: bool,
    /// Others of the same arm, to do things at the same time.
    family: Vec<Subject>,
}

fn one(what: &str, value: u64) -> (String, Vec<u64>) {
    (what.into(), vec![value])
}

impl Life {
    fn repeat(&mut self, cell: &Cell) -> io::Result<Answer> {
        let point = &cell.point;
        if point.size() > self.addresses.size() {
            let larger = Addresses::reserve(point.size())?;
            std::mem::replace(&mut self.addresses, larger).release()?;
        }
        Ok(match cell.measure {
            Measure::Munmap => self.munmap(point)?.into(),
            Measure::Callbacks => self.callbacks(point)?,
            Measure::Linger => self.linger(point)?,
            Measure::Storm => self.storm(point)?,
            Measure::Faults => self.faults(point)?,
            Measure::Bystanders => self.bystanders(point)?,
            Measure::Contention => self.contention(point)?,
            Measure::Untouched => self.untouched(point)?,
            Measure::Processes => self.processes(cell)?,
            Measure::Stalled => self.stalled(point)?,
            Measure::Mirrors => self.mirrors(cell)?,
            Measure::Removal => self.removal(point)?.into(),
            Measure::Floor => self.floor(point)?.into(),
            Measure::Teardown => self.teardown(point)?,
            Measure::Events => self.events(point)?.into(),
            Measure::Punch => self.punch(point)?.into(),
            Measure::Lookups => self.lookups(point)?.into(),
            Measure::Many => self.many(point)?.into(),
            Measure::Grace => {
                let took = self.device.grace(point.gap, cell.arm == plan::EXPEDITED)?;
                [one(quantity::GRACE, took)].into()
            }
        })
    }

    /// What is measured of a system call: its time, or where instructions are counted, those of its
    /// task; for where there is one CPU whoever it wakes up may run before it returns.
    fn clock(&self) -> u64 {
        if self.icount {
            device::task_now()
        } else {
            device::now()
        }
    }

    fn region(&self, point: &Point, stamped: bool) -> uapi::Region {
        uapi::Region {
            start: self.addresses.start() as u64,
            range_size: point.range_size() as u64,
            ranges: point.ranges,
            stamped: stamped.into(),
        }
    }

    fn munmap(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 1]> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let took = self.addresses.unmap(point.size(), || self.clock())?;
        self.device.finish(0)?;
        Ok([one(quantity::TOOK, took)])
    }

    fn callbacks(&self, point: &Point) -> io::Result<Answer> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let nothing = self.device.note_callbacks()?;
        self.addresses.unmap(point.size(), || self.clock())?;
        let callbacks = self.device.callbacks()?;
        self.device.finish(0)?;
        let first = callbacks.first.saturating_sub(nothing);
        let all = callbacks.first + callbacks.others;
        let all = all.saturating_sub(callbacks.callbacks * nothing);
        let mut answer = Answer::from([one(quantity::IN_FIRST, first), one(quantity::IN_ALL, all)]);
        // Of who has one for each range. Whoever has one for a window has as many as there are
        // windows, which the addresses decide.
        let is_each = callbacks.callbacks >= point.ranges.into();
        if let Some(others) = callbacks
            .callbacks
            .checked_sub(1)
            .filter(|&n| n != 0 && is_each)
        {
            let each = (callbacks.others / others).saturating_sub(nothing);
            answer.extend([one(quantity::IN_OTHERS, each)]);
        }
        Ok(answer)
    }

    /// Twice, because to look at the clock in callbacks makes munmap() slower.
    fn linger(&self, point: &Point) -> io::Result<Answer> {
        let mut answer = Answer::from(self.munmap(point)?);
        let region = self.region(point, true);
        self.addresses.populate(point.size())?;
        self.device.mirror(region)?;
        self.addresses.unmap(point.size(), device::now)?;
        if !self.removes {
            self.device.finish(point.ranges)?;
            return Ok(answer);
        }
        self.device.wait()?;
        let (stamps, _) = self.device.finish(point.ranges)?;
        let first = |of: fn(&uapi::Stamp) -> u64| stamps.iter().map(of).min().unwrap_or_default();
        let retired = first(|stamp| stamp.retired);
        let begun = first(|stamp| stamp.begun);
        let last = stamps.iter().map(|stamp| stamp.released).max();
        let last = last.unwrap_or_default();
        answer.extend([one(quantity::LAST, since(retired, last, &stamps)?)]);
        if begun != 0 {
            answer.extend([one(quantity::BEGUN, since(retired, begun, &stamps)?)]);
        }
        Ok(answer)
    }

    fn removal(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 3]> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, true))?;
        self.addresses.unmap(point.size(), || self.clock())?;
        let (stamps, removed) = self.device.finish(point.ranges)?;
        let since = |from, to| since(from, to, &stamps);
        let first = stamps.iter().map(|stamp| stamp.retired).min();
        let first = first.unwrap_or_default();
        let last = stamps.iter().map(|stamp| stamp.released).max();
        let last = last.unwrap_or_default();
        let each = stamps
            .iter()
            .map(|stamp| since(stamp.retired, stamp.released));
        Ok([
            one(quantity::REMOVED, since(first, removed)?),
            (quantity::EACH.into(), each.collect::<io::Result<_>>()?),
            one(quantity::LAST, since(first, last)?),
        ])
    }

    fn floor(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 4]> {
        self.addresses.populate(point.size())?;
        let floor = self.device.floor(self.region(point, true))?;
        self.addresses.unmap(point.size(), || self.clock())?;
        Ok([
            one(quantity::WORK, floor.ran - floor.queued),
            one(quantity::GRACE, floor.grace - floor.ran),
            one(quantity::REMOVE, floor.removed - floor.grace),
            one(quantity::CHAIN, floor.removed - floor.queued),
        ])
    }

    fn teardown(&self, point: &Point) -> io::Result<Answer> {
        if point.is_populated() {
            self.addresses.populate(point.size())?;
        } else {
            self.addresses.map(point.size())?;
        }
        self.device.mirror(self.region(point, false))?;
        let disturber = (point.phase != 0)
            .then(|| Disturber::start(&self.device, point))
            .transpose()?;
        let before = self.device.cost()?;
        let phases = disturber.as_ref().map_or(0, Disturber::phases);
        let begin = device::now();
        let took = self.addresses.unmap(point.size(), device::now)?;
        self.device.finish(0)?;
        let gone = device::now() - begin;
        let phases = disturber.as_ref().map_or(0, Disturber::phases) - phases;
        let after = self.device.cost()?;
        if let Some(disturber) = disturber {
            disturber.stop(&self.device)?;
        }

        let ranges = u64::from(point.ranges);
        let mut answer = Answer::from([
            one(quantity::TOOK, took),
            one(quantity::GONE, gone),
            one(quantity::RATE, ranges * 1_000_000_000 / gone.max(1)),
        ]);
        if let (Some(before), Some(after)) = (before, after) {
            let per_thousand = (after - before) * 1000 / ranges;
            answer.extend([one(quantity::GRACE_PERIODS, per_thousand)]);
        }
        if point.phase != 0 {
            answer.extend([one(quantity::PHASES, phases)]);
        }
        Ok(answer)
    }

    /// With nothing else going on, so that what is counted is of this.
    fn events(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 2]> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let before = Events::now()?;
        self.addresses.unmap(point.size(), device::now)?;
        self.device.finish(0)?;
        let events = Events::now()? - before;
        let per_thousand = |count| count * 1000 / u64::from(point.ranges);
        Ok([
            one(quantity::SWITCHES, per_thousand(events.switches)),
            one(quantity::INTERRUPTS, per_thousand(events.interrupts)),
        ])
    }

    /// Unmaps the second quarter of each range, of which there is one, and then the rest.
    fn punch(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 2]> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let quarter = point.range_size() / 4;
        let begin = device::now();
        let took = self
            .addresses
            .unmap_part(quarter, quarter, || self.clock())?;
        self.device.settle()?;
        let settled = device::now() - begin;
        // Not before, for where something is mapped again there is no hole.
        self.addresses.reserve_part(quarter, quarter)?;
        self.addresses.unmap(point.size(), device::now)?;
        self.device.finish(0)?;
        Ok([one(quantity::TOOK, took), one(quantity::SETTLED, settled)])
    }

    fn lookups(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 3]> {
        /// What is waited for before and after the readers are counted.
        const IDLE: Duration = Duration::from_millis(5);

        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let start = self.addresses.start();
        let quiet = self.device.quiet_count();
        let rate = |from: (u64, u64), to: (u64, u64)| {
            (to.1 - from.1) * 1_000_000_000 / (to.0 - from.0).max(1)
        };
        thread::scope(|scope| {
            let readers: Vec<_> = (0..point.readers)
                .map(|_| scope.spawn(|| self.device.look_up(start, point.size(), quiet)))
                .collect();
            let measured = self.while_read(point, IDLE);
            self.device.quiet()?;
            for reader in readers {
                reader
                    .join()
                    .map_err(|_| Error::other("a reader has died"))??;
            }
            let [idle, begin, end, gone] = measured?;
            Ok([
                one(quantity::LOOKUPS_IDLE, rate(idle, begin)),
                one(quantity::LOOKUPS, rate(begin, end)),
                one(quantity::GONE, gone.0),
            ])
        })
    }

    /// Times and counts: some time before munmap(), right before it, when all is gone; and how long
    /// that took.
    fn while_read(&self, point: &Point, idle: Duration) -> io::Result<[(u64, u64); 4]> {
        while self.device.lookups()?.0 < u64::from(point.readers) {
            thread::yield_now();
        }
        let count = || io::Result::Ok((device::now(), self.device.lookups()?.1));
        let first = count()?;
        thread::sleep(idle);
        let begin = count()?;
        self.addresses.unmap(point.size(), device::now)?;
        self.device.finish(0)?;
        let end = count()?;
        Ok([first, begin, end, (end.0 - begin.0, 0)])
    }

    fn mirrors(&self, cell: &Cell) -> io::Result<Answer> {
        let mirrors = cell.point.mirrors;
        shrink()?;
        let before = settled_memory()?;
        let begin = self.clock();
        let made = (0..mirrors)
            .map(|_| {
                let device = Device::open()?;
                device.choose(&cell.arm)?;
                Ok(device)
            })
            .collect::<io::Result<Vec<_>>>()?;
        let took = self.clock() - begin;
        shrink()?;
        let bytes = device::kernel_memory()?.saturating_sub(before);
        drop(made);
        Ok(Answer::from([
            one(quantity::MIRROR_BYTES, bytes / u64::from(mirrors)),
            one(quantity::MIRROR_MADE, took / u64::from(mirrors)),
        ]))
    }

    fn many(&self, point: &Point) -> io::Result<[(String, Vec<u64>); 6]> {
        let slabs = || {
            io::Result::Ok((
                device::slab_memory(has_objects)?,
                device::slab_memory(has_nodes)?,
            ))
        };
        let ranges = u64::from(point.ranges);
        // Nothing is populated: what is looked at is what ranges cost, not pages.
        self.addresses.map(point.size())?;
        shrink()?;
        let before = settled_memory()?;
        let (objects_before, nodes_before) = slabs()?;
        let begin = self.clock();
        self.device.mirror(self.region(point, false))?;
        let mirrored = self.clock() - begin;
        shrink()?;
        let bytes = device::kernel_memory()?.saturating_sub(before);
        let (objects, nodes) = slabs()?;
        let begin = device::now();
        let took = self.addresses.unmap(point.size(), || self.clock())?;
        self.device.finish(0)?;
        let gone = device::now() - begin;
        Ok([
            one(
                quantity::OBJECTS,
                objects.saturating_sub(objects_before) / ranges,
            ),
            one(quantity::INDEX, nodes.saturating_sub(nodes_before) / ranges),
            one(quantity::BYTES, bytes / ranges),
            one(quantity::MIRRORED_EACH, mirrored / ranges),
            one(quantity::TOOK_EACH, took / ranges),
            one(quantity::GONE_EACH, gone / ranges),
        ])
    }
}

/// How long after `from` something was, at `to`.
fn since(from: u64, to: u64, stamps: &[uapi::Stamp]) -> io::Result<u64> {
    let happened = from != 0 && to >= from;
    happened.then(|| to - from).ok_or_else(|| {
        Error::other(format!(
            "retired at {from} and done at {to}, says {stamps:?}"
        ))
    })
}

/// Whether a cache of the slab allocator has what arms allocate, by size.
fn has_objects(cache: &str) -> bool {
    cache.starts_with("kmalloc-")
}

/// Whether it has the nodes of an index.
fn has_nodes(cache: &str) -> bool {
    cache == "radix_tree_node"
}

/// Has what is kept for later in those given back.
fn shrink() -> io::Result<()> {
    device::shrink_slabs(|cache| has_objects(cache) || has_nodes(cache))
}

/// How much memory the kernel uses, when what was freed before is no longer on its way.
fn settled_memory() -> io::Result<u64> {
    let mut before = device::kernel_memory()?;
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(20));
        let now = device::kernel_memory()?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(before)
}

/// What two looks at the clock take with nothing between them.
pub fn clock_overhead(icount: bool) -> Vec<u64> {
    let now = if icount {
        device::task_now
    } else {
        device::now
    };
    (0..1000)
        .map(|_| {
            let begin = now();
            now() - begin
        })
        .collect()
}
