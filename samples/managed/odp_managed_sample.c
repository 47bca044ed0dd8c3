// SPDX-License-Identifier: GPL-2.0

/*
 * A driver that uses the managed level of the odp library.
 *
 * A "device" without hardware: it reads a process's memory by its own page table, which has the
 * pages that HMM has found, without references to them. It mirrors what its user asks for, and when
 * part of that is unmapped, no more than the rest.
 *
 * What is not here is the point of it: no notifier, no tree of ranges, no reference count, no work
 * item, nothing that splits.
 *
 * The order of locks is that of the library: mmap_lock, a context's @lock, the library's own.
 */

#include <linux/atomic.h>
#include <linux/cleanup.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/hmm.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include <odp.h>

#include "odp_managed_sample.h"

static unsigned long max_ranges;
module_param(max_ranges, ulong, 0644);
MODULE_PARM_DESC(max_ranges, "How many ranges a file opened from now on may have; 0: the library's default");

static unsigned long grain;
module_param(grain, ulong, 0644);
MODULE_PARM_DESC(grain, "What ranges are cut to in a file opened from now on, in bytes; 0: pages");

static unsigned int wakeup_delay_us;
module_param(wakeup_delay_us, uint, 0644);
MODULE_PARM_DESC(wakeup_delay_us, "The wakeup delay of the worker of a file opened from now on; see odp.h");

static bool expedited;
module_param(expedited, bool, 0644);
MODULE_PARM_DESC(expedited, "Whether grace periods of a file opened from now on are expedited");

static bool zap_sleeps;
module_param(zap_sleeps, bool, 0644);
MODULE_PARM_DESC(zap_sleeps, "Whether the device of a file opened from now on has to be waited for");

struct context {
	struct odp_mirror *mirror;
	/* As &odp_mirror_ops.zap_sleeps of the mirror. */
	bool zap_sleeps;
	/*
	 * The device's page table: from an address divided by PAGE_SIZE to the page, without a
	 * reference. It is written, and what is in it used, with @lock held.
	 */
	struct xarray pages;
	/* The user lock. */
	struct mutex lock;

	/* What ODP_MANAGED_HOLD has found; under @hold. */
	struct odp_range *range;
	/* Taken in ioctls only. */
	struct mutex hold;

	atomic64_t mirrored;
	atomic64_t collided;

	/* For tests, see ODP_MANAGED_STALL. */
	u64 stall;
	atomic_t stalled;
	wait_queue_head_t go;
};

/* Longer than any test takes to go on, on whatever machine. */
#define STALL_LIMIT (600 * HZ)

/* Where a test may want to do something meanwhile. */
static void stall(struct context *ctx, u64 place)
{
	if (!(READ_ONCE(ctx->stall) & place))
		return;
	atomic_inc(&ctx->stalled);
	wait_event_timeout(ctx->go, !(READ_ONCE(ctx->stall) & place), STALL_LIMIT);
	atomic_dec(&ctx->stalled);
}

static void context_lock(void *shared)
{
	struct context *ctx = shared;

	mutex_lock(&ctx->lock);
}

static bool context_trylock(void *shared)
{
	struct context *ctx = shared;

	return mutex_trylock(&ctx->lock);
}

static void context_unlock(void *shared)
{
	struct context *ctx = shared;

	mutex_unlock(&ctx->lock);
}

/* Needs no memory. */
static void context_zap_dead(void *shared, unsigned long start, unsigned long end)
{
	struct context *ctx = shared;
	unsigned long index;
	void *page;

	lockdep_assert_held(&ctx->lock);
	xa_for_each_range(&ctx->pages, index, page, start / PAGE_SIZE, (end - 1) / PAGE_SIZE)
		xa_erase(&ctx->pages, index);
}

static int context_zap(void *shared, struct odp_range *range, unsigned long start,
		       unsigned long end, unsigned int event)
{
	struct context *ctx = shared;

	context_zap_dead(shared, start, end);
	/* A driver with hardware waits here until that has seen it. */
	if (ctx->zap_sleeps)
		stall(ctx, ODP_MANAGED_IN_ZAP);
	/* This is where mmu_interval_notifier_remove() would wait for itself. */
	return event == MMU_NOTIFY_UNMAP ? ODP_PUNCH : ODP_KEEP;
}

