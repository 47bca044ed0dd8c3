/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_MINIMAL_H
#define ODP_MINIMAL_H

/* What each of the three drivers offers to the rest of a driver, which is not here. */

#include <linux/mmu_notifier.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <odp.h>

#include "accel.h"

/* What is mirrored, in bytes, if a driver mirrors windows of a fixed size. */
#define WINDOW_SIZE	(2UL << 20)

struct by_hand {
	struct accel accel;
	struct mm_struct *mm;
	struct xarray windows;
	struct srcu_struct srcu;
	struct workqueue_struct *queue;
};

int by_hand_begin(struct by_hand *ctx, struct mm_struct *mm);
int by_hand_mirror(struct by_hand *ctx, unsigned long addr);
void by_hand_end(struct by_hand *ctx);

struct retiring {
	struct accel accel;
	struct mm_struct *mm;
	struct xarray windows;
	struct odp_retirer *retirer;
};

int retiring_begin(struct retiring *ctx, struct mm_struct *mm);
int retiring_mirror(struct retiring *ctx, unsigned long addr);
int retiring_fault(struct retiring *ctx, unsigned long addr);
void retiring_end(struct retiring *ctx);

struct managed {
	struct accel accel;
	struct odp_mirror *mirror;
};

int managed_begin(struct managed *ctx, struct mm_struct *mm);
int managed_mirror(struct managed *ctx, unsigned long start, unsigned long len);
int managed_fault(struct managed *ctx, unsigned long addr);
void managed_end(struct managed *ctx);

#endif /* ODP_MINIMAL_H */
