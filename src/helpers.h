/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_HELPERS_H
#define ODP_HELPERS_H

#include <linux/types.h>

struct hmm_range;
struct mem_cgroup;
struct mm_struct;
struct mmu_interval_notifier;
struct module;
struct page;
struct seqlock;
struct srcu_struct;
struct workqueue_struct;

/* Tells lockdep that the caller waits for invalidate(). */
void odp_may_wait_for_invalidate(void);
/* Brackets of an invalidate(). */
void odp_invalidate_enter(bool blockable);
void odp_invalidate_exit(bool blockable);
/* Tells lockdep that the caller waits for readers of @srcu, though in another task's name. */
void odp_may_wait_for_readers(struct srcu_struct *srcu);
/* Brackets of what lockdep shall take for memory reclaim. */
void odp_reclaim_enter(void);
void odp_reclaim_exit(void);
/* Tells lockdep that the caller may wait for the mm's mmap_lock. */
void odp_might_read_lock_mmap(struct mm_struct *mm);

/*
 * Finds and faults in the pages from @start to @end, both within what @notifier was inserted for,
 * and writes an entry for each to @entries. @sequence is for mmu_interval_read_retry().
 */
int odp_hmm_range_fault(struct mmu_interval_notifier *notifier, unsigned long start,
			unsigned long end, unsigned long *entries, unsigned long request,
			unsigned long timeout, unsigned long *sequence);
/* The same, as @range says, whose notifier is set to @notifier. */
int odp_hmm_range_fault_with(struct hmm_range *range, struct mmu_interval_notifier *notifier,
			     unsigned long timeout, unsigned long *sequence);
/* The addresses that @range asks for. */
void odp_hmm_range_bounds(const struct hmm_range *range, unsigned long *start,
			  unsigned long *end);
struct page *odp_pfn_to_page(unsigned long pfn);
/* Whether the kernel has no access to a page that a process has mapped. */
bool odp_page_is_secret(struct page *page);
void odp_flush_dcache_page(struct page *page);

/* Take a reference on a module, unless it is about to be unloaded, and give one back. */
bool odp_try_module_get(struct module *module);
void odp_module_put(struct module *module);

/*
 * The memory cgroup that the caller charges, or, where the caller is a kernel thread without an
 * address space, the one that the owner of @mm is in; with a reference. NULL if there is none.
 */
struct mem_cgroup *odp_memcg_get(struct mm_struct *mm);
void odp_memcg_put(struct mem_cgroup *memcg);
/* Has @memcg charged for what the caller allocates; returns which one was before that. */
struct mem_cgroup *odp_memcg_activate(struct mem_cgroup *memcg);

/* A sequence lock. To lockdep all that are initialised so are one. */
void odp_seqlock_init(struct seqlock *lock);
unsigned int odp_read_seqbegin(const struct seqlock *lock);
bool odp_read_seqretry(const struct seqlock *lock, unsigned int start);
void odp_write_seqlock(struct seqlock *lock);
void odp_write_sequnlock(struct seqlock *lock);

/* How much memory init_srcu_struct() allocates. */
size_t odp_srcu_size(void);

/* Says whether anybody has the mm's mmap_lock, or had it a moment ago. */
bool odp_mmap_is_locked(struct mm_struct *mm);

/* Whether the current task has been killed. */
bool odp_fatal_signal_pending(void);

/* Says whether the removal had to wait for invalidations of the address space to end. */
bool odp_interval_notifier_remove(struct mmu_interval_notifier *notifier);

/*
 * The same in two steps, of which only the second sleeps, where core mm has them. The first says
 * whether it has; if not, it has done nothing.
 */
bool odp_interval_notifier_remove_start(struct mmu_interval_notifier *notifier);
void odp_interval_notifier_remove_finish(struct mmu_interval_notifier *notifier);

/* With @one_of_many, lockdep takes all that are made so for one. */
struct workqueue_struct *odp_alloc_workqueue(const char *name, unsigned int flags, int max_active,
					     bool one_of_many);

#endif
