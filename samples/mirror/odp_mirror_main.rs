// SPDX-License-Identifier: GPL-2.0

//! A sample driver: a simulated device that mirrors address spaces on demand.
//!
//! `/dev/odp_mirror` has a page table of its own for each file. A fault of the device makes an
//! entry, an invalidation takes it away, and when the process unmaps something, the driver lets go
//! of the range from within the invalidation. What a driver of real hardware would do the same way
//! is in `device.rs` and in [`OpenFile::fault`]; `gate.rs` and some ioctls are there for tests.
//!
//! The ioctls are described in `odp_mirror.h`.

mod device;
mod gate;
mod uapi;

use device::{
    Device,
    Page,
    PageTable,
    Reservation, //
};
use gate::Gate;
use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use odp::{
    Hold,
    MayBlock,
    Mirror,
    Retry,
    Section,
    Shared,
    Span,
    Until, //
};
use uapi::command;

module! {
    type: OdpMirror,
    name: "odp_mirror",
    authors: ["The odp authors"],
    description: "Sample device that mirrors address spaces",
    license: "GPL",
    params: {
        max_ranges: u32 {
            default: 512,
            description: "How many ranges a file may have",
        },
    },
}

#[pin_data]
struct OdpMirror {
    #[pin]
    _device: MiscDeviceRegistration<OpenFile>,
}

impl kernel::InPlaceModule for OdpMirror {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"odp_mirror" }),
        })
    }
}

/// How often a fault is tried while invalidations get in between.
const ATTEMPTS: u64 = 64;

/// How much is mirrored at once around a fault where nothing is mirrored yet.
const WINDOW: usize = 64 << 10;

/// How many holds a file may keep.
const MAX_KEPT: usize = 256;

/// A file: one device context, mirroring the address space of the process that opened it.
#[pin_data(PinnedDrop)]
struct OpenFile {
    /// Before the mirror, whose end waits for all holds.
    #[pin]
    kept: Mutex<Kept>,
    mirror: Mirror<Device>,
    shared: Arc<Shared<Device>>,
    auto: Atomic<bool>,
    callback: Arc<Gate>,
    #[pin]
    in_lock: Gate,
    #[pin]
    in_lookup: Gate,
}

/// The holds that user space keeps.
struct Kept {
    holds: KVec<KeptHold>,
    last_id: u64,
    /// How many tasks wait for holds to end. No hold begins meanwhile: a task must not be able to
    /// wait for itself.
    waiting: usize,
}

struct KeptHold {
    id: u64,
    hold: Hold<Device>,
    /// The page that is going to be installed, and since when it has been looked at.
    section: Option<(usize, Section)>,
}

#[vtable]
impl MiscDevice for OpenFile {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let task = current!();
        let mm = task.mm().ok_or(ESRCH)?;
        let callback = Arc::pin_init(Gate::new(), GFP_KERNEL)?;
        let shared = Arc::pin_init(
            Shared::new(
                Device::new(callback.clone()),
                new_mutex!(PageTable::new(), "odp_mirror::PageTable"),
            ),
            GFP_KERNEL,
        )?;
        let config = odp::Config {
            // CAST: `usize` has at least 32 bits.
            max_ranges: module_parameters::max_ranges.value() as usize,
            ..odp::Config::default()
        };
        let mirror = MayBlock::enter(|p| Mirror::new(mm, config, p))?;

