// SPDX-License-Identifier: GPL-2.0
/*
 * A file that holds invalidations of a range open: between the callbacks of the notifiers that
 * begin before it, which have run, and the change of the page table, which has not.
 */

#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "../modules.h"

struct odp_hold {
	struct mmu_interval_notifier notifier;
	bool armed;
	/* Serialises the sequence only; the rest are flags that are set once. */
	spinlock_t lock;
	wait_queue_head_t wait;
	bool entered, released;
};

static bool odp_hold_invalidate(struct mmu_interval_notifier *mni,
				const struct mmu_notifier_range *range, unsigned long seq)
{
	struct odp_hold *hold = container_of(mni, struct odp_hold, notifier);

	if (!mmu_notifier_range_blockable(range))
		return false;
	spin_lock(&hold->lock);
	mmu_interval_set_seq(mni, seq);
	spin_unlock(&hold->lock);
	/* Who could release it has lost its mm by then, which goes on to be unmapped. */
	if (range->event == MMU_NOTIFY_RELEASE) {
		WRITE_ONCE(hold->released, true);
		return true;
	}
	WRITE_ONCE(hold->entered, true);
	wake_up_all(&hold->wait);
	/* Killable, for a test that is ended by its timeout. */
	wait_event_killable(hold->wait, READ_ONCE(hold->released));
	return true;
}

static const struct mmu_interval_notifier_ops ops = { .invalidate = odp_hold_invalidate };

static int odp_hold_open(struct inode *inode, struct file *file)
{
	struct odp_hold *hold = kzalloc(sizeof(*hold), GFP_KERNEL);

	if (!hold)
		return -ENOMEM;
	spin_lock_init(&hold->lock);
	init_waitqueue_head(&hold->wait);
	file->private_data = hold;
	return 0;
}

static void odp_hold_let_go(struct odp_hold *hold)
{
	WRITE_ONCE(hold->released, true);
	wake_up_all(&hold->wait);
}

static int odp_hold_release(struct inode *inode, struct file *file)
{
	struct odp_hold *hold = file->private_data;

	odp_hold_let_go(hold);
	if (hold->armed)
		mmu_interval_notifier_remove(&hold->notifier);
	kfree(hold);
	return 0;
}

static long odp_hold_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct odp_hold *hold = file->private_data;
	struct odp_hold_range range;
	int err;

	switch (cmd) {
	case ODP_HOLD_ARM:
		if (hold->armed)
			return -EBUSY;
		if (copy_from_user(&range, (void __user *)arg, sizeof(range)))
			return -EFAULT;
		err = mmu_interval_notifier_insert(&hold->notifier, current->mm, range.start,
						   range.length, &ops);
		hold->armed = !err;
		return err;
	case ODP_HOLD_RELEASE:
		odp_hold_let_go(hold);
		return 0;
	default:
		return -ENOTTY;
	}
}

static __poll_t odp_hold_poll(struct file *file, poll_table *table)
{
	struct odp_hold *hold = file->private_data;

	poll_wait(file, &hold->wait, table);
	return READ_ONCE(hold->entered) ? EPOLLIN : 0;
}

static const struct file_operations fops = {
	.owner = THIS_MODULE,
	.open = odp_hold_open,
	.release = odp_hold_release,
	.unlocked_ioctl = odp_hold_ioctl,
	.poll = odp_hold_poll,
};

static struct miscdevice misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "odp_hold",
	.fops = &fops,
};

module_misc_device(misc);
MODULE_DESCRIPTION("Invalidations that stand still, for tests");
MODULE_LICENSE("GPL");
