// SPDX-License-Identifier: GPL-2.0
/*
 * A file whose pages rxe takes for persistent memory: ordinary ones that a resource says that of.
 * What a guest has for that needs a device, and a file system on it.
 */

#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>

#define ODP_PMEM_PAGES 16

struct odp_pmem {
	struct page *pages[ODP_PMEM_PAGES];
	struct resource resources[ODP_PMEM_PAGES];
};

static void odp_pmem_free(struct odp_pmem *pmem)
{
	int i;

	for (i = 0; i < ODP_PMEM_PAGES; i++) {
		if (pmem->resources[i].parent)
			remove_resource(&pmem->resources[i]);
		if (pmem->pages[i])
			__free_page(pmem->pages[i]);
	}
	kfree(pmem);
}

static int odp_pmem_open(struct inode *inode, struct file *file)
{
	struct odp_pmem *pmem = kzalloc(sizeof(*pmem), GFP_KERNEL);
	int i, err = -ENOMEM;

	if (!pmem)
		return -ENOMEM;
	for (i = 0; i < ODP_PMEM_PAGES; i++) {
		struct resource *res = &pmem->resources[i];

		pmem->pages[i] = alloc_page(GFP_KERNEL | __GFP_ZERO);
		if (!pmem->pages[i])
			goto err_free;
		res->name = "odp_pmem";
		res->start = page_to_phys(pmem->pages[i]);
		res->end = res->start + PAGE_SIZE - 1;
		res->flags = IORESOURCE_MEM;
		res->desc = IORES_DESC_PERSISTENT_MEMORY;
		err = insert_resource(&iomem_resource, res);
		if (err)
			goto err_free;
	}
	file->private_data = pmem;
	return 0;

err_free:
	odp_pmem_free(pmem);
	return err;
}

static int odp_pmem_release(struct inode *inode, struct file *file)
{
	odp_pmem_free(file->private_data);
	return 0;
}

static int odp_pmem_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct odp_pmem *pmem = file->private_data;

	return vm_map_pages_zero(vma, pmem->pages, ODP_PMEM_PAGES);
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.open = odp_pmem_open,
	.release = odp_pmem_release,
	.mmap = odp_pmem_mmap,
};

static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_pmem",
	.fops = &fops,
};

module_misc_device(misc);
MODULE_DESCRIPTION("Memory that is said to be persistent, for tests");
MODULE_LICENSE("GPL");
