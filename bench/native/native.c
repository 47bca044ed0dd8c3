// SPDX-License-Identifier: GPL-2.0
/* The clock, the caches, and what else Rust cannot call. */

#include <linux/cache.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/preempt.h>
#include <linux/reboot.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "native.h"

u64 odp_native_ticks(void)
{
	u32 low, high;

	/* The kernel's own way to it asks what CPU it is, which User-Mode Linux does not know. */
	asm volatile("lfence; rdtsc; lfence" : "=a" (low), "=d" (high) : : "memory");
	return (u64)high << 32 | low;
}

u64 odp_native_begin(void)
{
	preempt_disable();
	return odp_native_ticks();
}

u64 odp_native_end(void)
{
	u64 end = odp_native_ticks();

	preempt_enable();
	return end;
}

u64 odp_native_khz(void)
{
	u64 ns = ktime_get_ns(), ticks = odp_native_ticks();

	mdelay(200);
	ns = ktime_get_ns() - ns;
	ticks = odp_native_ticks() - ticks;
	return div64_u64(ticks * 1000 * 1000, ns);
}

struct mm_struct *odp_native_mm(void)
{
	return mm_alloc();
}

static void unmap(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, mm, start, end);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

u64 odp_native_unmap(struct mm_struct *before, struct mm_struct *mm, unsigned long start,
		     unsigned long end, size_t cool)
{
	u64 begin;

	/* Nobody has a lock that a callback takes, so that none sleeps. */
	guard(preempt)();
	unmap(before, start, end);
	odp_native_cool(cool);
	begin = odp_native_ticks();
	unmap(mm, start, end);
	return odp_native_ticks() - begin;
}

/* In pieces of the largest size that need no page tables: the kernel's are the host's mappings. */
#define PIECE ((size_t)PAGE_SIZE << MAX_PAGE_ORDER)

static char **pieces;
static size_t piece_count;

int odp_native_buffer(size_t size)
{
	size_t n = DIV_ROUND_UP(size, PIECE);

	pieces = kcalloc(n, sizeof(*pieces), GFP_KERNEL);
	if (!pieces)
		return -ENOMEM;
	for (; piece_count < n; piece_count++) {
		pieces[piece_count] = (char *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
							       MAX_PAGE_ORDER);
		if (!pieces[piece_count])
			return -ENOMEM;
	}
	return 0;
}

void odp_native_cool(size_t size)
{
	size_t i, at;

	for (i = 0; i < piece_count && size; i++) {
		for (at = 0; at < min(size, PIECE); at += L1_CACHE_BYTES)
			(void)READ_ONCE(pieces[i][at]);
		size -= min(size, PIECE);
	}
}

static int __init odp_native_start(void)
{
	odp_native_run();
	kernel_halt();
	return 0;
}
/* The console is there after the other late ones. */
late_initcall_sync(odp_native_start);
