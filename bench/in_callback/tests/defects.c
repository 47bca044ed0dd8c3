// SPDX-License-Identifier: GPL-2.0

/*
 * The defects of the design as it was posted, D1 to D7 in ../README.md: each is
 * there in faithful mode and, but for the last, gone in hardened mode.
 */

#include <linux/sched/mm.h>

#include "space.h"

static const struct mode modes[] = {
	{ .name = "hardened", .ops = &hardened },
	{ .name = "faithful", .ops = &faithful, .as_posted = true },
};

KUNIT_ARRAY_PARAM_DESC(mode, modes, name);

static const struct mode *mode_of(struct kunit *test)
{
	return test->param_value;
}

/*
 * Whether a queued notifier has been put on the list once more. It must be the
 * only one there. If so, what was done to the list is undone: its end would be
 * walked to for ever, with a spinlock held.
 */
static bool queued_twice(struct probe *probe)
{
	struct hlist_node *item = &probe->notifier.deferred_item;

	if (item->next != item)
		return false;
	item->next = NULL;
	return true;
}

/* D1: removed twice while it is still in the tree. */
static void d1_remove_twice(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);
	bool again;

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, mode_of(test)->ops), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	again = probe_remove_deferred(probe);
	KUNIT_EXPECT_EQ(test, queued_twice(probe), mode_of(test)->as_posted);
	KUNIT_EXPECT_EQ(test, again, mode_of(test)->as_posted);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

/* D1: updated after it has been removed. */
static void d1_update_removed(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);
	bool updated;

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 2, mode_of(test)->ops), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	updated = probe_update(probe, 0, 1);
	KUNIT_EXPECT_EQ(test, queued_twice(probe), mode_of(test)->as_posted);
	KUNIT_EXPECT_EQ(test, updated, mode_of(test)->as_posted);
	frozen_end(frozen);
	/* What was removed is back, for whoever has it released by now. */
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), !mode_of(test)->as_posted);
}

/*
 * A driver as both modes have it: one object, at first with one notifier, in
 * which holes are punched.
 */
struct object {
	/* three, if all is well */
	struct probe *pieces[PAGES];
	unsigned int used;
	/* pages */
	unsigned int start, end;
};

/* Page numbers of what a notifier watches, the end excluded. */
static bool bounds(struct probe *probe, unsigned int *start, unsigned int *end)
{
	struct mmu_interval_notifier *notifier = &probe->notifier;
	struct space *space = probe->space;
	unsigned long first = notifier->interval_tree.start;
	unsigned long last = notifier->interval_tree.last;
	bool there = true;

	if (!mode_of(space->test)->as_posted)
		there = mmu_interval_notifier_bounds(notifier, &first, &last);
	*start = (first - space->start) / PAGE_SIZE;
	*end = (last + 1 - space->start) / PAGE_SIZE;
	return there;
}

static void punch_piece(struct object *object, struct probe *probe)
{
	struct kunit *test = probe->space->test;
	unsigned int start, end;
	struct probe *right;

	if (!bounds(probe, &start, &end) || object->end <= start || end <= object->start)
		return;
	if (object->start <= start && end <= object->end) {
		probe_remove_deferred(probe);
	} else if (object->start <= start) {
		probe_update(probe, object->end, end - object->end);
	} else {
		probe_update(probe, start, object->start - start);
		if (object->end >= end)
			return;
		if (object->used == ARRAY_SIZE(object->pieces)) {
			KUNIT_FAIL(test, "more pieces than pages");
			return;
		}
		right = object->pieces[object->used++];
		KUNIT_EXPECT_EQ(test, probe_insert_from_callback(right, object->end,
								 end - object->end,
								 mode_of(test)->ops), 0);
	}
}

/* The callback of the first piece, told that a hole is punched. */
static void punch(void *data)
{
	struct object *object = data;
	unsigned int i, used = object->used;
	struct kunit *test = object->pieces[0]->space->test;

	/* What is not in the tree yet is not told, so who knows of it has to look. */
	for (i = 0; i < (mode_of(test)->as_posted ? 1 : used); i++)
		punch_piece(object, object->pieces[i]);
}

static struct object *object_new(struct kunit *test)
{
	struct space *space = test->priv;
	struct object *object = kunit_kzalloc(test, sizeof(*object), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, object);
	for (i = 0; i < ARRAY_SIZE(object->pieces); i++)
		object->pieces[i] = probe_new(space);
	object->used = 1;
	KUNIT_ASSERT_EQ(test, probe_insert(object->pieces[0], 0, PAGES, mode_of(test)->ops), 0);
	return object;
}

static void object_punch(struct object *object, struct frozen *frozen,
			 unsigned int start, unsigned int end)
{
	object->start = start;
	object->end = end;
	frozen_call(frozen, punch, object);
}

