// SPDX-License-Identifier: GPL-2.0

/* KUnit tests of the retire level, as a driver in C uses it: objects with their own notifiers. */

#include <linux/mutex.h>

#include <odp.h>

#include "c_space.h"

struct object {
	struct odp_request req;
	struct mmu_interval_notifier notifier;
	struct odp_retirer *retirer;
	struct mutex lock;
	/* How many of the functions below have been called, each in its turn. */
	int steps;
	int retired;
};

static void object_unpublish(struct odp_request *req)
{
	struct object *object = container_of(req, struct object, req);

	object->steps = object->steps == 0 ? 1 : -1;
}

static void object_remove(struct odp_request *req)
{
	struct object *object = container_of(req, struct object, req);

	if (object->notifier.mm)
		odp_remove_notifier(req, &object->notifier);
	object->steps = object->steps == 1 ? 2 : -1;
}

static void object_release(struct odp_request *req)
{
	struct object *object = container_of(req, struct object, req);

	object->steps = object->steps == 2 ? 3 : -1;
}

static const struct odp_retirer_ops object_ops = {
	.owner = THIS_MODULE,
	.unpublish = object_unpublish,
	.remove = object_remove,
	.release = object_release,
};

/* The others are optional. */
static void plain_release(struct odp_request *req)
{
	container_of(req, struct object, req)->steps++;
}

static const struct odp_retirer_ops plain_ops = {
	.owner = THIS_MODULE,
	.release = plain_release,
};

static bool object_invalidate(struct mmu_interval_notifier *notifier,
			      const struct mmu_notifier_range *range, unsigned long seq)
{
	struct object *object = container_of(notifier, struct object, notifier);
	bool blockable = mmu_notifier_range_blockable(range);

	odp_invalidate_enter(blockable);
	mutex_lock(&object->lock);
	mmu_interval_set_seq(notifier, seq);
	if (range->event == MMU_NOTIFY_UNMAP)
		object->retired = odp_retire(object->retirer, &object->req);
	mutex_unlock(&object->lock);
	odp_invalidate_exit(blockable);
	return true;
}

static const struct mmu_interval_notifier_ops object_notifier_ops = {
	.invalidate = object_invalidate,
};

static struct object *make(struct kunit *test, struct odp_retirer *retirer)
{
	struct object *object = kunit_kzalloc(test, sizeof(*object), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, object);
	mutex_init(&object->lock);
	object->retirer = retirer;
	object->retired = 1;
	return object;
}

static struct odp_retirer *begin(struct kunit *test, const struct odp_retirer_config *config)
{
	struct odp_retirer *retirer = odp_retirer_create("c_retirer", &object_ops, config);

	KUNIT_ASSERT_FALSE(test, IS_ERR(retirer));
	return retirer;
}

