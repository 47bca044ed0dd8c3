// SPDX-License-Identifier: GPL-2.0

//! One thread: does to its memory what was chosen, and compares what it sees with the model.

use crate::{
    arena::Arena,
    child,
    choice::Choice,
    device::{Change, Device, How, Reshape},
    history::History,
    mismatch::{Kind, Mismatch},
    model::{Access, Model, PAGES, WINDOW},
    op::{Advice, Disturbance, ForkPlan, Op},
    pipe::Pipe,
    tally::Tally,
    trial::Trial,
    watch::Watch,
};
use std::{io, ops::Range};

pub type Result<T = ()> = std::result::Result<T, Mismatch>;

/// How often an access is tried again that invalidations keep from ending.
const PATIENCE: u64 = 1000;

/// Of a value: a bit that no number of a page has.
const BEFORE_FORK: u64 = 1 << 15;

pub struct Player<'a> {
    pub model: Model,
    pub arena: Arena,
    pub tally: Tally,
    pub thread: usize,
    arenas: &'a [Arena],
    device: &'a dyn Device,
    watch: &'a Watch,
    choice: Choice,
    history: History,
    pipe: Pipe,
    number: u64,
}

impl<'a> Player<'a> {
    /// One for the arena of that number.
    pub fn new(
        thread: usize,
        arenas: &'a [Arena],
        device: &'a dyn Device,
        watch: &'a Watch,
        trial: &Trial,
    ) -> io::Result<Self> {
        Ok(Self {
            model: Model::new(trial.policy),
            arena: arenas[thread],
            tally: Tally::default(),
            thread,
            arenas,
            device,
            watch,
            choice: Choice::new(trial.seed, thread, arenas.len()),
            history: History::default(),
            pipe: Pipe::new()?,
            number: 0,
        })
    }

    /// Begins with memory everywhere.
    pub fn start(&mut self) -> Result {
        let op = Op::Map {
            pages: 0..PAGES,
            access: Access::Store,
            warm: 0,
        };
        self.play(op)
    }

    pub fn step(&mut self) -> Result {
        let op = self.choice.next(&self.model);
        self.play(op)
    }

    fn play(&mut self, op: Op) -> Result {
        self.number += 1;
        self.history.push(self.number, op.clone());
        self.watch.begin(self.thread, self.number, &op);
        let result = self.apply(op);
        self.tally.ops += 1;
        result.map_err(|mismatch| self.sign(mismatch))
    }

    /// Adds who found it, and what was before.
    pub fn sign(&self, mismatch: Mismatch) -> Mismatch {
        Mismatch {
            thread: Some(self.thread),
            number: self.number,
            history: self.history.of(mismatch.page),
            ..mismatch
        }
    }

    fn apply(&mut self, op: Op) -> Result {
        match op {
            Op::DeviceLoad { page, word, how } => self.device_load(page, word, how).map(drop),
            Op::DeviceStore { page, word, how } => self.device_store(page, word, how),
            Op::CpuLoad { page, word } => self.cpu_load(page, word),
            Op::CpuStore { page, word } => self.cpu_store(page, word),
            Op::Map {
                pages,
                access,
                warm,
            } => {
                self.warm(warm)?;
                call("mmap", self.arena.map(&pages, access))?;
                self.model.map(pages.clone(), access);
                self.expect_gone(&pages, warm, Change::Unmapped)?;
                // The device sees the new memory, which is empty.
                self.device_load(warm, 0, How::Fault).map(drop)
            }
            Op::Unmap { pages, warm } => self.unmap(pages, warm),
            Op::Protect {
                pages,
                access,
                warm,
            } => self.protect(pages, access, warm),
            Op::Clear { pages, warm } => {
                self.warm(warm)?;
                // It fails if something is not mapped, but what is is cleared all the same.
                let _ = self.arena.advise(&pages, libc::MADV_DONTNEED);
                self.model.clear(pages.clone());
                self.expect_gone(&pages, warm, Change::Cleared)
            }
            Op::Advise { pages, advice } => {
                let _ = self.arena.advise(
                    &pages,
                    match advice {
                        Advice::Cold => libc::MADV_COLD,
                        Advice::PageOut => libc::MADV_PAGEOUT,
                        Advice::Mergeable => libc::MADV_MERGEABLE,
                        Advice::HugePage => libc::MADV_HUGEPAGE,
                    },
                );
                Ok(())
            }
            Op::Relocate {
                from,
                to,
                keep,
                warm,
            } => self.relocate(from, to, keep, warm),
            Op::Shrink { pages, left, warm } => self.shrink(pages, left, warm),
            Op::Grow { pages, more } => self.grow(pages, more),
            Op::Fork { plan } => self.fork(&plan),
            Op::Disturb { thread, pages, how } => {
                let other = self.arenas[thread];
                // What is not mapped now is not disturbed.
                let _ = match how {
                    Disturbance::Cold => other.advise(&pages, libc::MADV_COLD),
                    Disturbance::PageOut => other.advise(&pages, libc::MADV_PAGEOUT),
                    Disturbance::Migrate => {
                        other.migrate(pages.start, (self.number % 2) as i32);
                        Ok(())
                    }
                };
                Ok(())
            }
            Op::Flush { released } => call("flush", self.device.flush(released)),
            Op::Reshape { page, pages, how } => {
                if how == Reshape::Grow {
                    self.model.grow(&pages);
                }
                let (address, within) =
                    (self.arena.page_address(page), self.arena.addresses(&pages));
                call("reshape", self.device.reshape(address, within, how))
            }
        }
    }

