// SPDX-License-Identifier: GPL-2.0

//! The module's device, the memory, and the clock, as safe functions.

use crate::uapi;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Error},
    os::fd::AsRawFd,
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// An open `/dev/odp_bench`.
pub struct Device {
    file: File,
    /// How often readers have been told to end.
    quiet: AtomicU64,
}

impl Device {
    pub fn open() -> io::Result<Self> {
        let name = uapi::NAME.to_str().map_err(Error::other)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/dev/{name}"))?;
        Ok(Self {
            file,
            quiet: AtomicU64::new(0),
        })
    }

    fn request<T>(&self, request: u32, argument: &mut T) -> io::Result<()> {
        // SAFETY: The number says how large the argument is, and the module keeps to that; all that
        // it writes are integers.
        let status = unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                request.into(),
                ptr::from_mut(argument),
            )
        };
        checked(status)
    }

    pub fn choose(&self, arm: &str) -> io::Result<()> {
        let index = uapi::ARMS.iter().position(|info| info.name == arm);
        let mut index = index.ok_or_else(|| Error::other(format!("no arm {arm}")))? as u32;
        self.request(uapi::CHOOSE, &mut index)
    }

    pub fn mirror(&self, mut region: uapi::Region) -> io::Result<()> {
        self.request(uapi::MIRROR, &mut region)
    }

    /// Returns a stamp for each range, if there are any, and when the wait for all removals ended.
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

    /// Mirrors a region besides the one that there is, and looks up all of it.
    pub fn fault(&self, mut region: uapi::Region) -> io::Result<()> {
        self.request(uapi::FAULT, &mut region)
    }

    /// Waits until all ranges of the stamped region are released, without telling the arm.
    pub fn wait(&self) -> io::Result<()> {
        self.request(uapi::WAIT, &mut 0_u32)
    }

    /// Is in the range at `addr` for as long as it takes to read the byte at `user`.
    pub fn access(&self, addr: usize, user: usize) -> io::Result<()> {
        let mut access = uapi::Access {
            addr: addr as u64,
            user: user as u64,
        };
        self.request(uapi::ACCESS, &mut access)
    }

    /// Begins to note what callbacks take; returns what one is said to take in which nothing
    /// happens.
    pub fn note_callbacks(&self) -> io::Result<u64> {
        let mut callbacks = uapi::Callbacks {
            begin: 1,
            ..Default::default()
        };
        self.request(uapi::CALLBACKS, &mut callbacks)?;
        Ok(callbacks.nothing)
    }

    /// Ends that.
    pub fn callbacks(&self) -> io::Result<uapi::Callbacks> {
        let mut callbacks = uapi::Callbacks::default();
        self.request(uapi::CALLBACKS, &mut callbacks)?;
        Ok(callbacks)
    }

    /// Begins read sections of the memory that is disturbed, until readers have been told to end
    /// once more than `quiet` times. Returns how many had to wait, and for how long at most after
    /// the callback's end.
    pub fn begin_sections(&self, quiet: u64) -> io::Result<(u64, u64)> {
        let mut begin = uapi::Begin {
            quiet,
            ..Default::default()
        };
        self.request(uapi::BEGIN, &mut begin)?;
        Ok((begin.waits, begin.worst))
    }

    /// Takes the lock of the process's notifiers until readers have been told to end once more than
    /// `quiet` times; memory is disturbed that nobody invalidates. Returns how long it took like
    /// most times, and at most.
    pub fn contend(&self, quiet: u64) -> io::Result<(u64, u64)> {
        let mut contend = uapi::Contend {
            quiet,
            ..Default::default()
        };
        self.request(uapi::CONTEND, &mut contend)?;
        let mean = contend.sum.checked_div(contend.times);
        let mean = mean.ok_or_else(|| io::Error::other("the lock was never taken"))?;
        Ok((mean, contend.worst))
    }

    /// Waits until what unmapping a part has led to is done.
    pub fn settle(&self) -> io::Result<()> {
        self.request(uapi::SETTLE, &mut 0_u32)
    }

    /// Looks up addresses until readers have been told to end once more than `quiet` times.
    pub fn look_up(&self, start: usize, size: usize, quiet: u64) -> io::Result<()> {
        let mut reader = uapi::Reader {
            start: start as u64,
            size: size as u64,
            quiet,
            ..Default::default()
        };
        self.request(uapi::LOOKUP, &mut reader)
    }

    /// How often readers have been told to end.
    pub fn quiet_count(&self) -> u64 {
        self.quiet.load(Relaxed)
    }

    /// Tells readers to end.
    pub fn quiet(&self) -> io::Result<()> {
        self.quiet.fetch_add(1, Relaxed);
        self.request(uapi::QUIET, &mut 0_u32)
    }

    /// How many readers there are, and how many lookups there have been.
    pub fn lookups(&self) -> io::Result<(u64, u64)> {
        let mut lookups = uapi::Lookups::default();
        self.request(uapi::LOOKUPS, &mut lookups)?;
        Ok((lookups.readers, lookups.lookups))
    }

    /// Has invalidations of that memory take so many microseconds; of no memory, none.
    pub fn disturb(&self, start: usize, size: usize, phase: u64) -> io::Result<()> {
        let mut disturb = uapi::Disturb {
            start: start as u64,
            size: size as u64,
            phase,
        };
        self.request(uapi::DISTURB, &mut disturb)
    }

    /// How long a grace period takes, so many microseconds after another one.
    pub fn grace(&self, gap: u32, expedited: bool) -> io::Result<u64> {
        let mut grace = uapi::Grace {
            gap,
            expedited: expedited.into(),
            took: 0,
        };
        self.request(uapi::GRACE, &mut grace)?;
        Ok(grace.took)
    }

    /// How many grace periods the arm has waited for, if it knows.
    pub fn cost(&self) -> io::Result<Option<u64>> {
        let mut cost = uapi::Cost::default();
        self.request(uapi::COST, &mut cost)?;
        Ok((cost.known != 0).then_some(cost.grace_periods))
    }
}