static void an_unmapped_object_leaves_in_order(struct kunit *test)
{
	unsigned long addr = space_begin(test, 1);
	const struct odp_retirer_config config = {
		.mm = current->mm,
		.wakeup_delay_us = ODP_AT_ONCE,
	};
	struct odp_retirer *retirer = begin(test, &config);
	struct object *object = make(test, retirer);

	odp_request_init_building(&object->req);
	KUNIT_ASSERT_EQ(test, mmu_interval_notifier_insert(&object->notifier, current->mm, addr,
							   PAGE_SIZE, &object_notifier_ops), 0);
	mmu_interval_read_begin(&object->notifier);
	KUNIT_EXPECT_FALSE(test, odp_request_live(&object->req));
	KUNIT_EXPECT_EQ(test, odp_publish(retirer, &object->req), 0);
	KUNIT_EXPECT_TRUE(test, odp_request_live(&object->req));

	/* The hold that it was made with keeps it from being released, and from nothing else. */
	space_unmap(test, addr);
	KUNIT_EXPECT_EQ(test, object->retired, 0);
	KUNIT_EXPECT_FALSE(test, odp_request_live(&object->req));
	KUNIT_EXPECT_EQ(test, odp_wait_removed(retirer, &object->req), 0);
	KUNIT_EXPECT_EQ(test, object->steps, 2);
	odp_put(retirer, &object->req);
	KUNIT_EXPECT_EQ(test, odp_flush(retirer, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, object->steps, 3);

	odp_retirer_shutdown(retirer);
	space_end();
}

static void what_is_retired_is_not_held(struct kunit *test)
{
	struct odp_retirer *retirer = begin(test, NULL);
	struct object *object = make(test, retirer);
	struct odp_stats stats;
	bool held;
	int idx;

	odp_request_init(&object->req);
	idx = odp_read_lock(retirer);
	held = odp_hold(retirer, &object->req);
	odp_read_unlock(retirer, idx);
	KUNIT_ASSERT_TRUE(test, held);
	KUNIT_EXPECT_EQ(test, odp_wait_removed(retirer, &object->req), -EINVAL);

	KUNIT_EXPECT_EQ(test, odp_retire(retirer, &object->req), 0);
	KUNIT_EXPECT_EQ(test, odp_retire(retirer, &object->req), -EALREADY);
	KUNIT_EXPECT_FALSE(test, odp_hold(retirer, &object->req));
	KUNIT_EXPECT_EQ(test, odp_flush(retirer, ODP_REMOVED), 0);
	KUNIT_EXPECT_EQ(test, object->steps, 2);
	odp_put(retirer, &object->req);
	KUNIT_EXPECT_EQ(test, odp_flush(retirer, ODP_RELEASED), 0);

	odp_retirer_stats(retirer, &stats);
	KUNIT_EXPECT_EQ(test, stats.queued, 1);
	KUNIT_EXPECT_EQ(test, stats.coalesced, 1);
	KUNIT_EXPECT_EQ(test, stats.holds, 1);
	KUNIT_EXPECT_EQ(test, stats.puts, 1);
	KUNIT_EXPECT_EQ(test, stats.released, 1);
	odp_retirer_shutdown(retirer);
}

static void other_retirers_refuse_an_object(struct kunit *test)
{
	struct odp_retirer *retirer = begin(test, NULL), *other = begin(test, NULL);
	struct object *object = make(test, retirer);

	odp_request_init_building(&object->req);
	KUNIT_EXPECT_EQ(test, odp_publish(retirer, &object->req), 0);
	KUNIT_EXPECT_EQ(test, odp_publish(other, &object->req), -EXDEV);
	KUNIT_EXPECT_EQ(test, odp_retire(other, &object->req), -EXDEV);
	KUNIT_EXPECT_EQ(test, odp_wait_removed(other, &object->req), -EXDEV);
	KUNIT_EXPECT_FALSE(test, odp_hold(other, &object->req));
	KUNIT_EXPECT_TRUE(test, odp_request_live(&object->req));

	KUNIT_EXPECT_EQ(test, odp_retire(retirer, &object->req), 0);
	odp_put(retirer, &object->req);
	odp_retirer_shutdown(retirer);
	KUNIT_EXPECT_EQ(test, object->steps, 3);
	odp_retirer_shutdown(other);
	odp_retirer_shutdown(NULL);
}

static void only_the_release_has_to_be_there(struct kunit *test)
{
	struct odp_retirer *retirer = odp_retirer_create("c_plain", &plain_ops, NULL);
	struct object *object = make(test, retirer);

	KUNIT_ASSERT_FALSE(test, IS_ERR(retirer));
	odp_request_init(&object->req);
	KUNIT_EXPECT_EQ(test, odp_retire(retirer, &object->req), 0);
	odp_retirer_shutdown(retirer);
	KUNIT_EXPECT_EQ(test, object->steps, 1);
}

/* The worker may be faster, if this thread has to wait for a CPU. */
static void a_drain_removes_what_nobody_has_taken(struct kunit *test)
{
	struct odp_retirer_config config = { .wakeup_delay_us = ODP_AT_ONCE - 1 };
	struct odp_retirer *retirer;
	struct object *object;
	struct odp_stats stats;
	size_t drained;

	KUNIT_EXPECT_PTR_EQ(test, odp_retirer_create("c_retirer", &object_ops, &config),
			    ERR_PTR(-EINVAL));
	config.wakeup_delay_us = 100000;
	retirer = begin(test, &config);
	object = make(test, retirer);
	KUNIT_EXPECT_EQ(test, odp_drain(retirer), 0);

	odp_request_init(&object->req);
	KUNIT_EXPECT_EQ(test, odp_retire(retirer, &object->req), 0);
	drained = odp_drain(retirer);
	odp_retirer_stats(retirer, &stats);
	KUNIT_EXPECT_EQ(test, stats.drained, drained);
	if (drained)
		KUNIT_EXPECT_GE(test, object->steps, 2);
	odp_retirer_shutdown(retirer);
	KUNIT_EXPECT_EQ(test, object->steps, 3);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(an_unmapped_object_leaves_in_order),
	KUNIT_CASE(what_is_retired_is_not_held),
	KUNIT_CASE(other_retirers_refuse_an_object),
	KUNIT_CASE(only_the_release_has_to_be_there),
	KUNIT_CASE(a_drain_removes_what_nobody_has_taken),
	{}
};

static struct kunit_suite suite = {
	.name = "odp_c_retirer",
	.test_cases = cases,
};

kunit_test_suite(suite);
