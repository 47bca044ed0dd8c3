// SPDX-License-Identifier: GPL-2.0
/* The modules stay for as long as they are needed. That they can go then is for run to see. */

#include <sys/syscall.h>

#include "mirror_fixture.h"

static int delete_module(const char *name)
{
	return syscall(SYS_delete_module, name, O_NONBLOCK) ? -errno : 0;
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

TEST_HARNESS_MAIN
