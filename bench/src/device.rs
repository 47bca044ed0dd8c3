// SPDX-License-Identifier: GPL-2.0

//! The module's device, the memory, and the clock, as safe functions.

use crate::uapi;
use std::{
    fs::{File, OpenOptions},
    io::{self, Error},
    os::fd::AsRawFd,
    ptr,
};

/// An open `/dev/odp_bench`.
pub struct Device(File);

impl Device {
    pub fn open() -> io::Result<Self> {
        let name = uapi::NAME.to_str().map_err(Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/{name}"))?;
        Ok(Self(file))
    }

    fn request<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: The number says how large the argument is, and the module keeps to that; all that
        // it writes are integers.
        let status =
            unsafe { libc::ioctl(self.0.as_raw_fd(), request.into(), ptr::from_mut(argument)) };
        checked(status)
    }

    pub fn choose(&self, arm: &str) -> io::Result<()> {
        let index = uapi::ARMS.iter().position(|name| *name == arm);
        let mut index = index.ok_or_else(|| Error::other(format!("no arm {arm}")))? as u32;
        self.request(uapi::CHOOSE, &mut index)
    }

    /// Whether the kernel can have an arm at all. The calling process must not need its own for this.
    pub fn offers(arm: &str) -> io::Result<bool> {
        match Self::open()?.choose(arm) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            other => other.map(|()| true),
        }
    }

    pub fn mirror(&self, mut region: uapi::Region) -> io::Result<()> {
        self.request(uapi::MIRROR, &mut region)
    }

    /// Returns a stamp for each range, and when the wait for all removals ended.
    pub fn finish(&self, ranges: u32) -> io::Result<(Vec<uapi::Stamp>, u64)> {
        let mut stamps = vec![uapi::Stamp::default(); ranges as usize];
        let mut finish = uapi::Finish {
            stamps: stamps.as_mut_ptr().addr() as u64,
            room: u64::from(ranges),
            removed: 0,
        };
        self.request(uapi::FINISH, &mut finish)?;
        Ok((stamps, finish.removed))
    }

    pub fn floor(&self, region: uapi::Region) -> io::Result<uapi::Floor> {
        let mut floor = uapi::Floor {
            region,
            ..Default::default()
        };
        self.request(uapi::FLOOR, &mut floor)?;
        Ok(floor)
    }
}

/// Addresses that nothing else uses, with pages between them and what does.
///
/// So a mapping in them is one of its own, and a munmap() of it removes one mapping, whole.
pub struct Addresses {
    start: usize,
    size: usize,
}

/// The pages on both sides, and the alignment: of a page table, so that unmapping frees the same tables
/// each time.
const MARGIN: usize = 2 << 20;

impl Addresses {
    pub fn reserve(size: usize) -> io::Result<Self> {
        // SAFETY: The kernel chooses addresses that nothing uses.
        let start = unsafe { map(ptr::null_mut(), size + 3 * MARGIN, libc::PROT_NONE, 0) }?;
        let start = start.next_multiple_of(MARGIN) + MARGIN;
        Ok(Self { start, size })
    }

    pub fn start(&self) -> usize {
        self.start
    }

    /// Maps memory at the beginning of the addresses, and touches it all.
    pub fn populate(&self, size: usize) -> io::Result<()> {
        self.check(size)?;
        // SAFETY: The addresses are ours, and nobody has a reference to memory in them.
        unsafe {
            let address = self.start as *mut _;
            map(
                address,
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_FIXED,
            )?;
            checked(libc::madvise(address, size, libc::MADV_NOHUGEPAGE))?;
            checked(libc::madvise(address, size, libc::MADV_POPULATE_WRITE))
        }
    }

    /// Unmaps it, and says how long the call took.
    pub fn unmap(&self, size: usize) -> io::Result<u64> {
        self.check(size)?;
        let address = self.start as *mut _;
        let begin = now();
        // SAFETY: As above.
        let status = unsafe { libc::munmap(address, size) };
        let end = now();
        checked(status)?;
        // What is not mapped could be mapped by somebody else.
        // SAFETY: As above.
        unsafe { map(address, size, libc::PROT_NONE, libc::MAP_FIXED) }?;
        Ok(end - begin)
    }

    fn check(&self, size: usize) -> io::Result<()> {
        if size > self.size {
            return Err(Error::other("not as many addresses were reserved"));
        }
        Ok(())
    }
}

/// # Safety
///
/// If `flags` say `MAP_FIXED`, nobody uses what is at the addresses now.
unsafe fn map(
    address: *mut libc::c_void,
    size: usize,
    access: i32,
    flags: i32,
) -> io::Result<usize> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: By the safety requirements.
    let start = unsafe { libc::mmap(address, size, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    Ok(start.addr())
}

fn checked(status: i32) -> io::Result<()> {
    if status < 0 {
        return Err(Error::last_os_error());
    }
    Ok(())
}

/// The time in nanoseconds, by a clock that nobody adjusts.
pub fn now() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: It writes there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_RAW, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many thousand times a second the TSC of this machine ticks.
pub fn tsc_khz() -> u64 {
    // SAFETY: Every CPU that runs this has one.
    let ticks = || unsafe { core::arch::x86_64::_rdtsc() };
    let begin = (now(), ticks());
    std::thread::sleep(std::time::Duration::from_millis(200));
    let end = (now(), ticks());
    (end.1 - begin.1) * 1_000_000 / (end.0 - begin.0)
}
