/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The interface of the sample device that mirrors a process's address space.
 *
 * A file of /dev/odp_mirror mirrors the address space of the process that opened
 * it, whoever uses the file later. All ioctls return 0 or -1 with errno where
 * nothing else is said; EINVAL stands for a flag or a value that is not known.
 */

#ifndef _SAMPLES_ODP_MIRROR_H
#define _SAMPLES_ODP_MIRROR_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * enum odp_mirror_retire - which events make the device give a range up
 * @ODP_MIRROR_RETIRE_UNMAP: MMU_NOTIFY_UNMAP, which is how a file starts
 * @ODP_MIRROR_RETIRE_EVERY: every event
 * @ODP_MIRROR_RETIRE_NEVER: none
 * @ODP_MIRROR_PUNCH_UNMAP: none, but MMU_NOTIFY_UNMAP punches out what is unmapped
 *
 * The end of the address space makes it give up all ranges in any case.
 */
enum odp_mirror_retire {
	ODP_MIRROR_RETIRE_UNMAP = 0,
	ODP_MIRROR_RETIRE_EVERY = 1,
	ODP_MIRROR_RETIRE_NEVER = 2,
	ODP_MIRROR_PUNCH_UNMAP = 3,
};

/**
 * struct odp_mirror_config - how a file behaves from now on
 * @retire: one of &enum odp_mirror_retire
 * @flags: %ODP_MIRROR_AUTO: a fault where there is no range makes one around it
 */
struct odp_mirror_config {
	__u64 retire;
	__u64 flags;
};

#define ODP_MIRROR_AUTO 1

/**
 * struct odp_mirror_range - addresses to mirror
 * @start: the first byte
 * @len: how many bytes
 */
struct odp_mirror_range {
	__u64 start;
	__u64 len;
};

/**
 * struct odp_mirror_fault - the device accesses a byte that it may have no page for
 * @addr: the address of the byte
 * @flags: %ODP_MIRROR_WRITE: a write; otherwise it is a read
 * @value: the byte that is written or was read
 * @attempts: returns how often it had to be tried, because of invalidations
 */
struct odp_mirror_fault {
	__u64 addr;
	__u64 flags;
	__u64 value;
	__u64 attempts;
};

#define ODP_MIRROR_WRITE 1

/**
 * struct odp_mirror_access - the device loads or stores an aligned word of 8 bytes
 * @addr: the address of the word, a multiple of 8
 * @flags: %ODP_MIRROR_WRITE: a store; otherwise it is a load. %ODP_MIRROR_CACHED: only with what
 *	the device has a page for already, without a fault
 * @value: the word that is stored or was loaded
 * @faults: returns how many faults that took; 0 if the device had the page
 */
struct odp_mirror_access {
	__u64 addr;
	__u64 flags;
	__u64 value;
	__u64 faults;
};

#define ODP_MIRROR_CACHED 2

/**
 * struct odp_mirror_part - part of the range at an address
 * @addr: an address in the range
 * @start: the first byte of the part
 * @len: how many bytes
 */
struct odp_mirror_part {
	__u64 addr;
	__u64 start;
	__u64 len;
};

/**
 * struct odp_mirror_page - a page that the device has
 * @addr: where the process has it
 * @pfn: its frame
 * @flags: %ODP_MIRROR_WRITABLE if the device may write there
 */
struct odp_mirror_page {
	__u64 addr;
	__u64 pfn;
	__u64 flags;
};

/**
 * struct odp_mirror_pages - what pages the device has
 * @start: the first address to look at
 * @end: the first address not to look at any more
 * @pages: the address of an array of &struct odp_mirror_page, filled in order of address
 * @count: how many elements it has; returns how many have been filled
 */
struct odp_mirror_pages {
	__u64 start;
	__u64 end;
	__u64 pages;
	__u64 count;
};

/**
 * struct odp_mirror_probe - what the device could do without a fault
 * @addr: the address asked about
 * @flags: returns %ODP_MIRROR_MIRRORED if there is a range in service,
 *	%ODP_MIRROR_PRESENT if the device has the page, and
 *	%ODP_MIRROR_WRITABLE if it may write there
 * @start: returns the first byte of the range, or 0
 * @len: returns the length of the range, or 0
 */
