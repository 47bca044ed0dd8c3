// SPDX-License-Identifier: GPL-2.0
/* Inline functions of C that Rust cannot call. */

#include <linux/ktime.h>
#include <linux/maple_tree.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/preempt.h>

#include "helpers.h"

void odp_bench_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

void odp_bench_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

u64 odp_bench_read_begin_ns(struct mmu_interval_notifier *notifier)
{
	u64 begin;

	/* It sleeps only where an invalidation of the notifier's own range goes on. */
	guard(preempt)();
	begin = ktime_get_ns();
	mmu_interval_read_begin(notifier);
	return ktime_get_ns() - begin;
}

void odp_bench_forget(struct maple_tree *tree, const void *entry)
{
	MA_STATE(mas, tree, 0, 0);
	unsigned int count = 0;
	void *found;

	mas_lock(&mas);
	mas_for_each(&mas, found, ULONG_MAX) {
		if (found != entry)
			continue;
		/* Without memory for it the entry stays, until it is overwritten. */
		if (mas_store_gfp(&mas, NULL, GFP_NOWAIT | __GFP_NOWARN))
			break;
		if (++count % 32)
			continue;
		/* Callbacks take the lock, too. */
		mas_pause(&mas);
		mas_unlock(&mas);
		cond_resched();
		mas_lock(&mas);
	}
	mas_unlock(&mas);
}

/*
 * So many entries are taken out at a time: fewer than make an inner node go that has 16 children,
 * whose last child mt_destroy_walk() of 7.3 takes for metadata in a tree in RCU mode.
 */
#define RUN 32

/* Puts a marker in the place of each entry, which needs no memory. */
static void mark(struct ma_state *mas, unsigned long first, unsigned long last, void *marker)
{
	while (first <= last) {
		mas_set(mas, first);
		mas_walk(mas);
		first = mas->last + 1;
		mas_set_range(mas, mas->index, mas->last);
		WARN_ON_ONCE(mas_store_gfp(mas, marker, GFP_NOWAIT));
	}
}

void odp_bench_take_out(struct maple_tree *tree, unsigned long first, unsigned long last,
			void *marker, bool (*is_gone)(const void *entry))
{
	MA_STATE(mas, tree, first, first);

	while (first <= last) {
		unsigned long begin = 0, end = 0;
		unsigned int entries = 0;
		void *entry;

		mas_lock(&mas);
		mas_set(&mas, first);
		mas_for_each(&mas, entry, last) {
			bool gone = entry != marker && is_gone(entry);

			if (!gone && !entries)
				continue;
			/* What lies between them may not be touched. */
			if (!gone || (entries && mas.index != end + 1))
				break;
			if (!entries)
				begin = mas.index;
			end = mas.last;
			if (++entries == RUN)
				break;
		}
		if (entries) {
			mas_set_range(&mas, begin, end);
			if (mas_store_gfp(&mas, NULL, GFP_NOWAIT | __GFP_NOWARN))
				mark(&mas, begin, end, marker);
		}
		mas_unlock(&mas);
		if (!entries)
			break;
		first = end + 1;
		cond_resched();
	}
}
