/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_BENCH_HELPERS_H
#define ODP_BENCH_HELPERS_H

struct maple_tree;
struct mm_struct;

/* mmap_write_lock() and its end. */
void odp_bench_mmap_write_lock(struct mm_struct *mm);
void odp_bench_mmap_write_unlock(struct mm_struct *mm);

/* Removes the entries of a tree that are the same as a given one. May sleep. */
void odp_bench_forget(struct maple_tree *tree, const void *entry);

#endif
