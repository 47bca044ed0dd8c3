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
/// Waits until all is done that unmapping a part has led to.
pub(crate) const SETTLE: u32 = request::<u32>(WRITE, 4);
/// Looks up addresses until [`QUIET`]: a [`Reader`]. Several tasks at the same time.
pub(crate) const LOOKUP: u32 = request::<Reader>(READ | WRITE, 5);
/// Ends all lookups.
pub(crate) const QUIET: u32 = request::<u32>(WRITE, 6);
/// How many lookups there have been: a [`Lookups`].
pub(crate) const LOOKUPS: u32 = request::<Lookups>(READ | WRITE, 7);
/// Has invalidations of a span take long: a [`Disturb`].
pub(crate) const DISTURB: u32 = request::<Disturb>(WRITE, 8);
/// Waits for a bare grace period: a [`Grace`].
pub(crate) const GRACE: u32 = request::<Grace>(READ | WRITE, 9);
/// What the arm has cost so far: a [`Cost`].
pub(crate) const COST: u32 = request::<Cost>(READ | WRITE, 10);

/// Begins to note what callbacks take, or ends it: a [`Callbacks`].
pub(crate) const CALLBACKS: u32 = request::<Callbacks>(READ | WRITE, 11);
/// Mirrors a [`Region`] besides the one that there is, and looks up each of its ranges: what a
/// device does that meets an address for the first time. Several tasks at the same time. It is
/// unmapped before [`FINISH`].
pub(crate) const FAULT: u32 = request::<Region>(WRITE, 12);
/// Waits until all ranges of the stamped region, which is unmapped by now, are released, and lets
/// the arm take its time.
pub(crate) const WAIT: u32 = request::<u32>(WRITE, 13);
/// Finds a range, and reads a byte of user memory, for as long as that takes, before it lets go of
/// the range: an [`Access`].
pub(crate) const ACCESS: u32 = request::<Access>(WRITE, 14);
/// Begins read sections of the notifier of [`DISTURB`], one after the other, until [`QUIET`]: a
/// [`Begin`].
pub(crate) const BEGIN: u32 = request::<Begin>(READ | WRITE, 15);
/// Takes the lock of the process's notifiers, one time after the other, until [`QUIET`]: a
/// [`Contend`]. It takes the notifier of [`DISTURB`] for that, and nothing may invalidate it.
pub(crate) const CONTEND: u32 = request::<Contend>(READ | WRITE, 16);

/// What is known of an arm.
#[allow(dead_code, reason = "the module looks at the names only")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ArmInfo {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, and what protects its readers.
    pub(crate) says: &'static str,
    /// Ranges go because of the callback.
    pub(crate) removes: bool,
    /// It gives up a part of a range that is unmapped.
    pub(crate) punches: bool,
    /// It can be asked for addresses.
    pub(crate) looks_up: bool,
    /// A device may be in a range for as long as user space wants.
    pub(crate) holds: bool,
    /// It is there for the curve of what the wakeup delay costs, and for nothing else.
    pub(crate) curve: bool,
}

const fn arm(name: &'static str, says: &'static str) -> ArmInfo {
    ArmInfo {
        name,
        says,
        removes: true,
        punches: false,
        looks_up: true,
        holds: true,
        curve: false,
    }
}

const fn delayed(name: &'static str, says: &'static str) -> ArmInfo {
    ArmInfo {
        punches: true,
        curve: true,
        ..arm(name, says)
    }
}

