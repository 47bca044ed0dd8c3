// SPDX-License-Identifier: GPL-2.0

/* KUnit tests of the managed level, as a driver in C uses it. */

#include <linux/hmm.h>
#include <linux/jiffies.h>

#include <odp.h>

#include "c_space.h"
#include "c_user_lock.h"

/* How often each function has been called, and what the last call was about. */
struct driver {
	struct mutex lock; /* as c_user_lock.h wants */
	struct odp_mirror *mirror;
	int verdict;
	int zaps, dead, zapped, replaced, released, objects;
	unsigned int event;
	unsigned long start, end;
	size_t pieces;
};

static int driver_zap(void *shared, struct odp_range *range, unsigned long start,
		      unsigned long end, unsigned int event)
{
	struct driver *driver = shared;

	driver->zaps++;
	driver->event = event;
	driver->start = start;
	driver->end = end;
	return driver->verdict;
}

static void driver_zap_dead(void *shared, unsigned long start, unsigned long end)
{
	struct driver *driver = shared;

	driver->dead++;
}

static void driver_zapped(void *shared, unsigned long start, unsigned long end)
{
	struct driver *driver = shared;

	driver->zapped++;
}

static void driver_replaced(void *shared, unsigned long old_start, unsigned long old_end,
			    const struct odp_span *pieces, size_t n)
{
	struct driver *driver = shared;

	driver->replaced++;
	driver->pieces = n;
	driver->start = pieces[0].start;
	driver->end = pieces[n - 1].end;
}

static void driver_released(void *shared, unsigned long start, unsigned long end)
{
	struct driver *driver = shared;

	driver->released++;
}

static void driver_get(void *shared)
{
	struct driver *driver = shared;

	driver->objects++;
}

static void driver_put(void *shared)
{
	struct driver *driver = shared;

	driver->objects--;
}

static const struct odp_mirror_ops driver_ops = {
	.owner = THIS_MODULE,
	.lock = user_lock,
	.trylock = user_trylock,
	.unlock = user_unlock,
	.zap = driver_zap,
	.zap_dead = driver_zap_dead,
	.zapped = driver_zapped,
	.replaced = driver_replaced,
	.released = driver_released,
	.get = driver_get,
	.put = driver_put,
};

static struct driver *begin(struct kunit *test, const struct odp_mirror_config *config)
{
	struct driver *driver = kunit_kzalloc(test, sizeof(*driver), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, driver);
	mutex_init(&driver->lock);
	driver->verdict = ODP_PUNCH;
	driver->mirror = odp_mirror_create(current->mm, &driver_ops, config);
	KUNIT_ASSERT_FALSE(test, IS_ERR(driver->mirror));
	return driver;
}

/* Each call of @get has been undone by then. */
static void end(struct kunit *test, struct driver *driver)
{
	odp_mirror_shutdown(driver->mirror);
	KUNIT_EXPECT_EQ(test, driver->objects, 0);
	space_end();
}

static struct odp_range *insert(struct kunit *test, struct driver *driver, unsigned long start,
				unsigned long pages)
{
	struct odp_range *range = odp_range_insert(driver->mirror, start, pages * PAGE_SIZE,
						   driver);

	KUNIT_ASSERT_FALSE(test, IS_ERR(range));
	return range;
}

/* What odp_range_insert() answers, of which nothing is kept. */
static int try_insert(struct driver *driver, unsigned long start, unsigned long pages)
{
	struct odp_range *range = odp_range_insert(driver->mirror, start, pages * PAGE_SIZE,
						   driver);

	if (IS_ERR(range))
		return PTR_ERR(range);
	odp_range_put(range);
	return 0;
}

/* How many bytes the range in service at @addr has, or 0. */
static unsigned long found(struct driver *driver, unsigned long addr)
{
	struct odp_range *range = odp_range_lookup(driver->mirror, addr);
	unsigned long length;

	if (!range)
		return 0;
	length = odp_range_end(range) - odp_range_start(range);
	odp_range_put(range);
	return length;
}

