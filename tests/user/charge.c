// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel allocates for the ranges of a file is charged to the memory cgroup in which the
 * file was opened. At the cgroup's limit ranges stay as they are, and lose nothing; what could not
 * be done is done once there is memory.
 *
 * ODP_HOLES    how many holes there are in the memory that each file mirrors (200); no more than
 *              the device's max_ranges, less two
 * ODP_MIRRORS  how many files there are (64)
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "knob.h"
#include "memory.h"
#include "mirror_device.h"

#define ROOT "/sys/fs/cgroup/"
#define GROUP ROOT "odp-charge/"

/* How many of the pages that are mapped are looked at. */
#define LIVE 8

/* What a range takes at the least, in bytes. */
#define RANGE 224

/* A number in a file: the first one, or the one behind a word. */
static long number_in(const char *path, const char *word)
{
	char text[4096] = "", *at = text;
	int fd = open(path, O_RDONLY);
	ssize_t len;

	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len > 0 && word)
		at = strstr(text, word);
	return len > 0 && at ? strtol(at + (word ? strlen(word) : 0), NULL, 10) : -1;
}

static int write_number(const char *path, long number)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", number);
	return write_file(path, text);
}

static size_t option(const char *name, size_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 10) : otherwise;
}

/* Memory, and files that mirror it. */
struct mirrored {
	size_t page, holes, mirrors;
	int *fds;
	/* Every second page of it is a hole. */
	char *mem;
};

FIXTURE(charge)
{
	struct mirrored all;
};

FIXTURE_SETUP(charge)
{
	self->all.page = page_size();
	self->all.holes = option("ODP_HOLES", 200);
	self->all.mirrors = option("ODP_MIRRORS", 64);
	self->all.fds = calloc(self->all.mirrors, sizeof(*self->all.fds));
	ASSERT_NE(NULL, self->all.fds);
	/* These need CONFIG_MEMCG, and the second version of cgroups. */
	ASSERT_EQ(0, write_file(ROOT "cgroup.subtree_control", "+memory"));
	ASSERT_EQ(0, mkdir(GROUP, 0700));
	ASSERT_LE(0, number_in(GROUP "memory.current", NULL));
}

FIXTURE_TEARDOWN(charge)
{
	/* If it has not been removed yet. */
	rmdir(GROUP);
}

/* The n-th of the pages that are looked at. */
static char *live(struct mirrored *all, size_t n)
{
	return all->mem + n * (all->holes / LIVE) * 2 * all->page;
}

/* Maps memory with holes; what is looked at has content. */
static bool map_memory(struct mirrored *all)
{
	size_t pages = 2 * all->holes + 1;

	all->mem = mmap(NULL, pages * all->page, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all->mem == MAP_FAILED)
		return false;
	for (size_t i = 1; i < pages; i += 2)
		if (munmap(all->mem + i * all->page, all->page))
			return false;
	for (size_t n = 0; n < LIVE; n++)
		poke(live(all, n), n);
	return true;
}

/* Opens the files, and has the device of each reach what is looked at. */
static bool open_mirrors(struct mirrored *all)
{
	uint64_t value;

	for (size_t i = 0; i < all->mirrors; i++) {
		int fd = all->fds[i] = mirror_open();

		if (fd < 0 || mirror_configure(fd, ODP_MIRROR_PUNCH_UNMAP, 0) ||
		    mirror_insert(fd, all->mem, (2 * all->holes + 1) * all->page))
			return false;
		for (size_t n = 0; n < LIVE; n++)
			if (mirror_load(fd, live(all, n), &value) < 0 || value != n)
				return false;
	}
	return true;
}

/* How many devices reach a page. */
static size_t reached(struct mirrored *all, char *addr)
{
	size_t count = 0;
	uint64_t value;

	for (size_t i = 0; i < all->mirrors; i++)
		count += !mirror_load_cached(all->fds[i], addr, &value);
	return count;
}

/* Has all there is to do tried once more; how many ranges there are then, or -1. */
static long flush_all(struct mirrored *all)
{
	long ranges = 0;

	for (size_t i = 0; i < all->mirrors; i++) {
		if (mirror_flush(all->fds[i], ODP_MIRROR_RELEASED))
			return -1;
		ranges += mirror_stats(all->fds[i]).ranges;
	}
	return ranges;
}

static unsigned long failures(struct mirrored *all)
{
	unsigned long count = 0;

	for (size_t i = 0; i < all->mirrors; i++)
		count += mirror_stats(all->fds[i]).replace_failed;
	return count;
}

