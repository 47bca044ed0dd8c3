// SPDX-License-Identifier: GPL-2.0
/* Inline functions of C that Rust cannot call. */

#include <linux/ktime.h>
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
