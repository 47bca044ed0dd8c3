// SPDX-License-Identifier: GPL-2.0

//! What several threads or processes do at the same time.

use super::{one, since, Answer, Life, Subject};
use crate::{
    device::{self, Addresses},
    disturber::Disturber,
    plan::{Cell, Measure, Point},
    quantity,
    stall::Stall,
    stats,
};
use std::{
    io::{self, Error},
    sync::{
        atomic::{AtomicBool, Ordering::Relaxed},
        Barrier,
    },
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

const PAGE: usize = 4096;

/// A series of calls: how long one takes like most of them do, and how long the worst.
fn calls(typical: &str, worst: &str, mut samples: Vec<u64>) -> io::Result<Answer> {
    let most = samples.iter().max().copied();
    let median = stats::median(&mut samples);
    let (Some(median), Some(most)) = (median, most) else {
        return Err(Error::other(format!("{typical}: there was none")));
    };
    Ok(Answer::from([one(typical, median), one(worst, most)]))
}

fn joined<T>(thread: ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .map_err(|_| Error::other("a thread has died"))?
}

impl Life {
    /// Each thread has a part of the region, and unmaps it range by range.
    pub(super) fn storm(&self, point: &Point) -> io::Result<Answer> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let (ranges, tasks) = (point.ranges as usize, point.tasks as usize);
        let start = Barrier::new(tasks + 1);
        let unmap = |task: usize| {
            let mine = ranges * task / tasks..ranges * (task + 1) / tasks;
            // No memory is had after the start, so that nothing is mapped where something was
            // unmapped.
            let mut samples = Vec::with_capacity(mine.len());
            start.wait();
            for range in mine {
                samples.push(self.unmap_range(point, range)?);
            }
            Ok(samples)
        };
        let (begin, samples) = thread::scope(|scope| {
            let unmap = &unmap;
            let threads: Vec<_> = (0..tasks)
                .map(|task| scope.spawn(move || unmap(task)))
                .collect();
            start.wait();
            let begin = device::now();
            let samples = threads.into_iter().map(joined);
            let samples = samples.collect::<io::Result<Vec<_>>>()?.concat();
            io::Result::Ok((begin, samples))
        })?;
        self.addresses.reserve_part(0, point.size())?;
        self.device.finish(0)?;
        let gone = device::now() - begin;
        let mut answer = calls(quantity::TYPICAL_CALL, quantity::WORST_CALL, samples)?;
        let rate = u64::from(point.ranges) * 1_000_000_000 / gone.max(1);
        answer.extend([one(quantity::GONE, gone), one(quantity::RATE, rate)]);
        Ok(answer)
    }

    fn unmap_range(&self, point: &Point, range: usize) -> io::Result<u64> {
        let size = point.range_size();
        self.addresses
            .unmap_part(range * size, size, || self.clock())
    }

    /// A thread mirrors new memory, a few ranges at a time, and unmaps them again; first with
    /// nothing else, then while the region is unmapped range by range.
    pub(super) fn faults(&self, point: &Point) -> io::Result<Answer> {
        /// How many ranges it mirrors at a time, and how often that is done with nothing else.
        const NEW: u32 = 8;
        const IDLE: usize = 16;

        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let new = Point {
            ranges: NEW,
            ..*point
        };
        let nursery = Addresses::reserve(new.size())?;
        let fault = || {
            nursery.map(new.size())?;
            let begin = device::now();
            self.device.fault(crate::uapi::Region {
                start: nursery.start() as u64,
                ..self.region(&new, false)
            })?;
            let took = device::now() - begin;
            nursery.unmap(new.size(), device::now)?;
            Ok(took)
        };
        let mut idle = (0..IDLE).map(|_| fault()).collect::<io::Result<Vec<_>>>()?;
        let idle = stats::median(&mut idle).unwrap_or_default();

        let (stop, started) = (AtomicBool::new(false), Barrier::new(2));
        let mut unmapped = Vec::with_capacity(point.ranges as usize);
        let (begin, samples) = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut samples = Vec::with_capacity(1 << 16);
                started.wait();
                while samples.is_empty() || !stop.load(Relaxed) {
                    samples.push(fault()?);
                }
                Ok(samples)
            });
            started.wait();
            let begin = device::now();
            let failed = (0..point.ranges as usize).try_for_each(|range| {
                unmapped.push(self.unmap_range(point, range)?);
                io::Result::Ok(())
            });
            stop.store(true, Relaxed);
            let samples = joined(thread)?;
            failed?;
            io::Result::Ok((begin, samples))
        })?;
        self.addresses.reserve_part(0, point.size())?;
        self.device.finish(0)?;
        let gone = device::now() - begin;
        nursery.release()?;
        let mut answer = calls(quantity::FAULT, quantity::WORST_FAULT, samples)?;
        answer.extend([one(quantity::FAULT_IDLE, idle), one(quantity::GONE, gone)]);
        let typical = stats::median(&mut unmapped).unwrap_or_default();
        answer.extend([one(quantity::TYPICAL_CALL, typical)]);
        Ok(answer)
    }

    /// The region is unmapped under a disturber, while a thread has a page of its own copied, and
    /// dropped, again and again, and a device wants to look at what is disturbed.
    pub(super) fn bystanders(&self, point: &Point) -> io::Result<Answer> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let disturber = (point.phase != 0)
            .then(|| Disturber::start(&self.device, point))
            .transpose()?;
        let page = Addresses::reserve(PAGE)?;
        page.map(PAGE)?;
        let (stop, started) = (AtomicBool::new(false), Barrier::new(2));
        let quiet = self.device.quiet_count();
        let (took, gone, copied, dropped, began) = thread::scope(|scope| {
            let bystander = scope.spawn(|| {
                let memory = || Vec::with_capacity(1 << 16);
                let (mut copied, mut dropped) = (memory(), memory());
                started.wait();
                while copied.is_empty() || !stop.load(Relaxed) {
                    // What is read first is the page of zeroes, which is not to be written to.
                    page.read();
                    let begin = device::now();
                    page.write();
                    let written = device::now();
                    page.drop_pages(PAGE)?;
                    copied.push(written - begin);
                    dropped.push(device::now() - written);
                }
                io::Result::Ok((copied, dropped))
            });
            let reader = disturber
                .is_some()
                .then(|| scope.spawn(|| self.device.begin_sections(quiet)));
            started.wait();
            let begin = device::now();
            let unmapped = self.addresses.unmap(point.size(), device::now);
            let finished = self.device.finish(0);
            let gone = device::now() - begin;
            stop.store(true, Relaxed);
            self.device.quiet()?;
            let (copied, dropped) = joined(bystander)?;
            let began = reader.map(joined).transpose()?;
            finished?;
            io::Result::Ok((unmapped?, gone, copied, dropped, began))
        })?;
        if let Some(disturber) = disturber {
            disturber.stop(&self.device)?;
        }
        page.release()?;
        let mut answer = calls(quantity::COPY, quantity::WORST_COPY, copied)?;
        answer.extend(calls(quantity::DROP, quantity::WORST_DROP, dropped)?);
        answer.extend([one(quantity::TOOK, took), one(quantity::GONE, gone)]);
        if let Some((_, worst)) = began {
            answer.extend([one(quantity::WORST_BEGIN, worst)]);
        }
        Ok(answer)
    }

    /// The region is unmapped while somebody else takes the lock of the process's notifiers, which
    /// the end of an invalidation holds for as long as it removes and inserts what was put off
    /// until then.
    pub(super) fn contention(&self, point: &Point) -> io::Result<Answer> {
        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let page = Addresses::reserve(PAGE)?;
        self.device.disturb(page.start(), PAGE, 0)?;
        let (started, quiet) = (Barrier::new(2), self.device.quiet_count());
        let (took, (mean, worst)) = thread::scope(|scope| {
            let contender = scope.spawn(|| {
                started.wait();
                self.device.contend(quiet)
            });
            started.wait();
            let took = self.addresses.unmap(point.size(), device::now);
            let finished = self.device.finish(0);
            self.device.quiet()?;
            let contended = joined(contender)?;
            finished?;
            io::Result::Ok((took?, contended))
        })?;
        self.device.disturb(0, 0, 0)?;
        page.release()?;
        Ok(Answer::from([
            one(quantity::TOOK, took),
            one(quantity::LOCKED, mean),
            one(quantity::WORST_LOCKED, worst),
        ]))
    }

    /// Memory that nobody mirrors is unmapped, beside some that is.
    pub(super) fn untouched(&self, point: &Point) -> io::Result<Answer> {
        const SIZE: usize = 64 << 10;
        const CALLS: usize = 16;

        self.addresses.map(point.size())?;
        self.device.mirror(self.region(point, false))?;
        let other = Addresses::reserve(SIZE)?;
        let mut samples = (0..CALLS)
            .map(|_| {
                other.populate(SIZE)?;
                other.unmap(SIZE, || self.clock())
            })
            .collect::<io::Result<Vec<_>>>()?;
        other.release()?;
        self.addresses.unmap(point.size(), device::now)?;
        self.device.finish(0)?;
        let typical = stats::median(&mut samples).unwrap_or_default();
        Ok(Answer::from([one(quantity::TYPICAL_CALL, typical)]))
    }

    /// As many processes of the same arm mirror a region and unmap it.
    pub(super) fn processes(&mut self, cell: &Cell) -> io::Result<Answer> {
        let tasks = cell.point.tasks as usize;
        while self.family.len() < tasks {
            let subject = Subject::start(&cell.arm, self.icount)?;
            let subject = subject.ok_or_else(|| Error::other("the arm is not there any more"))?;
            self.family.push(subject);
        }
        let each = Cell {
            measure: Measure::Munmap,
            point: Point {
                tasks: 0,
                ..cell.point
            },
            arm: cell.arm.clone(),
        };
        let family = &mut self.family[..tasks];
        let begin = device::now();
        for subject in &mut *family {
            subject.order(&each)?;
        }
        let mut samples = Vec::new();
        for subject in family {
            let answer = subject.answered()?;
            samples.extend(answer.get(quantity::TOOK).into_iter().flatten());
        }
        let took = device::now() - begin;
        let mut answer = calls(quantity::TYPICAL_CALL, quantity::WORST_CALL, samples)?;
        let ranges = u64::from(cell.point.ranges) * u64::from(cell.point.tasks);
        let rate = ranges * 1_000_000_000 / took.max(1);
        answer.extend([one(quantity::RATE, rate)]);
        Ok(answer)
    }

    /// The region is unmapped while a device is in its first range, and waits there for user space.
    pub(super) fn stalled(&self, point: &Point) -> io::Result<Answer> {
        /// For how long it waits once all is unmapped.
        const STALL: Duration = Duration::from_millis(20);

        self.addresses.populate(point.size())?;
        self.device.mirror(self.region(point, true))?;
        let stall = Stall::new()?;
        let (range, page) = (self.addresses.start(), stall.address());
        let took = thread::scope(|scope| {
            let device = scope.spawn(|| self.device.access(range, page));
            stall.wait()?;
            let took = self.addresses.unmap(point.size(), device::now);
            thread::sleep(STALL);
            stall.give()?;
            joined(device)?;
            took
        })?;
        stall.release()?;
        let (stamps, _) = self.device.finish(point.ranges)?;
        let retired = stamps.iter().map(|stamp| stamp.retired).min();
        let retired = retired.unwrap_or_default();
        let [held, others @ ..] = &stamps[..] else {
            return Err(Error::other("a region without ranges"));
        };
        let last = others.iter().map(|stamp| stamp.released).max();
        let last = last.unwrap_or_default();
        Ok(Answer::from([
            one(quantity::TOOK, took),
            one(quantity::OTHERS_GONE, since(retired, last, &stamps)?),
            one(quantity::HELD_GONE, since(retired, held.released, &stamps)?),
        ]))
    }
}
