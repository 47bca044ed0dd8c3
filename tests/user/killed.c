// SPDX-License-Identifier: GPL-2.0
/* Who waits for what user space can make long: it ends when it is killed, and others go on. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"
#include "mirror_fixture.h"
#include "userfault.h"

/*
 * An ioctl in a process of its own, which says with its status whether it succeeded. If there is a
 * pipe, it begins when that can be read from.
 */
static pid_t in_child_after(const int pipe[2], int fd, unsigned long cmd, uint64_t value)
{
	pid_t child = fork();
	char byte;

	if (child)
		return child;
	if (pipe && read(pipe[0], &byte, 1) != 1)
		_exit(2);
	_exit(mirror_ioctl_u64(fd, cmd, value) ? 1 : 0);
}

static pid_t in_child(int fd, unsigned long cmd, uint64_t value)
{
	return in_child_after(NULL, fd, cmd, value);
}

/* Waits until a process sleeps in an ioctl. */
static bool sleeps_in(pid_t pid, unsigned long cmd)
{
	long deadline = now_ms() + PATIENCE_MS;
	char path[64], line[256], want[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", pid);
	snprintf(want, sizeof(want), " %#lx ", cmd);
	do {
		FILE *file = fopen(path, "r");

		/* "running", or a number and arguments of the call that it sleeps in. */
		if (file && fgets(line, sizeof(line), file) && strstr(line, want)) {
			fclose(file);
			return true;
		}
		if (file)
			fclose(file);
		sched_yield();
	} while (now_ms() < deadline);
	return false;
}

/* The status of a process that ends, or -ETIMEDOUT. */
static int status_of(pid_t pid)
{
	long deadline = now_ms() + PATIENCE_MS;
	int status;

	for (;;) {
		pid_t ended = waitpid(pid, &status, WNOHANG);

		if (ended)
			return ended == pid ? status : -errno;
		if (now_ms() >= deadline)
			return -ETIMEDOUT;
		sched_yield();
	}
}

static bool still_there(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

/* A read of the device's that stands still, and holds the range that it is of. */
struct holder {
	int fd;
	struct userfault fault;
	pthread_t thread;
	int result;
};

static void *holder_run(void *arg)
{
	struct holder *holder = arg;

	holder->result = mirror_read(holder->fd, holder->fault.mem);
	return NULL;
}

/* Ends it; whether it was told that there is no range any more. */
static bool holder_end(struct holder *holder)
{
	return !userfault_give(&holder->fault) && !pthread_join(holder->thread, NULL) &&
	       holder->result == -ENOENT && !userfault_end(&holder->fault);
}

/* A range that is retired, and held. */
FIXTURE(held)
{
	int fd;
	struct holder holder;
};

FIXTURE_SETUP(held)
{
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	self->holder.fd = self->fd;
	ASSERT_EQ(0, userfault_begin(&self->holder.fault, 1));
	ASSERT_EQ(0, mirror_insert(self->fd, self->holder.fault.mem, page_size()));
	ASSERT_EQ(0, pthread_create(&self->holder.thread, NULL, holder_run, &self->holder));
	ASSERT_EQ(0, userfault_wait(&self->holder.fault));
	ASSERT_EQ(0, mirror_retire(self->fd, self->holder.fault.mem));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
}

FIXTURE_TEARDOWN(held)
{
	EXPECT_EQ(0, close(self->fd));
}

TEST_F(held, who_flushes_can_be_killed)
{
	pid_t first = in_child(self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_RELEASED);
	pid_t second, third;

	ASSERT_LT(0, first);
	ASSERT_TRUE(sleeps_in(first, ODP_MIRROR_FLUSH));
	second = in_child(self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_RELEASED);
	ASSERT_LT(0, second);
	ASSERT_TRUE(sleeps_in(second, ODP_MIRROR_FLUSH));

	/* One that has come later, and the one that had come first. */
	ASSERT_EQ(0, kill(second, SIGKILL));
	EXPECT_EQ(SIGKILL, status_of(second));
	EXPECT_TRUE(still_there(first));
	ASSERT_EQ(0, kill(first, SIGKILL));
	EXPECT_EQ(SIGKILL, status_of(first));

	/* They have left nothing that the next one could stumble over. */
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	third = in_child(self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_RELEASED);
	ASSERT_LT(0, third);
	ASSERT_TRUE(sleeps_in(third, ODP_MIRROR_FLUSH));
	EXPECT_EQ(0, mirror_stats(self->fd).released);
	EXPECT_TRUE(still_there(third));
	EXPECT_TRUE(holder_end(&self->holder));
	EXPECT_EQ(0, status_of(third));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).released);
}

