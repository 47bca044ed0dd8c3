// SPDX-License-Identifier: GPL-2.0

/*
 * What the functions of bench/in_callback do, in both modes, where these do not
 * differ.
 */

#include <linux/sched/mm.h>

#include "space.h"

static const struct mode modes[] = {
	{ .name = "hardened", .ops = &hardened },
	{ .name = "hardened, wake first", .ops = &hardened_wake_first },
	{ .name = "faithful", .ops = &faithful, .as_posted = true },
	{ .name = "faithful, wake first", .ops = &faithful_wake_first, .as_posted = true },
};

KUNIT_ARRAY_PARAM_DESC(mode, modes, name);

static const struct mmu_interval_notifier_ops *ops_of(struct kunit *test)
{
	return ((const struct mode *)test->param_value)->ops;
}

/* Whether a first write to a page is told to anybody. */
static unsigned int told(struct space *space, unsigned int page)
{
	unsigned int before = READ_ONCE(space->told[page]);

	space_touch(space, page);
	return READ_ONCE(space->told[page]) - before;
}

static void remove_idle(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 2, ops_of(test)), 0);
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
	KUNIT_EXPECT_EQ(test, told(space, 1), 0);
}

static void remove_frozen(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 2, ops_of(test)), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	/* It is still told. */
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 0);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
	KUNIT_EXPECT_EQ(test, told(space, 1), 0);
}

/* Told of the unmapping of all of it. */
static void remove_self(struct probe *probe, const struct mmu_notifier_range *range)
{
	if (range->event != MMU_NOTIFY_UNMAP)
		return;
	probe_remove_deferred(probe);
	KUNIT_EXPECT_EQ(probe->space->test, atomic_read(&probe->releases), 0);
}

static void remove_in_callback(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probes[PAGES];
	unsigned int i;

	for (i = 0; i < PAGES; i++) {
		probes[i] = probe_new(space);
		probes[i]->told = remove_self;
		KUNIT_ASSERT_EQ(test, probe_insert(probes[i], i, 1, ops_of(test)), 0);
	}
	space_unmap(space, 0, PAGES);
	for (i = 0; i < PAGES; i++) {
		KUNIT_EXPECT_EQ(test, atomic_read(&probes[i]->callbacks), 1);
		KUNIT_EXPECT_EQ(test, atomic_read(&probes[i]->releases), 1);
	}
}

/* What exits unmaps, too, and there are RELEASE callbacks before. */
static void remove_in_exit(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	probe->told = remove_self;
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, PAGES, ops_of(test)), 0);
	space_end(space);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->callbacks), 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

static void update_idle(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 2, 4, ops_of(test)), 0);
	KUNIT_EXPECT_TRUE(test, probe_update(probe, 2, 1));
	KUNIT_EXPECT_EQ(test, told(space, 2), 1);
	KUNIT_EXPECT_EQ(test, told(space, 3), 0);
	KUNIT_EXPECT_TRUE(test, probe_update(probe, 0, 6));
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	KUNIT_EXPECT_EQ(test, told(space, 5), 1);
	KUNIT_EXPECT_EQ(test, told(space, 6), 0);
}

static void update_frozen(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *shrinks = probe_new(space), *grows = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(shrinks, 0, 3, ops_of(test)), 0);
	KUNIT_ASSERT_EQ(test, probe_insert(grows, 4, 1, ops_of(test)), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_update(shrinks, 0, 2));
	KUNIT_EXPECT_TRUE(test, probe_update(shrinks, 0, 1));
	KUNIT_EXPECT_TRUE(test, probe_update(grows, 4, 3));
	/* The old bounds hold. */
	KUNIT_EXPECT_EQ(test, told(space, 1), 1);
	KUNIT_EXPECT_EQ(test, told(space, 5), 0);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	KUNIT_EXPECT_EQ(test, told(space, 2), 0);
	KUNIT_EXPECT_EQ(test, told(space, 4), 1);
	KUNIT_EXPECT_EQ(test, told(space, 6), 1);
	KUNIT_EXPECT_EQ(test, told(space, 7), 0);
}

/* What was to change is removed after all, and released once. */
static void update_then_remove(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 3, ops_of(test)), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_update(probe, 0, 2));
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
	KUNIT_EXPECT_EQ(test, told(space, 0), 0);
	KUNIT_EXPECT_EQ(test, told(space, 2), 0);
}

/* A hole in a range: one notifier shrinks, another one is inserted. */
static void punch_self(struct probe *left, const struct mmu_notifier_range *range)
{
	struct space *space = left->space;
	struct probe *right = left->data;

	if (range->event != MMU_NOTIFY_UNMAP || right->inserted)
		return;
	KUNIT_EXPECT_EQ(space->test, range->start, space_page(space, 2));
	KUNIT_EXPECT_TRUE(space->test, probe_update(left, 0, 2));
	KUNIT_EXPECT_EQ(space->test,
			probe_insert_from_callback(right, 4, 4, left->notifier.ops), 0);
}

