// SPDX-License-Identifier: GPL-2.0

/*
 * What mmu_interval_notifier_remove_start() and mmu_interval_notifier_remove_finish()
 * promise.
 */

#include "space.h"

/* Whether a first write to a page is told to anybody. */
static unsigned int told(struct space *space, unsigned int page)
{
	unsigned int before = READ_ONCE(space->told[page]);

	space_touch(space, page);
	return READ_ONCE(space->told[page]) - before;
}

/* What another thread finishes, or removes. */
struct leaving {
	struct job job;
	struct kunit *test;
	struct probe *probes[PAGES];
	unsigned int n;
	/* by remove_all() */
	int warnings;
};

static void finish_all(void *data)
{
	struct leaving *leaving = data;
	unsigned int i;

	for (i = 0; i < leaving->n; i++)
		probe_finish(leaving->probes[i]);
}

static void remove_all(void *data)
{
	struct leaving *leaving = data;
	unsigned int i;

	kunit_warning_suppress(leaving->test) {
		for (i = 0; i < leaving->n; i++) {
			mmu_interval_notifier_remove(&leaving->probes[i]->notifier);
			leaving->probes[i]->inserted = false;
		}
		leaving->warnings = KUNIT_SUPPRESSED_WARNING_COUNT();
	}
}

/* Inserts one for each of the first pages. */
static struct leaving *leaving_new(struct kunit *test, unsigned int n)
{
	struct leaving *leaving = kunit_kzalloc(test, sizeof(*leaving), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, leaving);
	for (i = 0; i < n; i++) {
		leaving->probes[i] = probe_new(test->priv);
		KUNIT_ASSERT_EQ(test, probe_insert(leaving->probes[i], i, 1, &without_release), 0);
	}
	leaving->n = n;
	leaving->test = test;
	return leaving;
}

/* Finishes them in another thread, which should not have to wait for long. */
static void leaving_finish(struct kunit *test, struct leaving *leaving)
{
	job_start(test, &leaving->job, finish_all, leaving);
	KUNIT_EXPECT_TRUE(test, job_ended(&leaving->job, LONG_WAIT));
}

static void idle(struct kunit *test)
{
	struct space *space = test->priv;
	struct leaving *leaving = leaving_new(test, 1);

	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	probe_start(leaving->probes[0]);
	/* It has left the tree already. */
	space_unmap(space, 0, 1);
	KUNIT_EXPECT_EQ(test, space->told[0], 1);
	probe_finish(leaving->probes[0]);
}

static void told_until_the_phase_ends(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 1);

	frozen_begin(frozen);
	probe_start(leaving->probes[0]);
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	job_start(test, &leaving->job, finish_all, leaving);
	KUNIT_EXPECT_TRUE(test, job_waits(&leaving->job));
	frozen_end(frozen);
	KUNIT_EXPECT_TRUE(test, job_ended(&leaving->job, LONG_WAIT));
	space_unmap(space, 0, 1);
	KUNIT_EXPECT_EQ(test, space->told[0], 1);
}

/* One after the other, they would wait for the second invalidation. */
static void all_leave_with_the_same_phase(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *first = frozen_prepare(space, false);
	struct frozen *second = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 3);
	unsigned int i;

	frozen_begin(first);
	for (i = 0; i < leaving->n; i++)
		probe_start(leaving->probes[i]);
	frozen_end(first);
	frozen_begin(second);
	leaving_finish(test, leaving);
	frozen_end(second);
}

static void start(struct probe *probe, const struct mmu_notifier_range *range)
{
	probe_start(probe);
}

static void started_in_the_callback(struct kunit *test)
{
	struct space *space = test->priv;
	struct leaving *leaving = leaving_new(test, 2);

	leaving->probes[0]->told = start;
	leaving->probes[1]->told = start;
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
	KUNIT_EXPECT_EQ(test, told(space, 1), 1);
	leaving_finish(test, leaving);
	/* They have left the tree, so nobody hears of this. */
	space_unmap(space, 0, 2);
	KUNIT_EXPECT_EQ(test, atomic_read(&leaving->probes[0]->callbacks), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&leaving->probes[1]->callbacks), 1);
}

