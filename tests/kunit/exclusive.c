// SPDX-License-Identifier: GPL-2.0

/* What the bindings have nothing of: making a page of a process exclusive to a device. */

#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>

#ifdef CONFIG_DEVICE_PRIVATE
int odp_kunit_make_exclusive(struct mm_struct *mm, unsigned long addr, void *owner);

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
#endif