static void punch(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *left = probe_new(space), *right = probe_new(space);

	left->told = punch_self;
	left->data = right;
	KUNIT_ASSERT_EQ(test, probe_insert(left, 0, PAGES, ops_of(test)), 0);
	space_unmap(space, 2, 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&left->callbacks), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&right->callbacks), 0);
	KUNIT_EXPECT_EQ(test, told(space, 1), 1);
	KUNIT_EXPECT_EQ(test, told(space, 4), 1);
	KUNIT_EXPECT_EQ(test, told(space, 7), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&left->callbacks), 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&right->callbacks), 2);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&right->notifier,
							 mmu_interval_read_begin(&right->notifier)));
}

static void insert_and_remove(void *data)
{
	struct probe *probe = data;
	struct kunit *test = probe->space->test;

	KUNIT_EXPECT_EQ(test, probe_insert_from_callback(probe, 0, 2, ops_of(test)), 0);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	/* Nobody knows of it yet. */
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

static void remove_pending(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	frozen_begin(frozen);
	frozen_call(frozen, insert_and_remove, probe);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, told(space, 0), 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

static void insert_and_update(void *data)
{
	struct probe *probe = data;
	struct kunit *test = probe->space->test;

	KUNIT_EXPECT_EQ(test, probe_insert_from_callback(probe, 0, 2, ops_of(test)), 0);
	KUNIT_EXPECT_TRUE(test, probe_update(probe, 1, 3));
}

static void update_pending(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	frozen_begin(frozen);
	frozen_call(frozen, insert_and_update, probe);
	/* It is not told yet. */
	KUNIT_EXPECT_EQ(test, told(space, 2), 0);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, told(space, 0), 0);
	KUNIT_EXPECT_EQ(test, told(space, 1), 1);
	KUNIT_EXPECT_EQ(test, told(space, 3), 1);
}

static void insert_dead_self(struct probe *probe, const struct mmu_notifier_range *range)
{
	struct probe *other = probe->data;

	KUNIT_EXPECT_EQ(probe->space->test,
			probe_insert_from_callback(other, 0, 1, probe->notifier.ops), -ESRCH);
}

/* In the callbacks of a process that exits. */
static void insert_dead(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	probe->told = insert_dead_self;
	probe->data = probe_new(space);
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, PAGES, ops_of(test)), 0);
	space_end(space);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->callbacks), 2);
	probe->told = NULL;
}

static void insert_unprepared(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);
	struct mm_struct *mm = mm_alloc();

	KUNIT_ASSERT_NOT_NULL(test, mm);
	KUNIT_EXPECT_EQ(test,
			mmu_interval_notifier_insert_from_callback(&probe->notifier, mm, 0,
								   PAGE_SIZE, ops_of(test)),
			-EINVAL);
	mmput(mm);
}

static void wait_for_end(void *data)
{
	mmu_interval_read_begin(data);
}

struct wake {
	struct job waiter;
	unsigned long timeout;
	bool awake;
};

static void look_for_waiter(struct probe *probe)
{
	struct wake *wake = probe->data;

	wake->awake = job_ended(&wake->waiter, wake->timeout);
}

/* Who waits for the end of an invalidation goes on before or after the releases. */
static void wake_order(struct kunit *test)
{
	const struct mmu_interval_notifier_ops *ops = ops_of(test);
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);
	struct wake *wake = kunit_kzalloc(test, sizeof(*wake), GFP_KERNEL);
	bool first = ops->flags & MMU_INTERVAL_WAKE_FIRST;

	KUNIT_ASSERT_NOT_NULL(test, wake);
	probe->gone = look_for_waiter;
	probe->data = wake;
	wake->timeout = first ? LONG_WAIT : SHORT_WAIT;
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, ops), 0);
	frozen_begin(frozen);
	job_start(test, &wake->waiter, wait_for_end, &frozen->interval);
	KUNIT_EXPECT_TRUE(test, job_waits(&wake->waiter));
	probe_remove_deferred(probe);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, wake->awake, first);
	KUNIT_EXPECT_TRUE(test, job_ended(&wake->waiter, LONG_WAIT));
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->released), 1);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(remove_idle, mode_gen_params),
	KUNIT_CASE_PARAM(remove_frozen, mode_gen_params),
	KUNIT_CASE_PARAM(remove_in_callback, mode_gen_params),
	KUNIT_CASE_PARAM(remove_in_exit, mode_gen_params),
	KUNIT_CASE_PARAM(update_idle, mode_gen_params),
	KUNIT_CASE_PARAM(update_frozen, mode_gen_params),
	KUNIT_CASE_PARAM(update_then_remove, mode_gen_params),
	KUNIT_CASE_PARAM(punch, mode_gen_params),
	KUNIT_CASE_PARAM(remove_pending, mode_gen_params),
	KUNIT_CASE_PARAM(update_pending, mode_gen_params),
	KUNIT_CASE_PARAM(insert_dead, mode_gen_params),
	KUNIT_CASE_PARAM(insert_unprepared, mode_gen_params),
	KUNIT_CASE_PARAM(wake_order, mode_gen_params),
	{}
};

static struct kunit_suite suite = {
	.name = "in_callback_function",
	.init = space_init,
	.exit = space_exit,
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_DESCRIPTION("KUnit tests of changing interval notifiers from within callbacks");
MODULE_AUTHOR("The odp authors");
MODULE_IMPORT_NS("EXPORTED_FOR_KUNIT_TESTING");
MODULE_LICENSE("GPL");
