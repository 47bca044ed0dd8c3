// SPDX-License-Identifier: GPL-2.0

//! Which frames a process has where.

use crate::model::PAGE;
use std::{fs::File, io, os::unix::fs::FileExt};

pub struct Pagemap(File);

const PRESENT: u64 = 1 << 63;
const FRAME: u64 = (1 << 55) - 1;

impl Pagemap {
    /// Of a process, or of "self".
    pub fn open(process: &str) -> io::Result<Self> {
        Ok(Self(File::open(format!("/proc/{process}/pagemap"))?))
    }

    /// The frame of a page that is present.
    pub fn frame(&self, address: usize) -> io::Result<Option<u64>> {
        let mut entry = [0; 8];
        self.0
            .read_exact_at(&mut entry, (address / PAGE * 8) as u64)?;
        let entry = u64::from_ne_bytes(entry);
        match (entry & PRESENT != 0, entry & FRAME) {
            (false, _) => Ok(None),
            (true, 0) => Err(io::Error::other("/proc/*/pagemap hides frames; be root")),
            (true, frame) => Ok(Some(frame)),
        }
    }
}
