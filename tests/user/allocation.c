// SPDX-License-Identifier: GPL-2.0
/* A range goes even if the machine has no memory left for anything. */

#include <dirent.h>
#include <stdio.h>

#include "mirror_fixture.h"

#define KNOB(fault, name) "/sys/kernel/debug/" fault "/" name

static int set(const char *knob, const char *value)
{
	int fd = open(knob, O_WRONLY);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, value, strlen(value));
	close(fd);
	return written == (ssize_t)strlen(value) ? 0 : -EIO;
}

/*
 * Has allocations fail in this process, in the kernel's workers, and where new workers are made.
 * Other processes are left alone: what exec() cannot read for want of memory stays unreadable.
 */
static int choose_tasks(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int chosen = 0;

	if (!proc || set("/proc/self/make-it-fail", "1"))
		return -EIO;
	while ((entry = readdir(proc))) {
		char path[64], name[32] = "";
		FILE *comm;

		snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
		comm = fopen(path, "r");
		if (!comm)
			continue;
		if (fgets(name, sizeof(name), comm) &&
		    (!strncmp(name, "kworker", 7) || !strncmp(name, "kthreadd", 8))) {
			snprintf(path, sizeof(path), "/proc/%.16s/make-it-fail", entry->d_name);
			/* A worker may have ended meanwhile. */
			chosen += !set(path, "1");
		}
		fclose(comm);
	}
	closedir(proc);
	return chosen ? 0 : -ESRCH;
}

/* Both kinds of allocation fail, whatever they may do to succeed. */
struct shortage {
	int slab, page;
};

static int shortage_prepare(struct shortage *shortage)
{
	static const char *const knobs[][2] = {
		{ KNOB("failslab", "interval"), "1" },
		{ KNOB("failslab", "times"), "-1" },
		{ KNOB("failslab", "verbose"), "0" },
		{ KNOB("failslab", "task-filter"), "Y" },
		{ KNOB("failslab", "ignore-gfp-wait"), "N" },
		{ KNOB("fail_page_alloc", "interval"), "1" },
		{ KNOB("fail_page_alloc", "times"), "-1" },
		{ KNOB("fail_page_alloc", "verbose"), "0" },
		{ KNOB("fail_page_alloc", "task-filter"), "Y" },
		{ KNOB("fail_page_alloc", "ignore-gfp-wait"), "N" },
		{ KNOB("fail_page_alloc", "ignore-gfp-highmem"), "N" },
		{ KNOB("fail_page_alloc", "min-order"), "0" },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(knobs); i++) {
		int ret = set(knobs[i][0], knobs[i][1]);

		if (ret)
			return ret;
	}
	if (choose_tasks())
		return -ESRCH;
	/* Opened now, because later that would fail. */
	shortage->slab = open(KNOB("failslab", "probability"), O_WRONLY);
	shortage->page = open(KNOB("fail_page_alloc", "probability"), O_WRONLY);
	return shortage->slab < 0 || shortage->page < 0 ? -errno : 0;
}

static bool shortage_begin(struct shortage *shortage)
{
	return write(shortage->slab, "100", 3) == 3 && write(shortage->page, "100", 3) == 3;
}

static bool shortage_end(struct shortage *shortage)
{
	bool ended = write(shortage->slab, "0", 1) == 1;

	return write(shortage->page, "0", 1) == 1 && ended;
}

TEST_F(mirror, retire_needs_no_memory)
{
	struct shortage shortage;
	struct odp_mirror_stats stats;
	int dropped, inserted, probed;
	bool gone, told;
	char *mem = map_pages(2);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, shortage_prepare(&shortage));
	/* Dropping pages allocates nothing in the system call; unmapping might. */
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_EVERY, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));

	/* No assertion before the end: what prints them needs memory. */
	ASSERT_TRUE(shortage_begin(&shortage));
	inserted = mirror_insert(self->fd, mem + self->page, self->page);
	dropped = madvise(mem, self->page, MADV_DONTNEED);
	probed = mirror_probe(self->fd, mem);
	gone = mirror_poll(self->fd, removed, 1);
	told = mirror_poll(self->fd, told, 1);
	/* Counted after the driver has been told. */
	mirror_poll(self->fd, released, 1);
	stats = mirror_stats(self->fd);
	ASSERT_TRUE(shortage_end(&shortage));

	/* So it was real. */
	EXPECT_EQ(-ENOMEM, inserted);
	EXPECT_EQ(0, dropped);
	EXPECT_EQ(0, probed);
	EXPECT_TRUE(gone);
	EXPECT_TRUE(told);
	EXPECT_EQ(1, stats.queued);
	EXPECT_EQ(1, stats.released);

	/* What was left in the index, if anything, is in nobody's way. */
	EXPECT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
}

TEST_HARNESS_MAIN
