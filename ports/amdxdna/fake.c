// SPDX-License-Identifier: GPL-2.0

/*
 * amdxdna with a device that has no hardware, in place of its PCI driver: what is below
 * struct amdxdna_dev_ops. A command of this device is a fence in its object, and every process has
 * a PASID without an IOMMU.
 */

#include <linux/device/faux.h>
#include <linux/dma-fence.h>
#include <linux/dma-mapping.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#include "fake.h"

static struct iommu_sva *fake_sva_bind(struct device *dev, struct mm_struct *mm)
{
	/* Nobody looks at what it points to. */
	return (struct iommu_sva *)mm;
}

static void fake_sva_unbind(struct iommu_sva *sva)
{
}

static u32 fake_sva_pasid(struct iommu_sva *sva)
{
	return 1;
}

#define iommu_sva_bind_device	fake_sva_bind
#define iommu_sva_unbind_device	fake_sva_unbind
#define iommu_sva_get_pasid	fake_sva_pasid
#undef module_pci_driver
#define module_pci_driver(driver)

/* For what is static there. */
#include "aie2_ctx.c"
#include "amdxdna_pci_drv.c"

static struct faux_device *fake_device;
static struct dma_fence *fake_command;
static DEFINE_SPINLOCK(fake_lock);

static const char *fake_fence_name(struct dma_fence *fence)
{
	return "amdxdna_fake";
}

static const struct dma_fence_ops fake_fence_ops = {
	.get_driver_name = fake_fence_name,
	.get_timeline_name = fake_fence_name,
};

static int fake_start(struct amdxdna_gem_obj *abo)
{
	struct dma_resv *resv = to_gobj(abo)->resv;
	struct dma_fence *fence;
	int ret;

	if (fake_command)
		return -EBUSY;
	fence = kzalloc_obj(*fence);
	if (!fence)
		return -ENOMEM;
	dma_fence_init(fence, &fake_fence_ops, &fake_lock, dma_fence_context_alloc(1), 1);

	dma_resv_lock(resv, NULL);
	ret = dma_resv_reserve_fences(resv, 1);
	if (!ret)
		dma_resv_add_fence(resv, fence, DMA_RESV_USAGE_WRITE);
	dma_resv_unlock(resv);
	if (ret)
		dma_fence_put(fence);
	else
		fake_command = fence;
	return ret;
}

static int fake_finish(void)
{
	if (!fake_command)
		return -ENOENT;
	dma_fence_signal(fake_command);
	dma_fence_put(fake_command);
	fake_command = NULL;
	return 0;
}

static int fake_count(struct amdxdna_client *client, void __user *to)
{
	struct odp_stats stats;
	struct fake_count count;

	odp_retirer_stats(client->retirer, &stats);
	count.retired = stats.queued;
	count.removed = stats.removed;
	count.released = stats.released;
	count.held = stats.holds;
	return copy_to_user(to, &count, sizeof(count)) ? -EFAULT : 0;
}

/* The driver calls this for one file at a time. */
static int fake_get_info(struct amdxdna_client *client, struct amdxdna_drm_get_info *args)
{
	struct amdxdna_gem_obj *abo;
	int ret;

	switch (args->param) {
	case FAKE_FINISH:
		return fake_finish();
	case FAKE_FLUSH:
		return odp_flush(client->retirer, ODP_RELEASED);
	case FAKE_COUNT:
		return fake_count(client, u64_to_user_ptr(args->buffer));
	}

	abo = amdxdna_gem_get_obj(client, args->buffer_size, AMDXDNA_BO_SHARE);
	if (!abo)
		return -ENOENT;
	if (args->param == FAKE_POPULATE)
		ret = aie2_populate_range(abo);
	else if (args->param == FAKE_INVALID)
		ret = READ_ONCE(abo->mem.map_invalid) ? 0 : -EAGAIN;
	else if (args->param == FAKE_START)
		ret = fake_start(abo);
	else
		ret = -EINVAL;
	amdxdna_gem_put_obj(abo);
	return ret;
}

static const struct amdxdna_dev_ops fake_ops = {
	.hmm_invalidate = aie2_hmm_invalidate,
	.get_aie_info = fake_get_info,
};

static const struct amdxdna_dev_info fake_info = {
	.dev_mem_base = SZ_64M,
	.dev_mem_size = SZ_64M,
	.dev_heap_max_size = SZ_64M,
	.ops = &fake_ops,
};

static int fake_probe(struct faux_device *faux)
{
	struct device *dev = &faux->dev;
	struct amdxdna_dev *xdna;
	int ret;

	ret = dma_coerce_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	xdna = devm_drm_dev_alloc(dev, &amdxdna_drm_drv, typeof(*xdna), ddev);
	if (IS_ERR(xdna))
		return PTR_ERR(xdna);
	xdna->dev_info = &fake_info;
	ret = drmm_mutex_init(&xdna->ddev, &xdna->client_lock);
	if (ret)
		return ret;
	ret = drmm_mutex_init(&xdna->ddev, &xdna->dev_lock);
	if (ret)
		return ret;
	init_rwsem(&xdna->notifier_lock);
	INIT_LIST_HEAD(&xdna->client_list);
	faux_device_set_drvdata(faux, xdna);
	return drm_dev_register(&xdna->ddev, 0);
}

static void fake_remove(struct faux_device *faux)
{
	struct amdxdna_dev *xdna = faux_device_get_drvdata(faux);

	drm_dev_unplug(&xdna->ddev);
}

static const struct faux_device_ops fake_faux_ops = {
	.probe = fake_probe,
	.remove = fake_remove,
};

static int fake_unplug(const char *value, const struct kernel_param *param)
{
	struct faux_device *device = xchg(&fake_device, NULL);

	if (!device)
		return -ENODEV;
	faux_device_destroy(device);
	return 0;
}

static const struct kernel_param_ops fake_unplug_ops = {
	.set = fake_unplug,
};
module_param_cb(unplug, &fake_unplug_ops, NULL, 0200);
MODULE_PARM_DESC(unplug, "Written to: remove the device");

static int __init fake_init(void)
{
	/* Its functions are not called without a device. */
	(void)&amdxdna_pci_driver;

	fake_device = faux_device_create("amdxdna_fake", NULL, &fake_faux_ops);
	return fake_device ? 0 : -ENODEV;
}
module_init(fake_init);

static void __exit fake_exit(void)
{
	if (fake_device)
		faux_device_destroy(fake_device);
	fake_finish();
}
module_exit(fake_exit);