struct odp_mirror_probe {
	__u64 addr;
	__u64 flags;
	__u64 start;
	__u64 len;
};

#define ODP_MIRROR_MIRRORED 1
#define ODP_MIRROR_PRESENT 2
#define ODP_MIRROR_WRITABLE 4

/**
 * struct odp_mirror_hold - a range that a file holds
 * @addr: an address in the range
 * @id: returns the number to refer to the hold by
 */
struct odp_mirror_hold {
	__u64 addr;
	__u64 id;
};

/**
 * enum odp_mirror_until - what to wait for
 * @ODP_MIRROR_REMOVED: no callback, lookup or access is left
 * @ODP_MIRROR_RELEASED: no hold, either
 */
enum odp_mirror_until {
	ODP_MIRROR_REMOVED = 0,
	ODP_MIRROR_RELEASED = 1,
};

/**
 * enum odp_mirror_place - where a task can be made to wait
 * @ODP_MIRROR_IN_CALLBACK: in an invalidation, before it is handled
 * @ODP_MIRROR_IN_LOCK: with the user lock held
 * @ODP_MIRROR_IN_LOOKUP: with the result of a lookup
 * @ODP_MIRROR_IN_WORKER: in the worker, which has taken a range out of service, before it waits
 *	for a grace period
 */
enum odp_mirror_place {
	ODP_MIRROR_IN_CALLBACK = 0,
	ODP_MIRROR_IN_LOCK = 1,
	ODP_MIRROR_IN_LOOKUP = 2,
	ODP_MIRROR_IN_WORKER = 3,
};

/**
 * struct odp_mirror_park - where the calling task is to wait
 * @addr: an address in a range
 * @place: %ODP_MIRROR_IN_LOCK or %ODP_MIRROR_IN_LOOKUP
 */
struct odp_mirror_park {
	__u64 addr;
	__u64 place;
};

/* The longest that a task waits, whoever it waits for. */
#define ODP_MIRROR_LONGEST_MS 600000

/**
 * struct odp_mirror_wait - wait until tasks wait
 * @place: one of &enum odp_mirror_place
 * @tasks: how many tasks there must be at least
 * @timeout_ms: when to give up; at most %ODP_MIRROR_LONGEST_MS
 */
struct odp_mirror_wait {
	__u64 place;
	__u64 tasks;
	__u64 timeout_ms;
};

/**
 * struct odp_mirror_stats - what has happened
 * @inserted: ranges inserted
 * @insert_failed: insertions that failed
 * @mm_dead: insertions that failed because the address space was gone
 * @queued: requests accepted
 * @coalesced: requests for what was retired already
 * @batches: batches taken
 * @grace_periods: grace periods waited for
 * @drained: requests taken by %ODP_MIRROR_DRAIN
 * @started: removals begun for a whole batch before the first was waited for
 * @removed: ranges removed
 * @released: ranges released
 * @holds: holds begun
 * @puts: holds ended
 * @held_back: releases that had to wait for a hold
 * @kicks: times that the worker was woken up
 * @would_block: non-blockable invalidations refused
 * @changes: requests to resize or punch that were accepted
 * @unchanged: of these, how many times there was nothing to do after all
 * @replaced: ranges replaced by others
 * @pieces: the ranges that they were replaced by
 * @merged: ranges that became part of a neighbour's, counted in @replaced, too
 * @replace_failed: times that a range was kept as it was because replacing it failed
 * @ranges: ranges that are not released yet
 * @max_ranges: how many there may be
 * @events: invalidations by event, as in enum mmu_notifier_event
 * @zapped: pages taken from the device
 * @told: how often the driver was told that a range is released
 * @told_by_worker: how often that was in a kernel thread that may sleep
 *
 * From @inserted to @replace_failed it is what the library counts (odp::Snapshot).
 */
