// SPDX-License-Identifier: GPL-2.0
/* Ranges go when what they mirror is unmapped, or when somebody says so. */

#include <glob.h>
#include <stdio.h>

#include "mirror_fixture.h"

#define IN_USE (ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT | ODP_MIRROR_WRITABLE)

TEST_F(mirror, munmap_retires)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	ASSERT_EQ(0, mirror_write(self->fd, mem + self->page, 7));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(7, mem[self->page]);

	ASSERT_EQ(0, munmap(mem, 4 * self->page));
	/* Before any flush. */
	EXPECT_EQ(0, mirror_probe(self->fd, mem + self->page));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.events[ODP_MIRROR_EVENT_UNMAP]);
	EXPECT_EQ(1, stats.zapped);
	EXPECT_EQ(1, stats.queued);

	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.removed);
	EXPECT_EQ(1, stats.grace_periods);

	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.inserted);
	EXPECT_EQ(1, stats.released);
	EXPECT_EQ(1, stats.told);
	EXPECT_EQ(1, stats.told_by_worker);
	EXPECT_EQ(0, stats.ranges);
	EXPECT_EQ(stats.holds, stats.puts);
}

TEST_F(mirror, counters_are_in_debugfs)
{
	char *mem = map_pages(1), text[1024] = "";
	uint64_t id;
	glob_t found;
	FILE *file;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));

	/* There is no other mirror. */
	ASSERT_EQ(0, glob("/sys/kernel/debug/odp/mirror-*", 0, NULL, &found));
	ASSERT_EQ(1, found.gl_pathc);
	file = fopen(found.gl_pathv[0], "r");
	ASSERT_NE(NULL, file);
	ASSERT_LT(0, fread(text, 1, sizeof(text) - 1, file));
	EXPECT_NE(NULL, strstr(text, "\nqueued 1\n"));
	EXPECT_NE(NULL, strstr(text, "\nremoved 1\n"));
	EXPECT_NE(NULL, strstr(text, "\nreleased 0\n"));
	EXPECT_NE(NULL, strstr(text, "\nholds_outstanding 1\n"));
	fclose(file);
	globfree(&found);
	ASSERT_EQ(0, mirror_put(self->fd, id));
}

TEST_F(mirror, partial_munmap_retires_the_whole)
{
	char *mem = map_pages(4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_write(self->fd, mem + 3 * self->page, 1));

	ASSERT_EQ(0, munmap(mem + 3 * self->page, self->page));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + 3 * self->page));
	EXPECT_EQ(-ENOENT, mirror_read(self->fd, mem));

	/* The worker takes the other page from the device. */
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(2, mirror_stats(self->fd).zapped);

	/* What is left can be mirrored again. */
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 3 * self->page));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(1, mirror_read(self->fd, mem));
}

TEST_F(mirror, partial_munmap_keeps_the_rest)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(4);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_NEVER, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_write(self->fd, mem + 3 * self->page, 1));

	ASSERT_EQ(0, munmap(mem + 3 * self->page, self->page));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + 3 * self->page));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, mem + 3 * self->page));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.zapped);
	EXPECT_EQ(0, stats.queued);
	EXPECT_EQ(1, stats.ranges);
}

TEST_F(mirror, one_munmap_retires_many)
{
	struct odp_mirror_stats stats;
	const int n = 16;
	char *mem = map_pages(n);

	ASSERT_NE(NULL, mem);
	for (int i = 0; i < n; i++) {
		ASSERT_EQ(0, mirror_insert(self->fd, mem + i * self->page, self->page));
		ASSERT_EQ(0, mirror_write(self->fd, mem + i * self->page, i));
	}
	ASSERT_EQ(0, munmap(mem, n * self->page));
	for (int i = 0; i < n; i++)
		EXPECT_EQ(0, mirror_probe(self->fd, mem + i * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(n, stats.queued);
	EXPECT_EQ(n, stats.removed);
	EXPECT_EQ(n, stats.told);
	EXPECT_EQ(0, stats.ranges);
	/* All callbacks ran in one invalidation, during which no removal could end. */
	EXPECT_LE(stats.grace_periods, 2);
	EXPECT_EQ(stats.batches, stats.grace_periods);
}

TEST_F(mirror, unmapping_something_else_does_nothing)
{
	char *mem = map_pages(1), *other = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, munmap(other, self->page));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
}

TEST_F(mirror, retire_by_hand)
{
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_retire(self->fd, mem));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).zapped);
	EXPECT_EQ(1, mirror_stats(self->fd).told);

	/* Nobody looks any more. */
	ASSERT_EQ(0, munmap(mem, self->page));
	EXPECT_EQ(0, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
}

TEST_F(mirror, remove_waits)
{
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_remove(self->fd, mem));
	EXPECT_EQ(1, mirror_stats(self->fd).removed);
	EXPECT_EQ(1, mirror_stats(self->fd).zapped);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ENOENT, mirror_remove(self->fd, mem));
}

TEST_F(mirror, drain_runs_what_is_left)
{
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(0, mirror_drain(self->fd));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	/* It is either here or in the worker. */
	EXPECT_EQ(mirror_drain(self->fd), mirror_stats(self->fd).drained);
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).told);
	EXPECT_EQ(1, mirror_stats(self->fd).told_by_worker);
}

TEST_HARNESS_MAIN
