// SPDX-License-Identifier: GPL-2.0

#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "space.h"

static bool probe_invalidate(struct mmu_interval_notifier *notifier,
			     const struct mmu_notifier_range *range,
			     unsigned long seq)
{
	struct probe *probe = container_of(notifier, struct probe, notifier);
	struct space *space = probe->space;
	unsigned int page;

	/* No test invalidates anything in a context that is not blockable. */
	mutex_lock(&space->lock);
	mmu_interval_set_seq(notifier, seq);
	atomic_inc(&probe->callbacks);
	for (page = 0; page < PAGES; page++)
		if (space_page(space, page) >= range->start &&
		    space_page(space, page) < range->end)
			space->told[page]++;
	if (probe->told)
		probe->told(probe, range);
	mutex_unlock(&space->lock);
	return true;
}

static void probe_release(struct mmu_interval_notifier *notifier)
{
	struct probe *probe = container_of(notifier, struct probe, notifier);

	atomic_inc(&probe->releases);
	if (probe->gone)
		probe->gone(probe);
	atomic_inc(&probe->released);
	complete_all(&probe->unused);
}

const struct mmu_interval_notifier_ops hardened = {
	.invalidate = probe_invalidate,
	.release = probe_release,
};

const struct mmu_interval_notifier_ops hardened_wake_first = {
	.invalidate = probe_invalidate,
	.release = probe_release,
	.flags = MMU_INTERVAL_WAKE_FIRST,
};

const struct mmu_interval_notifier_ops faithful = {
	.invalidate = probe_invalidate,
	.release = probe_release,
	.flags = MMU_INTERVAL_AS_POSTED,
};

const struct mmu_interval_notifier_ops faithful_wake_first = {
	.invalidate = probe_invalidate,
	.release = probe_release,
	.flags = MMU_INTERVAL_AS_POSTED | MMU_INTERVAL_WAKE_FIRST,
};

const struct mmu_interval_notifier_ops without_release = {
	.invalidate = probe_invalidate,
};

static unsigned long map(size_t size)
{
	return vm_mmap(NULL, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0);
}

static int look(unsigned long address)
{
	u8 byte;

	return copy_from_user(&byte, (void __user *)address, sizeof(byte)) ? -EFAULT : 0;
}

static int touch(unsigned long address)
{
	u8 byte = 1;

	return copy_to_user((void __user *)address, &byte, sizeof(byte)) ? -EFAULT : 0;
}

int space_init(struct kunit *test)
{
	struct space *space;
	unsigned int page;
	int ret;

	ret = kunit_attach_mm();
	if (ret)
		return ret;
	space = kunit_kzalloc(test, sizeof(*space), GFP_KERNEL);
	if (!space)
		return -ENOMEM;
	space->test = test;
	mutex_init(&space->lock);
	INIT_LIST_HEAD(&space->probes);
	INIT_LIST_HEAD(&space->frozen);
	INIT_LIST_HEAD(&space->jobs);
	space->start = map(PAGES * PAGE_SIZE);
	if (IS_ERR_VALUE(space->start))
		return space->start;
	for (page = 0; page < PAGES; page++)
		if (look(space_page(space, page)))
			return -EFAULT;
	/* For who inserts from a callback, and so that the first insertion is like others. */
	space->mm = current->mm;
	ret = mmu_notifier_register(NULL, space->mm);
	if (ret)
		return ret;
	/* From here on space_exit() gives them back. */
	mmget(space->mm);
	mmgrab(space->mm);
	test->priv = space;
	return 0;
}

static void frozen_thaw(struct frozen *frozen)
{
	WRITE_ONCE(frozen->thawed, true);
	WRITE_ONCE(frozen->order_run, NULL);
	complete_all(&frozen->order);
}

static void frozen_remove(struct frozen *frozen)
{
	if (frozen->partial)
		mmu_notifier_unregister(&frozen->notifier, frozen->space->mm);
	else
		mmu_interval_notifier_remove(&frozen->interval);
}

/*
 * Somebody may be invalidating something of the address space: whoever else has been
 * using it, or core mm by way of the reverse mapping. Then the notifier is in use until
 * that has ended and the release has been called.
 */
