// SPDX-License-Identifier: GPL-2.0

//! A page that is not there before this program says so: who touches it waits for user space.

use crate::device::Addresses;
use std::{
    fs::File,
    io::{self, Error, Read},
    os::fd::{AsRawFd, FromRawFd},
};

const PAGE: usize = 4096;

// As `linux/userfaultfd.h` has them.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
const REGISTER_MODE_MISSING: u64 = 1;
/// The size of a message, all of which are of faults here.
const MESSAGE: usize = 32;

/// The page.
pub struct Stall {
    faults: File,
    page: Addresses,
}

impl Stall {
    /// Maps it.
    pub fn new() -> io::Result<Self> {
        // SAFETY: It makes a file.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: It was opened just now, and nobody else knows of it.
        let faults = unsafe { File::from_raw_fd(fd as i32) };
        let page = Addresses::reserve(PAGE)?;
        page.map(PAGE)?;
        let this = Self { faults, page };
        // What the kernel offers and allows is written behind what it is asked for.
        this.request(UFFDIO_API, &mut [UFFD_API, 0, 0])?;
        let (start, size) = (this.address() as u64, PAGE as u64);
        let mut register = [start, size, REGISTER_MODE_MISSING, 0];
        this.request(UFFDIO_REGISTER, &mut register)?;
        Ok(this)
    }

    /// Where it is.
    pub fn address(&self) -> usize {
        self.page.start()
    }

    /// Waits until somebody waits for it.
    pub fn wait(&self) -> io::Result<()> {
        let mut message = [0; MESSAGE];
        (&self.faults).read_exact(&mut message)
    }

    /// Gives it to whoever waits.
    pub fn give(&self) -> io::Result<()> {
        let mut range = [self.address() as u64, PAGE as u64, 0, 0];
        self.request(UFFDIO_ZEROPAGE, &mut range)
    }

    /// Unmaps it; nobody waits any more.
    pub fn release(self) -> io::Result<()> {
        self.page.release()
    }

    fn request<const N: usize>(
        &self,
        request: libc::c_ulong,
        words: &mut [u64; N],
    ) -> io::Result<()> {
        // SAFETY: All arguments are as many words as the number of the request says.
        let status = unsafe { libc::ioctl(self.faults.as_raw_fd(), request, words.as_mut_ptr()) };
        if status < 0 {
            return Err(Error::last_os_error());
        }
        Ok(())
    }
}
