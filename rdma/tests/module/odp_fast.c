// SPDX-License-Identifier: GPL-2.0
/*
 * A fast MR of the kernel's own, as storage over RDMA has them, for the test of who may invalidate
 * it. A file has one for as long as it is open, and its key is what there is to read.
 */

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <rdma/ib_verbs.h>

struct odp_fast {
	struct ib_device *device;
	struct ib_pd *pd;
	struct ib_mr *mr;
};

static void odp_fast_end(struct odp_fast *fast)
{
	if (!IS_ERR_OR_NULL(fast->mr))
		ib_dereg_mr(fast->mr);
	if (!IS_ERR_OR_NULL(fast->pd))
		ib_dealloc_pd(fast->pd);
	if (fast->device)
		ib_device_put(fast->device);
	kfree(fast);
}

static int odp_fast_open(struct inode *inode, struct file *file)
{
	struct odp_fast *fast = kzalloc(sizeof(*fast), GFP_KERNEL);
	int err = -ENODEV;

	if (!fast)
		return -ENOMEM;
	/* rxe is on lo in the tests. */
	fast->device = ib_device_get_by_netdev(init_net.loopback_dev, RDMA_DRIVER_RXE);
	if (!fast->device)
		goto err_end;
	fast->pd = ib_alloc_pd(fast->device, 0);
	err = PTR_ERR_OR_ZERO(fast->pd);
	if (err)
		goto err_end;
	fast->mr = ib_alloc_mr(fast->pd, IB_MR_TYPE_MEM_REG, 1);
	err = PTR_ERR_OR_ZERO(fast->mr);
	if (err)
		goto err_end;
	file->private_data = fast;
	return 0;

err_end:
	odp_fast_end(fast);
	return err;
}

static int odp_fast_release(struct inode *inode, struct file *file)
{
	odp_fast_end(file->private_data);
	return 0;
}

static ssize_t odp_fast_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	struct odp_fast *fast = file->private_data;

	return simple_read_from_buffer(to, size, pos, &fast->mr->rkey, sizeof(fast->mr->rkey));
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.open = odp_fast_open,
	.release = odp_fast_release,
	.read = odp_fast_read,
};

static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_fast",
	.fops = &fops,
};

module_misc_device(misc);
MODULE_DESCRIPTION("Fast MRs of the kernel, for tests");
MODULE_LICENSE("GPL");
