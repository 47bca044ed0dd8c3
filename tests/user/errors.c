// SPDX-License-Identifier: GPL-2.0
/* What is refused, and how. */

#include "mirror_fixture.h"

TEST_F(mirror, spans)
{
	const uint64_t page = self->page, last = -page;

	EXPECT_EQ(-EINVAL, mirror_insert_at(self->fd, page, 0));
	EXPECT_EQ(-EINVAL, mirror_insert_at(self->fd, 0, 0));
	EXPECT_EQ(-EINVAL, mirror_insert_at(self->fd, page + 1, page));
	EXPECT_EQ(-EINVAL, mirror_insert_at(self->fd, page, page - 1));
	EXPECT_EQ(-EINVAL, mirror_insert_at(self->fd, page, 1));
	EXPECT_EQ(-EOVERFLOW, mirror_insert_at(self->fd, last, 2 * page));
	EXPECT_EQ(-EOVERFLOW, mirror_insert_at(self->fd, last, page));
	EXPECT_EQ(-EOVERFLOW, mirror_insert_at(self->fd, page, last));
	EXPECT_EQ(-EOVERFLOW, mirror_insert_at(self->fd, -1, -1));
	EXPECT_EQ(0, mirror_stats(self->fd).inserted);
	EXPECT_EQ(0, mirror_stats(self->fd).ranges);
}

TEST_F(mirror, addresses_of_nobody)
{
	void *kernel = (void *)-(16 * self->page);

	/* The library has no opinion, but there are no pages. */
	ASSERT_EQ(0, mirror_insert(self->fd, kernel, self->page));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, kernel));
	EXPECT_EQ(-EFAULT, mirror_write(self->fd, kernel, 1));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, kernel));
	EXPECT_EQ(0, mirror_probe(self->fd, (void *)-1));
	EXPECT_EQ(0, mirror_remove(self->fd, kernel));
}

TEST_F(mirror, overlaps)
{
	char *mem = map_pages(4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem + self->page, 2 * self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem + self->page, 2 * self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem, 2 * self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem + 2 * self->page, 2 * self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem, 4 * self->page));
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, mem + 2 * self->page, self->page));
	EXPECT_EQ(5, mirror_stats(self->fd).insert_failed);
	/* Neighbours do not overlap. */
	EXPECT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(0, mirror_insert(self->fd, mem + 3 * self->page, self->page));
	EXPECT_EQ(3, mirror_stats(self->fd).ranges);
	EXPECT_EQ(2 * self->page, mirror_range_length(self->fd, mem + 2 * self->page));
}

TEST_F(mirror, nothing_there)
{
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-ENOENT, mirror_retire(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_remove(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_read(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_hold(self->fd, mem, &id));
	EXPECT_EQ(-ENOENT, mirror_begin(self->fd, mem, &id));
	EXPECT_EQ(-ENOENT, mirror_put(self->fd, 1));
	EXPECT_EQ(-ENOENT, mirror_commit(self->fd, 1));
	EXPECT_EQ(-ENOENT, mirror_park(self->fd, mem, ODP_MIRROR_IN_LOCK));
	EXPECT_EQ(-ENOENT, mirror_park(self->fd, mem, ODP_MIRROR_IN_LOOKUP));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_drain(self->fd));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
}

TEST_F(mirror, pages_that_the_process_has_not)
{
	char *mem = map_pages(2);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mprotect(mem, self->page, PROT_NONE));
	ASSERT_EQ(0, munmap(mem + self->page, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, mem));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, mem + self->page));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));
}