struct odp_mirror_stats {
	__u64 inserted;
	__u64 insert_failed;
	__u64 mm_dead;
	__u64 queued;
	__u64 coalesced;
	__u64 batches;
	__u64 grace_periods;
	__u64 drained;
	__u64 started;
	__u64 removed;
	__u64 released;
	__u64 holds;
	__u64 puts;
	__u64 held_back;
	__u64 kicks;
	__u64 would_block;
	__u64 changes;
	__u64 unchanged;
	__u64 replaced;
	__u64 pieces;
	__u64 merged;
	__u64 replace_failed;
	__u64 ranges;
	__u64 max_ranges;
	__u64 events[8];
	__u64 zapped;
	__u64 told;
	__u64 told_by_worker;
};

#define ODP_MIRROR_EVENT_UNMAP 0
#define ODP_MIRROR_EVENT_CLEAR 1
#define ODP_MIRROR_EVENT_PROTECTION_VMA 2
#define ODP_MIRROR_EVENT_PROTECTION_PAGE 3
#define ODP_MIRROR_EVENT_SOFT_DIRTY 4
#define ODP_MIRROR_EVENT_RELEASE 5
#define ODP_MIRROR_EVENT_MIGRATE 6
#define ODP_MIRROR_EVENT_EXCLUSIVE 7

#define ODP_MIRROR_MAGIC 'o'

#define ODP_MIRROR_CONFIGURE _IOW(ODP_MIRROR_MAGIC, 0, struct odp_mirror_config)

/*
 * Mirrors a range from now on. ESRCH: the address space is gone. EEXIST: part of it is mirrored.
 * ENOSPC: there are too many ranges. ESHUTDOWN: after a shutdown. EINVAL, EOVERFLOW: not a range
 * of whole pages. Waits until the invalidations that are going on have ended, of whatever addresses.
 */
#define ODP_MIRROR_INSERT _IOW(ODP_MIRROR_MAGIC, 1, struct odp_mirror_range)

/* Asks for the range at an address to be removed. ENOENT: there is none. */
#define ODP_MIRROR_RETIRE _IOW(ODP_MIRROR_MAGIC, 2, __u64)

/*
 * Removes the range at an address, and waits for that. ENOENT: there is none. EINTR: the caller is
 * being killed.
 */
#define ODP_MIRROR_REMOVE _IOW(ODP_MIRROR_MAGIC, 3, __u64)

/*
 * Gets the page from the process that the address space is of, whoever asks, and accesses it.
 * ENOENT: there is no range. ESRCH: the address space is gone. EFAULT: there is no such page, or
 * none that may be read. EPERM: a write to what may only be read. EINTR: the caller is being
 * killed, or has a signal while invalidations of the page, or the ends of its range, keep coming.
 * ENOMEM.
 */
#define ODP_MIRROR_FAULT _IOWR(ODP_MIRROR_MAGIC, 4, struct odp_mirror_fault)
#define ODP_MIRROR_PROBE _IOWR(ODP_MIRROR_MAGIC, 5, struct odp_mirror_probe)

/*
 * Holds the range at an address until PUT. ENOENT: there is none. ENOSPC: there are too many holds.
 * EBUSY: another task waits for holds to end.
 */
#define ODP_MIRROR_HOLD _IOWR(ODP_MIRROR_MAGIC, 6, struct odp_mirror_hold)
/* ENOENT: there is no such hold. */
#define ODP_MIRROR_PUT _IOW(ODP_MIRROR_MAGIC, 7, __u64)

/*
 * Like HOLD, and gets the page as FAULT does for a read, with the same errors, in a read section.
 * EAGAIN: invalidations of the range kept coming. ESTALE: the range was retired meanwhile.
 */
#define ODP_MIRROR_BEGIN _IOWR(ODP_MIRROR_MAGIC, 8, struct odp_mirror_hold)
/*
 * Gives the device the page that BEGIN named, if nothing has happened to it since, and ends the
 * hold. EAGAIN: an invalidation of the page came between. ESTALE: the range was retired. ENOENT: there is no such
 * section.
 */
#define ODP_MIRROR_COMMIT _IOW(ODP_MIRROR_MAGIC, 9, __u64)

/* Removes what the worker has not taken yet; returns how many ranges that was. */
#define ODP_MIRROR_DRAIN _IO(ODP_MIRROR_MAGIC, 10)
/*
 * Waits for what was retired before; see &enum odp_mirror_until. SHUTDOWN retires everything and
 * waits for the releases. EBUSY: to be waited for are releases, and this file has holds. EINTR:
 * the caller of FLUSH is being killed.
 */
