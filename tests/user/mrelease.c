// SPDX-License-Identifier: GPL-2.0
/*
 * process_mrelease() takes a dying process's pages, and does not sleep for that: its invalidations
 * are not blockable, and a driver whose lock is taken has to refuse them.
 */

#include <signal.h>
#include <sys/syscall.h>

#include "mirror_device.h"

/* What the victim and the test both see. */
struct victim {
	/* Mirrors memory. */
	int fd;
	char *mem;
	/* Mirrors addresses where there is none, so that nothing is ever invalidated there. */
	int other;
	char *hole;
	int ready;
};

/*
 * Sleeps in the kernel, where no signal ends it: in a lock that the test holds. So the process
 * stays when it is killed, and its address space with it.
 */
static void be_a_victim(struct victim *victim)
{
	if (mirror_write(victim->fd, victim->mem, 1))
		_exit(1);
	__atomic_store_n(&victim->ready, 1, __ATOMIC_RELEASE);
	for (;;)
		mirror_probe(victim->other, victim->hole);
}

/* Whether a process sleeps in ioctl() and takes no signal. */
static bool sleeps_for_good(pid_t pid)
{
	char path[64], text[512] = {}, *state;
	FILE *file;
	long call;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	state = strrchr(text, ')');
	if (!state || strncmp(state, ") D", 3))
		return false;

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (fscanf(file, "%ld", &call) != 1)
		call = -1;
	fclose(file);
	return call == SYS_ioctl;
}

static int mrelease(int pidfd)
{
	return syscall(SYS_process_mrelease, pidfd, 0) ? -errno : 0;
}

static int take_fd(int pidfd, int fd)
{
	fd = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return fd < 0 ? -errno : fd;
}

TEST(a_taken_lock_is_not_waited_for)
{
	struct odp_mirror_stats before, after;
	struct sleeper holder, keeper;
	int pidfd, fd, other, status;
	struct victim *victim;
	long deadline;
	pid_t pid;

	victim = map_shared(sizeof(*victim));
	ASSERT_NE(NULL, victim);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		victim->fd = mirror_open();
		victim->other = mirror_open();
		victim->mem = map_pages(4);
		victim->hole = map_pages(1);
		if (!victim->mem || !victim->hole || munmap(victim->hole, page_size()) ||
		    mirror_insert(victim->fd, victim->mem, 4 * page_size()) ||
		    mirror_insert(victim->other, victim->hole, page_size()))
			_exit(1);
		be_a_victim(victim);
	}
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	deadline = now_ms() + PATIENCE_MS;
	while (!__atomic_load_n(&victim->ready, __ATOMIC_ACQUIRE) && now_ms() < deadline)
		sched_yield();
	fd = take_fd(pidfd, victim->fd);
	ASSERT_LE(0, fd);
	other = take_fd(pidfd, victim->other);
	ASSERT_LE(0, other);

	/* The process cannot go before this ends. */
	ASSERT_EQ(0, sleeper_start(&keeper, other, victim->hole, ODP_MIRROR_IN_LOCK));
	while (!sleeps_for_good(pid) && now_ms() < deadline)
		sched_yield();
	ASSERT_TRUE(sleeps_for_good(pid));
	ASSERT_EQ(-EINVAL, mrelease(pidfd));
	ASSERT_EQ(0, kill(pid, SIGKILL));

	/* The lock is taken. */
	ASSERT_EQ(0, sleeper_start(&holder, fd, victim->mem, ODP_MIRROR_IN_LOCK));
	before = mirror_stats(fd);
	EXPECT_EQ(0, before.would_block);
	EXPECT_EQ(-EAGAIN, mrelease(pidfd));
	after = mirror_stats(fd);
	EXPECT_EQ(1, after.would_block);
	EXPECT_EQ(0, memcmp(before.events, after.events, sizeof(before.events)));
	EXPECT_EQ(0, after.zapped);
	EXPECT_EQ(0, sleeper_end(&holder));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT | ODP_MIRROR_WRITABLE,
		  mirror_probe(fd, victim->mem));

	/* The lock is free. */
	EXPECT_EQ(0, mrelease(pidfd));
	after = mirror_stats(fd);
	EXPECT_EQ(1, after.would_block);
	EXPECT_EQ(1, after.events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_EQ(1, after.zapped);
	EXPECT_EQ(0, after.queued);
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(fd, victim->mem));

	/* Retiring works in such a callback, too. */
	ASSERT_EQ(0, mirror_configure(fd, ODP_MIRROR_RETIRE_EVERY, 0));
	EXPECT_EQ(0, mrelease(pidfd));
	EXPECT_EQ(1, mirror_stats(fd).queued);
	EXPECT_EQ(0, mirror_probe(fd, victim->mem));
	EXPECT_EQ(0, mirror_flush(fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(fd).told);

	EXPECT_EQ(0, sleeper_end(&keeper));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_EQ(0, mirror_flush(other, ODP_MIRROR_RELEASED));
	EXPECT_EQ(0, mirror_stats(other).ranges);
	EXPECT_EQ(-ESRCH, mirror_insert(fd, victim->mem, page_size()));
}

TEST_HARNESS_MAIN
