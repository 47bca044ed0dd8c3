// SPDX-License-Identifier: GPL-2.0

//! What the benchmark's module and its program say to each other through `/dev/odp_bench`.
//!
//! Both compile this very file, so it is free of kernel types.
//!
//! All times are nanoseconds since the region they belong to was made known to the module, and zero
//! where the thing has not happened. The clock is `CLOCK_MONOTONIC`.

/// The name of the device.
pub(crate) const NAME: &core::ffi::CStr = c"odp_bench";

/// The letter of the requests.
const LETTER: u32 = b'o' as u32;

const WRITE: u32 = 1;
const READ: u32 = 2;

/// The number of a request, as `_IOC()` makes it where two bits are for the direction.
const fn request<T>(direction: u32, number: u32) -> u32 {
    // CAST: No argument is as large as the 14 bits for its size.
    (direction << 30) | ((size_of::<T>() as u32) << 16) | (LETTER << 8) | number
}

/// Chooses the arm: an index into [`ARMS`]. Once for each open file.
pub(crate) const CHOOSE: u32 = request::<u32>(WRITE, 0);
/// Mirrors a region of the caller's memory: takes a [`Region`].
pub(crate) const MIRROR: u32 = request::<Region>(WRITE, 1);
/// Waits until nothing is left of what was mirrored, which is unmapped by now: a [`Finish`].
pub(crate) const FINISH: u32 = request::<Finish>(READ | WRITE, 2);
/// Does what no removal can do without, and nothing else, for a [`Floor`].
pub(crate) const FLOOR: u32 = request::<Floor>(READ | WRITE, 3);

/// The arms' names. The first two are what the others are compared with.
///
/// `incb-*` need the patches of `bench/in_callback`: without, choosing one is an `EOPNOTSUPP`.
pub(crate) const ARMS: [&str; 6] = [
    "none",
    "notify",
    "retire",
    "incb-faithful",
    "incb-mutex",
    "incb-srcu",
];

/// Memory to be mirrored as ranges that follow each other.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Region {
    /// The first byte.
    pub(crate) start: u64,
    /// How many bytes a range has.
    pub(crate) range_size: u64,
    /// How many ranges there are.
    pub(crate) ranges: u32,
    /// Whether to note when what happens; the clock costs time in `invalidate()`.
    pub(crate) stamped: u32,
}

/// What became of a range.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Stamp {
    /// When `invalidate()` asked for its removal.
    pub(crate) retired: u64,
    /// When it was released.
    pub(crate) released: u64,
}

/// What became of a region.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Finish {
    /// In: where to put a [`Stamp`] for each range.
    pub(crate) stamps: u64,
    /// In: how many there is room for.
    pub(crate) room: u64,
    /// Out: when a task that waited for all removals went on. Not before the request was made.
    pub(crate) removed: u64,
}

/// A bare work item that waits for a bare grace period and then removes bare notifiers.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Floor {
    /// In: what the notifiers watch.
    pub(crate) region: Region,
    /// Out: when it was queued.
    pub(crate) queued: u64,
    /// Out: when it ran.
    pub(crate) ran: u64,
    /// Out: when the grace period was over.
    pub(crate) grace: u64,
    /// Out: when all notifiers were removed.
    pub(crate) removed: u64,
}
