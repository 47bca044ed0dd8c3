// SPDX-License-Identifier: GPL-2.0

/*
 * The end of a case, wherever that is: what the address space can still reach is not
 * freed. These are tests of the other suites' cleanup. KASAN judges, too.
 */

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

/*
 * A notifier that outlives the cleanup of its case. An invalidation that it has been told
 * of goes on until what the case has allocated has been freed, or longer than that takes.
 */
static struct gate {
	struct mmu_interval_notifier notifier;
	struct space *space;
	struct completion entered, freed;
	/* somebody the cleanup does not know of */
	struct job stranger;
	bool has_stranger;
} gate;

static bool gate_invalidate(struct mmu_interval_notifier *notifier,
			    const struct mmu_notifier_range *range,
			    unsigned long seq)
{
	mmu_interval_set_seq(notifier, seq);
	complete_all(&gate.entered);
	wait_for_completion_timeout(&gate.freed, SHORT_WAIT);
	return true;
}

static const struct mmu_interval_notifier_ops gate_ops = {
	.invalidate = gate_invalidate,
};

/* The last act of the cleanup, because nothing is allocated before the gate is there. */
static void gate_remove(void *data)
{
	complete_all(&gate.freed);
	if (gate.has_stranger)
		job_join(&gate.stranger);
	mmu_interval_notifier_remove(&gate.notifier);
	gate.space = NULL;
}

/* On the last page: it is told after all others are. */
static void gate_insert(struct kunit *test)
{
	struct space *space = test->priv;

	gate.space = space;
	gate.has_stranger = false;
	init_completion(&gate.entered);
	init_completion(&gate.freed);
	KUNIT_ASSERT_EQ(test,
			mmu_interval_notifier_insert(&gate.notifier, space->mm,
						     space_page(space, PAGES - 1), PAGE_SIZE,
						     &gate_ops), 0);
	KUNIT_ASSERT_EQ(test, kunit_add_action_or_reset(test, gate_remove, NULL), 0);
}

/* The thread of the case ends, and with it its use of the address space. */
static void exit_of_the_thread(struct kunit *test)
{
	struct space *space = test->priv;

	gate_insert(test);
	KUNIT_EXPECT_EQ(test, probe_insert(probe_new(space), 0, 2, ops_of(test)), 0);
	KUNIT_EXPECT_EQ(test, probe_insert(probe_new(space), 2, 2, ops_of(test)), 0);
}

static void touch_gate(void *data)
{
	space_touch(gate.space, PAGES - 1);
}

/* An invalidation that is not one of the case's, as by way of the reverse mapping. */
static void somebody_elses_invalidation(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *removed, *there;

	gate_insert(test);
	removed = probe_new(space);
	there = probe_new(space);
	KUNIT_ASSERT_EQ(test, probe_insert(removed, 0, 2, ops_of(test)), 0);
	KUNIT_ASSERT_EQ(test, probe_insert(there, 2, 2, ops_of(test)), 0);
	KUNIT_ASSERT_EQ(test, job_start_alone(space, &gate.stranger, touch_gate, NULL), 0);
	gate.has_stranger = true;
	KUNIT_ASSERT_NE(test, wait_for_completion_timeout(&gate.entered, LONG_WAIT), 0);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(removed));
}

static void read_begin(void *data)
{
	mmu_interval_read_begin(data);
}

/* In the middle of an invalidation, as after a KUNIT_ASSERT() that fails. */
static void abort_in_the_middle(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct frozen *partial = frozen_prepare(space, true);
	struct job *reader = kunit_kzalloc(test, sizeof(*reader), GFP_KERNEL);
	struct probe *removed = probe_new(space), *there = probe_new(space);

	KUNIT_ASSERT_NOT_NULL(test, reader);
	KUNIT_ASSERT_EQ(test, probe_insert(removed, 0, 2, ops_of(test)), 0);
	KUNIT_ASSERT_EQ(test, probe_insert(there, 2, 2, ops_of(test)), 0);
	frozen_begin(frozen);
	frozen_begin(partial);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(removed));
	job_start(test, reader, read_begin, &frozen->interval);
	KUNIT_EXPECT_TRUE(test, job_waits(reader));
	/* What kunit_skip() does, but for the mark. */
	kunit_try_catch_throw(&test->try_catch);
}

static void end_exit(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe;

	if (!space)
		return;
	/* If the thread of the case takes the address space down, it is in the middle of that. */
	if (gate.space == space)
		wait_for_completion_timeout(&gate.entered, SHORT_WAIT);
	space_exit(test);
	list_for_each_entry(probe, &space->probes, link)
		KUNIT_EXPECT_EQ(test, atomic_read(&probe->released), 1);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(exit_of_the_thread, mode_gen_params),
	KUNIT_CASE_PARAM(somebody_elses_invalidation, mode_gen_params),
	KUNIT_CASE_PARAM(abort_in_the_middle, mode_gen_params),
	{}
};

static struct kunit_suite suite = {
	.name = "in_callback_end",
	.init = space_init,
	.exit = end_exit,
	.test_cases = cases,
};

kunit_test_suite(suite);