/* How many notifiers are told of a change of each page. */
static void expect_told(struct kunit *test, const unsigned int expected[PAGES])
{
	struct space *space = test->priv;
	unsigned int page;

	memset(space->told, 0, sizeof(space->told));
	for (page = 0; page < PAGES; page++) {
		space_touch(space, page);
		KUNIT_EXPECT_EQ_MSG(test, space->told[page], expected[page], "page %u", page);
	}
}

/* D2: a second hole while the first one is not in effect yet. */
static void d2_second_hole(struct kunit *test)
{
	static const unsigned int right[PAGES] = { 1, 1, 0, 1, 1, 0, 1, 1 };
	/* The left piece is back over the first hole, the first right one over the second. */
	static const unsigned int wrong[PAGES] = { 1, 1, 1, 2, 2, 1, 2, 2 };
	struct frozen *frozen = frozen_prepare(test->priv, false);
	struct object *object = object_new(test);

	frozen_begin(frozen);
	object_punch(object, frozen, 2, 3);
	object_punch(object, frozen, 5, 6);
	frozen_end(frozen);
	expect_told(test, mode_of(test)->as_posted ? wrong : right);
}

/* D2: all goes while the right piece is not in the tree yet. */
static void d2_leak(struct kunit *test)
{
	static const unsigned int right[PAGES] = {};
	static const unsigned int wrong[PAGES] = { 0, 0, 0, 1, 1, 1, 1, 1 };
	struct frozen *frozen = frozen_prepare(test->priv, false);
	struct object *object = object_new(test);

	frozen_begin(frozen);
	object_punch(object, frozen, 2, 3);
	object_punch(object, frozen, 0, PAGES);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, atomic_read(&object->pieces[0]->releases), 1);
	KUNIT_EXPECT_EQ(test, atomic_read(&object->pieces[1]->releases),
			!mode_of(test)->as_posted);
	expect_told(test, mode_of(test)->as_posted ? wrong : right);
}

static void read_begin(void *data)
{
	mmu_interval_read_begin(data);
}

/*
 * D3: a notifier grows, to where an invalidation is going on that it has not been
 * told of. Who reads the page tables for it must wait for the end of that.
 */
static void grow(struct kunit *test, bool partial)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, partial);
	struct probe *probe = probe_new(space);
	struct job *reader = kunit_kzalloc(test, sizeof(*reader), GFP_KERNEL);
	unsigned long start = space->start, last = space->start + PAGES * PAGE_SIZE - 1;

	KUNIT_ASSERT_NOT_NULL(test, reader);
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, PAGES, mode_of(test)->ops), 0);
	frozen_begin(frozen);
	mutex_lock(&space->lock);
	KUNIT_EXPECT_TRUE(test,
			  mmu_interval_notifier_update(&probe->notifier,
						       min(start, frozen->page),
						       max(last, frozen->page + PAGE_SIZE - 1)));
	mutex_unlock(&space->lock);
	job_start(test, reader, read_begin, &probe->notifier);
	KUNIT_EXPECT_EQ(test, job_waits(reader), !mode_of(test)->as_posted);
	frozen_end(frozen);
	KUNIT_EXPECT_TRUE(test, job_ended(reader, LONG_WAIT));
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&probe->notifier,
							 mmu_interval_read_begin(&probe->notifier)));
}

static void d3_grow(struct kunit *test)
{
	grow(test, false);
}

/* The same where nobody has been told of the invalidation, so that the tree may be changed. */
static void d3_grow_partial(struct kunit *test)
{
	grow(test, true);
}

/* D4: removed by waiting, when there is nothing to wait for. */
static void d4_remove_blocking(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, mode_of(test)->ops), 0);
	mmu_interval_notifier_remove(&probe->notifier);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), !mode_of(test)->as_posted);
	probe->inserted = false;
	/*
	 * Give back the mm, which nobody else does. If that were not so, it would be
	 * freed too early; leaving it out is a leak.
	 */
	if (mode_of(test)->as_posted)
		mmdrop(space->mm);
}

static void remove_blocking(void *data)
{
	mmu_interval_notifier_remove(data);
}

/* D4: removed in both ways. In faithful mode it would be queued twice, see D1. */
static void d4_remove_both(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);
	struct job *remover = kunit_kzalloc(test, sizeof(*remover), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, remover);
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, &hardened), 0);
	frozen_begin(frozen);
	KUNIT_EXPECT_TRUE(test, probe_remove_deferred(probe));
	job_start(test, remover, remove_blocking, &probe->notifier);
	KUNIT_EXPECT_TRUE(test, job_waits(remover));
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 0);
	frozen_end(frozen);
	KUNIT_EXPECT_TRUE(test, job_ended(remover, LONG_WAIT));
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

/* D6: nothing to wait with until what was removed is released. This is what users called. */
static void d6_synchronize_srcu(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, mode_of(test)->ops), 0);
	frozen_begin(frozen);
	probe_remove_deferred(probe);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 0);
	frozen_end(frozen);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

struct barrier {
	struct probe *probe;
	struct job job;
	struct completion go, never;
	int released;
};