/// The arms. The first two are what the others are compared with. One that a kernel cannot have
/// says so when it is chosen (`EOPNOTSUPP`): `incb-*` need the patches of `bench/in_callback`.
pub(crate) const ARMS: &[ArmInfo] = &[
    ArmInfo {
        removes: false,
        looks_up: false,
        holds: false,
        ..arm("none", "no notifier ever in that address space")
    },
    ArmInfo {
        removes: false,
        looks_up: false,
        holds: false,
        ..arm(
            "notify",
            "notifiers that only record the sequence, removed by the process afterwards",
        )
    },
    ArmInfo {
        punches: true,
        ..arm("retire", "this library; readers: SRCU")
    },
    ArmInfo {
        punches: true,
        ..arm(
            "retire-now",
            "this library, its worker woken up at once; readers: SRCU",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "retire-each",
            "this library, each removal waiting by itself; readers: SRCU",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "retire-exp",
            "this library, expedited grace periods; readers: SRCU",
        )
    },
    delayed(
        "retire-20",
        "this library, 20 µs until its worker is woken up",
    ),
    delayed("retire-50", "this library, 50 µs"),
    delayed("retire-100", "this library, 100 µs"),
    delayed("retire-200", "this library, 200 µs"),
    arm(
        "rcu",
        "as the library, by hand; readers: RCU and a reference",
    ),
    arm(
        "srcu-each",
        "call_srcu() and a work item for each object (mlx5, 2019); readers: SRCU",
    ),
    arm(
        "refcount",
        "a count and a work item for each object (mlx5 today); readers: a reference, under a lock",
    ),
    arm(
        "wq-rcu",
        "a work item for each object, call_rcu(); readers: RCU and a reference",
    ),
    ArmInfo {
        holds: false,
        ..arm("wq-mutex", "a work item for each object; readers: a mutex")
    },
    ArmInfo {
        punches: true,
        holds: false,
        ..arm(
            "mmap-write",
            "remove and insert again under mmap_lock (amdkfd); readers: a mutex",
        )
    },
    ArmInfo {
        punches: true,
        holds: false,
        ..arm(
            "whole",
            "one notifier for the address space, nothing to remove (test_hmm); readers: a mutex",
        )
    },
    arm(
        "gpusvm",
        "a notifier for 512 MiB, a list and a work item (drm_gpusvm, xe); readers: the vm's lock",
    ),
    ArmInfo {
        punches: true,
        looks_up: false,
        holds: false,
        ..arm(
            "incb-faithful",
            "removal in the callback, core mm as posted in 2020; no lookups",
        )
    },
    ArmInfo {
        punches: true,
        holds: false,
        ..arm(
            "incb-mutex",
            "removal in the callback, core mm repaired; readers: a mutex",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "incb-srcu",
            "the same, call_srcu() for each range; readers: SRCU",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "incb-srcu-exp",
            "the same, and srcu_expedite_current(); readers: SRCU",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "incb-batch",
            "removal in the callback, a work item, one grace period for all; readers: SRCU",
        )
    },
    ArmInfo {
        punches: true,
        ..arm(
            "incb-rcu",
            "removal in the callback, kfree_rcu(); readers: RCU and a reference",
        )
    },
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
    /// When whoever does the rest had begun with it; for arms that do not say, zero.
    pub(crate) begun: u64,
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

/// Lookups of addresses of a region, one after the other.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Reader {
    /// In: the first byte.
    pub(crate) start: u64,
    /// In: how many bytes.
    pub(crate) size: u64,
    /// In: how many [`QUIET`]s there have been.
    pub(crate) quiet: u64,
    /// Out: how many lookups.
    pub(crate) lookups: u64,
    /// Out: how many of them found something.
    pub(crate) hits: u64,
}

/// What all readers have done.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Lookups {
    /// Out: how many readers there are.
    pub(crate) readers: u64,
    /// Out: how many lookups they have made, and those before them.
    pub(crate) lookups: u64,
}

/// A notifier whose callback sleeps.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Disturb {
    /// What it watches: the first byte.
    pub(crate) start: u64,
    /// How many bytes; none to end it.
    pub(crate) size: u64,
    /// How many microseconds it sleeps.
    pub(crate) phase: u64,
}

/// A bare grace period.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Grace {
    /// In: how many microseconds after the one before.
    pub(crate) gap: u32,
    /// In: whether it is expedited.
    pub(crate) expedited: u32,
    /// Out: how many nanoseconds it took.
    pub(crate) took: u64,
}

/// What an arm has cost so far.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Cost {
    /// Out: whether it knows about grace periods.
    pub(crate) known: u64,
    /// Out: how many.
    pub(crate) grace_periods: u64,
}

/// What callbacks of all processes take, by the clock.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Callbacks {
    /// In: whether to begin, or to end.
    pub(crate) begin: u64,
    /// Out, when it begins: what one is said to take in which nothing happens, in nanoseconds.
    pub(crate) nothing: u64,
    /// Out, when it ends: how many there were.
    pub(crate) callbacks: u64,
    /// Out: the nanoseconds of the first.
    pub(crate) first: u64,
    /// Out: those of all others together.
    pub(crate) others: u64,
}

/// An access that takes long.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Access {
    /// In: where the range is.
    pub(crate) addr: u64,
    /// In: what is read meanwhile.
    pub(crate) user: u64,
}

/// What it takes to get a lock.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Contend {
    /// In: how many [`QUIET`]s there have been.
    pub(crate) quiet: u64,
    /// Out: how often it was taken.
    pub(crate) times: u64,
    /// Out: how long that took at most, in nanoseconds,
    pub(crate) worst: u64,
    /// Out: and added up.
    pub(crate) sum: u64,
}

/// Read sections of a notifier whose callback sleeps.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Begin {
    /// In: how many [`QUIET`]s there have been.
    pub(crate) quiet: u64,
    /// Out: how many of them had to wait for the callback.
    pub(crate) waits: u64,
    /// Out: from the end of the callback until they began, in nanoseconds, at most,
    pub(crate) worst: u64,
    /// Out: and added up.
    pub(crate) sum: u64,
}