    fn protect(&mut self, pages: Range<usize>, access: Access, warm: usize) -> Result {
        let pages = self.model.mapped_run(pages);
        if pages.is_empty() {
            return Ok(());
        }
        let warm = warm.min(pages.end - 1);
        self.device_store(warm, 0, How::Fault)?;
        call("mprotect", self.arena.protect(&pages, access))?;
        self.model.protect(pages.clone(), access);
        self.device
            .changed(self.arena.addresses(&pages), Change::Protected);
        // What the device has is of no use for what is forbidden now.
        self.device_store(warm, 0, How::Cached)?;
        self.device_load(warm, 0, How::Cached).map(drop)
    }

    fn unmap(&mut self, pages: Range<usize>, warm: usize) -> Result {
        self.warm(warm)?;
        let beside = self.beside(&pages);
        if let Some(page) = beside {
            self.warm(page)?;
        }
        call("munmap", self.arena.unmap(&pages))?;
        self.model.unmap(pages.clone());
        self.expect_gone(&pages, warm, Change::Unmapped)?;
        if let Some(page) = beside {
            self.tally.beside += 1;
            self.tally.kept += u64::from(self.device_load(page, 0, How::Cached)?);
        }
        Ok(())
    }

    fn relocate(&mut self, from: Range<usize>, to: usize, keep: bool, warm: usize) -> Result {
        let from = self.model.mapped_run(from);
        if from.is_empty() {
            return Ok(());
        }
        let target = to..to + from.len();
        let warm = warm.min(from.end - 1);
        let (old, new) = (self.arena.addresses(&from), self.arena.addresses(&target));
        self.warm(warm)?;
        self.warm(to)?;

        let mut flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        if keep {
            flags |= libc::MREMAP_DONTUNMAP;
        }
        match self.arena.remap(&from, &target, flags) {
            Ok(()) => {
                self.model.relocate(from.clone(), to, keep);
                self.device.changed(new, Change::Unmapped);
                self.expect_gone(&from, warm, Change::Unmapped)?;
                self.expect_gone(&target, to, Change::Unmapped)
            }
            // It may be several mappings, and whether there is anything left at the target then is
            // the kernel's choice.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                self.tally.not_remapped += 1;
                call("munmap", self.arena.unmap(&target))?;
                self.model.unmap(target);
                self.device.changed(new, Change::Unmapped);
                self.device.changed(old, Change::Cleared);
                Ok(())
            }
            Err(error) => call("mremap", Err(error)),
        }
    }

    fn shrink(&mut self, pages: Range<usize>, left: usize, warm: usize) -> Result {
        let pages = self.model.mapped_run(pages);
        let rest = pages.start + left..pages.end;
        if rest.is_empty() {
            return Ok(());
        }
        let warm = warm.clamp(rest.start, rest.end - 1);
        self.warm(warm)?;
        call(
            "mremap, smaller",
            self.arena.remap(&pages, &(pages.start..rest.start), 0),
        )?;
        self.model.unmap(rest.clone());
        self.expect_gone(&rest, warm, Change::Unmapped)
    }

    fn grow(&mut self, pages: Range<usize>, more: usize) -> Result {
        let access = self.model.page(pages.start).access;
        let mut pages = self.model.mapped_run(pages);
        // One mapping has one access.
        if let Some(end) = pages
            .clone()
            .find(|page| self.model.page(*page).access != access)
        {
            pages.end = end;
        }
        let limit = (pages.end + more).min(PAGES);
        let end = (pages.end..limit).find(|page| self.model.is_mapped(*page));
        let new = pages.end..end.unwrap_or(limit);
        if pages.is_empty() || new.is_empty() {
            return Ok(());
        }
        match self.arena.remap(&pages, &(pages.start..new.end), 0) {
            Ok(()) => {
                self.model.map(new, access);
                Ok(())
            }
            // It is several mappings after all.
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                self.tally.not_remapped += 1;
                Ok(())
            }
            Err(error) => call("mremap, larger", Err(error)),
        }
    }

    /// The parent and its device change what the child has, too, before the child looks at it, and
    /// the child changes what they have.
    fn fork(&mut self, plan: &ForkPlan) -> Result {
        // So that the device has a page that it may store to, and must not any more.
        let (page, word) = plan.by_device;
        self.device_store_value(page, word, BEFORE_FORK | self.value(page), How::Fault)?;
        // Of this very operation, so the parent's device will store the same.
        let values = (self.value(plan.by_device.0), self.value(plan.by_child.0));
        let child = call(
            "fork",
            child::Child::start(plan, &self.arena, &self.model, self.device, values),
        )?;
        self.cpu_store(plan.by_parent.0, plan.by_parent.1)?;
        self.device_store(plan.by_device.0, plan.by_device.1, How::Fault)?;
        child.finish()?;
        self.tally.forks += 1;
        let (page, word) = plan.by_child;
        self.cpu_load(page, word)?;
        self.device_load(page, word, How::Fault)?;
        let (page, word) = plan.by_device;
        self.cpu_load(page, word)
    }

    /// Has the device get a page, if it can, so that it has something to lose.
    fn warm(&mut self, page: usize) -> Result {
        if self.model.can_load(page) {
            self.device_load(page, 0, How::Fault)?;
        }
        Ok(())
    }

    /// A page in the same window as the first or the last of `pages`, but none of them.
    fn beside(&self, pages: &Range<usize>) -> Option<usize> {
        let before = (pages.start % WINDOW != 0).then(|| pages.start - 1);
        let after = (pages.end % WINDOW != 0).then_some(pages.end);
        let usable = |page: &usize| self.model.can_load(*page);
        before.filter(usable).or(after.filter(usable))
    }

    /// The call that took `pages` away has returned, so the device does not reach them any more.
    fn expect_gone(&mut self, pages: &Range<usize>, warm: usize, change: Change) -> Result {
        self.device.changed(self.arena.addresses(pages), change);
        for page in [warm, pages.start, pages.end - 1] {
            match self.device.load(self.arena.address(page, 0), How::Cached) {
                Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
                other => {
                    let what = format!(
                        "after {change:?}, a device that may use only what it has loaded: expected \
                         ENODATA, got {}",
                        show(&other.map(|(value, _)| value))
                    );
                    return Err(Mismatch::new(Kind::Reaches, Some(page), what));
                }
            }
        }
        // Nor are they in its table, where hardware would look without asking us.
        let listed = call("PAGES", self.device.pages(self.arena.addresses(pages)))?;
        if let Some(first) = listed.first() {
            let what = format!("after {change:?}, the device still has {first:x?}");
            return Err(Mismatch::new(Kind::Reaches, Some(warm), what));
        }
        self.tally.gone += 1;
        Ok(())
    }

    /// The value that this operation stores: it says who stored it when.
    fn value(&self, page: usize) -> u64 {
        ((self.thread as u64 + 1) << 56) | ((self.number & 0xff_ffff_ffff) << 16) | page as u64
    }

    /// Returns whether it loaded something.
    pub fn device_load(&mut self, page: usize, word: usize, how: How) -> Result<bool> {
        self.model.touch(page);
        let address = self.arena.address(page, word);
        let got = self.patiently(|device| device.load(address, how));
        let expected = self
            .model
            .can_load(page)
            .then(|| self.model.page(page).words[word]);
        let loaded = self.judge(page, how, "load", expected.is_some(), &got)?;
        if let (Ok((value, faults)), Some(expected)) = (got, expected) {
            self.count(how, faults);
            if value != expected {
                let what =
                    format!("device load of word {word}: expected {expected:#x}, got {value:#x}");
                return Err(Mismatch::new(Kind::Value, Some(page), what));
            }
        }
        Ok(loaded)
    }

    fn device_store(&mut self, page: usize, word: usize, how: How) -> Result {
        self.device_store_value(page, word, self.value(page), how)
    }

    fn device_store_value(&mut self, page: usize, word: usize, value: u64, how: How) -> Result {
        self.model.touch(page);
        let address = self.arena.address(page, word);
        let got = self.patiently(|device| device.store(address, value, how));
        let possible = self.model.can_store(page);
        self.judge(page, how, "store", possible, &got)?;
        if let Ok(faults) = got {
            self.count(how, faults);
            self.model.store(page, word, value);
        }
        Ok(())
    }

    fn patiently<T>(&mut self, access: impl Fn(&dyn Device) -> io::Result<T>) -> io::Result<T> {
        let mut tries = 0;
        loop {
            let result = access(self.device);
            let error = result.as_ref().err().and_then(io::Error::raw_os_error);
            let passing = [libc::EAGAIN, libc::EBUSY, libc::ENOSPC];
            if tries == PATIENCE || !error.is_some_and(|error| passing.contains(&error)) {
                return result;
            }
            // Ranges that are on their way out count as long as they are.
            self.device.flush(false)?;
            tries += 1;
            self.tally.repeated += 1;
        }
    }

    /// Whether an access was allowed to end as it did; returns whether it succeeded.
    fn judge<T: std::fmt::Debug>(
        &mut self,
        page: usize,
        how: How,
        what: &str,
        possible: bool,
        got: &io::Result<T>,
    ) -> Result<bool> {
        let error = got.as_ref().err().and_then(io::Error::raw_os_error);
        let right = match (how, got) {
            (_, Ok(_)) => possible,
            (How::Cached, Err(_)) => error == Some(libc::ENODATA),
            (How::Fault, Err(_)) => {
                self.tally.refused += 1;
                !possible && [Some(libc::EFAULT), Some(libc::EPERM)].contains(&error)
            }
        };
        if right {
            return Ok(got.is_ok());
        }
        let kind = match error {
            None | Some(libc::EFAULT | libc::EPERM) => Kind::Permission,
            _ => Kind::Call,
        };
        let what = format!(
            "device {what} ({how:?}) of a page whose access is {:?}: got {}",
            self.model.page(page).access,
            show(got)
        );
        Err(Mismatch::new(kind, Some(page), what))
    }

    fn count(&mut self, how: How, faults: u64) {
        match how {
            How::Fault => {
                self.tally.accesses += 1;
                self.tally.hits += u64::from(faults == 0);
            }
            How::Cached => self.tally.cached += 1,
        }
    }

    fn cpu_load(&mut self, page: usize, word: usize) -> Result {
        let expected = self.model.page(page).words[word];
        if !self.model.can_load(page) {
            let got = self.pipe.load(self.arena.address(page, word));
            return self.expect_fault(page, "load", &got);
        }
        let got = self.arena.load(page, word);
        if got != expected {
            let what = format!("CPU load of word {word}: expected {expected:#x}, got {got:#x}");
            return Err(Mismatch::new(Kind::Cpu, Some(page), what));
        }
        Ok(())
    }

    fn cpu_store(&mut self, page: usize, word: usize) -> Result {
        let value = self.value(page);
        if !self.model.can_store(page) {
            // SAFETY: Nobody has a reference to what is in an arena.
            let got = unsafe { self.pipe.store(self.arena.address(page, word), value) };
            return self.expect_fault(page, "store", &got);
        }
        self.arena.store(page, word, value);
        self.model.store(page, word, value);
        Ok(())
    }

    fn expect_fault<T: std::fmt::Debug>(
        &self,
        page: usize,
        what: &str,
        got: &io::Result<T>,
    ) -> Result {
        if matches!(got, Err(error) if error.raw_os_error() == Some(libc::EFAULT)) {
            return Ok(());
        }
        let what = format!(
            "CPU {what} of a page whose access is {:?}: got {}",
            self.model.page(page).access,
            show(got)
        );
        Err(Mismatch::new(Kind::Cpu, Some(page), what))
    }
}

/// A call that has to succeed.
pub fn call<T>(what: &str, result: io::Result<T>) -> Result<T> {
    result.map_err(|error| Mismatch::new(Kind::Call, None, format!("{what}: {error}")))
}

fn show<T: std::fmt::Debug>(result: &io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:x?}"),
        Err(error) => error.to_string(),
    }
}