static void a_verdict_is_done(struct kunit *test)
{
	unsigned long addr = space_begin(test, 6);
	const struct odp_mirror_config config = {};
	struct driver *driver = begin(test, &config);

	odp_range_put(insert(test, driver, addr, 6));
	driver->verdict = ODP_KEEP;
	space_unmap(test, addr);
	KUNIT_EXPECT_EQ(test, driver->zaps, 1);
	KUNIT_EXPECT_EQ(test, driver->event, MMU_NOTIFY_UNMAP);
	KUNIT_EXPECT_EQ(test, driver->start, addr);
	KUNIT_EXPECT_EQ(test, driver->end, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, found(driver, addr), 6 * PAGE_SIZE);

	driver->verdict = ODP_PUNCH;
	space_unmap(test, addr + 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, driver->replaced, 1);
	KUNIT_EXPECT_EQ(test, driver->pieces, 2);
	KUNIT_EXPECT_EQ(test, driver->start, addr);
	KUNIT_EXPECT_EQ(test, driver->end, addr + 6 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, found(driver, addr + PAGE_SIZE), 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, found(driver, addr + 2 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, driver->released, 1);

	driver->verdict = ODP_RETIRE;
	space_unmap(test, addr + 4 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, found(driver, addr + 3 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, found(driver, addr), 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, driver->released, 2);
	KUNIT_EXPECT_GE(test, driver->dead, 1);
	KUNIT_EXPECT_GE(test, driver->zapped, 1);
	end(test, driver);
}

static void a_range_changes_as_it_is_asked_to(struct kunit *test)
{
	unsigned long addr = space_begin(test, 8), n = 0;
	struct driver *driver = begin(test, NULL);
	struct odp_range *range = insert(test, driver, addr, 8), *piece;

	KUNIT_EXPECT_EQ(test, odp_range_punch(range, addr + 1, addr + PAGE_SIZE), -EINVAL);
	KUNIT_EXPECT_EQ(test, odp_range_punch(range, addr + PAGE_SIZE, addr), -EINVAL);
	KUNIT_EXPECT_EQ(test, odp_range_punch_unmapped(range), 0);
	KUNIT_EXPECT_TRUE(test, odp_range_live(range));

	driver->verdict = ODP_KEEP;
	space_unmap(test, addr + 3 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_range_punch(range, addr, addr + 8 * PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_REMOVED), 0);
	KUNIT_EXPECT_FALSE(test, odp_range_live(range));
	KUNIT_EXPECT_EQ(test, odp_range_punch(range, addr, addr + PAGE_SIZE), -ESTALE);
	KUNIT_EXPECT_EQ(test, odp_range_retire(range), -ESTALE);
	KUNIT_EXPECT_EQ(test, odp_range_remove(range), -ESTALE);

	odp_for_each_range(piece, driver->mirror, addr, addr + 8 * PAGE_SIZE) {
		KUNIT_EXPECT_EQ(test, odp_range_start(piece), n ? addr + 4 * PAGE_SIZE : addr);
		KUNIT_EXPECT_PTR_EQ(test, odp_range_shared(piece), driver);
		n++;
	}
	KUNIT_EXPECT_EQ(test, n, 2);
	KUNIT_EXPECT_NULL(test, odp_range_first(driver->mirror, addr, addr));

	piece = odp_range_lookup(driver->mirror, addr + 4 * PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, piece);
	KUNIT_EXPECT_EQ(test, odp_range_resize(piece, addr + 4 * PAGE_SIZE, addr + 6 * PAGE_SIZE),
			0);
	odp_range_put(piece);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, found(driver, addr + 4 * PAGE_SIZE), 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, found(driver, addr + 6 * PAGE_SIZE), 0);

	piece = odp_range_lookup(driver->mirror, addr + 4 * PAGE_SIZE);
	KUNIT_ASSERT_NOT_NULL(test, piece);
	KUNIT_EXPECT_EQ(test, odp_range_grow(piece, addr, addr + 6 * PAGE_SIZE), -EEXIST);
	KUNIT_EXPECT_EQ(test, odp_range_grow(piece, addr + 3 * PAGE_SIZE, addr + 6 * PAGE_SIZE), 0);
	odp_range_put(piece);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, found(driver, addr + 3 * PAGE_SIZE), 3 * PAGE_SIZE);
	end(test, driver);
}