static void context_zapped(void *shared, unsigned long start, unsigned long end)
{
	stall(shared, ODP_MANAGED_IN_WORKER);
}

static void context_replaced(void *shared, unsigned long old_start, unsigned long old_end,
			     const struct odp_span *pieces, size_t n)
{
	unsigned long behind = old_start;
	struct context *ctx = shared;
	size_t i;

	for (i = 0; i < n; i++) {
		WARN_ON(pieces[i].start < behind);
		behind = pieces[i].end;
		atomic64_add(pieces[i].end - pieces[i].start, &ctx->mirrored);
	}
	WARN_ON(behind > old_end);
}

static void context_released(void *shared, unsigned long start, unsigned long end)
{
	struct context *ctx = shared;

	atomic64_sub(end - start, &ctx->mirrored);
}

static const struct odp_mirror_ops context_ops = {
	.owner = THIS_MODULE,
	.lock = context_lock,
	.trylock = context_trylock,
	.unlock = context_unlock,
	.zap = context_zap,
	.zap_dead = context_zap_dead,
	.zapped = context_zapped,
	.replaced = context_replaced,
	.released = context_released,
};

static int context_insert(struct context *ctx, const struct odp_managed_span *span)
{
	u64 len = span->end - span->start;
	struct odp_range *range;
	int ret;

	if (span->end <= span->start)
		return -EINVAL;

	/* Before it can be released. */
	atomic64_add(len, &ctx->mirrored);
	range = odp_range_insert(ctx->mirror, span->start, len, ctx);
	if (IS_ERR(range)) {
		atomic64_sub(len, &ctx->mirrored);
		return PTR_ERR(range);
	}
	/* What another thread has unmapped meanwhile nobody tells of. */
	ret = odp_range_punch_unmapped(range);
	odp_range_put(range);
	/* It may have gone as a whole by now. */
	return ret == -ESTALE ? 0 : ret;
}

/* What the device does, by what it has in its page table. */
static int device_read(struct context *ctx, unsigned long addr, u64 *value)
{
	struct page *page;
	void *mapped;
	int ret;

	lockdep_assert_held(&ctx->lock);
	page = xa_load(&ctx->pages, addr / PAGE_SIZE);
	if (!page)
		return -ENODATA;

	/* A device would reach what the kernel itself has no access to, such as memfd_secret(). */
	mapped = kmap_local_page(page);
	ret = get_kernel_nofault(*value, (u64 *)(mapped + offset_in_page(addr)));
	kunmap_local(mapped);
	return ret;
}

