// SPDX-License-Identifier: GPL-2.0

/*
 * A driver that uses the retire level of the odp library.
 *
 * A "device" without hardware: it reads a process's memory by translations of its own, that is by
 * pages that it has looked up but has no reference to, as a device with a page table does. It
 * mirrors windows of fixed size, each with a notifier of its own, and wants to be rid of a window
 * as soon as part of it is unmapped.
 *
 * What is not here is the point of it: no work item, no reference count of windows, no flag that
 * says that one is on its way out, no list of the dead.
 *
 * The order of locks is that of the library: mmap_lock, a context's @lock, the library's own.
 */

#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/xarray.h>

#include <odp.h>

#include "odp_retire_sample.h"

#define WINDOW_PAGES	(ODP_SAMPLE_WINDOW / PAGE_SIZE)

static unsigned int wakeup_delay_us;
module_param(wakeup_delay_us, uint, 0644);
MODULE_PARM_DESC(wakeup_delay_us, "The wakeup delay of the worker of a file opened from now on; see odp.h");

static bool expedited;
module_param(expedited, bool, 0644);
MODULE_PARM_DESC(expedited, "Whether grace periods of a file opened from now on are expedited");

struct context {
	struct mm_struct *mm;
	struct odp_retirer *retirer;
	/* Taken in ioctls only, so that memory may be allocated under it. */
	struct mutex create;
	/* The user lock: taken in invalidate(). What a window has in @pages is under it. */
	struct mutex lock;
	/* From an address divided by the size of a window to the window. */
	struct xarray windows;
};

struct window {
	struct odp_request req;
	struct mmu_interval_notifier notifier;
	struct context *ctx;
	unsigned long index;
	/* Without references: @lock and the notifier are what keeps them. */
	struct page *pages[WINDOW_PAGES];
};

static struct window *to_window(struct odp_request *req)
{
	return container_of(req, struct window, req);
}

static unsigned long window_start(struct window *window)
{
	return window->index * ODP_SAMPLE_WINDOW;
}

static void zap(struct window *window, unsigned long first, unsigned long last)
{
	unsigned long start = window_start(window), i;

	lockdep_assert_held(&window->ctx->lock);
	for (i = 0; i < WINDOW_PAGES; i++) {
		unsigned long addr = start + i * PAGE_SIZE;

		if (addr <= last && addr + (PAGE_SIZE - 1) >= first)
			window->pages[i] = NULL;
	}
}

static bool window_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long seq)
{
	struct window *window = container_of(notifier, struct window, notifier);
	bool blockable = mmu_notifier_range_blockable(range);
	struct context *ctx = window->ctx;
	bool handled = true;

	odp_invalidate_enter(blockable);
	if (blockable) {
		mutex_lock(&ctx->lock);
	} else if (!mutex_trylock(&ctx->lock)) {
		handled = false;
		goto out;
	}

	mmu_interval_set_seq(notifier, seq);
	zap(window, range->start, range->end - 1);
	/* This is where mmu_interval_notifier_remove() would wait for itself. */
	if (range->event == MMU_NOTIFY_UNMAP || range->event == MMU_NOTIFY_RELEASE)
		odp_retire(ctx->retirer, &window->req);

	mutex_unlock(&ctx->lock);
out:
	odp_invalidate_exit(blockable);
	return handled;
}

static const struct mmu_interval_notifier_ops window_notifier_ops = {
	.invalidate = window_invalidate,
};

static void window_unpublish(struct odp_request *req)
{
	struct window *window = to_window(req);

	/* There may be a new one already. */
	xa_cmpxchg(&window->ctx->windows, window->index, window, NULL, 0);
}

static void window_remove(struct odp_request *req)
{
	struct window *window = to_window(req);

	mutex_lock(&window->ctx->lock);
	zap(window, 0, ULONG_MAX);
	mutex_unlock(&window->ctx->lock);

	odp_remove_notifier(req, &window->notifier);
}