/* What gets other bounds is on the list already, and leaves all the same. */
static void started_after_a_change(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 1);

	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_update(leaving->probes[0], 0, 4));
	probe_start(leaving->probes[0]);
	frozen_end(frozen);
	leaving_finish(test, leaving);
	KUNIT_EXPECT_EQ(test, told(space, 0) + told(space, 3), 0);
}

/* What is not in the tree yet need not be waited for. */
static void inserted_in_the_same_phase(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving;

	frozen_begin(frozen);
	leaving = leaving_new(test, 1);
	probe_start(leaving->probes[0]);
	leaving_finish(test, leaving);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, told(space, 0), 0);
}

/* It is refused, with a warning: queued twice, it would spoil the list that it is on. */
static void started_once(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 3);

	frozen_begin(frozen);
	probe_start(leaving->probes[0]);
	probe_start(leaving->probes[1]);
	kunit_warning_suppress(test) {
		/* Still in the tree. */
		probe_start(leaving->probes[0]);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	frozen_end(frozen);
	/* Out of it, at the end of the phase and at once. */
	probe_start(leaving->probes[2]);
	kunit_warning_suppress(test) {
		probe_start(leaving->probes[1]);
		probe_start(leaving->probes[2]);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 2);
	}
	leaving_finish(test, leaving);
	KUNIT_EXPECT_EQ(test, told(space, 0) + told(space, 1) + told(space, 2), 0);
}

/* What removes in one step finds that somebody has begun: it waits, and takes nothing twice. */
static void removed_after_the_start(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 2);

	frozen_begin(frozen);
	probe_start(leaving->probes[0]);
	job_start(test, &leaving->job, remove_all, leaving);
	KUNIT_EXPECT_TRUE(test, job_waits(&leaving->job));
	frozen_end(frozen);
	KUNIT_EXPECT_TRUE(test, job_ended(&leaving->job, LONG_WAIT));
	KUNIT_EXPECT_EQ(test, leaving->warnings, 1);
	KUNIT_EXPECT_EQ(test, told(space, 0) + told(space, 1), 0);
}

/* Nothing is given up that stays in the tree. */
static void finished_without_a_start(struct kunit *test)
{
	struct space *space = test->priv;
	struct leaving *leaving = leaving_new(test, 1);

	kunit_warning_suppress(test) {
		mmu_interval_notifier_remove_finish(&leaving->probes[0]->notifier);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
}

/* One that is released when it is gone is nobody's to wait for. */
static void not_with_release(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, &hardened), 0);
	kunit_warning_suppress(test) {
		mmu_interval_notifier_remove_start(&probe->notifier);
		KUNIT_EXPECT_SUPPRESSED_WARNING_COUNT(test, 1);
	}
	KUNIT_EXPECT_EQ(test, told(space, 0), 1);
}

/* No new bounds for what has been removed: not while it is in the tree, and not after. */
static void not_changed_any_more(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct leaving *leaving = leaving_new(test, 2);

	frozen_begin(frozen);
	probe_start(leaving->probes[0]);
	KUNIT_EXPECT_FALSE(test, probe_update(leaving->probes[0], 4, 1));
	frozen_end(frozen);
	KUNIT_EXPECT_FALSE(test, probe_update(leaving->probes[0], 4, 1));
	probe_start(leaving->probes[1]);
	KUNIT_EXPECT_FALSE(test, probe_update(leaving->probes[1], 4, 1));
	leaving_finish(test, leaving);
	KUNIT_EXPECT_EQ(test, told(space, 4), 0);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(idle),
	KUNIT_CASE(told_until_the_phase_ends),
	KUNIT_CASE(all_leave_with_the_same_phase),
	KUNIT_CASE(started_in_the_callback),
	KUNIT_CASE(started_after_a_change),
	KUNIT_CASE(inserted_in_the_same_phase),
	KUNIT_CASE(started_once),
	KUNIT_CASE(removed_after_the_start),
	KUNIT_CASE(finished_without_a_start),
	KUNIT_CASE(not_with_release),
	KUNIT_CASE(not_changed_any_more),
	{}
};

static struct kunit_suite suite = {
	.name = "split_removal",
	.init = space_init,
	.exit = space_exit,
	.test_cases = cases,
};

kunit_test_suite(suite);