/*
 * What ranges are charged as, in bytes. The sum of all that is charged also has what can be reclaimed,
 * such as names in debugfs, and the limit has some of that reclaimed.
 */
static long charged(void)
{
	return number_in(GROUP "memory.stat", "\nslab_unreclaimable ");
}

TEST_F_TIMEOUT(charge, a_limit_holds_and_nothing_is_lost, 7200)
{
	struct mirrored *all = &self->all;
	const size_t mirrors = all->mirrors, pieces = mirrors * (all->holes + 1);
	long before, current, room, ranges, machine, begun = now_ms();

	ASSERT_TRUE(map_memory(all));
	/* What the process itself needs is not to be in the way: the files remember. */
	ASSERT_EQ(0, write_file(GROUP "cgroup.procs", "0"));
	ASSERT_TRUE(open_mirrors(all));
	ASSERT_EQ(0, write_file(ROOT "cgroup.procs", "0"));

	before = charged();
	current = number_in(GROUP "memory.current", NULL);
	machine = number_in("/proc/meminfo", "MemAvailable:");
	/* A part of what all pieces take. */
	room = pieces * RANGE / 4;
	if (room > 64 << 20)
		room = 64 << 20;
	ASSERT_EQ(0, write_number(GROUP "memory.max", current + room));
	for (size_t i = 0; i < mirrors; i++)
		ASSERT_EQ(0, mirror_punch(all->fds[i], all->mem, all->mem,
					  (2 * all->holes + 1) * all->page));
	ranges = flush_all(all);
	TH_LOG("%ld of %zu ranges, %ld of %ld KiB more charged, %ld KiB taken from the machine, %ld ms",
	       ranges, pieces, (charged() - before) >> 10, room >> 10,
	       machine - number_in("/proc/meminfo", "MemAvailable:"), now_ms() - begun);

	/* The limit was met, and by ranges. */
	EXPECT_LT(0, number_in(GROUP "memory.events", "\nmax "));
	EXPECT_LT(0, failures(all));
	EXPECT_LT(mirrors, ranges);
	EXPECT_GT(pieces, ranges);
	EXPECT_LE((ranges - (long)mirrors) * RANGE, charged() - before);
	/* Not so the machine's memory, even if what is freed is kept for a while to find mistakes. */
	EXPECT_GT((2 * room + (128 << 20)) >> 10,
		  machine - number_in("/proc/meminfo", "MemAvailable:"));

	/* Whatever became of them, the devices have what is there, and hear of what goes. */
	for (size_t n = 0; n < LIVE; n++)
		EXPECT_EQ(mirrors, reached(all, live(all, n)));
	ASSERT_EQ(0, madvise(live(all, 1), all->page, MADV_DONTNEED));
	EXPECT_EQ(0, reached(all, live(all, 1)));
	ASSERT_EQ(0, munmap(live(all, 2), all->page));
	EXPECT_EQ(0, reached(all, live(all, 2)));
	EXPECT_EQ(mirrors, reached(all, live(all, 3)));

	/* A flush tries what has failed; what is under way may be about to fail without being tried. */
	ASSERT_LE(0, flush_all(all));
	/* With memory, all is done: one page more is gone by now. */
	begun = now_ms();
	ASSERT_EQ(0, write_file(GROUP "memory.max", "max"));
	EXPECT_EQ(pieces - mirrors, flush_all(all));
	TH_LOG("the others took %ld ms", now_ms() - begun);
	for (size_t i = 0; i < mirrors; i++) {
		EXPECT_EQ(0, mirror_range_length(all->fds[i], all->mem + all->page));
		EXPECT_EQ(0, mirror_range_length(all->fds[i], live(all, 2)));
		EXPECT_EQ(all->page, mirror_range_length(all->fds[i], live(all, 3)));
	}
	EXPECT_EQ(mirrors, reached(all, live(all, 3)));
	EXPECT_LE((long)(pieces - 2 * mirrors) * RANGE, charged() - before);

	/* The files outlive the cgroup. */
	EXPECT_EQ(0, rmdir(GROUP));
	ASSERT_EQ(0, munmap(live(all, 3), all->page));
	EXPECT_EQ(0, reached(all, live(all, 3)));
	EXPECT_EQ(pieces - 2 * mirrors, flush_all(all));
	for (size_t i = 0; i < mirrors; i++)
		EXPECT_EQ(0, close(all->fds[i]));
}

TEST_HARNESS_MAIN
