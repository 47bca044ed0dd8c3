// SPDX-License-Identifier: GPL-2.0
/* The process ends while its ranges change. */

#include <signal.h>
#include <sys/syscall.h>

#include "mirror_shape.h"

#define PAGES 6
#define HOLE (2 * page_size())

/* How far the change is when the process is killed; each returns once it is that far. */
static int asked_for(int fd)
{
	char *mem = shape_begin(fd, PAGES);

	if (!mem || shape_hold_worker(fd))
		return -EINVAL;
	return munmap(mem + HOLE, page_size());
}

static int half_done(int fd)
{
	static struct sleeper frozen;
	char *mem = shape_begin(fd, PAGES);
	int ret = mem ? freeze(&frozen, fd) : -ENOMEM;

	if (ret || munmap(mem + HOLE, page_size()))
		return -EINVAL;
	return mirror_poll(fd, ranges, 4) ? 0 : -ETIMEDOUT;
}

static int about_to_leave(int fd)
{
	char *mem = shape_begin(fd, PAGES);

	/* The old range is the first that the worker takes out of service. */
	if (!mem || mirror_hold_worker(fd, 1) || munmap(mem + HOLE, page_size()))
		return -EINVAL;
	return mirror_wait(fd, ODP_MIRROR_IN_WORKER, 1);
}

static int done(int fd)
{
	char *mem = shape_begin(fd, PAGES);

	if (!mem || munmap(mem + HOLE, page_size()))
		return -EINVAL;
	return mirror_flush(fd, ODP_MIRROR_REMOVED);
}

FIXTURE(end)
{
	int fd;
	pid_t child;
};

FIXTURE_VARIANT(end)
{
	int (*begin)(int fd);
};

FIXTURE_VARIANT_ADD(end, asked_for) { .begin = asked_for };
FIXTURE_VARIANT_ADD(end, half_done) { .begin = half_done };
FIXTURE_VARIANT_ADD(end, about_to_leave) { .begin = about_to_leave };
FIXTURE_VARIANT_ADD(end, done) { .begin = done };

FIXTURE_SETUP(end)
{
	int ready[2], pidfd, theirs = -1;

	ASSERT_EQ(0, pipe(ready));
	self->child = fork();
	ASSERT_LE(0, self->child);
	if (!self->child) {
		int fd = mirror_open();

		if (fd < 0 || variant->begin(fd) || write(ready[1], &fd, sizeof(fd)) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	ASSERT_EQ(sizeof(theirs), read(ready[0], &theirs, sizeof(theirs)));
	close(ready[0]);
	pidfd = syscall(SYS_pidfd_open, self->child, 0);
	ASSERT_LE(0, pidfd);
	self->fd = syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	ASSERT_LE(0, self->fd);
	close(pidfd);
}

FIXTURE_TEARDOWN(end)
{
	EXPECT_EQ(0, close(self->fd));
}

TEST_F(end, nothing_is_left)
{
	struct odp_mirror_stats stats;
	int status;

	ASSERT_EQ(0, kill(self->child, SIGKILL));
	ASSERT_EQ(self->child, waitpid(self->child, &status, 0));
	/* Where it is the worker that waits for us. */
	ASSERT_EQ(0, mirror_release_worker(self->fd));
	EXPECT_EQ(0, shape_ranges(self->fd));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(stats.inserted, stats.released);
	EXPECT_EQ(stats.told, stats.released);
	EXPECT_EQ(stats.told, stats.told_by_worker);
}

TEST_HARNESS_MAIN
