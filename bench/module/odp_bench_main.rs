// SPDX-License-Identifier: GPL-2.0

//! The kernel's half of the benchmark: mirrors memory of the process that asks for it, in one of
//! several ways, and notes when what happens.

#![crate_name = "odp_bench"]

mod arm;
mod arms;
mod child;
mod disturber;
mod floor;
mod gpusvm;
mod grace;
#[cfg(CONFIG_MMU_INTERVAL_IN_CALLBACK)]
mod in_callback;
#[cfg(not(CONFIG_MMU_INTERVAL_IN_CALLBACK))]
#[path = "in_callback_absent.rs"]
mod in_callback;
mod mmap_write;
mod none;
mod notify;
mod pending;
mod queue;
mod rcu;
mod refcount;
mod references;
mod region;
mod retire;
mod rw_sem;
mod slots;
mod spent;
mod srcu_each;
mod tree;
mod uapi;
mod user_lock;
mod whole;
mod wq_mutex;
mod wq_rcu;
mod xarray;

use self::{
    arm::Arm,
    disturber::{
        Disturber,
        Reader, //
    },
    floor::Floor,
    grace::Grace,
    region::Region, //
};
use kernel::{
    current,
    fs::File,
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    mm::MmWithUser,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        Mutex, //
    },
    time::{
        delay::fsleep,
        Delta, //
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
    mmu_interval,
    MayBlock,
    Span, //
};

module! {
    type: BenchModule,
    name: "odp_bench",
    authors: ["The odp authors"],
    description: "Benchmark of the deferred removal of mmu interval notifiers",
    license: "GPL",
    params: {
        wake_first: bool {
            default: false,
            description: "Arms that remove in the callback release after waiters are woken",
        },
    },
}

#[pin_data]
struct BenchModule {
    #[pin]
    _device: MiscDeviceRegistration<Session>,
    // Goes after the device.
    _queue: queue::Handle,
}

impl kernel::InPlaceModule for BenchModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _queue: queue::Handle::new()?,
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: uapi::NAME }),
        })
    }
}

macro_rules! plain {
    ($($type:ident)*) => {$(
        // SAFETY: It consists of integers, for which any bytes will do.
        unsafe impl FromBytes for uapi::$type {}
        // SAFETY: It has no padding, so that each of its bytes is initialised.
        unsafe impl AsBytes for uapi::$type {}
    )*};
}

plain!(Region Finish Floor Stamp Reader Lookups Disturb Grace Cost Callbacks Access Begin Contend);

/// An open file: one process, one arm, one region at a time.
#[pin_data]
struct Session {
    #[pin]
    state: Mutex<State>,
    /// How many readers there are.
    readers: Atomic<u64>,
    /// How many lookups they have made.
    lookups: Atomic<u64>,
    /// How often they have been told to end.
    quiet: Atomic<u64>,
}

#[derive(Default)]
struct State {
    arm: Option<Arc<dyn Arm>>,
    region: Option<Arc<Region>>,
    floor: Option<Floor>,
    grace: Option<Pin<KBox<Grace>>>,
    disturber: Option<Disturber>,
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State::default(), "odp_bench::Session::state"),
                readers: Atomic::new(0),
                lookups: Atomic::new(0),
                quiet: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(session: Pin<&Self>, _file: &File, request: u32, arg: usize) -> Result<isize> {
        let current = current!();
        let mm = current.mm().ok_or(ESRCH)?;
        let arg = UserPtr::from_addr(arg);
        MayBlock::enter(|p| match request {
            uapi::LOOKUP => session.look_up(arg, p),
            uapi::QUIET => {
                session.quiet.fetch_add(1, Release);
                Ok(())
            }
            uapi::LOOKUPS => write(
                arg,
                &uapi::Lookups {
                    readers: session.readers.load(Acquire),
                    lookups: session.lookups.load(Relaxed),
                },
            ),
            uapi::FAULT => session.fault(arg, p),
            uapi::WAIT => session.wait(),
            uapi::ACCESS => session.access(arg, p),
            uapi::BEGIN => session.begin(arg, p),
            uapi::CONTEND => session.contend(arg, p),
            uapi::CALLBACKS => callbacks(arg),
            _ => session.state.lock().request(request, mm, arg, p),
        })?;
        Ok(0)
    }
}

