// SPDX-License-Identifier: GPL-2.0
/* Each allocation that replacing a range, or several, takes fails once. */

#include "fail_nth.h"
#include "mirror_fixture.h"
#include "mirror_shape.h"

/* More than there are. */
#define MOST 64

/*
 * How often each number is tried where each of ours is to fail: the kernel allocates for itself as
 * well, and not always as much, so that what is the n-th differs.
 */
#define TRIES 8

TEST_F(mirror, a_range_that_cannot_be_replaced_stays)
{
	int file = fail_nth_open();
	int failed = 0, replaced_all_the_same = 0;

	ASSERT_LE(0, file);
	for (int n = 1; n <= MOST; n++) {
		struct odp_mirror_stats before, after;
		char *mem = shape_begin(self->fd, 6);
		uint64_t value;
		int drained, left;

		ASSERT_NE(NULL, mem);
		/* It is done here, by who drains. */
		ASSERT_EQ(0, shape_hold_worker(self->fd));
		before = mirror_stats(self->fd);
		ASSERT_EQ(0, munmap(mem + 2 * self->page, self->page));
		ASSERT_EQ(0, fail_nth(file, n));
		drained = mirror_drain(self->fd);
		left = fail_nth_left(file);
		ASSERT_EQ(0, fail_nth(file, 0));
		ASSERT_LE(0, left);
		EXPECT_EQ(1, drained);
		after = mirror_stats(self->fd);

		/* Whatever became of it, what lives is in service, and the device has the pages. */
		for (int i = 0; i < 6; i++) {
			int ret = mirror_load_cached(self->fd, mem + i * self->page, &value);

			EXPECT_EQ(i == 2 ? -ENODATA : 0, ret);
			EXPECT_EQ(i == 2 ? 0 : CONTENT, value);
		}
		if (!left) {
			failed++;
			/* Some of what is allocated for memory's sake can be done without. */
			if (after.replaced > before.replaced) {
				replaced_all_the_same++;
			} else {
				EXPECT_LT(before.replace_failed, after.replace_failed);
				EXPECT_EQ(6 * self->page, mirror_range_length(self->fd, mem));
			}
		}
		ASSERT_EQ(0, shape_release_worker(self->fd));
		/* A flush tries again. */
		ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
		EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aa.bbb"));
		ASSERT_EQ(0, munmap(mem, 6 * self->page));
		EXPECT_EQ(0, shape_ranges(self->fd));
		if (left)
			break;
	}
	TH_LOG("%d allocations failed; in spite of %d of them the range was replaced", failed,
	       replaced_all_the_same);
	close(file);
	/* The swap, its two lists, and the pieces. */
	EXPECT_LE(5, failed);
	EXPECT_GT(MOST, failed);
}

TEST_F(mirror, ranges_that_cannot_become_one_stay)
{
	int file = fail_nth_open();
	int spared = 0, beyond = 0;
	uint64_t failed = 0;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, 0));
	for (int try = 0; try < MOST * TRIES && beyond < TRIES; try++) {
		int n = 1 + try / TRIES;
		char *mem = map_pages(6);
		struct odp_mirror_part part = {
			.addr = (uintptr_t)mem + 2 * self->page,
			.start = (uintptr_t)mem,
			.len = 6 * self->page,
		};
		struct odp_mirror_stats before, after;
		uint64_t value;
		int left;

		ASSERT_NE(NULL, mem);
		for (int i = 0; i < 6; i += 2)
			ASSERT_EQ(0, mirror_insert(self->fd, mem + i * self->page,
						   2 * self->page));
		for (int i = 0; i < 6; i++)
			ASSERT_LE(0, mirror_load(self->fd, mem + i * self->page, &value));
		/* It is done here, by who drains. */
		ASSERT_EQ(0, shape_hold_worker(self->fd));
		before = mirror_stats(self->fd);
		ASSERT_EQ(0, mirror_ioctl(self->fd, ODP_MIRROR_MERGE, &part));
		ASSERT_EQ(0, fail_nth(file, n));
		EXPECT_EQ(1, mirror_drain(self->fd));
		left = fail_nth_left(file);
		ASSERT_EQ(0, fail_nth(file, 0));
		ASSERT_LE(0, left);
		after = mirror_stats(self->fd);

		/* All of them, or the one. */
		for (int i = 0; i < 6; i++) {
			EXPECT_EQ(0, mirror_load_cached(self->fd, mem + i * self->page, &value));
			EXPECT_EQ(CONTENT, value);
		}
		if (after.merged == before.merged) {
			failed |= 1ull << (n - 1);
			EXPECT_EQ(0, left);
			EXPECT_LT(before.replace_failed, after.replace_failed);
			EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aabbcc"));
		} else {
			EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aaaaaa"));
			spared += !left;
		}
		ASSERT_EQ(0, shape_release_worker(self->fd));
		/* A flush tries again. */
		ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
		EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aaaaaa"));
		EXPECT_EQ(before.merged + 2, mirror_stats(self->fd).merged);
		ASSERT_EQ(0, munmap(mem, 6 * self->page));
		EXPECT_EQ(0, shape_ranges(self->fd));
		beyond = left ? beyond + 1 : 0;
	}
	TH_LOG("%d allocations failed, and %d times one that the kernel can do without",
	       __builtin_popcountll(failed), spared);
	close(file);
	/* The swap, its two lists, and the one. */
	EXPECT_LE(4, __builtin_popcountll(failed));
	EXPECT_EQ(TRIES, beyond);
}

TEST_HARNESS_MAIN
