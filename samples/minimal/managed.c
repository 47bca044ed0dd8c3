// SPDX-License-Identifier: GPL-2.0

/*
 * The same device with the managed level: it mirrors what it is asked for, and when part of that is
 * unmapped, what is left. There is no notifier, no index, no object for a range.
 */

#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/sched/signal.h>

#include "minimal.h"

static void managed_lock(void *shared)
{
	struct managed *ctx = shared;

	mutex_lock(&ctx->accel.lock);
}

static bool managed_trylock(void *shared)
{
	struct managed *ctx = shared;

	return mutex_trylock(&ctx->accel.lock);
}

static void managed_unlock(void *shared)
{
	struct managed *ctx = shared;

	mutex_unlock(&ctx->accel.lock);
}

static void managed_zap_dead(void *shared, unsigned long start, unsigned long end)
{
	struct managed *ctx = shared;

	accel_unmap(&ctx->accel, start, end);
}

static int managed_zap(void *shared, struct odp_range *range, unsigned long start,
		       unsigned long end, unsigned int event)
{
	managed_zap_dead(shared, start, end);
	return event == MMU_NOTIFY_UNMAP ? ODP_PUNCH : ODP_KEEP;
}

static const struct odp_mirror_ops managed_ops = {
	.owner = THIS_MODULE,
	.lock = managed_lock,
	.trylock = managed_trylock,
	.unlock = managed_unlock,
	.zap = managed_zap,
	.zap_dead = managed_zap_dead,
};

int managed_begin(struct managed *ctx, struct mm_struct *mm)
{
	accel_init(&ctx->accel);
	ctx->mirror = odp_mirror_create(mm, &managed_ops, NULL);
	return PTR_ERR_OR_ZERO(ctx->mirror);
}

int managed_mirror(struct managed *ctx, unsigned long start, unsigned long len)
{
	struct odp_range *range;

	range = odp_range_insert(ctx->mirror, start, len, ctx);
	if (IS_ERR(range))
		return PTR_ERR(range);
	/* Nothing else tells of what was unmapped before the insertion. */
	odp_range_punch_unmapped(range);
	odp_range_put(range);
	return 0;
}

void managed_end(struct managed *ctx)
{
	odp_mirror_shutdown(ctx->mirror);
	accel_destroy(&ctx->accel);
}

/* The device has asked for a page: @addr is its first byte. */
int managed_fault(struct managed *ctx, unsigned long addr)
{
	unsigned long pfn = 0;
	struct hmm_range hmm = {
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct odp_section section;
	struct odp_range *range;
	int ret;

	range = odp_range_lookup(ctx->mirror, addr);
	if (!range)
		return -EFAULT;

	do {
		ret = odp_range_fault(range, &hmm, HZ, &section);
		if (ret == -EBUSY)
			continue;
		if (ret)
			break;
		ret = accel_reserve(&ctx->accel, addr);
		if (ret) {
			odp_section_abandon(range, &section);
			break;
		}
		ret = odp_commit_begin(range, &section);
		if (ret)
			continue;
		ret = accel_map(&ctx->accel, addr, pfn);
		odp_commit_end(range);
	} while ((ret == -EAGAIN || ret == -EBUSY) && !fatal_signal_pending(current));

	odp_range_put(range);
	/* -ESTALE: the range has gone meanwhile, and the caller looks the address up again. */
	return ret;
}
