/* SPDX-License-Identifier: GPL-2.0 */
/* The ioctls of the tests' modules, in module/. */

#ifndef _MODULES_H
#define _MODULES_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* /dev/odp_root: makes the file a root, in the mm of the caller. */
#define ODP_ROOT_ALLOC _IO('o', 0x60)
/* Makes a child for the page at the argument, and releases it at once. */
#define ODP_ROOT_CHILD _IO('o', 0x61)

struct odp_hold_range {
	__u64 start;
	__u64 length;
};

/*
 * /dev/odp_hold: from now on, an invalidation of a part of the range stands still. The file is
 * readable as soon as one does.
 */
#define ODP_HOLD_ARM _IOW('o', 0x70, struct odp_hold_range)
/* Lets it go on, and all that come. */
#define ODP_HOLD_RELEASE _IO('o', 0x71)

#endif
