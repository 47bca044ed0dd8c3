// SPDX-License-Identifier: GPL-2.0
/* A range that loses a part, and what is left of it. */

#include "knob.h"
#include "memory.h"
#include "mirror_fixture.h"
#include "mirror_shape.h"

#define HUGE (2UL << 20)

TEST_F(mirror, an_end_is_unmapped)
{
	char *mem = shape_begin(self->fd, 6);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, munmap(mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, ".aaaaa"));
	ASSERT_EQ(0, munmap(mem + 4 * self->page, 2 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, ".aaa.."));
	EXPECT_EQ(1, shape_ranges(self->fd));
	EXPECT_EQ(2, mirror_stats(self->fd).replaced);
	EXPECT_EQ(2, mirror_stats(self->fd).told);
}

TEST_F(mirror, a_hole)
{
	char *mem = shape_begin(self->fd, 6);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, munmap(mem + 2 * self->page, 2 * self->page));
	/* Before anybody waits for anything. */
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem + 2 * self->page, &value));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem + 3 * self->page, &value));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem + self->page, &value));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aa..bb"));
	EXPECT_EQ(2, shape_ranges(self->fd));
	/* What is left is unmapped as a whole. */
	ASSERT_EQ(0, munmap(mem, 6 * self->page));
	EXPECT_EQ(0, shape_ranges(self->fd));
}

TEST_F(mirror, what_was_never_mapped_is_not_kept)
{
	const size_t window = 64 << 10;
	char *mem = map_pages(2 * window / self->page), *around;
	uint64_t value;

	ASSERT_NE(NULL, mem);
	around = (char *)(((uintptr_t)mem + window - 1) & ~(window - 1));
	ASSERT_EQ(0, munmap(around + 3 * self->page, 3 * self->page));
	ASSERT_EQ(0, munmap(around + 7 * self->page, 9 * self->page));
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, ODP_MIRROR_AUTO));
	ASSERT_LT(0, mirror_load(self->fd, around, &value));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, around, "a--...-........."));
	/* What is mapped there later makes ranges of its own, and nothing is left in the end. */
	ASSERT_EQ(around + 4 * self->page, mmap(around + 4 * self->page, self->page, PROT_READ,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	ASSERT_LT(0, mirror_load(self->fd, around + 4 * self->page, &value));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, around, "a--.a.-........."));
	ASSERT_EQ(0, munmap(around, window));
	EXPECT_EQ(0, shape_ranges(self->fd));
}

TEST_F(mirror, many_holes_are_one_change)
{
	struct odp_mirror_stats before, after;
	char *mem = shape_begin(self->fd, 15);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, shape_hold_worker(self->fd));
	before = mirror_stats(self->fd);
	for (int i = 1; i < 15; i += 2)
		ASSERT_EQ(0, munmap(mem + i * self->page, self->page));
	ASSERT_EQ(0, shape_release_worker(self->fd));
	after = mirror_stats(self->fd);
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "a.b.c.d.e.f.g.h"));
	EXPECT_EQ(7, after.changes - before.changes);
	EXPECT_EQ(1, after.replaced - before.replaced);
	EXPECT_EQ(8, after.inserted - before.inserted);
	/* The one that held the worker, and the old range; a grace period for each of the two batches. */
	EXPECT_EQ(2, after.removed - before.removed);
	EXPECT_GE(2, after.grace_periods);
	EXPECT_EQ(8, shape_ranges(self->fd));
}

TEST_F(mirror, both_ends_around_what_lives)
{
	char *mem = shape_begin(self->fd, 7);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, shape_hold_worker(self->fd));
	ASSERT_EQ(0, munmap(mem, 2 * self->page));
	ASSERT_EQ(0, munmap(mem + 5 * self->page, 2 * self->page));
	ASSERT_EQ(0, shape_release_worker(self->fd));
	/* Not a page of the middle has been taken from the device. */
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "..aaa.."));
	EXPECT_EQ(1, mirror_stats(self->fd).pieces);
}

TEST_F(mirror, everything_is_unmapped)
{
	char *mem = shape_begin(self->fd, 4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, munmap(mem, 4 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "...."));
	EXPECT_EQ(0, shape_ranges(self->fd));
	EXPECT_EQ(0, mirror_stats(self->fd).replaced);
}