TEST_F(mirror, values)
{
	struct odp_mirror_fault fault = { .flags = 2 };
	struct odp_mirror_access access = {};
	struct odp_mirror_pages pages = {};
	struct odp_mirror_wait wait = { .place = 4 };
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(-EINVAL, mirror_configure(self->fd, 4, 0));
	EXPECT_EQ(-EINVAL, mirror_configure(self->fd, 0, 2));
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_FAULT, &fault));
	access = (struct odp_mirror_access){ .addr = (uintptr_t)mem, .flags = 4 };
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_ACCESS, &access));
	access = (struct odp_mirror_access){ .addr = (uintptr_t)mem + 4 };
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_ACCESS, &access));
	pages.count = 65537;
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_PAGES, &pages));
	EXPECT_EQ(-EINVAL, mirror_flush(self->fd, 2));
	EXPECT_EQ(-EINVAL, mirror_park(self->fd, mem, ODP_MIRROR_IN_CALLBACK));
	EXPECT_EQ(-EINVAL, mirror_unpark(self->fd, ODP_MIRROR_IN_CALLBACK));
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_WAIT, &wait));
	wait = (struct odp_mirror_wait){ .tasks = 1, .timeout_ms = ODP_MIRROR_LONGEST_MS + 1 };
	EXPECT_EQ(-EINVAL, mirror_ioctl(self->fd, ODP_MIRROR_WAIT, &wait));
	wait.timeout_ms = 1;
	EXPECT_EQ(-ETIMEDOUT, mirror_ioctl(self->fd, ODP_MIRROR_WAIT, &wait));
	EXPECT_EQ(-ENOTTY, mirror_ioctl(self->fd, _IO(ODP_MIRROR_MAGIC, 99), NULL));
	EXPECT_EQ(-EFAULT, mirror_ioctl(self->fd, ODP_MIRROR_INSERT, (void *)8));
	EXPECT_EQ(-EFAULT, mirror_ioctl(self->fd, ODP_MIRROR_STATS, (void *)8));
}

TEST_F(mirror, an_id_that_cannot_be_told)
{
	struct odp_mirror_hold *hold;
	char *mem = map_pages(2);

	/* The hold does not outlive the attempt to say its number. */
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	hold = (void *)(mem + self->page);
	hold->addr = (uintptr_t)mem;
	ASSERT_EQ(0, mprotect(mem + self->page, self->page, PROT_READ));
	EXPECT_EQ(-EFAULT, mirror_ioctl(self->fd, ODP_MIRROR_HOLD, hold));
	EXPECT_EQ(mirror_stats(self->fd).holds, mirror_stats(self->fd).puts);
}

TEST_F(mirror, too_many_ranges)
{
	uint64_t max = mirror_stats(self->fd).max_ranges;
	uint64_t start = 1ull << 32, i;

	if (max > 1024)
		SKIP(return, "the limit is too high to try it");
	for (i = 0; i < max; i++)
		ASSERT_EQ(0, mirror_insert_at(self->fd, start + i * self->page, self->page));
	EXPECT_EQ(-ENOSPC, mirror_insert_at(self->fd, start + i * self->page, self->page));
	EXPECT_EQ(max, mirror_stats(self->fd).ranges);
	EXPECT_EQ(0, mirror_remove(self->fd, (void *)start));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(0, mirror_insert_at(self->fd, start + i * self->page, self->page));
}

TEST_F(mirror, too_many_holds)
{
	char *mem = map_pages(1);
	uint64_t id = 0;
	int i, ret = 0;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	for (i = 0; i < 1024 && !ret; i++)
		ret = mirror_hold(self->fd, mem, &id);
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_EQ(0, mirror_put(self->fd, 1));
	EXPECT_EQ(-ENOENT, mirror_put(self->fd, 1));
	EXPECT_EQ(0, mirror_hold(self->fd, mem, &id));
	/* The others go with the file. */
}

TEST_F(mirror, after_shutdown)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(2);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	EXPECT_EQ(-EBUSY, mirror_shutdown(self->fd));
	EXPECT_NE(0, mirror_probe(self->fd, mem));
	ASSERT_EQ(0, mirror_put(self->fd, id));

	ASSERT_EQ(0, mirror_shutdown(self->fd));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(0, stats.ranges);
	EXPECT_EQ(1, stats.told);
	EXPECT_EQ(1, stats.zapped);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ESHUTDOWN, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(-ENOENT, mirror_read(self->fd, mem));
	EXPECT_EQ(0, mirror_shutdown(self->fd));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(0, mirror_drain(self->fd));
	ASSERT_EQ(0, munmap(mem, self->page));
	EXPECT_EQ(0, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
}

TEST_HARNESS_MAIN
