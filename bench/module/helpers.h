/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_BENCH_HELPERS_H
#define ODP_BENCH_HELPERS_H

#include <linux/types.h>

struct maple_tree;
struct mm_struct;
struct mmu_interval_notifier;

/* mmap_write_lock() and its end. */
void odp_bench_mmap_write_lock(struct mm_struct *mm);
void odp_bench_mmap_write_unlock(struct mm_struct *mm);

/* Removes the entries of a tree that are the same as a given one. May sleep. */
void odp_bench_forget(struct maple_tree *tree, const void *entry);

/*
 * Removes the entries of a tree between two addresses for which is_gone() says so, which is called
 * with the tree locked; several at a time, if they lie side by side. Where there is no memory for
 * that, a marker takes the place of each. May sleep.
 */
void odp_bench_take_out(struct maple_tree *tree, unsigned long first, unsigned long last,
			void *marker, bool (*is_gone)(const void *entry));

/*
 * Nanoseconds that mmu_interval_read_begin() takes, which is as long as the lock that it takes is
 * held by somebody else, and a little more. Nothing preempts it. The notifier must not be one that
 * is invalidated.
 */
u64 odp_bench_read_begin_ns(struct mmu_interval_notifier *notifier);

#endif
