// SPDX-License-Identifier: GPL-2.0
/* Everything at once, from several threads. ODP_SEED in the environment repeats a run. */

#include <stdlib.h>

#include "mirror_fixture.h"

#define MAPPERS 2
#define ROUNDS 60

struct work {
	int fd;
	unsigned int seed;
	bool shut_down;
	int running;
	/* The first thing that went wrong, or NULL. */
	const char *wrong;
};

struct mapper {
	struct work *work;
	pthread_t thread;
	unsigned int seed;
};

static void complain(struct work *work, const char *what)
{
	const char *expected = NULL;

	__atomic_compare_exchange_n(&work->wrong, &expected, what, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
}

/* Whether @ret is 0 or what a shutdown leads to. */
static bool good(struct work *work, int ret)
{
	return !ret || (work->shut_down && (ret == -ESHUTDOWN || ret == -ENOENT));
}

/* Maps, mirrors, has the device access, and lets go, one way or another. */
static void *map_and_mirror(void *arg)
{
	struct mapper *mapper = arg;
	struct work *work = mapper->work;
	const size_t page = page_size();
	int fd = work->fd;

	for (int round = 0; round < ROUNDS && !work->wrong; round++) {
		int way = rand_r(&mapper->seed) % 5;
		char *mem = map_pages(4);
		uint64_t id = 0;
		int ret;

		if (!mem) {
			complain(work, "mmap");
			break;
		}
		ret = mirror_insert(fd, mem, 4 * page);
		if (!good(work, ret))
			complain(work, "insert");
		if (!ret) {
			ret = mirror_write(fd, mem + rand_r(&mapper->seed) % 4 * page, 1);
			if (!good(work, ret))
				complain(work, "fault");
		}
		switch (way) {
		case 0:
			if (!good(work, mirror_retire(fd, mem)))
				complain(work, "retire");
			break;
		case 1:
			if (!good(work, mirror_remove(fd, mem)))
				complain(work, "remove");
			break;
		case 2:
			/* Somebody who waits for holds does not like new ones. */
			ret = mirror_hold(fd, mem, &id);
			if (!good(work, ret) && ret != -EBUSY)
				complain(work, "hold");
			if (ret)
				id = 0;
			break;
		default:
			break;
		}
		if (munmap(mem, 4 * page))
			complain(work, "munmap");
		if (mirror_probe(fd, mem) & ~ODP_MIRROR_MIRRORED)
			complain(work, "the device has a page that was unmapped");
		if (id && mirror_put(fd, id))
			complain(work, "put");
	}
	__atomic_sub_fetch(&work->running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static bool anybody_maps(struct work *work)
{
	return __atomic_load_n(&work->running, __ATOMIC_ACQUIRE) > 0;
}

static void *keep_draining(void *arg)
{
	struct work *work = arg;

	while (anybody_maps(work)) {
		if (mirror_drain(work->fd) < 0)
			complain(work, "drain");
		sched_yield();
	}
	return NULL;
}

static void *keep_flushing(void *arg)
{
	struct work *work = arg;
	int ret;

	while (anybody_maps(work)) {
		ret = mirror_flush(work->fd, ODP_MIRROR_REMOVED);
		if (ret)
			complain(work, "flush until removed");
		ret = mirror_flush(work->fd, ODP_MIRROR_RELEASED);
		if (ret && ret != -EBUSY)
			complain(work, "flush until released");
		sched_yield();
	}
	return NULL;
}

static void start(struct __test_metadata *_metadata, struct work *work,
		  struct mapper *mappers, pthread_t *others)
{
	work->seed = getenv("ODP_SEED") ? atoi(getenv("ODP_SEED")) : now_ms();
	work->running = MAPPERS;
	TH_LOG("seed %u", work->seed);
	for (int i = 0; i < MAPPERS; i++) {
		mappers[i] = (struct mapper){ .work = work, .seed = work->seed + i };
		ASSERT_EQ(0, pthread_create(&mappers[i].thread, NULL, map_and_mirror, &mappers[i]));
	}
	ASSERT_EQ(0, pthread_create(&others[0], NULL, keep_draining, work));
	ASSERT_EQ(0, pthread_create(&others[1], NULL, keep_flushing, work));
}

static void finish(struct mapper *mappers, pthread_t *others)
{
	for (int i = 0; i < MAPPERS; i++)
		pthread_join(mappers[i].thread, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(others[i], NULL);
}

TEST_F(mirror, drain_and_flush)
{
	struct work work = { .fd = self->fd };
	struct mapper mappers[MAPPERS];
	struct odp_mirror_stats stats;
	pthread_t others[2];

	start(_metadata, &work, mappers, others);
	finish(mappers, others);
	EXPECT_STREQ("", work.wrong ?: "");

	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(MAPPERS * ROUNDS, stats.inserted);
	EXPECT_EQ(stats.inserted, stats.queued);
	EXPECT_EQ(stats.inserted, stats.removed);
	EXPECT_EQ(stats.inserted, stats.released);
	EXPECT_EQ(stats.inserted, stats.told);
	EXPECT_EQ(stats.inserted, stats.told_by_worker);
	EXPECT_EQ(stats.holds, stats.puts);
	EXPECT_EQ(0, stats.ranges);
}

TEST_F(mirror, shutdown_in_the_middle)
{
	struct work work = { .fd = self->fd, .shut_down = true };
	struct mapper mappers[MAPPERS];
	struct odp_mirror_stats stats;
	pthread_t others[2];
	int ret;

	start(_metadata, &work, mappers, others);
	EXPECT_TRUE(mirror_poll(self->fd, inserted, ROUNDS / 2));
	do {
		/* The holds of the others are short. */
		ret = mirror_shutdown(self->fd);
	} while (ret == -EBUSY && !work.wrong);
	EXPECT_EQ(0, ret);
	stats = mirror_stats(self->fd);
	EXPECT_EQ(0, stats.ranges);
	finish(mappers, others);
	EXPECT_STREQ("", work.wrong ?: "");

	/* Nothing was inserted after it had returned. */
	EXPECT_EQ(stats.inserted, mirror_stats(self->fd).inserted);
	stats = mirror_stats(self->fd);
	EXPECT_LT(stats.inserted, MAPPERS * ROUNDS);
	EXPECT_EQ(stats.inserted, stats.released);
	EXPECT_EQ(stats.inserted, stats.told);
	EXPECT_EQ(0, stats.ranges);
}

TEST_F(mirror, close_in_the_middle)
{
	struct work work = { .fd = self->fd };
	struct mapper mappers[MAPPERS];
	struct odp_mirror_stats stats;
	pthread_t others[2];

	start(_metadata, &work, mappers, others);
	/* Other files of the same address space come and go. */
	while (anybody_maps(&work)) {
		char *mem = map_pages(2);
		int fd = mirror_open();

		ASSERT_LE(0, fd);
		ASSERT_NE(NULL, mem);
		EXPECT_EQ(0, mirror_insert(fd, mem, 2 * self->page));
		EXPECT_EQ(0, mirror_write(fd, mem, 1));
		EXPECT_EQ(0, mirror_retire(fd, mem));
		EXPECT_EQ(0, close(fd));
		EXPECT_EQ(0, munmap(mem, 2 * self->page));
	}
	finish(mappers, others);
	EXPECT_STREQ("", work.wrong ?: "");
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(MAPPERS * ROUNDS, stats.told);
	EXPECT_EQ(0, stats.ranges);
}

TEST_HARNESS_MAIN
