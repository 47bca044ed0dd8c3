// SPDX-License-Identifier: GPL-2.0

//! The kernel's half of the benchmark: mirrors memory of the process that asks for it, in one of
//! several ways, and notes when what happens.

#![crate_name = "odp_bench"]

mod arm;
mod floor;
#[cfg(CONFIG_MMU_INTERVAL_IN_CALLBACK)]
mod in_callback;
#[cfg(not(CONFIG_MMU_INTERVAL_IN_CALLBACK))]
#[path = "in_callback_absent.rs"]
mod in_callback;
mod none;
mod notify;
mod region;
mod retire;
mod uapi;

use self::{
    arm::Arm,
    floor::Floor,
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
    prelude::*,
    sync::{
        aref::ARef,
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
    mmu_interval,
    MayBlock, //
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
            description: "Arms that remove in the callback release after waiters have been woken, not before",
        },
    },
}

#[pin_data]
struct BenchModule {
    #[pin]
    _device: MiscDeviceRegistration<Session>,
}

impl kernel::InPlaceModule for BenchModule {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: uapi::NAME }),
        })
    }
}

// SAFETY: It consists of integers, without padding.
unsafe impl FromBytes for uapi::Region {}
// SAFETY: As above.
unsafe impl FromBytes for uapi::Finish {}
// SAFETY: As above.
unsafe impl AsBytes for uapi::Finish {}
// SAFETY: As above.
unsafe impl FromBytes for uapi::Floor {}
// SAFETY: As above.
unsafe impl AsBytes for uapi::Floor {}
// SAFETY: As above.
unsafe impl AsBytes for uapi::Stamp {}

/// An open file: one process, one arm, one region at a time.
#[pin_data]
struct Session {
    #[pin]
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    arm: Option<KBox<dyn Arm>>,
    region: Option<Arc<Region>>,
    floor: Option<Floor>,
}

#[vtable]
impl MiscDevice for Session {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                state <- new_mutex!(State::default(), "odp_bench::Session::state"),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(session: Pin<&Self>, _file: &File, request: u32, arg: usize) -> Result<isize> {
        let current = current!();
        let mm = current.mm().ok_or(ESRCH)?;
        let arg = UserPtr::from_addr(arg);
        let mut state = session.state.lock();
        MayBlock::enter(|p| match request {
            uapi::CHOOSE => state.choose(mm, arg, p),
            uapi::MIRROR => state.mirror(arg, p),
            uapi::FINISH => state.finish(arg, p),
            uapi::FLOOR => state.measure_floor(mm, arg, p),
            _ => Err(ENOTTY),
        })?;
        Ok(0)
    }
}

impl State {
    fn choose(&mut self, mm: &MmWithUser, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        if self.arm.is_some() {
            return Err(EBUSY);
        }
        let index = usize::try_from(read::<u32>(arg)?)?;
        self.arm = Some(arm::choose(index, mm, p)?);
        Ok(())
    }

    fn mirror(&mut self, arg: UserPtr, p: &mut MayBlock<'_>) -> Result {
        let arm = self.arm.as_mut().ok_or(EINVAL)?;
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
        let arm = self.arm.as_mut().ok_or(EINVAL)?;
        let region = self.region.clone().ok_or(EINVAL)?;
        let mut finish = read::<uapi::Finish>(arg)?;
        let room = usize::try_from(finish.room)?;
        if room < region.len() {
            return Err(ENOSPC);
        }
        arm.finish(&region, p)?;
        self.region = None;

        let stamps = UserPtr::from_addr(usize::try_from(finish.stamps)?);
        let size = region
            .len()
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