/* Fills the device's page table. The caller holds the range: this sleeps as long as it likes. */
static int device_fault(struct context *ctx, struct odp_range *range, unsigned long addr,
			u64 *value)
{
	unsigned long index = addr / PAGE_SIZE, pfn = 0;
	struct hmm_range hmm = {
		.start = addr & PAGE_MASK,
		.end = (addr & PAGE_MASK) + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct odp_section section;
	int ret;

	do {
		/* Invalidations of other pages may go on for longer than HMM does. */
		ret = odp_range_fault(range, &hmm, HZ, &section);
		if (ret == -EBUSY)
			continue;
		if (ret)
			break;
		/*
		 * Nothing that reclaims is allocated under the user lock. The reservation is gone
		 * if there was a zap, or another fault that failed; then there may be no memory.
		 */
		ret = xa_reserve(&ctx->pages, index, GFP_KERNEL);
		if (ret) {
			odp_section_abandon(range, &section);
			break;
		}
		stall(ctx, ODP_MANAGED_IN_FAULT);

		ret = odp_commit_begin(range, &section);
		if (ret == -EAGAIN)
			atomic64_inc(&ctx->collided);
		if (ret)
			continue;
		ret = xa_err(xa_store(&ctx->pages, index, hmm_pfn_to_page(pfn),
				      GFP_NOWAIT | __GFP_NOWARN));
		if (ret)
			ret = -EAGAIN;
		else
			ret = device_read(ctx, addr, value);
		odp_commit_end(range);
	} while ((ret == -EAGAIN || ret == -EBUSY) && !fatal_signal_pending(current));

	if (ret)
		xa_release(&ctx->pages, index);
	return ret;
}

static int context_read(struct context *ctx, u64 addr, u64 *value)
{
	struct odp_range *range;
	int ret;

	if (addr % sizeof(*value) || addr >= TASK_SIZE)
		return -EINVAL;

	do {
		range = odp_range_lookup(ctx->mirror, addr);
		if (!range)
			return -ENOENT;
		ret = odp_access_begin(range);
		if (!ret) {
			ret = device_read(ctx, addr, value);
			odp_access_end(range);
		}
		if (ret == -ENODATA)
			ret = device_fault(ctx, range, addr, value);
		odp_range_put(range);
		/* The range has gone, and another one may be there. */
	} while (ret == -ESTALE && !fatal_signal_pending(current));

	return ret;
}

static int context_hold(struct context *ctx, struct odp_managed_span *span)
{
	int ret;

	ACQUIRE(mutex_kill, hold)(&ctx->hold);
	ret = ACQUIRE_ERR(mutex_kill, &hold);
	if (ret)
		return ret;
	if (ctx->range)
		odp_range_put(ctx->range);
	ctx->range = odp_range_lookup(ctx->mirror, span->start);
	if (!ctx->range)
		return -ENOENT;
	span->start = odp_range_start(ctx->range);
	span->end = odp_range_end(ctx->range);
	return 0;
}

static int context_change(struct context *ctx, unsigned int cmd,
			  const struct odp_managed_span *span)
{
	struct odp_range *range;
	int ret;

	ACQUIRE(mutex_kill, hold)(&ctx->hold);
	ret = ACQUIRE_ERR(mutex_kill, &hold);
	if (ret)
		return ret;
	range = ctx->range;
	if (!range)
		return -EBADF;

	switch (cmd) {
	case ODP_MANAGED_PUNCH:
		return odp_range_punch(range, span->start, span->end);
	case ODP_MANAGED_RESIZE:
		return odp_range_resize(range, span->start, span->end);
	case ODP_MANAGED_RETIRE:
		return odp_range_retire(range);
	default:
		ctx->range = NULL;
		return odp_range_remove(range);
	}
}

static void context_count(struct context *ctx, struct odp_managed_count *count)
{
	struct odp_range *range;

	count->ranges = 0;
	count->mirrored = 0;
	odp_for_each_range(range, ctx->mirror, count->start, count->end) {
		count->ranges++;
		count->mirrored += odp_range_end(range) - odp_range_start(range);
	}
}

static int context_flush(struct context *ctx)
{
	int ret;

	/*
	 * Who waits for releases must not hold what may have been retired. How long that takes may
	 * be for user space to say, so nobody who takes this lock keeps on when killed.
	 */
	ACQUIRE(mutex_kill, hold)(&ctx->hold);
	ret = ACQUIRE_ERR(mutex_kill, &hold);
	if (ret)
		return ret;
	return odp_mirror_flush(ctx->mirror, ctx->range ? ODP_REMOVED : ODP_RELEASED);
}

static void context_stats(struct context *ctx, struct odp_managed_stats *to)
{
	struct odp_stats stats;
	unsigned long index;
	void *page;

	odp_mirror_stats(ctx->mirror, &stats);
	to->mirrored = atomic64_read(&ctx->mirrored);
	xa_for_each(&ctx->pages, index, page)
		to->installed++;
	to->collided = atomic64_read(&ctx->collided);
	to->stalled = atomic_read(&ctx->stalled);
	to->changes = stats.changes;
	to->unchanged = stats.unchanged;
	to->replaced = stats.replaced;
	to->pieces = stats.pieces;
	to->released = stats.released;
}

static long context_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct context *ctx = file->private_data;
	void __user *user = (void __user *)arg;
	struct odp_managed_stats stats = {};
	struct odp_managed_span span = {};
	struct odp_managed_count count;
	struct odp_managed_read read;
	u64 places;
	int ret;

	switch (cmd) {
	case ODP_MANAGED_INSERT:
		if (copy_from_user(&span, user, sizeof(span)))
			return -EFAULT;
		return context_insert(ctx, &span);
	case ODP_MANAGED_READ:
		if (copy_from_user(&read, user, sizeof(read)))
			return -EFAULT;
		ret = context_read(ctx, read.addr, &read.value);
		if (ret)
			return ret;
		return copy_to_user(user, &read, sizeof(read)) ? -EFAULT : 0;
	case ODP_MANAGED_HOLD:
		if (copy_from_user(&span, user, sizeof(span)))
			return -EFAULT;
		ret = context_hold(ctx, &span);
		if (ret)
			return ret;
		return copy_to_user(user, &span, sizeof(span)) ? -EFAULT : 0;
	case ODP_MANAGED_PUNCH:
	case ODP_MANAGED_RESIZE:
		if (copy_from_user(&span, user, sizeof(span)))
			return -EFAULT;
		return context_change(ctx, cmd, &span);
	case ODP_MANAGED_RETIRE:
	case ODP_MANAGED_REMOVE:
		return context_change(ctx, cmd, NULL);
	case ODP_MANAGED_FLUSH:
		return context_flush(ctx);
	case ODP_MANAGED_STATS:
		context_stats(ctx, &stats);
		return copy_to_user(user, &stats, sizeof(stats)) ? -EFAULT : 0;
	case ODP_MANAGED_STALL:
		if (copy_from_user(&places, user, sizeof(places)))
			return -EFAULT;
		WRITE_ONCE(ctx->stall, places);
		wake_up_all(&ctx->go);
		return 0;
	case ODP_MANAGED_COUNT:
		if (copy_from_user(&count, user, sizeof(count)))
			return -EFAULT;
		context_count(ctx, &count);
		return copy_to_user(user, &count, sizeof(count)) ? -EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

static int context_open(struct inode *inode, struct file *file)
{
	const struct odp_mirror_config config = {
		.max_ranges = READ_ONCE(max_ranges),
		.grain = READ_ONCE(grain),
		.wakeup_delay_us = READ_ONCE(wakeup_delay_us),
		.expedited = READ_ONCE(expedited),
	};
	struct odp_mirror_ops ops = context_ops;
	struct context *ctx;
	int ret;

	ctx = kzalloc_obj(*ctx, GFP_KERNEL_ACCOUNT);
	if (!ctx)
		return -ENOMEM;
	ctx->zap_sleeps = READ_ONCE(zap_sleeps);
	ops.zap_sleeps = ctx->zap_sleeps;
	/* How much there is of it user space decides, so its memory cgroup is charged. */
	xa_init_flags(&ctx->pages, XA_FLAGS_ACCOUNT);
	mutex_init(&ctx->lock);
	mutex_init(&ctx->hold);
	init_waitqueue_head(&ctx->go);

	ctx->mirror = odp_mirror_create(current->mm, &ops, &config);
	if (IS_ERR(ctx->mirror)) {
		ret = PTR_ERR(ctx->mirror);
		kfree(ctx);
		return ret;
	}
	file->private_data = ctx;
	return 0;
}

static int context_release(struct inode *inode, struct file *file)
{
	struct context *ctx = file->private_data;

	if (ctx->range)
		odp_range_put(ctx->range);
	odp_mirror_shutdown(ctx->mirror);
	WARN_ON(atomic64_read(&ctx->mirrored));
	/* What has left coverage has been zapped. */
	WARN_ON(!xa_empty(&ctx->pages));
	xa_destroy(&ctx->pages);
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
	.name = "odp_managed_sample",
	.fops = &context_fops,
	.mode = 0600,
};
module_misc_device(sample_device);

MODULE_DESCRIPTION("A driver with managed ranges that are punched and resized, in C");
MODULE_AUTHOR("The odp authors");
MODULE_LICENSE("GPL");
