// SPDX-License-Identifier: GPL-2.0

//! A sample driver: a simulated device that mirrors address spaces on demand.
//!
//! `/dev/odp_mirror` has a page table of its own for each file. The device loads and stores through
//! it; a fault of the device makes an entry, with what HMM finds, an invalidation takes it away,
//! and when the process unmaps something, the driver lets go of the range from within the
//! invalidation. What a driver of real hardware would do the same way is in `context.rs`,
//! `device.rs` and `page_table.rs`; `gate.rs`, `kept.rs` and some ioctls are there for tests.
//!
//! The ioctls are described in `odp_mirror.h`.

mod context;
mod device;
mod gate;
mod kept;
mod page_table;
mod uapi;

use context::Context;
use device::Device;
use gate::Gate;
use kept::{
    Kept,
    KeptHold, //
};
use kernel::{
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc, //
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
    hmm::Access,
    FaultError,
    Hold,
    MayBlock,
    Span,
    Until, //
};
use page_table::Operation;
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
        grain: u32 {
            default: 0,
            description: "What pieces of ranges are rounded to, in bytes; 0 is a page",
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

/// A file: one device context, mirroring the address space of the process that opened it.
#[pin_data(PinnedDrop)]
struct OpenFile {
    #[pin]
    kept: Kept,
    context: Context,
    callback: Arc<Gate>,
    worker: Arc<Gate>,
    #[pin]
    in_lock: Gate,
    #[pin]
    in_lookup: Gate,
}

#[vtable]
impl MiscDevice for OpenFile {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Self::Ptr> {
        let task = current!();
        let mm = task.mm().ok_or(ESRCH)?;
        let callback = Arc::pin_init(Gate::new(), GFP_KERNEL)?;
        let worker = Arc::pin_init(Gate::new(), GFP_KERNEL)?;
        let device = Device::new(callback.clone(), worker.clone());
        let config = odp::Config {
            // CAST: `usize` has at least 32 bits.
            max_ranges: module_parameters::max_ranges.value() as usize,
            grain: match module_parameters::grain.value() {
                0 => PAGE_SIZE,
                // CAST: As above.
                grain => grain as usize,
            },
            ..odp::Config::default()
        };
        let context = MayBlock::enter(|p| Context::new(mm, config, device, p))?;

        KBox::try_pin_init(
            try_pin_init!(Self {
                kept <- Kept::new(),
                context,
                callback,
                worker,
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
        self.worker.open();
        self.kept.clear();
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

impl OpenFile {
    fn dispatch(&self, cmd: u32, arg: UserPtr, p: &mut MayBlock<'_>) -> Result<isize> {
        let mirror = &self.context.mirror;
        match cmd {
            command::CONFIGURE => self.configure(get(arg)?)?,
            command::INSERT => {
                let range: uapi::Range = get(arg)?;
                let span = Span::new(address(range.start)?, address(range.len)?)?;
                self.context.insert(span, p)?;
            }
            command::RETIRE => {
                let addr = address(get(arg)?)?;
                mirror.lookup(addr, p).ok_or(ENOENT)?.retire();
            }
            command::REMOVE => {
                let hold = self.context.hold(address(get(arg)?)?, p)?;
                hold.remove(p)?;
            }
            command::FAULT => {
                let mut fault: uapi::Fault = get(arg)?;
                let result = self.fault(&mut fault, p);
                put(arg, &fault)?;
                result?;
            }
            command::PROBE => {
                let probe: uapi::Probe = get(arg)?;
                put(arg, &self.context.probe(address(probe.addr)?, p))?;
            }
            command::HOLD => self.keep(arg, false, p)?,
            command::PUT => drop(self.kept.take(get(arg)?)?),
            command::BEGIN => self.keep(arg, true, p)?,
            command::COMMIT => self.commit(get(arg)?)?,
            // CAST: There cannot be more ranges than `isize` can count.
            command::DRAIN => return Ok(mirror.drain(p) as isize),
            command::FLUSH => self.flush(get(arg)?, p)?,
            command::SHUTDOWN => self.kept.without_any(|| {
                mirror.shutdown(p);
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
            command::ACCESS => {
                let mut access: uapi::Access = get(arg)?;
                let result = self.access(&mut access, p);
                put(arg, &access)?;
                result?;
            }
            command::RESIZE => {
                let (hold, part) = self.part(arg, p)?;
                hold.resize(part)?.accepted()?;
            }
            command::PUNCH => {
                let (hold, part) = self.part(arg, p)?;
                hold.punch(part)?.accepted()?;
            }
            command::PAGES => {
                let mut list: uapi::Pages = get(arg)?;
                list.count = self.context.pages(&list)?;
                put(arg, &list)?;
            }
            command::HOLD_WORKER => self.worker.close(get(arg)?),
            command::RELEASE_WORKER => self.worker.open(),
            command::MERGE => {
                let (hold, part) = self.part(arg, p)?;
                hold.merge(part)?.accepted()?;
            }
            command::GROW => {
                let (hold, part) = self.part(arg, p)?;
                self.context.grow(hold, part, p)?;
            }
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }

    fn configure(&self, config: uapi::Config) -> Result {
        let known = [
            uapi::RETIRE_UNMAP,
            uapi::RETIRE_EVERY,
            uapi::RETIRE_NEVER,
            uapi::PUNCH_UNMAP,
        ];
        if config.flags & !uapi::AUTO != 0 || !known.contains(&config.retire) {
            return Err(EINVAL);
        }
        self.context.device().retire_on(config.retire);
        self.context.mirror_on_fault(config.flags & uapi::AUTO != 0);
        Ok(())
    }

    /// A range, and what user space says is a part of it.
    fn part(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result<(Hold<Device>, Span)> {
        let part: uapi::Part = get(arg)?;
        let hold = self.context.hold(address(part.addr)?, p)?;
        Ok((hold, Span::new(address(part.start)?, address(part.len)?)?))
    }

    fn fault(&self, fault: &mut uapi::Fault, p: &mut MayBlock<'_>) -> Result {
        if fault.flags & !uapi::WRITE != 0 {
            return Err(EINVAL);
        }
        let addr = address(fault.addr)?;
        if fault.flags & uapi::WRITE != 0 {
            let [byte, ..] = fault.value.to_le_bytes();
            let store = Operation::StoreByte(byte);
            self.context.fault(addr, store, &mut fault.attempts, p)?;
        } else {
            let attempts = &mut fault.attempts;
            fault.value = self.context.fault(addr, Operation::LoadByte, attempts, p)?;
        }
        Ok(())
    }

    fn access(&self, access: &mut uapi::Access, p: &mut MayBlock<'_>) -> Result {
        if access.flags & !(uapi::WRITE | uapi::CACHED) != 0 || access.addr % 8 != 0 {
            return Err(EINVAL);
        }
        let addr = address(access.addr)?;
        let store = access.flags & uapi::WRITE != 0;
        let may_fault = access.flags & uapi::CACHED == 0;
        let operation = if store {
            Operation::Store(access.value)
        } else {
            Operation::Load
        };
        access.faults = 0;
        let faults = &mut access.faults;
        let value = self.context.access(addr, operation, may_fault, faults, p)?;
        if !store {
            access.value = value;
        }
        Ok(())
    }

    /// Begins a hold that user space keeps, and finds a page for it if it wants that.
    fn keep(&self, arg: UserPtr, find: bool, p: &mut MayBlock<'_>) -> Result {
        let mut request: uapi::Hold = get(arg)?;
        let addr = address(request.addr)?;
        let hold = self.context.hold(addr, p)?;
        let found = if find {
            match self.context.find(&hold, addr, Access::Read, p) {
                Ok(found) => Some(found),
                Err(FaultError::Failed(error)) if error == EBUSY => return Err(EAGAIN),
                Err(error) => return Err(error.into()),
            }
        } else {
            None
        };
        request.id = self.kept.keep(hold, found)?;
        put(arg, &request).inspect_err(|_| drop(self.kept.take(request.id)))
    }

    fn commit(&self, id: u64) -> Result {
        let KeptHold { hold, found, .. } = self.kept.take(id)?;
        self.context.install(&hold, found.ok_or(ENOENT)?, |_| ())
    }

    fn flush(&self, until: u64, p: &mut MayBlock<'_>) -> Result {
        let mirror = &self.context.mirror;
        match until {
            uapi::REMOVED => mirror.flush(Until::Removed, p),
            uapi::RELEASED => self.kept.without_any(|| mirror.flush(Until::Released, p))?,
            _ => Err(EINVAL),
        }
    }

    fn park(&self, park: uapi::Park, p: &mut MayBlock<'_>) -> Result {
        let addr = address(park.addr)?;
        match park.place {
            uapi::IN_LOCK => {
                let hold = self.context.hold(addr, p)?;
                hold.access(|_| self.in_lock.stop())?
            }
            uapi::IN_LOOKUP => {
                let _range = self.context.mirror.lookup(addr, p).ok_or(ENOENT)?;
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
            uapi::IN_WORKER => &*self.worker,
            _ => return Err(EINVAL),
        };
        let timeout_ms = u32::try_from(wait.timeout_ms).map_err(|_| EINVAL)?;
        if timeout_ms > gate::LONGEST_MS {
            return Err(EINVAL);
        }
        gate.wait_for(wait.tasks, timeout_ms)
    }

    fn stats(&self) -> uapi::Stats {
        let library = self.context.mirror.stats();
        let counters = &self.context.device().counters;
        uapi::Stats {
            inserted: library.inserted,
            insert_failed: library.insert_failed,
            mm_dead: library.mm_dead,
            queued: library.queued,
            coalesced: library.coalesced,
            batches: library.batches,
            grace_periods: library.grace_periods,
            drained: library.drained,
            started: library.started,
            removed: library.removed,
            released: library.released,
            holds: library.holds,
            puts: library.puts,
            held_back: library.held_back,
            kicks: library.kicks,
            would_block: library.would_block,
            changes: library.changes,
            unchanged: library.unchanged,
            replaced: library.replaced,
            pieces: library.pieces,
            merged: library.merged,
            replace_failed: library.replace_failed,
            // CAST: `usize` has at most 64 bits.
            ranges: self.context.mirror.ranges() as u64,
            max_ranges: u64::from(module_parameters::max_ranges.value()),
            events: core::array::from_fn(|event| counters.events[event].load(Relaxed)),
            zapped: counters.zapped.load(Relaxed),
            told: counters.told.load(Relaxed),
            told_by_worker: counters.told_by_worker.load(Relaxed),
        }
    }
}
