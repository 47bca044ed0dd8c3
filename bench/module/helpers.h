/* SPDX-License-Identifier: GPL-2.0 */

#ifndef ODP_BENCH_HELPERS_H
#define ODP_BENCH_HELPERS_H

struct maple_tree;

/* Removes the entries of a tree that are the same as a given one, from first to last. */
void odp_bench_forget(struct maple_tree *tree, unsigned long first, unsigned long last,
		      const void *entry);

#endif
