// SPDX-License-Identifier: GPL-2.0

/*
 * The lockdep maps of workers. They are in C because a map that is a static item is initialised
 * with its own address, by a macro; and once, because their classes are all workers'.
 */

#include <linux/export.h>
#include <linux/lockdep.h>

#include "../../helpers.h"
#include "lockdep.h"

#ifdef CONFIG_LOCKDEP
/* Held around every callback of a worker but the last, which drain() leaves to the worker. */
static struct lockdep_map odp_worker_map =
	STATIC_LOCKDEP_MAP_INIT("odp_worker", &odp_worker_map);
/* Held around the last one. */
static struct lockdep_map odp_release_map =
	STATIC_LOCKDEP_MAP_INIT("odp_release", &odp_release_map);
#endif

void odp_may_wait_for_worker(void)
{
	odp_may_wait_for_invalidate();
	lock_map_acquire(&odp_worker_map);
	lock_map_release(&odp_worker_map);
	lock_map_acquire(&odp_release_map);
	lock_map_release(&odp_release_map);
}
EXPORT_SYMBOL_GPL(odp_may_wait_for_worker);

void odp_worker_enter(void)
{
	lock_map_acquire(&odp_worker_map);
}
EXPORT_SYMBOL_GPL(odp_worker_enter);

void odp_worker_exit(void)
{
	lock_map_release(&odp_worker_map);
}
EXPORT_SYMBOL_GPL(odp_worker_exit);

void odp_release_enter(void)
{
	lock_map_acquire(&odp_release_map);
}
EXPORT_SYMBOL_GPL(odp_release_enter);

void odp_release_exit(void)
{
	lock_map_release(&odp_release_map);
}
EXPORT_SYMBOL_GPL(odp_release_exit);
