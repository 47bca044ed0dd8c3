// SPDX-License-Identifier: GPL-2.0
/* An invalidation that goes on and on, with removals asleep until it ends. */

#include "mirror_fixture.h"

#define IN_USE (ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT | ODP_MIRROR_WRITABLE)
#define MANY 12

TEST_F(mirror, removals_end_with_the_invalidation)
{
	struct sleeper frozen;
	char *mem = map_pages(MANY);

	ASSERT_NE(NULL, mem);
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(0, mirror_insert(self->fd, mem + i * self->page, self->page));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	for (int i = 0; i < MANY; i++)
		ASSERT_EQ(0, mirror_retire(self->fd, mem + i * self->page));
	EXPECT_TRUE(mirror_poll(self->fd, grace_periods, 1));
	EXPECT_EQ(0, mirror_stats(self->fd).removed);
	EXPECT_EQ(MANY, mirror_stats(self->fd).queued);

	EXPECT_EQ(0, thaw(&frozen));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(MANY, mirror_stats(self->fd).removed);
	/* Where core mm can do that, each was begun in a step of its own. */
	EXPECT_EQ(kernel_removes_in_steps() ? MANY : 0, mirror_stats(self->fd).started);
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(MANY, mirror_stats(self->fd).told);
	EXPECT_EQ(1, mirror_stats(self->fd).ranges);
}

TEST_F(mirror, unmapping_meanwhile_costs_one_grace_period)
{
	struct odp_mirror_stats stats;
	char *first = map_pages(1), *mem[MANY];
	struct sleeper frozen;

	ASSERT_NE(NULL, first);
	ASSERT_EQ(0, mirror_insert(self->fd, first, self->page));
	for (int i = 0; i < MANY; i++) {
		mem[i] = map_pages(1);
		ASSERT_NE(NULL, mem[i]);
		ASSERT_EQ(0, mirror_insert(self->fd, mem[i], self->page));
	}
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_TRUE(put_worker_to_sleep(self->fd, first));
	for (int i = 0; i < MANY; i++) {
		ASSERT_EQ(0, munmap(mem[i], self->page));
		EXPECT_EQ(0, mirror_probe(self->fd, mem[i]));
	}
	stats = mirror_stats(self->fd);
	EXPECT_EQ(0, stats.removed);
	EXPECT_EQ(1, stats.grace_periods);
	EXPECT_EQ(MANY + 1, stats.queued);

	EXPECT_EQ(0, thaw(&frozen));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(2, stats.grace_periods);
	EXPECT_EQ(2, stats.batches);
	EXPECT_EQ(MANY + 1, stats.told);
}

TEST_F(mirror, the_rest_goes_on)
{
	char *mem = map_pages(1), *other = map_pages(1), *later = map_pages(1);
	struct inserter inserter;
	struct sleeper frozen;
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	ASSERT_NE(NULL, later);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, other, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, other, 1));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_TRUE(put_worker_to_sleep(self->fd, mem));

	for (int i = 0; i < 100; i++) {
		ASSERT_EQ(0, mirror_probe(self->fd, mem));
		ASSERT_EQ(IN_USE, mirror_probe(self->fd, other));
		ASSERT_EQ(0, mirror_hold(self->fd, other, &id));
		ASSERT_EQ(0, mirror_put(self->fd, id));
	}
	/* A read section of a range that the invalidation does not concern. */
	EXPECT_EQ(0, mirror_write(self->fd, other, 2));
	/* A range that is inserted now is in service only after the invalidation. */
	ASSERT_EQ(0, inserter_start(&inserter, self->fd, later, self->page));
	EXPECT_EQ(0, mirror_probe(self->fd, later));
	EXPECT_EQ(0, mirror_stats(self->fd).removed);

	EXPECT_EQ(0, thaw(&frozen));
	EXPECT_EQ(0, inserter_end(&inserter));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, later));
	EXPECT_EQ(0, mirror_write(self->fd, later, 3));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, later));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).told);
}