        KBox::try_pin_init(
            try_pin_init!(Self {
                kept <- new_mutex!(
                    Kept { holds: KVec::new(), last_id: 0, waiting: 0 },
                    "odp_mirror::Kept"
                ),
                mirror,
                shared,
                auto: Atomic::new(false),
                callback,
                in_lock <- Gate::new(),
                in_lookup <- Gate::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        MayBlock::enter(|p| me.dispatch(cmd, UserPtr::from_addr(arg), p))
    }
}

#[pinned_drop]
impl PinnedDrop for OpenFile {
    fn drop(self: Pin<&mut Self>) {
        // Nobody could let them go on any more, and the mirror is going to wait for them.
        self.callback.open();
        self.kept.lock().holds.clear();
    }
}

fn get<T: FromBytes>(arg: UserPtr) -> Result<T> {
    UserSlice::new(arg, size_of::<T>()).reader().read()
}

fn put<T: AsBytes>(arg: UserPtr, value: &T) -> Result {
    UserSlice::new(arg, size_of::<T>()).writer().write(value)
}

/// An address as user space passes it.
fn address(addr: u64) -> Result<usize> {
    usize::try_from(addr).map_err(|_| EOVERFLOW)
}

/// The first byte of the page that `addr` is in.
fn page_of(addr: usize) -> usize {
    addr & !(PAGE_SIZE - 1)
}

impl OpenFile {
    fn dispatch(&self, cmd: u32, arg: UserPtr, p: &mut MayBlock<'_>) -> Result<isize> {
        match cmd {
            command::CONFIGURE => self.configure(get(arg)?)?,
            command::INSERT => {
                let range: uapi::Range = get(arg)?;
                self.insert(Span::new(address(range.start)?, address(range.len)?)?, p)?;
            }
            command::RETIRE => {
                let addr = address(get(arg)?)?;
                self.mirror.lookup(addr, p).ok_or(ENOENT)?.retire();
            }
            command::REMOVE => {
                let hold = self.hold(address(get(arg)?)?, p)?;
                self.mirror.remove(hold, p);
            }
            command::FAULT => {
                let mut fault: uapi::Fault = get(arg)?;
                let result = self.fault(&mut fault, p);
                put(arg, &fault)?;
                result?;
            }
            command::PROBE => {
                let probe: uapi::Probe = get(arg)?;
                put(arg, &self.probe(probe.addr, p)?)?;
            }
            command::HOLD => self.keep(arg, false, p)?,
            command::PUT => drop(self.take(get(arg)?)?),
            command::BEGIN => self.keep(arg, true, p)?,
            command::COMMIT => self.commit(get(arg)?)?,
            // CAST: There cannot be more ranges than `isize` can count.
            command::DRAIN => return Ok(self.mirror.drain(p) as isize),
            command::FLUSH => self.flush(get(arg)?, p)?,
            command::SHUTDOWN => self.without_holds(|| {
                self.mirror.shutdown(p);
            })?,
            command::STATS => put(arg, &self.stats())?,
            command::STALL => self.callback.close(get(arg)?),
            command::UNSTALL => self.callback.open(),
            command::PARK => self.park(get(arg)?, p)?,
            command::UNPARK => match get(arg)? {
                uapi::IN_LOCK => self.in_lock.open(),
                uapi::IN_LOOKUP => self.in_lookup.open(),
                _ => return Err(EINVAL),
            },
            command::WAIT => self.wait(get(arg)?)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn configure(&self, config: uapi::Config) -> Result {
        let known = [uapi::RETIRE_UNMAP, uapi::RETIRE_EVERY, uapi::RETIRE_NEVER];
        if config.flags & !uapi::AUTO != 0 || !known.contains(&config.retire) {
            return Err(EINVAL);
        }
        self.shared.data().retire_on(config.retire);
        self.auto.store(config.flags & uapi::AUTO != 0, Relaxed);
        Ok(())
    }

    fn insert(&self, span: Span, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        Ok(self.mirror.insert(span, self.shared.clone(), p)?)
    }

    fn hold(&self, addr: usize, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        self.mirror.get(addr, p).ok_or(ENOENT)
    }

    /// The device accesses a byte of the process's: what to do if it has no page there.
    fn fault(&self, fault: &mut uapi::Fault, p: &mut MayBlock<'_>) -> Result {
        if fault.flags & !uapi::WRITE != 0 {
            return Err(EINVAL);
        }
        let addr = address(fault.addr)?;
        let writable = fault.flags & uapi::WRITE != 0;
        self.check_current()?;

        for attempt in 1..=ATTEMPTS {
            fault.attempts = attempt;
            let hold = match self.hold(addr, p) {
                Ok(hold) => hold,
                Err(_) if self.auto.load(Relaxed) => match self.insert_around(addr, p) {
                    Ok(hold) => hold,
                    // Somebody else was faster.
                    Err(error) if error == EEXIST || error == EBUSY => continue,
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            };
            // Whatever needs memory comes before the commit.
            let memory = Reservation::new(GFP_KERNEL)?;

            let Ok(section) = hold.begin(p) else {
                continue;
            };
            self.touch(addr, writable, &mut fault.value)?;
            let installed = hold.commit(section, |table| {
                table.install(page_of(addr), Page { writable }, memory);
            });
            match installed {
                Ok(()) => return Ok(()),
                Err(Retry::Collided | Retry::Gone) => {}
            }
        }
        Err(EAGAIN)
    }

    /// Mirrors what is around `addr`, or if that is not possible, just its page.
    fn insert_around(&self, addr: usize, p: &mut MayBlock<'_>) -> Result<Hold<Device>> {
        // Whoever makes ranges pays for those that are on their way out.
        self.mirror.drain(p);
        // Where there is no memory there is nothing to mirror; a device must not be able to have
        // ranges made wherever it likes.
        let task = current!();
        let mm = task.mm().ok_or(EFAULT)?;
        mm.mmap_read_lock().vma_lookup(addr).ok_or(EFAULT)?;

        let around = Span::new(addr & !(WINDOW - 1), WINDOW)?;
        match self.insert(around, p) {
            Err(error) if error == EEXIST => self.insert(Span::new(page_of(addr), PAGE_SIZE)?, p),
            other => other,
        }
    }

    /// Sees to it that the process has the page, and accesses it.
    ///
    /// A real driver would only ask for the page here, and have the device access it after the
    /// commit. That takes what the `kernel` crate has no abstraction of.
    fn touch(&self, addr: usize, write: bool, value: &mut u64) -> Result {
        let byte = UserSlice::new(UserPtr::from_addr(addr), 1);
        if write {
            let [first, ..] = value.to_le_bytes();
            byte.writer().write(&first)
        } else {
            *value = u64::from(byte.reader().read::<u8>()?);
            Ok(())
        }
    }

    /// User pointers mean something in the address space that is mirrored only.
    fn check_current(&self) -> Result {
        let task = current!();
        match task.mm() {
            Some(mm) if core::ptr::eq(mm.as_raw(), self.mirror.mm().as_raw()) => Ok(()),
            _ => Err(EXDEV),
        }
    }

    /// What the device can do at `addr` without a fault.
    fn probe(&self, addr: u64, p: &mut MayBlock<'_>) -> Result<uapi::Probe> {
        let page = page_of(address(addr)?);
        let mut probe = uapi::Probe {
            addr,
            flags: 0,
            start: 0,
            len: 0,
        };
        while let Some(range) = self.mirror.lookup(page, p) {
            // If it has been retired since, there may be another one.
            let Ok(entry) = range.access(|table| table.get(page)) else {
                continue;
            };
            let span = range.span();
            // CAST: `usize` has at most 64 bits.
            (probe.start, probe.len) = (span.start() as u64, span.size() as u64);
            probe.flags = uapi::MIRRORED;
            if let Some(entry) = entry {
                probe.flags |= uapi::PRESENT;
                if entry.writable {
                    probe.flags |= uapi::WRITABLE;
                }
            }
            break;
        }
        Ok(probe)
    }

    /// Begins a hold that user space keeps, and a section if it wants that.
    fn keep(&self, arg: UserPtr, section: bool, p: &mut MayBlock<'_>) -> Result {
        let mut request: uapi::Hold = get(arg)?;
        let addr = address(request.addr)?;
        let hold = self.hold(addr, p)?;
        let section = if section {
            Some((page_of(addr), hold.begin(p)?))
        } else {
            None
        };

        request.id = {
            let mut kept = self.kept.lock();
            if kept.waiting > 0 {
                return Err(EBUSY);
            }
            if kept.holds.len() >= MAX_KEPT {
                return Err(ENOSPC);
            }
            kept.last_id = kept.last_id.wrapping_add(1);
            let id = kept.last_id;
            kept.holds
                .push(KeptHold { id, hold, section }, GFP_KERNEL)?;
            id
        };
        put(arg, &request).inspect_err(|_| drop(self.take(request.id)))
    }

    /// Gives up a hold that user space has kept.
    fn take(&self, id: u64) -> Result<KeptHold> {
        let mut kept = self.kept.lock();
        let found = kept.holds.iter().position(|kept| kept.id == id);
        let index = found.ok_or(ENOENT)?;
        kept.holds.remove(index).map_err(|_| ENOENT)
    }

    fn commit(&self, id: u64) -> Result {
        let KeptHold { hold, section, .. } = self.take(id)?;
        let (page, section) = section.ok_or(ENOENT)?;
        let memory = Reservation::new(GFP_KERNEL)?;
        Ok(hold.commit(section, |table| {
            table.install(page, Page { writable: true }, memory);
        })?)
    }

    fn flush(&self, until: u64, p: &mut MayBlock<'_>) -> Result {
        match until {
            uapi::REMOVED => {
                self.mirror.flush(Until::Removed, p);
                Ok(())
            }
            uapi::RELEASED => self.without_holds(|| self.mirror.flush(Until::Released, p)),
            _ => Err(EINVAL),
        }
    }

    /// Runs `f`, which waits for holds to end, unless user space keeps one.
    fn without_holds(&self, f: impl FnOnce()) -> Result {
        {
            let mut kept = self.kept.lock();
            if !kept.holds.is_empty() {
                return Err(EBUSY);
            }
            // OVERFLOW: There cannot be as many tasks.
            kept.waiting += 1;
        }
        f();
        // OVERFLOW: Incremented above.
        self.kept.lock().waiting -= 1;
        Ok(())
    }

    fn park(&self, park: uapi::Park, p: &mut MayBlock<'_>) -> Result {
        let addr = address(park.addr)?;
        match park.place {
            uapi::IN_LOCK => self.hold(addr, p)?.access(|_| self.in_lock.stop())?,
            uapi::IN_LOOKUP => {
                let _range = self.mirror.lookup(addr, p).ok_or(ENOENT)?;
                self.in_lookup.stop()
            }
            _ => Err(EINVAL),
        }
    }

    fn wait(&self, wait: uapi::Wait) -> Result {
        let gate = match wait.place {
            uapi::IN_CALLBACK => &*self.callback,
            uapi::IN_LOCK => &self.in_lock,
            uapi::IN_LOOKUP => &self.in_lookup,
            _ => return Err(EINVAL),
        };
        let timeout_ms = u32::try_from(wait.timeout_ms).map_err(|_| EINVAL)?;
        if timeout_ms > 60_000 {
            return Err(EINVAL);
        }
        gate.wait_for(wait.tasks, timeout_ms)
    }

    fn stats(&self) -> uapi::Stats {
        let library = self.mirror.stats();
        let counters = &self.shared.data().counters;
        uapi::Stats {
            inserted: library.inserted,
            insert_failed: library.insert_failed,
            mm_dead: library.mm_dead,
            queued: library.queued,
            coalesced: library.coalesced,
            batches: library.batches,
            grace_periods: library.grace_periods,
            drained: library.drained,
            removed: library.removed,
            released: library.released,
            holds: library.holds,
            puts: library.puts,
            held_back: library.held_back,
            kicks: library.kicks,
            would_block: library.would_block,
            // CAST: `usize` has at most 64 bits.
            ranges: self.mirror.ranges() as u64,
            max_ranges: u64::from(module_parameters::max_ranges.value()),
            events: core::array::from_fn(|event| counters.events[event].load(Relaxed)),
            zapped: counters.zapped.load(Relaxed),
            told: counters.told.load(Relaxed),
            told_by_worker: counters.told_by_worker.load(Relaxed),
        }
    }
}