TEST_F(mirror, mapped_again_before_anybody_looks)
{
	char *mem = shape_begin(self->fd, 4);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, shape_hold_worker(self->fd));
	ASSERT_EQ(0, munmap(mem + self->page, 2 * self->page));
	ASSERT_EQ(mem + self->page, mmap(mem + self->page, 2 * self->page, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	/* New memory, through the old range. */
	EXPECT_EQ(1, mirror_load(self->fd, mem + self->page, &value));
	EXPECT_EQ(0, value);
	ASSERT_EQ(0, shape_release_worker(self->fd));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aa-a"));
	EXPECT_EQ(1, mirror_stats(self->fd).unchanged);
	EXPECT_EQ(0, mirror_stats(self->fd).replaced);
}

TEST_F(mirror, mapped_again_in_part)
{
	char *mem = shape_begin(self->fd, 5);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, shape_hold_worker(self->fd));
	ASSERT_EQ(0, munmap(mem + self->page, 3 * self->page));
	ASSERT_EQ(mem + 2 * self->page,
		  mmap(mem + 2 * self->page, self->page, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	EXPECT_EQ(1, mirror_store(self->fd, mem + 2 * self->page, 5));
	ASSERT_EQ(0, shape_release_worker(self->fd));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "a.b.c"));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem + 2 * self->page, &value));
	EXPECT_EQ(5, value);
}

/* A part of the range moves away. */
TEST_F(mirror, mremap_of_a_part)
{
	char *mem = shape_begin(self->fd, 5);
	char *to = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, to);
	ASSERT_EQ(to, mremap(mem + 2 * self->page, self->page, self->page,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aa.bb"));
	EXPECT_EQ(0, mirror_probe(self->fd, to));
}

/* Its pages do, but its addresses stay mapped. */
TEST_F(mirror, mremap_that_does_not_unmap)
{
	char *mem = shape_begin(self->fd, 5);
	char *to;
	uint64_t value;

	ASSERT_NE(NULL, mem);
	to = mremap(mem + self->page, self->page, self->page, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		    NULL);
	ASSERT_NE(MAP_FAILED, to);
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "a-aaa"));
	EXPECT_EQ(0, mirror_stats(self->fd).replaced);
	/* The address has a page of its own now. */
	EXPECT_EQ(1, mirror_load(self->fd, mem + self->page, &value));
	EXPECT_EQ(0, value);
	EXPECT_EQ(CONTENT, peek(to));
}

TEST_F(mirror, dropped_pages_are_no_hole)
{
	char *mem = shape_begin(self->fd, 4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, madvise(mem + self->page, self->page, MADV_DONTNEED));
	ASSERT_EQ(0, mprotect(mem + 2 * self->page, self->page, PROT_NONE));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "a--a"));
	EXPECT_EQ(0, mirror_stats(self->fd).changes);
}

/* The device goes on with a new range where the old one has left. */
TEST_F(mirror, a_hole_is_filled)
{
	char *mem = shape_begin(self->fd, 4);
	char *hole = mem + self->page;
	uint64_t id, value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(hole, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	ASSERT_EQ(hole, mmap(hole, self->page, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	EXPECT_EQ(-ENOENT, mirror_load(self->fd, hole, &value));
	ASSERT_EQ(0, mirror_insert(self->fd, hole, self->page));
	EXPECT_EQ(1, mirror_store(self->fd, hole, 3));
	/* Though the old one is not even released. */
	EXPECT_EQ(4, mirror_stats(self->fd).ranges);
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "abcc"));
	ASSERT_EQ(0, mirror_put(self->fd, id));
	EXPECT_EQ(3, shape_ranges(self->fd));
	EXPECT_EQ(0, mirror_load_cached(self->fd, hole, &value));
	EXPECT_EQ(3, value);
}

/* What was seen through the old range cannot be installed any more. */
TEST_F(mirror, a_section_does_not_outlive_its_range)
{
	char *mem = shape_begin(self->fd, 3);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem + 2 * self->page, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-ESTALE, mirror_commit(self->fd, id));
	ASSERT_EQ(0, mirror_begin(self->fd, mem, &id));
	EXPECT_EQ(0, mirror_commit(self->fd, id));
}

TEST_F(mirror, a_part_is_kept)
{
	char *mem = shape_begin(self->fd, 6);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_resize(self->fd, mem, mem + self->page, 4 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	/* All of it is still mapped. */
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, ".aaaa."));
	/* To say that something is unmapped that is not does no harm. */
	ASSERT_EQ(0, mirror_punch(self->fd, mem + self->page, mem + 2 * self->page, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, ".aaaa."));
	EXPECT_EQ(1, shape_ranges(self->fd));
}

