// SPDX-License-Identifier: GPL-2.0

/*
 * The driver of by_hand.c with the retire level: the notifiers are still its own, and how an object
 * leaves is the library's. Its flag, its work items, its workqueue and its SRCU domain are gone.
 */

#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "minimal.h"

struct window {
	struct mmu_interval_notifier notifier;
	struct odp_request req;
	struct retiring *ctx;
	unsigned long index;
};

static void window_unpublish(struct odp_request *req)
{
	struct window *window = container_of(req, struct window, req);

	xa_cmpxchg(&window->ctx->windows, window->index, window, NULL, 0);
}

static void window_remove(struct odp_request *req)
{
	struct window *window = container_of(req, struct window, req);
	unsigned long start = window->index * WINDOW_SIZE;
	struct retiring *ctx = window->ctx;

	/* A new window may be here by now: its pages are faulted in again. */
	mutex_lock(&ctx->accel.lock);
	accel_unmap(&ctx->accel, start, start + WINDOW_SIZE);
	mutex_unlock(&ctx->accel.lock);
	odp_remove_notifier(req, &window->notifier);
}

static void window_release(struct odp_request *req)
{
	kfree(container_of(req, struct window, req));
}

static const struct odp_retirer_ops window_ops = {
	.owner = THIS_MODULE,
	.unpublish = window_unpublish,
	.remove = window_remove,
	.release = window_release,
};

static bool window_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long seq)
{
	struct window *window = container_of(notifier, struct window, notifier);
	bool blockable = mmu_notifier_range_blockable(range);
	struct retiring *ctx = window->ctx;
	bool handled = true;

	odp_invalidate_enter(blockable);
	if (blockable) {
		mutex_lock(&ctx->accel.lock);
	} else if (!mutex_trylock(&ctx->accel.lock)) {
		handled = false;
		goto out;
	}
	mmu_interval_set_seq(notifier, seq);
	accel_unmap(&ctx->accel, range->start, range->end);
	if (range->event == MMU_NOTIFY_UNMAP)
		odp_retire(ctx->retirer, &window->req);
	mutex_unlock(&ctx->accel.lock);
out:
	odp_invalidate_exit(blockable);
	return handled;
}

static const struct mmu_interval_notifier_ops window_notifier_ops = {
	.invalidate = window_invalidate,
};

/* Callers take turns, and keep the address space: as its process, or by mmget_not_zero(). */
int retiring_mirror(struct retiring *ctx, unsigned long addr)
{
	unsigned long index = addr / WINDOW_SIZE;
	struct window *window;
	int ret;

	if (xa_load(&ctx->windows, index))
		return -EEXIST;
	window = kzalloc_obj(*window);
	if (!window)
		return -ENOMEM;
	window->ctx = ctx;
	window->index = index;
	odp_request_init_building(&window->req);
	ret = mmu_interval_notifier_insert(&window->notifier, ctx->mm, index * WINDOW_SIZE,
					   WINDOW_SIZE, &window_notifier_ops);
	if (ret) {
		kfree(window);
		return ret;
	}
	/* Until this returns, invalidations may pass the window by. */
	mmu_interval_read_begin(&window->notifier);

	ret = xa_err(xa_store(&ctx->windows, index, window, GFP_KERNEL));
	if (ret)
		odp_retire(ctx->retirer, &window->req);
	odp_publish(ctx->retirer, &window->req);
	odp_put(ctx->retirer, &window->req);
	return ret;
}

/* The device has asked for a page: @addr is its first byte. */
int retiring_fault(struct retiring *ctx, unsigned long addr)
{
	unsigned long pfn = 0;
	struct hmm_range hmm = {
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct window *window;
	int ret, idx;

	idx = odp_read_lock(ctx->retirer);
	window = xa_load(&ctx->windows, addr / WINDOW_SIZE);
	if (window && !odp_hold(ctx->retirer, &window->req))
		window = NULL;
	odp_read_unlock(ctx->retirer, idx);
	if (!window)
		return -EFAULT;

	hmm.notifier = &window->notifier;
	do {
		ret = accel_reserve(&ctx->accel, addr);
		if (ret)
			break;
		ret = -EFAULT;
		if (!mmget_not_zero(ctx->mm))
			break;
		ret = hmm_range_fault_unlocked_timeout(&hmm, HZ);
		mmput_async(ctx->mm);
		if (ret)
			continue;

		mutex_lock(&ctx->accel.lock);
		if (mmu_interval_read_retry(&window->notifier, hmm.notifier_seq))
			ret = -EAGAIN;
		else if (!odp_request_live(&window->req))
			ret = -EFAULT;
		else
			ret = accel_map(&ctx->accel, addr, pfn);
		mutex_unlock(&ctx->accel.lock);
	} while ((ret == -EAGAIN || ret == -EBUSY) && !fatal_signal_pending(current));

	odp_put(ctx->retirer, &window->req);
	return ret;
}

int retiring_begin(struct retiring *ctx, struct mm_struct *mm)
{
	const struct odp_retirer_config config = { .mm = mm };

	ctx->retirer = odp_retirer_create("retiring", &window_ops, &config);
	if (IS_ERR(ctx->retirer))
		return PTR_ERR(ctx->retirer);
	accel_init(&ctx->accel);
	xa_init(&ctx->windows);
	mmgrab(mm);
	ctx->mm = mm;
	return 0;
}

void retiring_end(struct retiring *ctx)
{
	struct window *window;
	unsigned long index;
	int idx;

	idx = odp_read_lock(ctx->retirer);
	xa_for_each(&ctx->windows, index, window)
		odp_retire(ctx->retirer, &window->req);
	odp_read_unlock(ctx->retirer, idx);

	odp_retirer_shutdown(ctx->retirer);
	xa_destroy(&ctx->windows);
	accel_destroy(&ctx->accel);
	mmdrop(ctx->mm);
}
