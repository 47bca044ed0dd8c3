/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_MINIMAL_ACCEL_H
#define ODP_MINIMAL_ACCEL_H

/*
 * A device whose page table is an xarray, from an address divided by PAGE_SIZE to a page frame
 * number. The three drivers here differ only in how they let go of what is unmapped.
 */

#include <linux/mutex.h>
#include <linux/types.h>
#include <linux/xarray.h>

struct accel {
	/* The user lock: what the device can reach is written and used under it. */
	struct mutex lock;
	struct xarray table;
};

void accel_init(struct accel *accel);
void accel_destroy(struct accel *accel);

/* accel_reserve() allocates what accel_map() needs; not under the lock. */
int accel_reserve(struct accel *accel, unsigned long addr);

/* accel_map() lets the device reach a page, and accel_unmap() stops it; both under the lock. */
int accel_map(struct accel *accel, unsigned long addr, unsigned long pfn);
void accel_unmap(struct accel *accel, unsigned long start, unsigned long end);

#endif /* ODP_MINIMAL_ACCEL_H */
