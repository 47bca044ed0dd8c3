// SPDX-License-Identifier: GPL-2.0

//! The real device: `/dev/odp_mirror`.

use crate::{
    device::{Device, How, Mirrored, Policy, Reshape},
    model::PAGE,
    uapi,
};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
};

/// Why a range is not reshaped, where that is no fault of the device's.
const NOT_SO: [i32; 4] = [libc::ENOENT, libc::EINVAL, libc::EEXIST, libc::ESTALE];

/// A file of the device's.
pub struct Mirror(File);

impl Mirror {
    /// Mirrors the address space of this process from now on.
    pub fn open(policy: Policy) -> io::Result<Self> {
        let path = "/dev/odp_mirror";
        let file = OpenOptions::new().read(true).write(true).open(path);
        let mirror = Self(file.map_err(|error| io::Error::other(format!("{path}: {error}")))?);
        let mut config = uapi::Config {
            retire: match policy {
                Policy::Retire => uapi::RETIRE_UNMAP,
                Policy::Punch => uapi::PUNCH_UNMAP,
            },
            flags: uapi::AUTO,
        };
        mirror.request(uapi::CONFIGURE, &mut config)?;
        Ok(mirror)
    }

    /// One that somebody else has opened and configured.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    fn request<T>(&self, request: u64, argument: &mut T) -> io::Result<()> {
        // SAFETY: The number says how large the argument is, and the module keeps to that; all that
        // it writes are integers. PAGES, which writes elsewhere, too, is below.
        let status = unsafe { libc::ioctl(self.0.as_raw_fd(), request, ptr::from_mut(argument)) };
        if status < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    fn access(&self, address: usize, value: u64, flags: u64, how: How) -> io::Result<uapi::Access> {
        let cached = match how {
            How::Fault => 0,
            How::Cached => uapi::CACHED,
        };
        let mut access = uapi::Access {
            addr: address as u64,
            flags: flags | cached,
            value,
            faults: 0,
        };
        self.request(uapi::ACCESS, &mut access)?;
        Ok(access)
    }

    pub fn stats(&self) -> io::Result<uapi::Stats> {
        let mut stats = uapi::Stats::default();
        self.request(uapi::STATS, &mut stats)?;
        Ok(stats)
    }

    /// The range that is in service at an address.
    pub fn range(&self, address: usize) -> io::Result<Option<Range<usize>>> {
        let mut probe = uapi::Probe {
            addr: address as u64,
            ..Default::default()
        };
        self.request(uapi::PROBE, &mut probe)?;
        let range = probe.start as usize..(probe.start + probe.len) as usize;
        Ok((probe.len > 0).then_some(range))
    }
}

impl Device for Mirror {
    fn load(&self, address: usize, how: How) -> io::Result<(u64, u64)> {
        let access = self.access(address, 0, 0, how)?;
        Ok((access.value, access.faults))
    }

    fn store(&self, address: usize, value: u64, how: How) -> io::Result<u64> {
        Ok(self.access(address, value, uapi::WRITE, how)?.faults)
    }

    fn flush(&self, released: bool) -> io::Result<()> {
        let mut until = if released {
            uapi::RELEASED
        } else {
            uapi::REMOVED
        };
        self.request(uapi::FLUSH, &mut until)
    }

    fn reshape(&self, address: usize, within: Range<usize>, how: Reshape) -> io::Result<()> {
        let mut part = uapi::Part {
            addr: address as u64,
            start: within.start as u64,
            len: within.len() as u64,
        };
        let request = match how {
            Reshape::Merge => uapi::MERGE,
            Reshape::Grow => uapi::GROW,
        };
        match self.request(request, &mut part) {
            // There is none, or it is not in there, or others are.
            Err(error) if error.raw_os_error().is_some_and(|no| NOT_SO.contains(&no)) => Ok(()),
            other => other,
        }
    }

    fn ranges(&self) -> io::Result<u64> {
        Ok(self.stats()?.ranges)
    }

    fn seen_by_child(&self, address: usize) -> Option<io::Result<u64>> {
        Some(self.load(address, How::Fault).map(|(value, _)| value))
    }

    fn pages(&self, addresses: Range<usize>) -> io::Result<Vec<Mirrored>> {
        let mut found = Vec::new();
        let most = uapi::MOST_PAGES.min(addresses.len() / PAGE);
        let mut room = vec![uapi::Page::default(); most];
        let mut start = addresses.start as u64;
        loop {
            let mut pages = uapi::Pages {
                start,
                end: addresses.end as u64,
                pages: room.as_mut_ptr().addr() as u64,
                count: room.len() as u64,
            };
            self.request(uapi::PAGES, &mut pages)?;
            let filled = &room[..pages.count as usize];
            found.extend(filled.iter().map(|page| Mirrored {
                address: page.addr as usize,
                frame: page.pfn,
                writable: page.flags & uapi::WRITABLE != 0,
            }));
            match filled.last() {
                Some(last) if filled.len() == room.len() => start = last.addr + PAGE as u64,
                _ => return Ok(found),
            }
        }
    }
}
