// SPDX-License-Identifier: GPL-2.0

/*
 * A driver that removes its notifiers by a work queue of its own, as drivers do today. It mirrors
 * windows of a fixed size, and drops a window when part of it is unmapped.
 */

#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "minimal.h"

struct window {
	struct mmu_interval_notifier notifier;
	struct work_struct work;
	struct by_hand *ctx;
	unsigned long index;
	bool retired;	/* under the user lock */
};

static void window_work(struct work_struct *work)
{
	struct window *window = container_of(work, struct window, work);
	unsigned long start = window->index * WINDOW_SIZE;
	struct by_hand *ctx = window->ctx;

	xa_cmpxchg(&ctx->windows, window->index, window, NULL, 0);
	synchronize_srcu(&ctx->srcu);
	mutex_lock(&ctx->accel.lock);
	accel_unmap(&ctx->accel, start, start + WINDOW_SIZE);
	mutex_unlock(&ctx->accel.lock);
	mmu_interval_notifier_remove(&window->notifier);
	kfree(window);
}

static bool window_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long seq)
{
	struct window *window = container_of(notifier, struct window, notifier);
	struct by_hand *ctx = window->ctx;

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&ctx->accel.lock);
	else if (!mutex_trylock(&ctx->accel.lock))
		return false;
	mmu_interval_set_seq(notifier, seq);
	accel_unmap(&ctx->accel, range->start, range->end);
	if (range->event == MMU_NOTIFY_UNMAP && !window->retired) {
		window->retired = true;
		queue_work(ctx->queue, &window->work);
	}
	mutex_unlock(&ctx->accel.lock);
	return true;
}

static const struct mmu_interval_notifier_ops window_notifier_ops = {
	.invalidate = window_invalidate,
};

/* Callers take turns, and keep the address space: as its process, or by mmget_not_zero(). */
int by_hand_mirror(struct by_hand *ctx, unsigned long addr)
{
	unsigned long index = addr / WINDOW_SIZE;
	struct window *window;
	int ret, idx;

	if (xa_load(&ctx->windows, index))
		return -EEXIST;
	ret = xa_reserve(&ctx->windows, index, GFP_KERNEL);
	if (ret)
		return ret;
	window = kzalloc_obj(*window);
	if (!window) {
		xa_release(&ctx->windows, index);
		return -ENOMEM;
	}
	window->ctx = ctx;
	window->index = index;
	INIT_WORK(&window->work, window_work);

	/* An unmap may retire the window before it is in @windows: this keeps it until then. */
	idx = srcu_read_lock(&ctx->srcu);
	ret = mmu_interval_notifier_insert(&window->notifier, ctx->mm, index * WINDOW_SIZE,
					   WINDOW_SIZE, &window_notifier_ops);
	if (ret) {
		xa_release(&ctx->windows, index);
		kfree(window);
	} else {
		/* Until this returns, invalidations may pass the window by. */
		mmu_interval_read_begin(&window->notifier);
		mutex_lock(&ctx->accel.lock);
		if (!window->retired)
			xa_store(&ctx->windows, index, window, GFP_NOWAIT);
		else
			xa_release(&ctx->windows, index);
		mutex_unlock(&ctx->accel.lock);
	}
	srcu_read_unlock(&ctx->srcu, idx);
	return ret;
}

int by_hand_begin(struct by_hand *ctx, struct mm_struct *mm)
{
	int ret;

	ctx->queue = alloc_workqueue("by_hand", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!ctx->queue)
		return -ENOMEM;
	ret = init_srcu_struct(&ctx->srcu);
	if (ret) {
		destroy_workqueue(ctx->queue);
		return ret;
	}
	accel_init(&ctx->accel);
	xa_init(&ctx->windows);
	mmgrab(mm);
	ctx->mm = mm;
	return 0;
}

void by_hand_end(struct by_hand *ctx)
{
	struct window *window;
	unsigned long index;
	int idx;

	idx = srcu_read_lock(&ctx->srcu);
	xa_for_each(&ctx->windows, index, window) {
		mutex_lock(&ctx->accel.lock);
		if (!window->retired) {
			window->retired = true;
			queue_work(ctx->queue, &window->work);
		}
		mutex_unlock(&ctx->accel.lock);
	}
	srcu_read_unlock(&ctx->srcu, idx);

	destroy_workqueue(ctx->queue);
	cleanup_srcu_struct(&ctx->srcu);
	xa_destroy(&ctx->windows);
	accel_destroy(&ctx->accel);
	mmdrop(ctx->mm);
}
