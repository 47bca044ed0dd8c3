// SPDX-License-Identifier: GPL-2.0

/*
 * The device that the drivers here have in common, and the module that they are compiled into. The
 * module does nothing when it is loaded: these drivers are here to be read, and to be compiled.
 * samples/managed and samples/retire are whole ones.
 */

#include <linux/hmm.h>
#include <linux/lockdep.h>
#include <linux/module.h>

#include "accel.h"

void accel_init(struct accel *accel)
{
	mutex_init(&accel->lock);
	xa_init(&accel->table);
}

void accel_destroy(struct accel *accel)
{
	xa_destroy(&accel->table);
}

int accel_reserve(struct accel *accel, unsigned long addr)
{
	return xa_reserve(&accel->table, addr / PAGE_SIZE, GFP_KERNEL);
}

int accel_map(struct accel *accel, unsigned long addr, unsigned long pfn)
{
	lockdep_assert_held(&accel->lock);
	/* An invalidation may have taken the reservation: then the fault begins again. */
	if (xa_err(xa_store(&accel->table, addr / PAGE_SIZE, xa_mk_value(pfn & ~HMM_PFN_FLAGS),
			    GFP_NOWAIT | __GFP_NOWARN)))
		return -EAGAIN;
	return 0;
}

void accel_unmap(struct accel *accel, unsigned long start, unsigned long end)
{
	unsigned long index;
	void *entry;

	lockdep_assert_held(&accel->lock);
	xa_for_each_range(&accel->table, index, entry, start / PAGE_SIZE, (end - 1) / PAGE_SIZE)
		xa_erase(&accel->table, index);
}

MODULE_DESCRIPTION("The smallest drivers with and without the odp library, to be read");
MODULE_AUTHOR("The odp authors");
MODULE_LICENSE("GPL");
