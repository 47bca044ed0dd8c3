/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space can ask of an open /dev/odp_managed_sample.
 *
 * The addresses are those of the process that has opened it, whoever asks.
 */
#ifndef ODP_MANAGED_SAMPLE_H
#define ODP_MANAGED_SAMPLE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Bytes, multiples of the page size; the end is exclusive. */
struct odp_managed_span {
	__u64 start;
	__u64 end;
};

struct odp_managed_read {
	__u64 addr;
	__u64 value;
};

struct odp_managed_count {
	__u64 start;
	__u64 end;
	/* How many ranges in service have any part of it, and how many bytes. */
	__u64 ranges;
	__u64 mirrored;
};

struct odp_managed_stats {
	/* How many bytes the ranges have that are not released yet. */
	__u64 mirrored;
	/* How many pages the device reaches. */
	__u64 installed;
	/* How many faults began anew because an invalidation came between. */
	__u64 collided;
	/* How many tasks wait, see ODP_MANAGED_STALL. */
	__u64 stalled;
	/* What the library has counted. */
	__u64 changes;
	__u64 unchanged;
	__u64 replaced;
	__u64 pieces;
	__u64 released;
};

/* Mirrors a span. EEXIST if part of it is mirrored. */
#define ODP_MANAGED_INSERT	_IOW('o', 0x80, struct odp_managed_span)
/*
 * Reads an aligned 64-bit word as the device sees it. ENOENT if it is not mirrored, EFAULT if there
 * is nothing that could be read.
 */
#define ODP_MANAGED_READ	_IOWR('o', 0x81, struct odp_managed_read)
/*
 * Finds the range that an address, @start, is mirrored by, and keeps hold of it until this is done
 * again or the file is closed. ENOENT if there is none.
 */
#define ODP_MANAGED_HOLD	_IOWR('o', 0x82, struct odp_managed_span)
/* Ask the range that is held, and fail as that does; EBADF if there is none. */
#define ODP_MANAGED_PUNCH	_IOW('o', 0x83, struct odp_managed_span)
#define ODP_MANAGED_RESIZE	_IOW('o', 0x84, struct odp_managed_span)
#define ODP_MANAGED_RETIRE	_IO('o', 0x85)
/* Ends the hold. */
#define ODP_MANAGED_REMOVE	_IO('o', 0x86)
/* Waits until all that was asked for is done; while a range is held, not for releases. */
#define ODP_MANAGED_FLUSH	_IO('o', 0x87)
/* Reads counters. */
#define ODP_MANAGED_STATS	_IOR('o', 0x88, struct odp_managed_stats)
/* For tests: has tasks wait at these places until they are not named any more, or for 20 s. */
#define ODP_MANAGED_STALL	_IOW('o', 0x89, __u64)
/* Goes through the ranges of a span, which need not be of whole pages. */
#define ODP_MANAGED_COUNT	_IOWR('o', 0x8a, struct odp_managed_count)

/* A fault that has found a page, before it is installed. */
#define ODP_MANAGED_IN_FAULT	1
/* The worker, which has taken a range out of service. */
#define ODP_MANAGED_IN_WORKER	2
/* An invalidation, where the device may be waited for: of files opened with zap_sleeps. */
#define ODP_MANAGED_IN_ZAP	4

#endif /* ODP_MANAGED_SAMPLE_H */