static void probe_remove(struct probe *probe)
{
	if (!probe->inserted)
		return;
	if (!probe->notifier.ops->release) {
		if (!probe->removed)
			probe_start(probe);
		probe_finish(probe);
		return;
	}
	if (!probe->removed)
		probe_remove_deferred(probe);
	wait_for_completion(&probe->unused);
}

void space_exit(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen;
	struct probe *probe;
	struct job *job;

	if (!space)
		return;
	/* First what others wait for, then the others. */
	list_for_each_entry(frozen, &space->frozen, link)
		frozen_thaw(frozen);
	list_for_each_entry(job, &space->jobs, link)
		job_join(job);
	list_for_each_entry(frozen, &space->frozen, link)
		frozen_remove(frozen);
	list_for_each_entry(probe, &space->probes, link)
		probe_remove(probe);
	if (!space->ended)
		mmput(space->mm);
	mmdrop(space->mm);
}

void space_end(struct space *space)
{
	kthread_unuse_mm(space->mm);
	/* What kunit_attach_mm() has given to the thread, and what the space has. */
	mmput(space->mm);
	space->ended = true;
	mmput(space->mm);
}

unsigned long space_page(struct space *space, unsigned int page)
{
	return space->start + page * PAGE_SIZE;
}

void space_touch(struct space *space, unsigned int page)
{
	KUNIT_EXPECT_EQ(space->test, touch(space_page(space, page)), 0);
}

void space_unmap(struct space *space, unsigned int page, unsigned int pages)
{
	KUNIT_EXPECT_EQ(space->test,
			vm_munmap(space_page(space, page), pages * PAGE_SIZE), 0);
}

struct probe *probe_new(struct space *space)
{
	struct probe *probe = kunit_kzalloc(space->test, sizeof(*probe), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(space->test, probe);
	probe->space = space;
	init_completion(&probe->unused);
	list_add(&probe->link, &space->probes);
	return probe;
}

int probe_insert(struct probe *probe, unsigned int page, unsigned int pages,
		 const struct mmu_interval_notifier_ops *ops)
{
	struct space *space = probe->space;
	int ret;

	ret = mmu_interval_notifier_insert(&probe->notifier, space->mm,
					   space_page(space, page), pages * PAGE_SIZE, ops);
	probe->inserted = !ret;
	return ret;
}

int probe_insert_from_callback(struct probe *probe, unsigned int page, unsigned int pages,
			       const struct mmu_interval_notifier_ops *ops)
{
	struct space *space = probe->space;
	int ret;

	ret = mmu_interval_notifier_insert_from_callback(&probe->notifier, space->mm,
							 space_page(space, page),
							 pages * PAGE_SIZE, ops);
	probe->inserted = !ret;
	return ret;
}

bool probe_update(struct probe *probe, unsigned int page, unsigned int pages)
{
	unsigned long start = space_page(probe->space, page);

	if (!mmu_interval_notifier_update(&probe->notifier, start,
					  start + pages * PAGE_SIZE - 1))
		return false;
	/* As posted, one that was to be removed stays after all. */
	probe->removed = false;
	return true;
}

bool probe_remove_deferred(struct probe *probe)
{
	probe->removed = true;
	return mmu_interval_notifier_remove_deferred(&probe->notifier);
}

void probe_start(struct probe *probe)
{
	probe->removed = true;
	mmu_interval_notifier_remove_start(&probe->notifier);
}

void probe_finish(struct probe *probe)
{
	mmu_interval_notifier_remove_finish(&probe->notifier);
	probe->inserted = false;
}

static int job_main(void *data)
{
	struct job *job = data;

	kthread_use_mm(job->mm);
	job->run(job->data);
	kthread_unuse_mm(job->mm);
	mmput(job->mm);
	complete_all(&job->ended);
	return 0;
}

void job_join(struct job *job)
{
	/* A thread that is told to stop before it has begun never does. */
	wait_for_completion(&job->ended);
	kthread_stop_put(job->task);
}

int job_start_alone(struct space *space, struct job *job, void (*run)(void *data), void *data)
{
	struct task_struct *task = kthread_create(job_main, job, "odp_in_callback");

	if (IS_ERR(task))
		return PTR_ERR(task);
	job->run = run;
	job->data = data;
	job->mm = space->mm;
	job->task = get_task_struct(task);
	init_completion(&job->ended);
	mmget(job->mm);
	wake_up_process(task);
	return 0;
}

void job_start(struct kunit *test, struct job *job, void (*run)(void *data), void *data)
{
	struct space *space = test->priv;

	KUNIT_ASSERT_EQ(test, job_start_alone(space, job, run, data), 0);
	list_add(&job->link, &space->jobs);
}

bool job_ended(struct job *job, unsigned long timeout)
{
	return wait_for_completion_timeout(&job->ended, timeout);
}

bool job_waits(struct job *job)
{
	unsigned long end = jiffies + LONG_WAIT;

	while (time_before(jiffies, end)) {
		if (job_ended(job, 1))
			return false;
		if (READ_ONCE(job->task->__state) == TASK_UNINTERRUPTIBLE)
			return true;
	}
	return false;
}

/* In a callback, of whatever kind. */
static void frozen_stay(struct frozen *frozen)
{
	void (*run)(void *data);

	complete(&frozen->entered);
	/* If nobody says so the test has failed, and says it; the callback has to end anyway. */
	while (wait_for_completion_timeout(&frozen->order, LONG_WAIT)) {
		run = READ_ONCE(frozen->order_run);
		if (!run)
			return;
		run(frozen->order_data);
		complete(&frozen->done);
	}
	/* Whoever was to wait for its end need not have. */
	WRITE_ONCE(frozen->forgotten, true);
}

static bool frozen_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range,
			      unsigned long seq)
{
	struct frozen *frozen = container_of(notifier, struct frozen, interval);

	mmu_interval_set_seq(notifier, seq);
	/* For what comes after the end there is nobody to tell it to go on. */
	if (range->event != MMU_NOTIFY_CLEAR || READ_ONCE(frozen->thawed))
		return true;
	frozen->seq = seq;
	frozen_stay(frozen);
	return true;
}