/* The worker may be faster, if this thread has to wait for a CPU. */
static void a_drain_removes_what_nobody_has_taken(struct kunit *test)
{
	unsigned long addr = space_begin(test, 1);
	const struct odp_mirror_config config = { .wakeup_delay_us = 100000, .expedited = true };
	struct driver *driver = begin(test, &config);
	struct odp_range *range = insert(test, driver, addr, 1);
	struct odp_stats stats;
	size_t drained;

	KUNIT_EXPECT_EQ(test, odp_mirror_drain(driver->mirror), 0);
	KUNIT_EXPECT_EQ(test, odp_range_retire(range), 0);
	odp_range_put(range);
	drained = odp_mirror_drain(driver->mirror);
	odp_mirror_stats(driver->mirror, &stats);
	KUNIT_EXPECT_EQ(test, stats.drained, drained);
	if (drained)
		KUNIT_EXPECT_EQ(test, driver->dead, 1);
	end(test, driver);
}

static void what_is_removed_is_not_found(struct kunit *test)
{
	unsigned long addr = space_begin(test, 3);
	struct driver *driver = begin(test, NULL);
	struct odp_range *range = insert(test, driver, addr, 1);
	struct odp_stats stats;

	KUNIT_EXPECT_EQ(test, odp_range_remove(range), 0);
	KUNIT_EXPECT_EQ(test, found(driver, addr), 0);

	range = insert(test, driver, addr, 1);
	KUNIT_EXPECT_EQ(test, try_insert(driver, addr, 1), -EEXIST);
	KUNIT_EXPECT_EQ(test, odp_range_retire(range), 0);
	KUNIT_EXPECT_EQ(test, odp_range_retire(range), -EALREADY);
	odp_range_put(range);

	odp_range_put(insert(test, driver, addr + PAGE_SIZE, 1));
	odp_range_put(insert(test, driver, addr + 2 * PAGE_SIZE, 1));
	odp_mirror_retire_all(driver->mirror);
	KUNIT_EXPECT_EQ(test, found(driver, addr + PAGE_SIZE), 0);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_RELEASED), 0);
	KUNIT_EXPECT_EQ(test, driver->released, 4);

	odp_mirror_stats(driver->mirror, &stats);
	KUNIT_EXPECT_EQ(test, stats.inserted, 4);
	KUNIT_EXPECT_EQ(test, stats.insert_failed, 1);
	KUNIT_EXPECT_EQ(test, stats.released, 4);
	end(test, driver);
	odp_mirror_shutdown(NULL);
}

static void a_configuration_is_kept_to(struct kunit *test)
{
	unsigned long addr = space_begin(test, 16);
	unsigned long start = ALIGN(addr, 4 * PAGE_SIZE);
	struct odp_mirror_config config = {
		.max_ranges = 1,
		.grain = 3 * PAGE_SIZE,
		.wakeup_delay_us = ODP_AT_ONCE - 1,
	};
	struct driver *driver;

	KUNIT_EXPECT_PTR_EQ(test, odp_mirror_create(current->mm, &driver_ops, &config),
			    ERR_PTR(-EINVAL));
	config.grain = 4 * PAGE_SIZE;
	KUNIT_EXPECT_PTR_EQ(test, odp_mirror_create(current->mm, &driver_ops, &config),
			    ERR_PTR(-EINVAL));
	config.wakeup_delay_us = 100000;
	driver = begin(test, &config);

	odp_range_put(insert(test, driver, start, 8));
	KUNIT_EXPECT_EQ(test, try_insert(driver, start + 8 * PAGE_SIZE, 1), -ENOSPC);
	/* Less than a grain stays. */
	space_unmap(test, start + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_mirror_flush(driver->mirror, ODP_REMOVED), 0);
	KUNIT_EXPECT_EQ(test, found(driver, start + PAGE_SIZE), 8 * PAGE_SIZE);
	end(test, driver);
}

