// SPDX-License-Identifier: GPL-2.0
/* Read sections, holds and lookups, and what comes between. */

#include "mirror_fixture.h"

#define IN_USE (ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT | ODP_MIRROR_WRITABLE)

TEST_F(mirror, commit_installs)
{
	char *mem = map_pages(2);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem + self->page, &id));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));
	ASSERT_EQ(0, mirror_commit(self->fd, id));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_commit(self->fd, id));
}

TEST_F(mirror, commit_after_an_invalidation)
{
	char *mem = map_pages(2);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	/* Of another page of the range, but that is how fine the sequence is. */
	ASSERT_EQ(0, madvise(mem + self->page, self->page, MADV_DONTNEED));
	EXPECT_EQ(-EAGAIN, mirror_commit(self->fd, id));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));

	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, mirror_commit(self->fd, id));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
}

TEST_F(mirror, commit_after_an_invalidation_elsewhere)
{
	char *mem = map_pages(1), *other = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, other, self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, madvise(other, self->page, MADV_DONTNEED));
	EXPECT_EQ(0, mirror_commit(self->fd, id));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
}

TEST_F(mirror, commit_after_munmap)
{
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem, self->page));
	EXPECT_EQ(-ESTALE, mirror_commit(self->fd, id));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(0, mirror_stats(self->fd).ranges);
}

TEST_F(mirror, commit_after_retire)
{
	char *mem = map_pages(1);
	uint64_t id, late;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &late));
	/* No invalidation, so it is not the sequence that tells. */
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	EXPECT_EQ(-ESTALE, mirror_commit(self->fd, id));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	/* Nor does the range that comes next take what was begun in this one. */
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(-ESTALE, mirror_commit(self->fd, late));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
}

TEST_F(mirror, a_hold_delays_the_release_only)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.removed);
	EXPECT_EQ(1, stats.held_back);
	EXPECT_EQ(0, stats.told);
	EXPECT_EQ(1, stats.ranges);
	EXPECT_EQ(-EBUSY, mirror_flush(self->fd, ODP_MIRROR_RELEASED));

	ASSERT_EQ(0, mirror_put(self->fd, id));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.told);
	EXPECT_EQ(1, stats.told_by_worker);
	EXPECT_EQ(0, stats.ranges);
}

TEST_F(mirror, a_lookup_delays_the_removal)
{
	char *mem = map_pages(2);
	struct sleeper lookup;
	long until;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem + self->page, self->page));
	ASSERT_EQ(0, sleeper_start(&lookup, self->fd, mem, ODP_MIRROR_IN_LOOKUP));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	/*
	 * There is no telling when nothing is going to happen any more; this is long enough to fail
	 * most of the time if it should.
	 */
	until = now_ms() + 200;
	while (!mirror_stats(self->fd).removed && now_ms() < until)
		sched_yield();
	EXPECT_EQ(0, mirror_stats(self->fd).removed);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));

	EXPECT_EQ(0, sleeper_end(&lookup));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(1, mirror_stats(self->fd).removed);
}

TEST_HARNESS_MAIN