static void window_release(struct odp_request *req)
{
	kfree(to_window(req));
}

static const struct odp_retirer_ops window_ops = {
	.owner = THIS_MODULE,
	.unpublish = window_unpublish,
	.remove = window_remove,
	.release = window_release,
};

static int window_create(struct context *ctx, unsigned long index)
{
	struct window *window;
	int ret;

	/* How many there are user space decides, so its memory cgroup is charged. */
	window = kzalloc_obj(*window, GFP_KERNEL_ACCOUNT);
	if (!window)
		return -ENOMEM;
	window->ctx = ctx;
	window->index = index;
	odp_request_init_building(&window->req);

	ret = mmu_interval_notifier_insert(&window->notifier, ctx->mm, window_start(window),
					   ODP_SAMPLE_WINDOW, &window_notifier_ops);
	if (ret) {
		kfree(window);
		return ret;
	}

	/* Events pass by what is not in the tree yet, such as the end of the process. */
	mmu_interval_read_begin(&window->notifier);

	/* It can be retired by now, which waits for us to publish it. */
	ret = xa_err(xa_store(&ctx->windows, index, window, GFP_KERNEL));
	if (ret)
		odp_retire(ctx->retirer, &window->req);
	odp_publish(ctx->retirer, &window->req);
	odp_put(ctx->retirer, &window->req);
	return ret;
}

static int context_mirror(struct context *ctx, u64 addr)
{
	unsigned long index = addr / ODP_SAMPLE_WINDOW;
	struct window *window;
	bool mirrored;
	int ret, idx;

	if (addr >= TASK_SIZE)
		return -EINVAL;
	if (current->mm != ctx->mm)
		return -EPERM;

	ret = mutex_lock_killable(&ctx->create);
	if (ret)
		return ret;

	idx = odp_read_lock(ctx->retirer);
	window = xa_load(&ctx->windows, index);
	mirrored = window && odp_request_live(&window->req);
	odp_read_unlock(ctx->retirer, idx);

	ret = mirrored ? -EEXIST : window_create(ctx, index);
	mutex_unlock(&ctx->create);
	return ret;
}

/* What the device does, by what it has in its page table. */
static int device_read(struct window *window, unsigned long addr, u64 *value)
{
	struct page *page = window->pages[addr / PAGE_SIZE % WINDOW_PAGES];

	lockdep_assert_held(&window->ctx->lock);
	if (!page)
		return -EAGAIN;
	memcpy_from_page((char *)value, page, offset_in_page(addr), sizeof(*value));
	return 0;
}

/* Fills the device's page table. The caller holds the window: this sleeps as long as it likes. */
static int window_fault(struct window *window, unsigned long addr, u64 *value)
{
	struct context *ctx = window->ctx;
	unsigned long seq;
	struct page *page;
	bool retry;
	int ret;

	if (current->mm != ctx->mm)
		return -EPERM;

	do {
		if (fatal_signal_pending(current))
			return -EINTR;
		seq = mmu_interval_read_begin(&window->notifier);
		ret = get_user_pages_fast(addr, 1, 0, &page);
		if (ret != 1)
			return -EFAULT;

		mutex_lock(&ctx->lock);
		retry = mmu_interval_read_retry(&window->notifier, seq);
		if (!odp_request_live(&window->req)) {
			ret = -ENOENT;
			retry = false;
		} else if (!retry) {
			window->pages[addr / PAGE_SIZE % WINDOW_PAGES] = page;
			ret = device_read(window, addr, value);
		}
		mutex_unlock(&ctx->lock);
		put_page(page);
	} while (retry);

	return ret;
}