impl Session {
    /// Looks up one address after the other, until it is told to end.
    fn look_up(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        /// How many lookups between two looks at anything else.
        const LOOKUPS: u64 = 64;

        let mut reader = read::<uapi::Reader>(arg)?;
        let start = usize::try_from(reader.start)?;
        let pages = usize::try_from(reader.size)? / PAGE_SIZE;
        if pages == 0 {
            return Err(EINVAL);
        }
        let arm = self.arm()?;
        self.readers.fetch_add(1, Release);
        // A generator of the shortest kind: what matters is that readers do not go in step.
        let mut random = reader.start ^ (current!().pid() as u64) << 17 | 1;
        while self.quiet.load(Acquire) == reader.quiet && !current!().signal_pending() {
            for _ in 0..LOOKUPS {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // CAST: `usize` has 64 bits.
                let page = random as usize % pages;
                reader.hits += u64::from(arm.lookup(start.wrapping_add(page * PAGE_SIZE), p));
            }
            reader.lookups += LOOKUPS;
            self.lookups.fetch_add(LOOKUPS, Relaxed);
        }
        self.readers.fetch_sub(1, Release);
        write(arg, &reader)
    }

    fn arm(&self) -> Result<Arc<dyn Arm>> {
        self.state.lock().arm.clone().ok_or(EINVAL)
    }

