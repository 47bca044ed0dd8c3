// SPDX-License-Identifier: GPL-2.0

//! What the oracle knows of a device.

use std::{io, ops::Range};

/// What becomes of a range when part of it is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// All of it is given up.
    Retire,
    /// Only what is unmapped is.
    Punch,
}

/// How the device comes by a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// With a fault if it has none.
    Fault,
    /// It has it, or fails with `ENODATA`.
    Cached,
}

/// What becomes of a range when nothing is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reshape {
    Merge,
    Grow,
}

/// A page that the device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirrored {
    pub address: usize,
    pub frame: u64,
    pub writable: bool,
}

/// A change to the address space, for a device that no kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Unmapped,
    Cleared,
    Protected,
}

/// A device that accesses the memory of this process. Several threads use it at once.
///
/// Accesses are to aligned words; they return how many faults they took.
pub trait Device: Sync {
    fn load(&self, address: usize, how: How) -> io::Result<(u64, u64)>;
    fn store(&self, address: usize, value: u64, how: How) -> io::Result<u64>;
    /// Waits for what was given up before, and for its release if `released`.
    fn flush(&self, released: bool) -> io::Result<()>;
    /// Has the range at `address` become one with its neighbours, as far as they lie in `within`,
    /// or larger. Nothing can be seen of it but how many ranges there are.
    fn reshape(&self, _address: usize, _within: Range<usize>, _how: Reshape) -> io::Result<()> {
        Ok(())
    }
    /// How many ranges are not released.
    fn ranges(&self) -> io::Result<u64>;
    /// The pages that it has, in order.
    fn pages(&self, addresses: Range<usize>) -> io::Result<Vec<Mirrored>>;
    /// What a child of the process loads with it, which is what the process has there. Nothing if
    /// the device cannot be used in a child; it may not allocate there.
    fn seen_by_child(&self, _address: usize) -> Option<io::Result<u64>> {
        None
    }
    /// Told after a system call has returned. A real device was told during it.
    fn changed(&self, _addresses: Range<usize>, _change: Change) {}
}
