/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space can ask of an open /dev/odp_retire_sample.
 */
#ifndef ODP_RETIRE_SAMPLE_H
#define ODP_RETIRE_SAMPLE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What is mirrored at a time: as many bytes, aligned to as many. */
#define ODP_SAMPLE_WINDOW	0x10000

struct odp_sample_read {
	__u64 addr;
	__u64 value;
};

struct odp_sample_stats {
	__u64 queued;
	__u64 removed;
	__u64 released;
};

/*
 * Mirrors the window around an address of the process that has opened the device. EEXIST if it is
 * mirrored, EPERM from another process.
 */
#define ODP_SAMPLE_MIRROR	_IOW('o', 0x70, __u64)
/*
 * Reads an aligned 64-bit word as the device sees it. ENOENT if it is not mirrored, EFAULT if
 * nothing is mapped there, EPERM from another process if the device would have to fault.
 */
#define ODP_SAMPLE_READ		_IOWR('o', 0x71, struct odp_sample_read)
/* Waits until what has been unmapped is released. */
#define ODP_SAMPLE_FLUSH	_IO('o', 0x72)
/* Reads counters. */
#define ODP_SAMPLE_STATS	_IOR('o', 0x73, struct odp_sample_stats)

#endif /* ODP_RETIRE_SAMPLE_H */
