// SPDX-License-Identifier: GPL-2.0
/* The modules stay for as long as they are needed. That they can go then is for run to see. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "mirror_fixture.h"

static int delete_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
}

static int load_module(const char *name)
{
	char path[256];
	int fd, ret;

	snprintf(path, sizeof(path), "%s/%s.ko", getenv("ODP_MODULES"), name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

/* Mirrors a lot, says so, gives it all up, and is gone, with the worker in the middle of it. */
static void come_and_go(int ready)
{
	const int pages = 64;
	size_t page = page_size();
	int fd = mirror_open();
	char *mem = map_pages(pages);
	int i;

	if (fd < 0 || !mem)
		_exit(1);
	for (i = 0; i < pages; i++)
		if (mirror_insert(fd, mem + i * page, page))
			_exit(1);
	if (write(ready, "", 1) != 1 || munmap(mem, pages * page))
		_exit(1);
	_exit(0);
}

TEST_F(mirror, not_while_a_file_is_open)
{
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(-EAGAIN, delete_module("odp_mirror"));
	EXPECT_EQ(-EAGAIN, delete_module("odp"));
	/* Nothing has happened to it. */
	EXPECT_EQ(0, mirror_write(self->fd, mem, 1));
}

TEST(not_while_it_is_used)
{
	/* No file is open, but the sample needs the library. */
	EXPECT_EQ(-EAGAIN, delete_module("odp"));
}

/* A driver really had this: its queue was destroyed while there was work for it. */
TEST(in_the_moment_it_is_possible)
{
	int round;

	for (round = 0; round < 5; round++) {
		long deadline = now_ms() + PATIENCE_MS;
		int ready[2], status, ret;
		pid_t child;
		char byte;

		ASSERT_EQ(0, pipe(ready));
		child = fork();
		ASSERT_LE(0, child);
		if (!child)
			come_and_go(ready[1]);
		close(ready[1]);
		ASSERT_EQ(1, read(ready[0], &byte, 1));
		close(ready[0]);
		do {
			ret = delete_module("odp_mirror");
		} while (ret == -EAGAIN && now_ms() < deadline);
		ASSERT_EQ(0, ret);
		ASSERT_EQ(0, delete_module("odp"));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(0, status);
		ASSERT_EQ(0, load_module("odp"));
		ASSERT_EQ(0, load_module("odp_mirror"));
	}
}

TEST_HARNESS_MAIN
