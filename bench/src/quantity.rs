// SPDX-License-Identifier: GPL-2.0

//! What the samples of a series may be of.

pub const TOOK: &str = "munmap()";
pub const IN_FIRST: &str = "in the first callback";
pub const IN_OTHERS: &str = "in each other callback";
pub const IN_ALL: &str = "in all callbacks";
pub const BEGUN: &str = "whoever does the rest begins";
pub const REMOVED: &str = "removed: a task that waits goes on";
pub const EACH: &str = "released: each range";
pub const LAST: &str = "released: the last range";
pub const WORK: &str = "work item runs";
pub const GRACE: &str = "grace period";
pub const REMOVE: &str = "all notifiers removed";
pub const CHAIN: &str = "sum, in one chain";
pub const GONE: &str = "munmap() until all is gone";
pub const RATE: &str = "removals per second";
pub const GRACE_PERIODS: &str = "grace periods per 1000 removals";
pub const SWITCHES: &str = "context switches per 1000 removals";
pub const INTERRUPTS: &str = "interrupts between CPUs per 1000 removals";
pub const PHASES: &str = "phases of the disturber meanwhile";
pub const SETTLED: &str = "munmap() until the pieces are right";
pub const LOOKUPS_IDLE: &str = "lookups per second before";
pub const LOOKUPS: &str = "lookups per second while ranges go";
pub const TYPICAL_CALL: &str = "munmap(), a call like most";
pub const WORST_CALL: &str = "munmap(), the worst call";
pub const FAULT_IDLE: &str = "fault, before";
pub const FAULT: &str = "fault, while ranges go";
pub const WORST_FAULT: &str = "fault, while ranges go, the worst";
pub const COPY: &str = "copy on write, in another thread";
pub const WORST_COPY: &str = "copy on write, in another thread, the worst";
pub const DROP: &str = "madvise(), in another thread";
pub const WORST_DROP: &str = "madvise(), in another thread, the worst";
pub const WORST_BEGIN: &str = "read_begin after a slow callback has ended, the worst";
pub const LOCKED: &str = "to take the lock of the notifiers, on average";
pub const WORST_LOCKED: &str = "to take the lock of the notifiers, the worst";
pub const OTHERS_GONE: &str = "released: the last of the ranges that nobody is in";
pub const HELD_GONE: &str = "released: the range that somebody is in";
pub const BYTES: &str = "bytes per range";
pub const OBJECTS: &str = "bytes per range, of its own objects";
pub const INDEX: &str = "bytes per range, of the nodes of an index";
pub const MIRROR_BYTES: &str = "bytes per mirror";
pub const MIRROR_MADE: &str = "making one";
pub const MIRRORED_EACH: &str = "mirroring, per range";
pub const TOOK_EACH: &str = "munmap(), per range";
pub const GONE_EACH: &str = "munmap() until all is gone, per range";