    /// Mirrors more memory, and looks it up, in the middle of whatever else happens.
    fn fault(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let region = Region::new(&read::<uapi::Region>(arg)?)?;
        let arm = self.arm()?;
        arm.mirror(&region, p)?;
        for span in region.ranges() {
            if !arm.lookup(span?.start(), p) {
                return Err(ENOENT);
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result {
        let region = self.state.lock().region.clone().ok_or(EINVAL)?;
        region.wait()
    }

    /// An access that takes as long as it takes to read a byte that user space has to provide.
    fn access(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let access = read::<uapi::Access>(arg)?;
        let user = UserPtr::from_addr(usize::try_from(access.user)?);
        self.arm()?
            .access(usize::try_from(access.addr)?, p, &mut || {
                read::<u8>(user).map(|_| ())
            })
    }

    /// Begins one read section after the other, until it is told to end.
    fn begin(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        /// Between two of them, so that the machine can do something else.
        const PAUSE: Delta = Delta::from_micros(10);

        let mut begin = read::<uapi::Begin>(arg)?;
        let reader = self.reader()?;
        while self.quiet.load(Acquire) == begin.quiet && !current!().signal_pending() {
            match reader.begin(p)? {
                Some(took) => {
                    begin.waits += 1;
                    begin.worst = begin.worst.max(took);
                    begin.sum += took;
                }
                None => fsleep(PAUSE),
            }
        }
        write(arg, &begin)
    }

    /// Takes the lock of the process's notifiers again and again, until it is told to end.
    fn contend(&self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let mut contend = read::<uapi::Contend>(arg)?;
        let reader = self.reader()?;
        loop {
            let took = reader.lock(p)?;
            contend.times += 1;
            contend.worst = contend.worst.max(took);
            contend.sum += took;
            if self.quiet.load(Acquire) != contend.quiet || current!().signal_pending() {
                return write(arg, &contend);
            }
        }
    }

    /// A reader of the memory that is disturbed.
    fn reader(&self) -> Result<Reader> {
        let state = self.state.lock();
        Ok(state.disturber.as_ref().ok_or(EINVAL)?.reader())
    }
}

/// Begins, or ends, to note what callbacks take.
fn callbacks(arg: UserPtr) -> Result {
    let mut callbacks = read::<uapi::Callbacks>(arg)?;
    if callbacks.begin != 0 {
        callbacks.nothing = spent::begin();
    } else {
        let sum = spent::end();
        callbacks.callbacks = sum.callbacks;
        callbacks.first = sum.first;
        callbacks.others = sum.others;
    }
    write(arg, &callbacks)
}

impl State {
    fn request(
        &mut self,
        request: u32,
        mm: &MmWithUser,
        arg: UserPtr,
        p: &mut MayBlock<'_>,
    ) -> Result {
        match request {
            uapi::CHOOSE => self.choose(mm, arg, p),
            uapi::MIRROR => self.mirror(arg, p),
            uapi::SETTLE => self.arm.as_ref().ok_or(EINVAL)?.settle(p),
            uapi::FINISH => self.finish(arg, p),
            uapi::FLOOR => self.measure_floor(mm, arg, p),
            uapi::DISTURB => self.disturb(mm, arg, p),
            uapi::GRACE => self.measure_grace(arg),
            uapi::COST => self.cost(arg),
            _ => Err(ENOTTY),
        }
    }

    fn disturb(&mut self, mm: &MmWithUser, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let disturb = read::<uapi::Disturb>(arg)?;
        self.disturber = None;
        if disturb.size != 0 {
            mmu_interval::prepare(mm, p)?;
            let start = usize::try_from(disturb.start)?;
            let span = Span::new(start, usize::try_from(disturb.size)?)?;
            let phase = Delta::from_micros(i64::try_from(disturb.phase)?);
            self.disturber = Some(Disturber::new(&ARef::from(&**mm), span, phase, p)?);
        }
        Ok(())
    }

    fn measure_grace(&mut self, arg: UserPtr) -> Result {
        let mut grace = read::<uapi::Grace>(arg)?;
        let domain = match self.grace.take() {
            Some(domain) => domain,
            None => Grace::new()?,
        };
        grace.took = self
            .grace
            .insert(domain)
            .measure(grace.gap, grace.expedited != 0);
        write(arg, &grace)
    }

    fn cost(&self, arg: UserPtr) -> Result {
        let cost = self.arm.as_ref().ok_or(EINVAL)?.cost();
        write(
            arg,
            &uapi::Cost {
                known: cost.grace_periods.is_some().into(),
                grace_periods: cost.grace_periods.unwrap_or_default(),
            },
        )
    }

    fn choose(&mut self, mm: &MmWithUser, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        if self.arm.is_some() {
            return Err(EBUSY);
        }
        let index = usize::try_from(read::<u32>(arg)?)?;
        self.arm = Some(arms::choose(index, mm, p)?);
        Ok(())
    }

    fn mirror(&mut self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let arm = self.arm.as_ref().ok_or(EINVAL)?;
        if self.region.is_some() {
            return Err(EBUSY);
        }
        let region = read::<uapi::Region>(arg)?;
        let region = Region::new(&region)?;
        arm.mirror(&region, p)?;
        self.region = Some(region);
        Ok(())
    }

    fn finish(&mut self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let arm = self.arm.as_ref().ok_or(EINVAL)?;
        let region = self.region.clone().ok_or(EINVAL)?;
        let mut finish = read::<uapi::Finish>(arg)?;
        let room = usize::try_from(finish.room)?;
        let stamped = region.stamps().count();
        if room < stamped {
            return Err(ENOSPC);
        }
        arm.finish(&region, p)?;
        self.region = None;

        let stamps = UserPtr::from_addr(usize::try_from(finish.stamps)?);
        let size = stamped
            .checked_mul(size_of::<uapi::Stamp>())
            .ok_or(EOVERFLOW)?;
        let mut stamps = UserSlice::new(stamps, size).writer();
        for stamp in region.stamps() {
            stamps.write(&stamp)?;
        }
        finish.removed = region.removed_at();
        write(arg, &finish)
    }

    fn measure_floor(&mut self, mm: &MmWithUser, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let mut floor = read::<uapi::Floor>(arg)?;
        let region = Region::new(&floor.region)?;
        let queue = match self.floor.take() {
            Some(queue) => queue,
            None => {
                mmu_interval::prepare(mm, p)?;
                Floor::new()?
            }
        };
        let times = self
            .floor
            .insert(queue)
            .measure(&ARef::from(&**mm), region, p)?;
        floor.queued = times.queued;
        floor.ran = times.ran;
        floor.grace = times.grace;
        floor.removed = times.removed;
        write(arg, &floor)
    }
}

fn read<T: FromBytes>(arg: UserPtr) -> Result<T> {
    UserSlice::new(arg, size_of::<T>()).reader().read()
}

fn write<T: AsBytes>(arg: UserPtr, value: &T) -> Result {
    UserSlice::new(arg, size_of::<T>()).writer().write(value)
}