/* The next flush is also for what was retired since the one that was killed began. */
TEST_F(held, the_next_flush_is_for_all_that_was_retired)
{
	pid_t first = in_child(self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_RELEASED), next;
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_LT(0, first);
	ASSERT_TRUE(sleeps_in(first, ODP_MIRROR_FLUSH));
	ASSERT_EQ(0, kill(first, SIGKILL));
	ASSERT_EQ(SIGKILL, status_of(first));

	ASSERT_EQ(0, mirror_insert(self->fd, mem, page_size()));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	ASSERT_EQ(0, mirror_put(self->fd, id));
	next = in_child(self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_RELEASED);
	ASSERT_LT(0, next);
	ASSERT_TRUE(sleeps_in(next, ODP_MIRROR_FLUSH));
	EXPECT_TRUE(holder_end(&self->holder));
	EXPECT_EQ(0, status_of(next));
	EXPECT_EQ(2, mirror_stats(self->fd).released);
}

/* A shutdown goes on waiting, and says so after 10 s. */
TEST_F_TIMEOUT(held, a_shutdown_says_what_it_waits_for, 120)
{
	long deadline = now_ms() + 4 * PATIENCE_MS;
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char line[1024];
	bool said = false;
	pid_t child;

	ASSERT_LE(0, log);
	ASSERT_LE(0, lseek(log, 0, SEEK_END));
	child = in_child(self->fd, ODP_MIRROR_SHUTDOWN, 0);
	ASSERT_LT(0, child);
	ASSERT_TRUE(sleeps_in(child, ODP_MIRROR_SHUTDOWN));
	/* No signal ends that: what comes after it is not safe before it is over. */
	ASSERT_EQ(0, kill(child, SIGKILL));
	while (!said && now_ms() < deadline) {
		ssize_t len = read(log, line, sizeof(line) - 1);

		if (len <= 0) {
			sched_yield();
			continue;
		}
		line[len] = '\0';
		said = strstr(line, "odp: mirror-") &&
		       strstr(line, ": shutdown still waits: 1 not released, 1 holds");
	}
	close(log);
	EXPECT_TRUE(said);
	EXPECT_TRUE(still_there(child));
	EXPECT_TRUE(holder_end(&self->holder));
	EXPECT_EQ(SIGKILL, status_of(child));
	EXPECT_EQ(1, mirror_stats(self->fd).released);
	/* Once more, for nothing. */
	EXPECT_EQ(0, mirror_shutdown(self->fd));
}

/* The address space is being invalidated for as long as somebody else likes. */
TEST_F(mirror, who_waits_for_a_removal_can_be_killed)
{
	struct sleeper frozen;
	char *mem = map_pages(1);
	pid_t removes, flushes;
	int remove[2], flush[2];

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, pipe(remove));
	ASSERT_EQ(0, pipe(flush));
	/* Before that, since a fork would wait for the invalidation, too. */
	removes = in_child_after(remove, self->fd, ODP_MIRROR_REMOVE, (uintptr_t)mem);
	ASSERT_LT(0, removes);
	flushes = in_child_after(flush, self->fd, ODP_MIRROR_FLUSH, ODP_MIRROR_REMOVED);
	ASSERT_LT(0, flushes);
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_EQ(1, write(remove[1], "", 1));
	ASSERT_TRUE(sleeps_in(removes, ODP_MIRROR_REMOVE));
	ASSERT_EQ(1, write(flush[1], "", 1));
	ASSERT_TRUE(sleeps_in(flushes, ODP_MIRROR_FLUSH));
	ASSERT_EQ(0, kill(removes, SIGKILL));
	EXPECT_EQ(SIGKILL, status_of(removes));
	ASSERT_EQ(0, kill(flushes, SIGKILL));
	EXPECT_EQ(SIGKILL, status_of(flushes));

	/* It goes all the same. */
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_stats(self->fd).removed);
	ASSERT_EQ(0, thaw(&frozen));
	EXPECT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).released);
}

TEST_HARNESS_MAIN