static const struct mmu_interval_notifier_ops frozen_interval_ops = {
	.invalidate = frozen_invalidate,
};

static int frozen_range_start(struct mmu_notifier *notifier,
			      const struct mmu_notifier_range *range)
{
	struct frozen *frozen = container_of(notifier, struct frozen, notifier);

	if (range->start <= frozen->page && frozen->page < range->end &&
	    range->event == MMU_NOTIFY_CLEAR && !READ_ONCE(frozen->thawed))
		frozen_stay(frozen);
	return 0;
}

static const struct mmu_notifier_ops frozen_notifier_ops = {
	.invalidate_range_start = frozen_range_start,
};

struct frozen *frozen_prepare(struct space *space, bool partial)
{
	struct kunit *test = space->test;
	struct frozen *frozen = kunit_kzalloc(test, sizeof(*frozen), GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, frozen);
	frozen->space = space;
	frozen->partial = partial;
	init_completion(&frozen->entered);
	init_completion(&frozen->order);
	init_completion(&frozen->done);
	frozen->page = map(PAGE_SIZE);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(frozen->page));
	KUNIT_ASSERT_EQ(test, look(frozen->page), 0);
	if (partial) {
		frozen->notifier.ops = &frozen_notifier_ops;
		ret = mmu_notifier_register(&frozen->notifier, space->mm);
	} else {
		ret = mmu_interval_notifier_insert(&frozen->interval, space->mm, frozen->page,
						   PAGE_SIZE, &frozen_interval_ops);
	}
	KUNIT_ASSERT_EQ(test, ret, 0);
	list_add(&frozen->link, &space->frozen);
	return frozen;
}

static void frozen_write(void *data)
{
	struct frozen *frozen = data;

	KUNIT_EXPECT_EQ(frozen->space->test, touch(frozen->page), 0);
}

void frozen_begin(struct frozen *frozen)
{
	struct kunit *test = frozen->space->test;

	job_start(test, &frozen->writer, frozen_write, frozen);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&frozen->entered, LONG_WAIT), 0);
}

void frozen_call(struct frozen *frozen, void (*run)(void *data), void *data)
{
	struct kunit *test = frozen->space->test;

	frozen->order_data = data;
	WRITE_ONCE(frozen->order_run, run);
	complete(&frozen->order);
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&frozen->done, LONG_WAIT), 0);
}

void frozen_end(struct frozen *frozen)
{
	frozen_thaw(frozen);
	KUNIT_ASSERT_TRUE(frozen->space->test, job_ended(&frozen->writer, LONG_WAIT));
	KUNIT_EXPECT_FALSE(frozen->space->test, READ_ONCE(frozen->forgotten));
}