/// Addresses that nothing else uses, with pages between them and what does.
///
/// So a mapping in them is one of its own, and a munmap() of it removes one mapping, whole.
pub struct Addresses {
    reserved: usize,
    start: usize,
    size: usize,
}

/// The pages on both sides, and the alignment: of a page table, so that unmapping frees the same
/// tables each time.
const MARGIN: usize = 2 << 20;

impl Addresses {
    pub fn reserve(size: usize) -> io::Result<Self> {
        // SAFETY: The kernel chooses addresses that nothing uses.
        let start = unsafe { map(ptr::null_mut(), size + 3 * MARGIN, libc::PROT_NONE, 0) }?;
        Ok(Self {
            reserved: start,
            start: start.next_multiple_of(MARGIN) + MARGIN,
            size,
        })
    }

    pub fn start(&self) -> usize {
        self.start
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Maps memory at the beginning of the addresses.
    pub fn map(&self, size: usize) -> io::Result<()> {
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
            checked(libc::madvise(address, size, libc::MADV_NOHUGEPAGE))
        }
    }

    /// Maps memory at the beginning of the addresses, and touches it all.
    pub fn populate(&self, size: usize) -> io::Result<()> {
        self.map(size)?;
        // SAFETY: As above.
        unsafe {
            let address = self.start as *mut _;
            checked(libc::madvise(address, size, libc::MADV_POPULATE_WRITE))
        }
    }

    /// Reads the first byte, which is mapped.
    pub fn read(&self) {
        // SAFETY: The caller has mapped it, and nobody has a reference to it.
        unsafe { ptr::read_volatile(self.start as *const u8) };
    }

    /// Writes to the first byte, which is mapped.
    pub fn write(&self) {
        // SAFETY: As above.
        unsafe { ptr::write_volatile(self.start as *mut u8, 1) };
    }

    /// Drops the pages of what is mapped.
    pub fn drop_pages(&self, size: usize) -> io::Result<()> {
        self.check(size)?;
        // SAFETY: As above.
        unsafe {
            checked(libc::madvise(
                self.start as *mut _,
                size,
                libc::MADV_DONTNEED,
            ))
        }
    }

    /// Unmaps it, and says by `now` how long the call took.
    pub fn unmap(&self, size: usize, now: impl Fn() -> u64) -> io::Result<u64> {
        let took = self.unmap_part(0, size, now)?;
        self.reserve_part(0, size)?;
        Ok(took)
    }

