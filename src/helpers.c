// SPDX-License-Identifier: GPL-2.0

/*
 * What the kernel offers only as macros or inline functions, one C function each. In the tree
 * these would be part of rust/helpers/.
 */

#include <linux/build_bug.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/kernel.h>
#include <linux/lockdep.h>
#include <linux/magic.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seqlock.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

#include "helpers.h"

#ifdef CONFIG_LOCKDEP
/* Held around every invalidate(). */
static struct lockdep_map odp_invalidate_map =
	STATIC_LOCKDEP_MAP_INIT("odp_invalidate", &odp_invalidate_map);
#endif

void odp_may_wait_for_invalidate(void)
{
	lock_map_acquire(&odp_invalidate_map);
	lock_map_release(&odp_invalidate_map);
	/* Sleeps; and touches core mm's own map, not exported, for notifiers not of ours. */
	might_alloc(GFP_KERNEL);
}
EXPORT_SYMBOL_GPL(odp_may_wait_for_invalidate);

/*
 * Whether a section in which nothing may sleep is marked so. Not on PREEMPT_RT: there each spinlock
 * is one that sleeps, and is reported in such a section, though it may be taken in a call that is
 * not blockable.
 */
static bool odp_marks_non_block(bool blockable)
{
	return !blockable && !IS_ENABLED(CONFIG_PREEMPT_RT);
}

void odp_invalidate_enter(bool blockable)
{
	lock_map_acquire(&odp_invalidate_map);
	if (odp_marks_non_block(blockable))
		non_block_start();
}
EXPORT_SYMBOL_GPL(odp_invalidate_enter);

void odp_invalidate_exit(bool blockable)
{
	if (odp_marks_non_block(blockable))
		non_block_end();
	lock_map_release(&odp_invalidate_map);
}
EXPORT_SYMBOL_GPL(odp_invalidate_exit);

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

/* What hmm.rs takes them for. */
static_assert(HMM_PFN_VALID == 1UL << (BITS_PER_LONG - 1));
static_assert(HMM_PFN_WRITE == 1UL << (BITS_PER_LONG - 2));
static_assert(HMM_PFN_ERROR == 1UL << (BITS_PER_LONG - 3));
static_assert(BITS_PER_LONG - 11 == HMM_PFN_ORDER_SHIFT);
static_assert(HMM_PFN_REQ_FAULT == HMM_PFN_VALID);
static_assert(HMM_PFN_REQ_WRITE == HMM_PFN_WRITE);

int odp_hmm_range_fault_with(struct hmm_range *range, struct mmu_interval_notifier *notifier,
			     unsigned long timeout, unsigned long *sequence)
{
	int ret;

	range->notifier = notifier;
	ret = hmm_range_fault_unlocked_timeout(range, timeout);
	*sequence = range->notifier_seq;
	return ret;
}

int odp_hmm_range_fault(struct mmu_interval_notifier *notifier, unsigned long start,
			unsigned long end, unsigned long *entries, unsigned long request,
			unsigned long timeout, unsigned long *sequence)
{
	struct hmm_range range = {
		.start = start,
		.end = end,
		.hmm_pfns = entries,
		.default_flags = request,
	};

	return odp_hmm_range_fault_with(&range, notifier, timeout, sequence);
}
EXPORT_SYMBOL_GPL(odp_hmm_range_fault);

void odp_hmm_range_bounds(const struct hmm_range *range, unsigned long *start, unsigned long *end)
{
	*start = range->start;
	*end = range->end;
}

struct page *odp_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}
EXPORT_SYMBOL_GPL(odp_pfn_to_page);

bool odp_page_is_secret(struct page *page)
{
	struct address_space *mapping;

	/* HMM finds such pages like any other, and secretmem_mapping() is not for modules. */
	if (!IS_ENABLED(CONFIG_SECRETMEM))
		return false;
	mapping = folio_mapping(page_folio(page));
	return mapping && mapping->host && mapping->host->i_sb->s_magic == SECRETMEM_MAGIC;
}
EXPORT_SYMBOL_GPL(odp_page_is_secret);

/* Without CONFIG_MODULES both are inline. */
bool odp_try_module_get(struct module *module)
{
	return try_module_get(module);
}
EXPORT_SYMBOL_GPL(odp_try_module_get);

void odp_module_put(struct module *module)
{
	module_put(module);
}
EXPORT_SYMBOL_GPL(odp_module_put);

