// SPDX-License-Identifier: GPL-2.0

//! The structures and numbers of `samples/mirror/odp_mirror.h`, as far as they are used here.

macro_rules! structs {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default)]
        #[repr(C)]
        pub struct $name {
            $(pub $field: $type,)*
        }
    )*};
}

structs! {
    /// `struct odp_mirror_config`
    Config { retire: u64, flags: u64, }
    /// `struct odp_mirror_access`
    Access { addr: u64, flags: u64, value: u64, faults: u64, }
    /// `struct odp_mirror_part`
    Part { addr: u64, start: u64, len: u64, }
    /// `struct odp_mirror_probe`
    Probe { addr: u64, flags: u64, start: u64, len: u64, }
    /// `struct odp_mirror_page`
    Page { addr: u64, pfn: u64, flags: u64, }
    /// `struct odp_mirror_pages`
    Pages { start: u64, end: u64, pages: u64, count: u64, }
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
        events: [u64; 8],
        zapped: u64,
        told: u64,
        told_by_worker: u64,
    }
}

pub const RETIRE_UNMAP: u64 = 0;
pub const PUNCH_UNMAP: u64 = 3;
pub const AUTO: u64 = 1;

pub const WRITE: u64 = 1;
pub const CACHED: u64 = 2;

/// Of a page.
pub const WRITABLE: u64 = 4;

pub const REMOVED: u64 = 0;
pub const RELEASED: u64 = 1;

/// How many elements PAGES fills at most.
pub const MOST_PAGES: usize = 65536;

const MAGIC: u64 = b'o' as u64;

const fn number<T>(direction: u64, number: u64) -> u64 {
    (direction << 30) | ((size_of::<T>() as u64) << 16) | (MAGIC << 8) | number
}

const TO_KERNEL: u64 = 1;
const FROM_KERNEL: u64 = 2;

pub const CONFIGURE: u64 = number::<Config>(TO_KERNEL, 0);
pub const PROBE: u64 = number::<Probe>(TO_KERNEL | FROM_KERNEL, 5);
pub const FLUSH: u64 = number::<u64>(TO_KERNEL, 11);
pub const STATS: u64 = number::<Stats>(FROM_KERNEL, 13);
pub const ACCESS: u64 = number::<Access>(TO_KERNEL | FROM_KERNEL, 19);
pub const PAGES: u64 = number::<Pages>(TO_KERNEL | FROM_KERNEL, 22);
pub const MERGE: u64 = number::<Part>(TO_KERNEL, 25);
pub const GROW: u64 = number::<Part>(TO_KERNEL, 26);
