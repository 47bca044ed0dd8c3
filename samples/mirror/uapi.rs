// SPDX-License-Identifier: GPL-2.0

//! The structures and numbers of `odp_mirror.h`.

use kernel::{
    ioctl::{
        _IO,
        _IOR,
        _IOW,
        _IOWR, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    }, //
};

macro_rules! user_structs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        pub(crate) struct $name {
            $(pub(crate) $field: $type,)*
        }

        // SAFETY: It consists of `u64`s, so there are no invalid values and no interior mutability.
        unsafe impl FromBytes for $name {}
        // SAFETY: It consists of `u64`s, so there is no padding.
        unsafe impl AsBytes for $name {}
    )*};
}

user_structs! {
    /// `struct odp_mirror_config`
    Config { retire: u64, flags: u64, }
    /// `struct odp_mirror_range`
    Range { start: u64, len: u64, }
    /// `struct odp_mirror_fault`
    Fault { addr: u64, flags: u64, value: u64, attempts: u64, }
    /// `struct odp_mirror_access`
    Access { addr: u64, flags: u64, value: u64, faults: u64, }
    /// `struct odp_mirror_part`
    Part { addr: u64, start: u64, len: u64, }
    /// `struct odp_mirror_page`
    Page { addr: u64, pfn: u64, flags: u64, }
    /// `struct odp_mirror_pages`
    Pages { start: u64, end: u64, pages: u64, count: u64, }
    /// `struct odp_mirror_probe`
    Probe { addr: u64, flags: u64, start: u64, len: u64, }
    /// `struct odp_mirror_hold`
    Hold { addr: u64, id: u64, }
    /// `struct odp_mirror_park`
    Park { addr: u64, place: u64, }
    /// `struct odp_mirror_wait`
    Wait { place: u64, tasks: u64, timeout_ms: u64, }
    /// `struct odp_mirror_stats`
    Stats {
        inserted: u64,
        insert_failed: u64,
        mm_dead: u64,
        queued: u64,
        coalesced: u64,
        batches: u64,
        grace_periods: u64,
        drained: u64,
        started: u64,
        removed: u64,
        released: u64,
        holds: u64,
        puts: u64,
        held_back: u64,
        kicks: u64,
        would_block: u64,
        changes: u64,
        unchanged: u64,
        replaced: u64,
        pieces: u64,
        merged: u64,
        replace_failed: u64,
        ranges: u64,
        max_ranges: u64,
        events: [u64; EVENTS],
        zapped: u64,
        told: u64,
        told_by_worker: u64,
    }
}

/// How many events there are.
pub(crate) const EVENTS: usize = 8;

pub(crate) const RETIRE_UNMAP: u64 = 0;
pub(crate) const RETIRE_EVERY: u64 = 1;
pub(crate) const RETIRE_NEVER: u64 = 2;
pub(crate) const PUNCH_UNMAP: u64 = 3;

pub(crate) const AUTO: u64 = 1;
pub(crate) const WRITE: u64 = 1;
pub(crate) const CACHED: u64 = 2;

pub(crate) const MIRRORED: u64 = 1;
pub(crate) const PRESENT: u64 = 2;
pub(crate) const WRITABLE: u64 = 4;

pub(crate) const REMOVED: u64 = 0;
pub(crate) const RELEASED: u64 = 1;

pub(crate) const IN_CALLBACK: u64 = 0;
pub(crate) const IN_LOCK: u64 = 1;
pub(crate) const IN_LOOKUP: u64 = 2;
pub(crate) const IN_WORKER: u64 = 3;

const MAGIC: u32 = b'o' as u32;

/// The numbers of the ioctls, named as in the header.
pub(crate) mod command {
    use super::*;

    pub(crate) const CONFIGURE: u32 = _IOW::<Config>(MAGIC, 0);
    pub(crate) const INSERT: u32 = _IOW::<Range>(MAGIC, 1);
    pub(crate) const RETIRE: u32 = _IOW::<u64>(MAGIC, 2);
    pub(crate) const REMOVE: u32 = _IOW::<u64>(MAGIC, 3);
    pub(crate) const FAULT: u32 = _IOWR::<Fault>(MAGIC, 4);
    pub(crate) const PROBE: u32 = _IOWR::<Probe>(MAGIC, 5);
    pub(crate) const HOLD: u32 = _IOWR::<Hold>(MAGIC, 6);
    pub(crate) const PUT: u32 = _IOW::<u64>(MAGIC, 7);
    pub(crate) const BEGIN: u32 = _IOWR::<Hold>(MAGIC, 8);
    pub(crate) const COMMIT: u32 = _IOW::<u64>(MAGIC, 9);
    pub(crate) const DRAIN: u32 = _IO(MAGIC, 10);
    pub(crate) const FLUSH: u32 = _IOW::<u64>(MAGIC, 11);
    pub(crate) const SHUTDOWN: u32 = _IO(MAGIC, 12);
    pub(crate) const STATS: u32 = _IOR::<Stats>(MAGIC, 13);
    pub(crate) const STALL: u32 = _IOW::<u64>(MAGIC, 14);
    pub(crate) const UNSTALL: u32 = _IO(MAGIC, 15);
    pub(crate) const PARK: u32 = _IOW::<Park>(MAGIC, 16);
    pub(crate) const UNPARK: u32 = _IOW::<u64>(MAGIC, 17);
    pub(crate) const WAIT: u32 = _IOW::<Wait>(MAGIC, 18);
    pub(crate) const ACCESS: u32 = _IOWR::<Access>(MAGIC, 19);
    pub(crate) const RESIZE: u32 = _IOW::<Part>(MAGIC, 20);
    pub(crate) const PUNCH: u32 = _IOW::<Part>(MAGIC, 21);
    pub(crate) const PAGES: u32 = _IOWR::<Pages>(MAGIC, 22);
    pub(crate) const HOLD_WORKER: u32 = _IOW::<u64>(MAGIC, 23);
    pub(crate) const RELEASE_WORKER: u32 = _IO(MAGIC, 24);
    pub(crate) const MERGE: u32 = _IOW::<Part>(MAGIC, 25);
    pub(crate) const GROW: u32 = _IOW::<Part>(MAGIC, 26);
}