#define ODP_MIRROR_FLUSH _IOW(ODP_MIRROR_MAGIC, 11, __u64)
#define ODP_MIRROR_SHUTDOWN _IO(ODP_MIRROR_MAGIC, 12)

#define ODP_MIRROR_STATS _IOR(ODP_MIRROR_MAGIC, 13, struct odp_mirror_stats)

/*
 * The next so many blockable invalidations wait before they are handled, until UNSTALL, a signal,
 * or the close of the file, and for %ODP_MIRROR_LONGEST_MS at the longest. RELEASE never waits.
 */
#define ODP_MIRROR_STALL _IOW(ODP_MIRROR_MAGIC, 14, __u64)
#define ODP_MIRROR_UNSTALL _IO(ODP_MIRROR_MAGIC, 15)

/*
 * Waits as told until UNPARK. EINTR: a signal came. ETIMEDOUT: after %ODP_MIRROR_LONGEST_MS.
 * ENOENT: there is no range. ESTALE: the range was retired.
 */
#define ODP_MIRROR_PARK _IOW(ODP_MIRROR_MAGIC, 16, struct odp_mirror_park)
/* Ends all waits in a place: %ODP_MIRROR_IN_LOCK or %ODP_MIRROR_IN_LOOKUP. */
#define ODP_MIRROR_UNPARK _IOW(ODP_MIRROR_MAGIC, 17, __u64)

/* ETIMEDOUT, EINTR. */
#define ODP_MIRROR_WAIT _IOW(ODP_MIRROR_MAGIC, 18, struct odp_mirror_wait)

/*
 * The device accesses a word: with the page that it has, or else after a fault, for which a range
 * is made if the file is configured so. ENODATA: ODP_MIRROR_CACHED, and the device has no such
 * page, or none that it may store to. EINVAL: unaligned. Otherwise as for FAULT.
 */
#define ODP_MIRROR_ACCESS _IOWR(ODP_MIRROR_MAGIC, 19, struct odp_mirror_access)

/* Keeps only a part of a range. ENOENT: no range. EINVAL: not a part of it. ESTALE: retired. */
#define ODP_MIRROR_RESIZE _IOW(ODP_MIRROR_MAGIC, 20, struct odp_mirror_part)
/* Says that a part of a range is unmapped, as an invalidation does. Errors as for RESIZE. */
#define ODP_MIRROR_PUNCH _IOW(ODP_MIRROR_MAGIC, 21, struct odp_mirror_part)

/* Lists the pages that the device has. ENOMEM; EINVAL: more than 65536 elements at once. */
#define ODP_MIRROR_PAGES _IOWR(ODP_MIRROR_MAGIC, 22, struct odp_mirror_pages)

/*
 * The next so many ranges that the worker takes out of service make it wait, until
 * RELEASE_WORKER or the close of the file, and for %ODP_MIRROR_LONGEST_MS at the longest.
 */
#define ODP_MIRROR_HOLD_WORKER _IOW(ODP_MIRROR_MAGIC, 23, __u64)
#define ODP_MIRROR_RELEASE_WORKER _IO(ODP_MIRROR_MAGIC, 24)

/*
 * Asks for the range at an address to become one with its neighbours, as far as they lie in the
 * part, which has all of it. ENOENT: no range. EINVAL: the part lacks some of it. ESTALE: retired.
 */
#define ODP_MIRROR_MERGE _IOW(ODP_MIRROR_MAGIC, 25, struct odp_mirror_part)
/*
 * Has the range at an address become the part, and waits for that. EEXIST: another range is there.
 * EINVAL: it has nothing of the range, or the device does not punch. ENOENT, ESTALE: as for MERGE.
 * EINTR: the caller is being killed. If another range comes to be there meanwhile, it stays as it
 * is.
 */
#define ODP_MIRROR_GROW _IOW(ODP_MIRROR_MAGIC, 26, struct odp_mirror_part)

#endif /* _SAMPLES_ODP_MIRROR_H */
