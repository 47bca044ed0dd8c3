/* SPDX-License-Identifier: GPL-2.0 */
/* Pages that are not there before the test gives them: a fault stands still until then. */

#ifndef _USERFAULT_H
#define _USERFAULT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror_device.h"

struct userfault {
	/* A userfaultfd, readable when somebody stands still. */
	int fd;
	char *mem;
	size_t len;
};

/* Maps pages that nobody has given yet, with nothing on either side. 0 or -errno. */
static inline int userfault_begin(struct userfault *fault, size_t pages)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int ret;

	fault->len = pages * page_size();
	fault->mem = map_pages(pages);
	if (!fault->mem || madvise(fault->mem, fault->len, MADV_DONTNEED))
		return -ENOMEM;
	fault->fd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fault->fd < 0)
		return -errno;
	range.range.start = (uintptr_t)fault->mem;
	range.range.len = fault->len;
	if (ioctl(fault->fd, UFFDIO_API, &api) || ioctl(fault->fd, UFFDIO_REGISTER, &range)) {
		ret = -errno;
		close(fault->fd);
		return ret;
	}
	return 0;
}

/* Waits until somebody stands still, once for each who does. 0 or -errno. */
static inline int userfault_wait(struct userfault *fault)
{
	struct pollfd wait = { .fd = fault->fd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&wait, 1, PATIENCE_MS) != 1)
		return -ETIMEDOUT;
	if (read(fault->fd, &msg, sizeof(msg)) != sizeof(msg))
		return -errno;
	return msg.event == UFFD_EVENT_PAGEFAULT ? 0 : -EPROTO;
}

/* Gives all pages, of zeroes: whoever stands still goes on. 0 or -errno. */
static inline int userfault_give(struct userfault *fault)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)fault->mem, .len = fault->len },
	};

	return ioctl(fault->fd, UFFDIO_ZEROPAGE, &zero) ? -errno : 0;
}

static inline int userfault_end(struct userfault *fault)
{
	int ret = munmap(fault->mem, fault->len);

	return close(fault->fd) || ret ? -errno : 0;
}

#endif /* _USERFAULT_H */
