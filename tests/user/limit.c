// SPDX-License-Identifier: GPL-2.0
/*
 * There are as many ranges as there may be, none of them can be split as it should be, and somebody
 * inserts ranges: what that costs does not grow with how many there are.
 *
 * By default there are as few as the device allows. To measure, load it with more:
 *
 *   ODP_MIRROR_PARAMETERS=max_ranges=100001 tests/user/run limit
 */

#include <stdlib.h>

#include "knob.h"
#include "mirror_fixture.h"

/* How many ranges are inserted. */
#define ROUNDS 64

/* Of how many ranges each may have another try made; of a few, in any case. */
#define FEW 16

static int compare(const void *a, const void *b)
{
	long left = *(const long *)a, right = *(const long *)b;

	return (left > right) - (left < right);
}

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

TEST_F_TIMEOUT(mirror, an_insertion_does_not_pay_for_all, 3600)
{
	size_t ranges = mirror_stats(self->fd).max_ranges - 1;
	char *mem = mmap(NULL, (6 * ranges + 1) * self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *last = mem + 6 * ranges * self->page;
	long took[ROUNDS];
	uint64_t most = 0;

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, write_file("/proc/sys/vm/max_map_count", "1000000"));
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, 0));
	/*
	 * Three pages with a hole between each two, and nothing that is mirrored: to be split that
	 * takes room for two more, and there is never more than for one.
	 */
	for (size_t i = 0; i < ranges; i++) {
		char *range = mem + 6 * i * self->page;

		ASSERT_EQ(0, munmap(range + self->page, self->page));
		ASSERT_EQ(0, munmap(range + 3 * self->page, self->page));
		ASSERT_EQ(0, mirror_insert(self->fd, range, 5 * self->page));
	}
	ASSERT_EQ(0, mirror_insert(self->fd, last, self->page));
	for (size_t i = 0; i < ranges; i++) {
		char *range = mem + 6 * i * self->page;

		ASSERT_EQ(0, mirror_punch(self->fd, range, range, 5 * self->page));
	}
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	ASSERT_EQ(0, mirror_stats(self->fd).replaced);

	for (int round = 0; round < ROUNDS; round++) {
		struct odp_mirror_stats before = mirror_stats(self->fd), after;
		long begun;
		int ret;

		ASSERT_EQ(0, mirror_remove(self->fd, last));
		ASSERT_TRUE(mirror_poll(self->fd, released, before.released + 1));
		before = mirror_stats(self->fd);
		begun = now_ns();
		ASSERT_LE(0, mirror_drain(self->fd));
		/* The worker may be trying, too, and have the room for a moment. */
		do {
			ret = mirror_insert(self->fd, last, self->page);
		} while (ret == -ENOSPC && now_ns() - begun < PATIENCE_MS * 1000000);
		ASSERT_EQ(0, ret);
		took[round] = now_ns() - begun;
		after = mirror_stats(self->fd);
		if (after.changes - before.changes > most)
			most = after.changes - before.changes;
	}
	EXPECT_LT(0, most);
	EXPECT_GE(FEW, most);
	qsort(took, ROUNDS, sizeof(*took), compare);
	TH_LOG("%zu ranges: an insertion had %lu tries at most, and took %ld ns in general", ranges,
	       (unsigned long)most, took[ROUNDS / 2]);
	ASSERT_EQ(0, munmap(mem, (6 * ranges + 1) * self->page));
	ASSERT_EQ(0, write_file("/proc/sys/vm/max_map_count", "65530"));
}

TEST_HARNESS_MAIN
