// SPDX-License-Identifier: GPL-2.0

/*
 * What the kernel offers only as macros or inline functions, one C function each. In the tree
 * these would be part of rust/helpers/.
 */

#include <linux/kernel.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

#include "helpers.h"

#ifdef CONFIG_LOCKDEP
/* Held around every invalidate(). */
static struct lockdep_map odp_invalidate_map =
	STATIC_LOCKDEP_MAP_INIT("odp_invalidate", &odp_invalidate_map);
/* Held around every callback of a worker but the last, which drain() leaves to the worker. */
static struct lockdep_map odp_worker_map =
	STATIC_LOCKDEP_MAP_INIT("odp_worker", &odp_worker_map);
/* Held around the last one. */
static struct lockdep_map odp_release_map =
	STATIC_LOCKDEP_MAP_INIT("odp_release", &odp_release_map);
#endif

void odp_may_wait_for_invalidate(void)
{
	lock_map_acquire(&odp_invalidate_map);
	lock_map_release(&odp_invalidate_map);
	/* Sleeps; and touches core mm's own map, which is not exported, for notifiers not of ours. */
	might_alloc(GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(odp_may_wait_for_invalidate);

void odp_may_wait_for_worker(void)
{
	odp_may_wait_for_invalidate();
	lock_map_acquire(&odp_worker_map);
	lock_map_release(&odp_worker_map);
	lock_map_acquire(&odp_release_map);
	lock_map_release(&odp_release_map);
}
EXPORT_SYMBOL_GPL(odp_may_wait_for_worker);

void odp_invalidate_enter(bool blockable)
{
	lock_map_acquire(&odp_invalidate_map);
	if (!blockable)
		non_block_start();
}
EXPORT_SYMBOL_GPL(odp_invalidate_enter);

void odp_invalidate_exit(bool blockable)
{
	if (!blockable)
		non_block_end();
	lock_map_release(&odp_invalidate_map);
}
EXPORT_SYMBOL_GPL(odp_invalidate_exit);

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

void odp_may_wait_for_readers(struct srcu_struct *srcu)
{
#ifdef CONFIG_DEBUG_LOCK_ALLOC
	srcu_lock_sync(&srcu->dep_map);
#endif
}
EXPORT_SYMBOL_GPL(odp_may_wait_for_readers);

void odp_reclaim_enter(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(odp_reclaim_enter);

void odp_reclaim_exit(void)
{
	fs_reclaim_release(GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(odp_reclaim_exit);

void odp_might_read_lock_mmap(struct mm_struct *mm)
{
	might_lock_read(&mm->mmap_lock);
}
EXPORT_SYMBOL_GPL(odp_might_read_lock_mmap);

struct workqueue_struct *odp_alloc_workqueue(const char *name, unsigned int flags, int max_active)
{
	return alloc_workqueue("%s", flags, max_active, name);
}
EXPORT_SYMBOL_GPL(odp_alloc_workqueue);
