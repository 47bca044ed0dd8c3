// SPDX-License-Identifier: GPL-2.0
/*
 * A file that is the root of an implicit ODP umem, for the test of what the root keeps alive:
 * the only driver that makes them needs hardware.
 */

#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <rdma/ib_umem_odp.h>

#include "../modules.h"

struct odp_root {
	struct mutex lock;
	struct ib_device *device;
	struct ib_umem_odp *umem;
};

static bool invalidate(struct mmu_interval_notifier *mni, const struct mmu_notifier_range *range,
		       unsigned long seq)
{
	mmu_interval_set_seq(mni, seq);
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = invalidate };

static int odp_root_open(struct inode *inode, struct file *file)
{
	struct odp_root *root = kzalloc(sizeof(*root), GFP_KERNEL);

	if (!root)
		return -ENOMEM;
	mutex_init(&root->lock);
	/* rxe is on lo in the tests. */
	root->device = ib_device_get_by_netdev(init_net.loopback_dev, RDMA_DRIVER_RXE);
	if (!root->device) {
		kfree(root);
		return -ENODEV;
	}
	file->private_data = root;
	return 0;
}

static int odp_root_release(struct inode *inode, struct file *file)
{
	struct odp_root *root = file->private_data;

	if (root->umem)
		ib_umem_odp_release(root->umem);
	ib_device_put(root->device);
	kfree(root);
	return 0;
}

static long odp_root_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct odp_root *root = file->private_data;
	struct ib_umem_odp *umem;

	guard(mutex)(&root->lock);
	switch (cmd) {
	case ODP_ROOT_ALLOC:
		if (root->umem)
			return -EBUSY;
		umem = ib_umem_odp_alloc_implicit(root->device, IB_ACCESS_ON_DEMAND);
		if (IS_ERR(umem))
			return PTR_ERR(umem);
		root->umem = umem;
		return 0;
	case ODP_ROOT_CHILD:
		if (!root->umem)
			return -EINVAL;
		umem = ib_umem_odp_alloc_child(root->umem, arg, PAGE_SIZE, &ops);
		if (IS_ERR(umem))
			return PTR_ERR(umem);
		ib_umem_odp_release(umem);
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.open = odp_root_open,
	.release = odp_root_release,
	.unlocked_ioctl = odp_root_ioctl,
};

static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_root",
	.fops = &fops,
};

module_misc_device(misc);
MODULE_DESCRIPTION("Roots of implicit ODP umems, for tests");
MODULE_LICENSE("GPL");
