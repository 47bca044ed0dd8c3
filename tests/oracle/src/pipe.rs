// SPDX-License-Identifier: GPL-2.0

//! Accesses to memory that may not be there: the kernel tries, and says so.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd},
};

/// A pipe that words go through on their way from or to an address that need not be good.
pub struct Pipe {
    reader: File,
    writer: File,
}

impl Pipe {
    pub fn new() -> io::Result<Self> {
        let mut ends = [0i32; 2];
        // SAFETY: It writes two numbers.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: The descriptors are new, so they are ours.
        let [reader, writer] = ends.map(|end| unsafe { File::from_raw_fd(end) });
        Ok(Self { reader, writer })
    }

    /// `EFAULT` exactly where a load would fault.
    pub fn load(&self, address: usize) -> io::Result<u64> {
        let mut word = [0u8; 8];
        // SAFETY: Only the kernel looks there, and copes.
        checked(unsafe { libc::write(self.writer.as_raw_fd(), address as *const _, word.len()) })?;
        (&self.reader).read_exact(&mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// `EFAULT` exactly where a store would fault.
    ///
    /// # Safety
    ///
    /// Nobody has a reference to what is there.
    pub unsafe fn store(&self, address: usize, value: u64) -> io::Result<()> {
        (&self.writer).write_all(&value.to_ne_bytes())?;
        // SAFETY: By the safety requirements.
        let read = checked(unsafe { libc::read(self.reader.as_raw_fd(), address as *mut _, 8) });
        if read.is_err() {
            // It is still in the pipe.
            (&self.reader).read_exact(&mut [0; 8])?;
        }
        read
    }
}

fn checked(count: isize) -> io::Result<()> {
    match count {
        8 => Ok(()),
        0.. => Err(io::Error::other("part of a word went through a pipe")),
        _ => Err(io::Error::last_os_error()),
    }
}