TEST_F(mirror, a_new_range_wins)
{
	char *mem = map_pages(4);
	struct inserter inserter;
	struct sleeper frozen;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 3 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem + self->page, 1));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem + self->page, 3 * self->page));
	ASSERT_TRUE(put_worker_to_sleep(self->fd, mem));

	/* It is retired, not removed, and not in the way. */
	ASSERT_EQ(0, inserter_start(&inserter, self->fd, mem + self->page, 3 * self->page));
	EXPECT_EQ(0, mirror_stats(self->fd).removed);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + self->page));

	EXPECT_EQ(0, thaw(&frozen));
	EXPECT_EQ(0, inserter_end(&inserter));
	/* What was installed through the old one is gone. */
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(3 * self->page, mirror_range_length(self->fd, mem + self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem, 2 * self->page));
	EXPECT_EQ(1, mirror_read(self->fd, mem + self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	/* The removal of the old one takes nothing from the new one. */
	EXPECT_EQ(1, mirror_stats(self->fd).told);
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
}

TEST_F(mirror, a_new_range_wins_before_the_worker_has_looked)
{
	char *first = map_pages(1), *mem = map_pages(4);
	struct inserter inserter;
	struct sleeper frozen;

	ASSERT_NE(NULL, first);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, first, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_write(self->fd, mem + self->page, 2));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	/* The worker sleeps, so this one stays in the queue, and in the index. */
	ASSERT_TRUE(put_worker_to_sleep(self->fd, first));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	EXPECT_EQ(0, mirror_stats(self->fd).zapped);

	/* In its middle: all of it leaves the index. */
	ASSERT_EQ(0, inserter_start(&inserter, self->fd, mem + self->page, self->page));
	EXPECT_EQ(2, mirror_stats(self->fd).zapped);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + 2 * self->page));

	EXPECT_EQ(0, thaw(&frozen));
	EXPECT_EQ(0, inserter_end(&inserter));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(2, mirror_read(self->fd, mem + self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(2, mirror_stats(self->fd).zapped);
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
}

TEST_F(mirror, callbacks_after_retire)
{
	struct odp_mirror_stats stats;
	struct sleeper frozen;
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_TRUE(put_worker_to_sleep(self->fd, mem));
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_EVERY, 0));

	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	ASSERT_EQ(0, mprotect(mem, self->page, PROT_READ));
	ASSERT_EQ(0, munmap(mem, self->page));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_LE(1, stats.events[ODP_MIRROR_EVENT_PROTECTION_VMA]);
	EXPECT_EQ(1, stats.events[ODP_MIRROR_EVENT_UNMAP]);
	/* Each of them retired it again. */
	EXPECT_LE(3, stats.coalesced);
	EXPECT_EQ(1, stats.queued);

	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_UNMAP, 0));
	EXPECT_EQ(0, thaw(&frozen));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).told);
}

static void *run_drain(void *fd)
{
	return (void *)(intptr_t)mirror_drain(*(int *)fd);
}

TEST_F(mirror, drain_takes_what_the_worker_has_not)
{
	char *first = map_pages(1), *mem = map_pages(2);
	struct odp_mirror_stats stats;
	struct sleeper frozen;
	pthread_t drainer;
	void *drained;

	ASSERT_NE(NULL, first);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, first, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem + self->page, self->page));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_TRUE(put_worker_to_sleep(self->fd, first));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	ASSERT_EQ(0, mirror_retire(self->fd, mem + self->page));

	ASSERT_EQ(0, pthread_create(&drainer, NULL, run_drain, &self->fd));
	EXPECT_TRUE(mirror_poll(self->fd, grace_periods, 2));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(2, stats.drained);
	EXPECT_EQ(0, stats.removed);

	EXPECT_EQ(0, thaw(&frozen));
	ASSERT_EQ(0, pthread_join(drainer, &drained));
	EXPECT_EQ(2, (intptr_t)drained);
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(3, stats.removed);
	/* Releases are the worker's, whoever removed. */
	EXPECT_EQ(3, stats.told_by_worker);
}

TEST_F(mirror, a_section_waits)
{
	struct sleeper frozen;
	uint64_t id;

	ASSERT_EQ(0, freeze(&frozen, self->fd));
	/* One that is begun before the callback has recorded the event collides. */
	ASSERT_EQ(0, mirror_begin(self->fd, frozen.addr, &id));
	EXPECT_EQ(0, thaw(&frozen));
	EXPECT_EQ(-EAGAIN, mirror_commit(self->fd, id));
	EXPECT_EQ(0, mirror_write(self->fd, frozen.addr, 1));
}

TEST_F(mirror, close_ends_it)
{
	char *mem = map_pages(1);
	struct sleeper frozen;
	int fd = mirror_open();
	uint64_t id;

	ASSERT_LE(0, fd);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold(fd, mem, &id));
	ASSERT_EQ(0, freeze(&frozen, fd));
	ASSERT_TRUE(put_worker_to_sleep(fd, mem));
	/* Neither the hold nor the callback that waits can keep the file. */
	EXPECT_EQ(0, close(fd));
	pthread_join(frozen.thread, NULL);
	EXPECT_EQ(0, frozen.result);
}

TEST_HARNESS_MAIN
