/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_BENCH_HELPERS_H
#define ODP_BENCH_HELPERS_H

#include <linux/types.h>

struct mm_struct;
struct mmu_interval_notifier;

/* mmap_write_lock() and its end. */
void odp_bench_mmap_write_lock(struct mm_struct *mm);
void odp_bench_mmap_write_unlock(struct mm_struct *mm);

/*
 * Nanoseconds that mmu_interval_read_begin() takes, which is as long as the lock that it takes is
 * held by somebody else, and a little more. Nothing preempts it. The notifier must not be one that
 * is invalidated.
 */
u64 odp_bench_read_begin_ns(struct mmu_interval_notifier *notifier);

#endif
