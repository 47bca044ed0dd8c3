// SPDX-License-Identifier: GPL-2.0

/* A driver in C, for what differs between the interfaces: one range, and nothing installed. */

#include <linux/err.h>
#include <linux/slab.h>

#include <odp.h>

#include "c_driver.h"
#include "c_user_lock.h"

struct odp_kunit_driver {
	struct mutex lock; /* as c_user_lock.h wants */
	struct odp_mirror *mirror;
	struct odp_range *range;
	struct odp_section section;
};

static int driver_zap(void *shared, struct odp_range *range, unsigned long start,
		      unsigned long end, unsigned int event)
{
	return ODP_KEEP;
}

static void driver_zap_dead(void *shared, unsigned long start, unsigned long end)
{
}

static const struct odp_mirror_ops driver_ops = {
	.owner = THIS_MODULE,
	.lock = user_lock,
	.trylock = user_trylock,
	.unlock = user_unlock,
	.zap = driver_zap,
	.zap_dead = driver_zap_dead,
};

/* Mirrors @start..@end of @mm, which has users. Returns NULL if that fails. */
struct odp_kunit_driver *odp_kunit_driver_begin(struct mm_struct *mm, unsigned long start,
						unsigned long end)
{
	struct odp_kunit_driver *driver = kzalloc_obj(*driver);

	if (!driver)
		return NULL;
	mutex_init(&driver->lock);
	driver->mirror = odp_mirror_create(mm, &driver_ops, NULL);
	if (IS_ERR(driver->mirror))
		goto free;
	driver->range = odp_range_insert(driver->mirror, start, end - start, driver);
	if (IS_ERR(driver->range))
		goto shutdown;
	return driver;

shutdown:
	odp_mirror_shutdown(driver->mirror);
free:
	kfree(driver);
	return NULL;
}

void odp_kunit_driver_end(struct odp_kunit_driver *driver)
{
	odp_range_put(driver->range);
	odp_mirror_shutdown(driver->mirror);
	kfree(driver);
}

/*
 * Mirrors what follows up to @end, which becomes one with the range. Returns where the range of the
 * last byte begins by then, or 0 if that fails.
 */
unsigned long odp_kunit_driver_extend(struct odp_kunit_driver *driver, unsigned long end)
{
	unsigned long start = odp_range_end(driver->range);
	struct odp_range *range;
	int ret;

	range = odp_range_insert(driver->mirror, start, end - start, driver);
	if (IS_ERR(range))
		return 0;
	ret = odp_range_merge(range, odp_range_start(driver->range), end);
	odp_range_put(range);
	if (ret || odp_mirror_flush(driver->mirror, ODP_REMOVED))
		return 0;
	range = odp_range_lookup(driver->mirror, end - 1);
	if (!range)
		return 0;
	start = odp_range_start(range);
	if (odp_range_shared(range) != driver)
		start = 0;
	odp_range_put(range);
	return start;
}

/* Begins to look at @start..@end. Returns what odp_read_begin() does. */
int odp_kunit_driver_look(struct odp_kunit_driver *driver, unsigned long start, unsigned long end)
{
	return odp_read_begin(driver->range, start, end, &driver->section);
}

/* Returns what odp_commit_begin() does for what was begun last. */
int odp_kunit_driver_commit(struct odp_kunit_driver *driver)
{
	int ret = odp_commit_begin(driver->range, &driver->section);

	if (!ret)
		odp_commit_end(driver->range);
	return ret;
}