void odp_flush_dcache_page(struct page *page)
{
	flush_dcache_page(page);
}
EXPORT_SYMBOL_GPL(odp_flush_dcache_page);

struct mem_cgroup *odp_memcg_get(struct mm_struct *mm)
{
	return get_mem_cgroup_from_mm(current->mm ? NULL : mm);
}
EXPORT_SYMBOL_GPL(odp_memcg_get);

void odp_memcg_put(struct mem_cgroup *memcg)
{
	mem_cgroup_put(memcg);
}
EXPORT_SYMBOL_GPL(odp_memcg_put);

struct mem_cgroup *odp_memcg_activate(struct mem_cgroup *memcg)
{
	return set_active_memcg(memcg);
}
EXPORT_SYMBOL_GPL(odp_memcg_activate);

void odp_seqlock_init(struct seqlock *lock)
{
	seqlock_init(lock);
}
EXPORT_SYMBOL_GPL(odp_seqlock_init);

unsigned int odp_read_seqbegin(const struct seqlock *lock)
{
	return read_seqbegin(lock);
}
EXPORT_SYMBOL_GPL(odp_read_seqbegin);

bool odp_read_seqretry(const struct seqlock *lock, unsigned int start)
{
	return read_seqretry(lock, start);
}
EXPORT_SYMBOL_GPL(odp_read_seqretry);

void odp_write_seqlock(struct seqlock *lock)
{
	write_seqlock(lock);
}
EXPORT_SYMBOL_GPL(odp_write_seqlock);

void odp_write_sequnlock(struct seqlock *lock)
{
	write_sequnlock(lock);
}
EXPORT_SYMBOL_GPL(odp_write_sequnlock);

size_t odp_srcu_size(void)
{
#ifdef CONFIG_TREE_SRCU
	return sizeof(struct srcu_usage) + num_possible_cpus() * sizeof(struct srcu_data);
#else
	return 0;
#endif
}
EXPORT_SYMBOL_GPL(odp_srcu_size);

bool odp_mmap_is_locked(struct mm_struct *mm)
{
	return rwsem_is_locked(&mm->mmap_lock);
}
EXPORT_SYMBOL_GPL(odp_mmap_is_locked);

bool odp_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}
EXPORT_SYMBOL_GPL(odp_fatal_signal_pending);

bool odp_interval_notifier_remove(struct mmu_interval_notifier *notifier)
{
	unsigned long sleeps = current->nvcsw;

	/*
	 * Sleeps if an invalidation of the address space is going on, and for nothing else; core mm
	 * has no other way of telling. On PREEMPT_RT the lock that invalidations begin and end
	 * under counts as one.
	 */
	mmu_interval_notifier_remove(notifier);
	return current->nvcsw != sleeps;
}
EXPORT_SYMBOL_GPL(odp_interval_notifier_remove);

bool odp_interval_notifier_remove_start(struct mmu_interval_notifier *notifier)
{
#ifdef ODP_REMOVAL_IN_STEPS
	mmu_interval_notifier_remove_start(notifier);
	return true;
#else
	/* Core mm has no such thing. */
	return false;
#endif
}
EXPORT_SYMBOL_GPL(odp_interval_notifier_remove_start);

void odp_interval_notifier_remove_finish(struct mmu_interval_notifier *notifier)
{
#ifdef ODP_REMOVAL_IN_STEPS
	mmu_interval_notifier_remove_finish(notifier);
#else
	/* Nothing has been begun. */
	WARN_ON_ONCE(true);
#endif
}
EXPORT_SYMBOL_GPL(odp_interval_notifier_remove_finish);

#ifdef CONFIG_LOCKDEP
/* That of all workqueues of which there are many. */
static struct lockdep_map odp_queue_map = STATIC_LOCKDEP_MAP_INIT("odp_queue", &odp_queue_map);
#endif

struct workqueue_struct *odp_alloc_workqueue(const char *name, unsigned int flags, int max_active,
					     bool one_of_many)
{
#ifdef CONFIG_LOCKDEP
	if (one_of_many)
		return alloc_workqueue_lockdep_map("%s", flags, max_active, &odp_queue_map, name);
#endif
	return alloc_workqueue("%s", flags, max_active, name);
}
EXPORT_SYMBOL_GPL(odp_alloc_workqueue);
