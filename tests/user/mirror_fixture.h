/* SPDX-License-Identifier: GPL-2.0 */
/* For tests that begin with an open file of the sample device. */

#ifndef _MIRROR_FIXTURE_H
#define _MIRROR_FIXTURE_H

#include "mirror_device.h"

/* A file of the device that mirrors the test's own process. */
FIXTURE(mirror)
{
	int fd;
	size_t page;
};

FIXTURE_SETUP(mirror)
{
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	self->page = page_size();
}

FIXTURE_TEARDOWN(mirror)
{
	EXPECT_EQ(0, close(self->fd));
}

#endif /* _MIRROR_FIXTURE_H */