    /// Unmaps `size` bytes of it, `offset` from its beginning. Until they are reserved again,
    /// somebody else might map something there.
    pub fn unmap_part(&self, offset: usize, size: usize, now: impl Fn() -> u64) -> io::Result<u64> {
        self.check(offset + size)?;
        let address = (self.start + offset) as *mut _;
        let begin = now();
        // SAFETY: As above.
        let status = unsafe { libc::munmap(address, size) };
        let end = now();
        checked(status)?;
        Ok(end - begin)
    }

    /// Reserves again what was unmapped.
    pub fn reserve_part(&self, offset: usize, size: usize) -> io::Result<()> {
        self.check(offset + size)?;
        let address = (self.start + offset) as *mut _;
        // SAFETY: As above.
        unsafe { map(address, size, libc::PROT_NONE, libc::MAP_FIXED) }?;
        Ok(())
    }

    /// Gives the addresses back.
    pub fn release(self) -> io::Result<()> {
        // SAFETY: As above; nothing refers to them after this.
        unsafe {
            checked(libc::munmap(
                self.reserved as *mut _,
                self.size + 3 * MARGIN,
            ))
        }
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
    // Most of what is mapped is never touched: it may be more than there is memory.
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
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
    time(libc::CLOCK_MONOTONIC_RAW)
}

/// How many nanoseconds the calling task has run.
pub fn task_now() -> u64 {
    time(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn time(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: It writes there.
    unsafe { libc::clock_gettime(clock, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// How many bytes the kernel uses for objects of its own.
pub fn kernel_memory() -> io::Result<u64> {
    let mut sum = 0;
    for line in fs::read_to_string("/proc/meminfo")?.lines() {
        let mut words = line.split_whitespace();
        if let (Some("SUnreclaim:" | "VmallocUsed:" | "Percpu:"), Some(kib)) =
            (words.next(), words.next())
        {
            sum += kib.parse::<u64>().map_err(Error::other)? * 1024;
        }
    }
    Ok(sum)
}

/// How many bytes the objects have that the kernel has allocated in caches that `is` says.
pub fn slab_memory(is: impl Fn(&str) -> bool) -> io::Result<u64> {
    objects(&fs::read_to_string("/proc/slabinfo")?, is)
}

/// Has the slab allocator give back what it keeps for later in caches that `is` says: that counts
/// as in use.
pub fn shrink_slabs(is: impl Fn(&str) -> bool) -> io::Result<()> {
    for cache in fs::read_dir("/sys/kernel/slab")? {
        let cache = cache?;
        if cache.file_name().to_str().is_some_and(&is) {
            fs::write(cache.path().join("shrink"), "1")?;
        }
    }
    Ok(())
}

fn objects(slabinfo: &str, is: impl Fn(&str) -> bool) -> io::Result<u64> {
    let mut sum = 0;
    for line in slabinfo.lines() {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        if name == "slabinfo" || name.starts_with('#') || !is(name) {
            continue;
        }
        let mut number = || words.next().unwrap_or_default().parse::<u64>();
        let (Ok(active), Ok(_), Ok(size)) = (number(), number(), number()) else {
            return Err(Error::other(format!("/proc/slabinfo says {line}")));
        };
        sum += active * size;
    }
    Ok(sum)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_counted_that_are_in_use() {
        let slabinfo = "slabinfo - version: 2.1\n\
            # name <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables\n\
            maple_node 10 32 256 32 2 : tunables 0 0 0 : slabdata 1 1 0\n\
            kmalloc-64 100 128 64 64 1 : tunables 0 0 0 : slabdata 2 2 0\n\
            kmalloc-8 3 512 8 512 1 : tunables 0 0 0 : slabdata 1 1 0\n";
        let kmalloc = |name: &str| name.starts_with("kmalloc-");
        assert_eq!(objects(slabinfo, kmalloc).unwrap(), 6424);
        assert_eq!(
            objects(slabinfo, |name| name == "maple_node").unwrap(),
            2560
        );
        assert!(objects("kmalloc-8 three 512 8", kmalloc).is_err());
    }
}