TEST_F(mirror, a_part_is_added)
{
	char *mem = shape_begin(self->fd, 6);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_resize(self->fd, mem, mem + 2 * self->page, 2 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "..aa.."));
	/* At both ends, less what is not mapped there. */
	ASSERT_EQ(0, munmap(mem + 5 * self->page, self->page));
	ASSERT_EQ(0, mirror_grow(self->fd, mem + 2 * self->page, mem, 6 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(5 * self->page, mirror_range_length(self->fd, mem));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + 5 * self->page));
	EXPECT_EQ(1, shape_ranges(self->fd));
}

TEST_F(mirror, a_part_that_is_none)
{
	char *mem = shape_begin(self->fd, 4);
	char *part = mem + self->page;
	struct odp_mirror_stats stats;
	const struct {
		char *start;
		size_t len;
		int error;
	} bad[] = {
		{ part, 0, -EINVAL },
		{ part, self->page / 2, -EINVAL },
		{ part + 1, self->page, -EINVAL },
		{ part, -self->page, -EINVAL },
		{ part, SIZE_MAX - self->page + 1, -EINVAL },
		{ part, -(size_t)part, -EOVERFLOW },
		{ mem - self->page, self->page, -EINVAL },
		{ mem - self->page, 2 * self->page, -EINVAL },
		{ mem + 3 * self->page, 2 * self->page, -EINVAL },
		{ mem + 4 * self->page, self->page, -EINVAL },
	};

	ASSERT_NE(NULL, mem);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int error = mirror_resize(self->fd, mem, bad[i].start, bad[i].len);

		/* Whichever of two things is wrong with it. */
		EXPECT_TRUE(error == bad[i].error || error == -EOVERFLOW || error == -EINVAL);
		EXPECT_GT(0, error);
		EXPECT_EQ(error, mirror_punch(self->fd, mem, bad[i].start, bad[i].len));
	}
	EXPECT_EQ(-ENOENT, mirror_resize(self->fd, mem + 5 * self->page, mem, self->page));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(0, stats.changes);
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "aaaa"));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_resize(self->fd, mem, part, self->page));
}

TEST_F(mirror, a_piece_of_a_huge_page)
{
	char *mem = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *huge = (char *)(((uintptr_t)mem + HUGE - 1) & ~(HUGE - 1));
	char *hole = huge + 16 * self->page, *last = huge + HUGE - self->page;
	uint64_t value;

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, want_huge_pages(huge, HUGE));
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, huge, HUGE));
	EXPECT_EQ(1, mirror_store(self->fd, huge, 1));
	EXPECT_EQ(1, mirror_store(self->fd, last, 2));
	ASSERT_EQ(0, munmap(hole, 8 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(16 * self->page, mirror_range_length(self->fd, huge));
	EXPECT_EQ(0, mirror_range_length(self->fd, hole));
	EXPECT_EQ(HUGE - 24 * self->page, mirror_range_length(self->fd, last));
	EXPECT_LE(0, mirror_load(self->fd, huge, &value));
	EXPECT_EQ(1, value);
	EXPECT_LE(0, mirror_load(self->fd, last, &value));
	EXPECT_EQ(2, value);
	EXPECT_EQ(0, munmap(mem, 3 * HUGE));
	EXPECT_EQ(0, shape_ranges(self->fd));
}

TEST_F(mirror, one_page_of_hugetlbfs_of_two)
{
	char *mem = MAP_FAILED;
	uint64_t value;

	ASSERT_EQ(0, write_file("/proc/sys/vm/nr_hugepages", "2"));
	mem = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * HUGE));
	EXPECT_EQ(1, mirror_store(self->fd, mem, 1));
	EXPECT_EQ(1, mirror_store(self->fd, mem + HUGE, 2));
	ASSERT_EQ(0, munmap(mem, HUGE));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(0, mirror_range_length(self->fd, mem));
	EXPECT_EQ(HUGE, mirror_range_length(self->fd, mem + HUGE));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem + HUGE, &value));
	EXPECT_EQ(2, value);
	EXPECT_EQ(0, munmap(mem + HUGE, HUGE));
	EXPECT_EQ(0, shape_ranges(self->fd));
	EXPECT_EQ(0, write_file("/proc/sys/vm/nr_hugepages", "0"));
}

TEST_HARNESS_MAIN
