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
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	EXPECT_EQ(-EAGAIN, mirror_commit(self->fd, id));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));

	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, mirror_commit(self->fd, id));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT, mirror_probe(self->fd, mem));
}

TEST_F(mirror, commit_after_an_invalidation_of_another_page)
{
	char *mem = map_pages(3);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 3 * self->page));
	ASSERT_EQ(0, mirror_begin(self->fd, mem + self->page, &id));
	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	ASSERT_EQ(0, madvise(mem + 2 * self->page, self->page, MADV_DONTNEED));
	EXPECT_EQ(0, mirror_commit(self->fd, id));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
}

/* Threads that invalidate a page each, at either end of a range. */
struct clearer {
	pthread_t thread;
	char *page;
	bool over;
	int failed;
};

static void *clearer_run(void *arg)
{
	struct clearer *clearer = arg;

	while (!__atomic_load_n(&clearer->over, __ATOMIC_RELAXED) && !clearer->failed) {
		clearer->failed = madvise(clearer->page, page_size(), MADV_DONTNEED);
		__atomic_store_n(clearer->page, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

/* However many there are, all of them get their page: that is not in the number of attempts. */
TEST_F(mirror, faults_between_pages_that_are_invalidated)
{
	struct clearer clearers[2] = {};
	const size_t pages = 64;
	unsigned long tries = 0;
	char *mem = map_pages(pages);

	ASSERT_NE(NULL, mem);
	clearers[0].page = mem;
	clearers[1].page = mem + (pages - 1) * self->page;
	ASSERT_EQ(0, mirror_insert(self->fd, mem, pages * self->page));
	for (size_t i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&clearers[i].thread, NULL, clearer_run, &clearers[i]));
	for (size_t i = 1; i < pages - 1; i++) {
		struct odp_mirror_fault fault = {
			.addr = (uintptr_t)(mem + i * self->page),
			.flags = ODP_MIRROR_WRITE,
			.value = i,
		};

		EXPECT_EQ(0, mirror_ioctl(self->fd, ODP_MIRROR_FAULT, &fault));
		EXPECT_EQ((char)i, mem[i * self->page]);
		tries += fault.attempts;
	}
	for (size_t i = 0; i < 2; i++) {
		__atomic_store_n(&clearers[i].over, true, __ATOMIC_RELAXED);
		ASSERT_EQ(0, pthread_join(clearers[i].thread, NULL));
		EXPECT_EQ(0, clearers[i].failed);
	}
	TH_LOG("%zu faults, %lu attempts", pages - 2, tries);
	for (size_t i = 1; i < pages - 1; i++)
		EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + i * self->page));
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
