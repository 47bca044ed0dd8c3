// SPDX-License-Identifier: GPL-2.0

/*
 * What the kernel offers only as macros or inline functions.
 */

#include <linux/maple_tree.h>
#include <linux/mm.h>

#include "helpers.h"

void odp_bench_forget(struct maple_tree *tree, unsigned long first, unsigned long last,
		      const void *entry)
{
	MA_STATE(mas, tree, first, first);
	void *found;

	mas_lock(&mas);
	mas_for_each(&mas, found, last) {
		if (found != entry)
			continue;
		/* Without memory for it the entry stays, until it is overwritten. */
		if (mas_store_gfp(&mas, NULL, GFP_NOWAIT | __GFP_NOWARN))
			break;
	}
	mas_unlock(&mas);
}

void odp_bench_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

void odp_bench_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}
