// SPDX-License-Identifier: GPL-2.0
/* What one process does, and others that have the device open, too. */

#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>

#include "mirror_device.h"

/*
 * Mirrors of one process, and ranges in each: when they all are to be removed and cannot be, more
 * work items sleep than a workqueue runs at the same time. One for each mirror is enough for that,
 * so that no limit of what helps them makes room for others.
 */
#define MIRRORS 600
#define RANGES 4

#define ROUNDS 8

/* The other process: opens the device when it is told to, and has ranges removed and released. */
static int live(int told)
{
	const size_t page = page_size();
	char *mem, begin;
	int fd;

	if (read(told, &begin, 1) != 1)
		return 1;
	fd = mirror_open();
	mem = map_pages(RANGES);
	if (fd < 0 || !mem)
		return 2;
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < RANGES; i++)
			if (mirror_insert(fd, mem + i * page, page) ||
			    mirror_retire(fd, mem + i * page))
				return 3;
		if (mirror_flush(fd, ODP_MIRROR_REMOVED) || mirror_flush(fd, ODP_MIRROR_RELEASED))
			return 4;
	}
	/* And one for the exit. */
	return mirror_insert(fd, mem, page) ? 5 : 0;
}

/* Whether a child ends in time; *@status is its. */
static bool ends(pid_t child, int *status)
{
	long deadline = now_ms() + PATIENCE_MS;

	while (now_ms() < deadline) {
		if (waitpid(child, status, WNOHANG) == child)
			return true;
		poll(NULL, 0, 1);
	}
	return false;
}

/*
 * Waits until the workers of all mirrors have got as far as the removals, or, because a process's
 * queue may be full before that, until no more do for a second. Returns how many have.
 */
static int await_removals(const int *fds, int n)
{
	long deadline = now_ms() + PATIENCE_MS;
	int removing, most = 0;

	do {
		removing = 0;
		for (int i = 0; i < n; i++)
			removing += !!mirror_stats(fds[i]).batches;
		if (removing > most) {
			most = removing;
			deadline = now_ms() + 1000;
		}
		poll(NULL, 0, 1);
	} while (removing < n && now_ms() < deadline);
	return removing;
}

/* Another process, which has no file of the device open yet. */
FIXTURE(processes)
{
	pid_t other;
	int told;
};

FIXTURE_SETUP(processes)
{
	cpu_set_t cpu;
	int told[2];

	/* Both on one CPU: each NUMA node has its own part of a workqueue, and one may be full. */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpu), &cpu));
	ASSERT_EQ(0, pipe(told));
	self->other = fork();
	ASSERT_LE(0, self->other);
	if (!self->other)
		_exit(live(told[0]));
	self->told = told[1];
}

FIXTURE_TEARDOWN(processes)
{
}

TEST_F_TIMEOUT(processes, do_not_wait_for_each_other, 240)
{
	const size_t page = page_size();
	char *mem = map_pages(RANGES);
	struct sleeper frozen;
	int fds[MIRRORS], frozen_fd, removing, status = -1;
	bool ended;

	ASSERT_NE(NULL, mem);
	frozen_fd = mirror_open();
	ASSERT_LE(0, frozen_fd);
	for (int i = 0; i < MIRRORS; i++) {
		fds[i] = mirror_open();
		ASSERT_LE(0, fds[i]);
		for (int j = 0; j < RANGES; j++)
			ASSERT_EQ(0, mirror_insert(fds[i], mem + j * page, page));
	}

	ASSERT_EQ(0, freeze(&frozen, frozen_fd));
	for (int i = 0; i < MIRRORS; i++)
		for (int j = 0; j < RANGES; j++)
			EXPECT_EQ(0, mirror_retire(fds[i], mem + j * page));
	removing = await_removals(fds, MIRRORS);
	EXPECT_EQ(1, write(self->told, "", 1));
	ended = ends(self->other, &status);
	/* Nothing of ours is gone meanwhile. */
	for (int i = 0; i < MIRRORS; i++)
		EXPECT_EQ(0, mirror_stats(fds[i]).removed);

	EXPECT_EQ(0, thaw(&frozen));
	EXPECT_LT(0, removing);
	EXPECT_TRUE(ended);
	if (!ended)
		waitpid(self->other, &status, 0);
	EXPECT_EQ(0, status);
	for (int i = 0; i < MIRRORS; i++) {
		EXPECT_EQ(0, mirror_flush(fds[i], ODP_MIRROR_RELEASED));
		EXPECT_EQ(RANGES, mirror_stats(fds[i]).told);
		EXPECT_EQ(0, close(fds[i]));
	}
	EXPECT_EQ(0, close(frozen_fd));
}

/* The rescuers of the library's workqueues: the lowest number of a thread, and how many there are. */
static int rescuers(pid_t *lowest)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	*lowest = 0;
	while (proc && (entry = readdir(proc))) {
		char path[300], name[32] = "";
		pid_t pid = atoi(entry->d_name);
		FILE *comm;

		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		comm = pid ? fopen(path, "r") : NULL;
		if (!comm)
			continue;
		if (fgets(name, sizeof(name), comm) && !strcmp(name, "kworker/R-odp\n")) {
			n++;
			if (!*lowest || pid < *lowest)
				*lowest = pid;
		}
		fclose(comm);
	}
	closedir(proc);
	return n;
}

/* One process after the other has a mirror: the queue of one that has none any more is the next one's. */
TEST(a_queue_is_used_again)
{
	pid_t first = 0, now;
	int n = 0;

	for (int i = 0; i < 8; i++) {
		pid_t child = fork();
		int status = -1;

		ASSERT_LE(0, child);
		if (!child)
			_exit(mirror_open() < 0);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_EQ(0, status);
		if (!first)
			n = rescuers(&first);
		EXPECT_LT(0, n);
		EXPECT_EQ(n, rescuers(&now));
		EXPECT_EQ(first, now);
	}
}

TEST_HARNESS_MAIN