static int context_read(struct context *ctx, u64 addr, u64 *value)
{
	struct window *window;
	int ret, idx;

	if (addr % sizeof(*value) || addr >= TASK_SIZE)
		return -EINVAL;

	idx = odp_read_lock(ctx->retirer);
	window = xa_load(&ctx->windows, addr / ODP_SAMPLE_WINDOW);
	ret = -ENOENT;
	if (window) {
		mutex_lock(&ctx->lock);
		if (odp_request_live(&window->req))
			ret = device_read(window, addr, value);
		mutex_unlock(&ctx->lock);
		if (ret == -EAGAIN && !odp_hold(ctx->retirer, &window->req))
			ret = -ENOENT;
	}
	odp_read_unlock(ctx->retirer, idx);

	if (ret == -EAGAIN) {
		ret = window_fault(window, addr, value);
		odp_put(ctx->retirer, &window->req);
	}
	return ret;
}

static long context_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct context *ctx = file->private_data;
	void __user *user = (void __user *)arg;
	struct odp_sample_stats sample = {};
	struct odp_sample_read read;
	struct odp_stats stats;
	u64 addr;
	int ret;

	switch (cmd) {
	case ODP_SAMPLE_MIRROR:
		if (copy_from_user(&addr, user, sizeof(addr)))
			return -EFAULT;
		return context_mirror(ctx, addr);
	case ODP_SAMPLE_READ:
		if (copy_from_user(&read, user, sizeof(read)))
			return -EFAULT;
		ret = context_read(ctx, read.addr, &read.value);
		if (ret)
			return ret;
		return copy_to_user(user, &read, sizeof(read)) ? -EFAULT : 0;
	case ODP_SAMPLE_FLUSH:
		return odp_flush(ctx->retirer, ODP_RELEASED);
	case ODP_SAMPLE_STATS:
		odp_retirer_stats(ctx->retirer, &stats);
		sample.queued = stats.queued;
		sample.removed = stats.removed;
		sample.released = stats.released;
		return copy_to_user(user, &sample, sizeof(sample)) ? -EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

/* Makes the names of files in debugfs unique. */
static atomic_t contexts;

static int context_open(struct inode *inode, struct file *file)
{
	const struct odp_retirer_config config = {
		.mm = current->mm,
		.wakeup_delay_us = READ_ONCE(wakeup_delay_us),
		.expedited = READ_ONCE(expedited),
	};
	struct context *ctx;
	char name[32];
	int ret;

	ctx = kzalloc_obj(*ctx, GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return -ENOMEM;

	scnprintf(name, sizeof(name), "retire-sample-%d", atomic_inc_return(&contexts));
	ctx->retirer = odp_retirer_create(name, &window_ops, &config);
	if (IS_ERR(ctx->retirer)) {
		ret = PTR_ERR(ctx->retirer);
		kfree(ctx);
		return ret;
	}

	mutex_init(&ctx->create);
	mutex_init(&ctx->lock);
	xa_init_flags(&ctx->windows, XA_FLAGS_ACCOUNT);
	/* Not the address space: the process may exit before the file is closed, and without it. */
	ctx->mm = current->mm;
	mmgrab(ctx->mm);
	file->private_data = ctx;
	return 0;
}

static int context_release(struct inode *inode, struct file *file)
{
	struct context *ctx = file->private_data;
	struct window *window;
	unsigned long index;
	int idx;

	idx = odp_read_lock(ctx->retirer);
	xa_for_each(&ctx->windows, index, window)
		odp_retire(ctx->retirer, &window->req);
	odp_read_unlock(ctx->retirer, idx);

	odp_retirer_shutdown(ctx->retirer);
	xa_destroy(&ctx->windows);
	mmdrop(ctx->mm);
	kfree(ctx);
	return 0;
}

static const struct file_operations context_fops = {
	.owner = THIS_MODULE,
	.open = context_open,
	.release = context_release,
	.unlocked_ioctl = context_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice sample_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_retire_sample",
	.fops = &context_fops,
	.mode = 0600,
};
module_misc_device(sample_device);

MODULE_DESCRIPTION("A driver with interval notifiers of its own, retired by the odp library");
MODULE_AUTHOR("The odp authors");
MODULE_LICENSE("GPL");