static void a_fault_is_committed_unless_it_was_invalidated(struct kunit *test)
{
	unsigned long addr = space_begin(test, 4), pfn = 0;
	struct driver *driver = begin(test, NULL);
	struct odp_range *range = insert(test, driver, addr, 4);
	struct hmm_range hmm = {
		.start = addr,
		.end = addr + PAGE_SIZE,
		.hmm_pfns = &pfn,
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	struct odp_section section;

	driver->verdict = ODP_KEEP;
	KUNIT_ASSERT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), 0);
	KUNIT_EXPECT_TRUE(test, pfn & HMM_PFN_VALID);
	space_unmap(test, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_commit_begin(range, &section), 0);
	KUNIT_EXPECT_TRUE(test, mutex_is_locked(&driver->lock));
	odp_commit_end(range);
	KUNIT_EXPECT_FALSE(test, mutex_is_locked(&driver->lock));

	KUNIT_ASSERT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), 0);
	space_unmap(test, addr);
	KUNIT_EXPECT_EQ(test, odp_commit_begin(range, &section), -EAGAIN);
	KUNIT_EXPECT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), -EFAULT);

	hmm.start = addr + 3 * PAGE_SIZE;
	hmm.end = addr + 5 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), -EINVAL);
	hmm.end = hmm.start;
	KUNIT_EXPECT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), -EINVAL);
	hmm.end = hmm.start + PAGE_SIZE;
	KUNIT_ASSERT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), 0);
	odp_section_abandon(range, &section);

	KUNIT_EXPECT_EQ(test, odp_range_retire(range), 0);
	KUNIT_EXPECT_EQ(test, odp_range_fault(range, &hmm, HZ, &section), -ESTALE);
	odp_range_put(range);
	end(test, driver);
}

static void an_adopted_section_is_of_all_of_the_range(struct kunit *test)
{
	unsigned long addr = space_begin(test, 2);
	struct driver *driver = begin(test, NULL);
	struct odp_range *range = insert(test, driver, addr, 2);
	struct odp_section section;

	driver->verdict = ODP_KEEP;
	odp_section_adopt(range, &section, mmu_interval_read_begin(odp_range_notifier(range)));
	KUNIT_EXPECT_EQ(test, odp_commit_begin(range, &section), 0);
	odp_commit_end(range);

	space_unmap(test, addr + PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, odp_commit_begin(range, &section), -EAGAIN);
	odp_range_put(range);
	end(test, driver);
}

static void what_is_retired_is_not_accessed(struct kunit *test)
{
	unsigned long addr = space_begin(test, 1);
	struct driver *driver = begin(test, NULL);
	struct odp_range *range = insert(test, driver, addr, 1);

	KUNIT_EXPECT_EQ(test, odp_access_begin(range), 0);
	KUNIT_EXPECT_TRUE(test, mutex_is_locked(&driver->lock));
	odp_access_end(range);
	KUNIT_EXPECT_EQ(test, odp_range_retire(range), 0);
	KUNIT_EXPECT_EQ(test, odp_access_begin(range), -ESTALE);
	KUNIT_EXPECT_FALSE(test, mutex_is_locked(&driver->lock));
	odp_range_put(range);
	end(test, driver);
}

static struct kunit_case cases[] = {
	KUNIT_CASE(a_verdict_is_done),
	KUNIT_CASE(a_range_changes_as_it_is_asked_to),
	KUNIT_CASE(a_drain_removes_what_nobody_has_taken),
	KUNIT_CASE(what_is_removed_is_not_found),
	KUNIT_CASE(a_configuration_is_kept_to),
	KUNIT_CASE(a_fault_is_committed_unless_it_was_invalidated),
	KUNIT_CASE(an_adopted_section_is_of_all_of_the_range),
	KUNIT_CASE(what_is_retired_is_not_accessed),
	{}
};

static struct kunit_suite suite = {
	.name = "odp_c_managed",
	.test_cases = cases,
};

kunit_test_suite(suite);
