// SPDX-License-Identifier: GPL-2.0

/* What the bindings have nothing of: what a device does to pages of a process. */

#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#include "exclusive.h"

#ifdef CONFIG_DEVICE_PRIVATE
/* For @owner, until a CPU accesses it. Returns 0 or an errno. */
int odp_kunit_make_exclusive(struct mm_struct *mm, unsigned long addr, void *owner)
{
	struct folio *folio;
	struct page *page;

	mmap_read_lock(mm);
	page = make_device_exclusive(mm, addr, owner, &folio);
	mmap_read_unlock(mm);
	if (IS_ERR(page))
		return PTR_ERR(page);
	folio_unlock(folio);
	folio_put(folio);
	return 0;
}

/* Begins to migrate a page as @owner, and leaves it where it is. Returns 0 or an errno. */
int odp_kunit_migrate(struct mm_struct *mm, unsigned long addr, void *owner)
{
	unsigned long from = 0, to = 0;
	struct migrate_vma migrate = {
		.src = &from,
		.dst = &to,
		.start = addr,
		.end = addr + PAGE_SIZE,
		.pgmap_owner = owner,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	int ret;

	mmap_read_lock(mm);
	migrate.vma = vma_lookup(mm, addr);
	ret = migrate.vma ? migrate_vma_setup(&migrate) : -EFAULT;
	if (!ret) {
		migrate_vma_pages(&migrate);
		migrate_vma_finalize(&migrate);
	}
	mmap_read_unlock(mm);
	return ret;
}
#endif