static void synchronize(void *data)
{
	struct barrier *barrier = data;

	wait_for_completion_timeout(&barrier->go, LONG_WAIT);
	mmu_interval_notifier_synchronize(barrier->probe->space->mm);
	barrier->released = atomic_read(&barrier->probe->released);
}

/* Takes longer than it takes those to go on who have been woken. */
static void be_slow(struct probe *probe)
{
	struct barrier *barrier = probe->data;

	complete(&barrier->go);
	wait_for_completion_timeout(&barrier->never, SHORT_WAIT);
}

static void wait_released(struct kunit *test, const struct mmu_interval_notifier_ops *ops, bool late)
{
	struct space *space = test->priv;
	struct frozen *frozen = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);
	struct barrier *barrier = kunit_kzalloc(test, sizeof(*barrier), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, barrier);
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, ops), 0);
	barrier->probe = probe;
	init_completion(&barrier->go);
	init_completion(&barrier->never);
	probe->gone = be_slow;
	probe->data = barrier;
	frozen_begin(frozen);
	probe_remove_deferred(probe);
	if (!late)
		complete(&barrier->go);
	job_start(test, &barrier->job, synchronize, barrier);
	KUNIT_EXPECT_TRUE(test, job_waits(&barrier->job));
	frozen_end(frozen);
	KUNIT_EXPECT_TRUE(test, job_ended(&barrier->job, LONG_WAIT));
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
	KUNIT_EXPECT_EQ(test, barrier->released, 1);
}

/* D6: who waits begins before the invalidation ends, */
static void d6_barrier(struct kunit *test)
{
	wait_released(test, &hardened, false);
}

/* and goes on when it has ended, but not yet, */
static void d6_barrier_wake_first(struct kunit *test)
{
	wait_released(test, &hardened_wake_first, false);
}

/* or begins when it has ended. */
static void d6_barrier_late(struct kunit *test)
{
	wait_released(test, &hardened, true);
}

static void remove_deferred(void *data)
{
	probe_remove_deferred(data);
}

/* The same where it is not the end of an invalidation that releases. */
static void d6_barrier_idle(struct kunit *test)
{
	struct space *space = test->priv;
	struct probe *probe = probe_new(space);
	struct barrier *barrier = kunit_kzalloc(test, sizeof(*barrier), GFP_KERNEL);
	struct job *remover = kunit_kzalloc(test, sizeof(*remover), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, barrier);
	KUNIT_ASSERT_NOT_NULL(test, remover);
	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 1, &hardened), 0);
	barrier->probe = probe;
	init_completion(&barrier->go);
	init_completion(&barrier->never);
	probe->gone = be_slow;
	probe->data = barrier;
	job_start(test, &barrier->job, synchronize, barrier);
	job_start(test, remover, remove_deferred, probe);
	KUNIT_EXPECT_TRUE(test, job_ended(&barrier->job, LONG_WAIT));
	KUNIT_EXPECT_TRUE(test, job_ended(remover, LONG_WAIT));
	KUNIT_EXPECT_EQ(test, barrier->released, 1);
}

/* D7: as long as one invalidation begins before another one ends, nothing is released. */
static void d7_overlap(struct kunit *test)
{
	struct space *space = test->priv;
	struct frozen *one = frozen_prepare(space, false), *other = frozen_prepare(space, false);
	struct probe *probe = probe_new(space);

	KUNIT_ASSERT_EQ(test, probe_insert(probe, 0, 2, mode_of(test)->ops), 0);
	frozen_begin(one);
	probe_remove_deferred(probe);
	frozen_begin(other);
	frozen_end(one);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 0);
	space_touch(space, 0);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->callbacks), 1);
	frozen_end(other);
	KUNIT_EXPECT_EQ(test, atomic_read(&probe->releases), 1);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(d1_remove_twice, mode_gen_params),
	KUNIT_CASE_PARAM(d1_update_removed, mode_gen_params),
	KUNIT_CASE_PARAM(d2_second_hole, mode_gen_params),
	KUNIT_CASE_PARAM(d2_leak, mode_gen_params),
	KUNIT_CASE_PARAM(d3_grow, mode_gen_params),
	KUNIT_CASE_PARAM(d3_grow_partial, mode_gen_params),
	KUNIT_CASE_PARAM(d4_remove_blocking, mode_gen_params),
	KUNIT_CASE(d4_remove_both),
	KUNIT_CASE_PARAM(d6_synchronize_srcu, mode_gen_params),
	KUNIT_CASE(d6_barrier),
	KUNIT_CASE(d6_barrier_wake_first),
	KUNIT_CASE(d6_barrier_late),
	KUNIT_CASE(d6_barrier_idle),
	KUNIT_CASE_PARAM(d7_overlap, mode_gen_params),
	{}
};

static struct kunit_suite suite = {
	.name = "in_callback_defects",
	.init = space_init,
	.exit = space_exit,
	.test_cases = cases,
};

kunit_test_suite(suite);
