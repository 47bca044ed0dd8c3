/* SPDX-License-Identifier: GPL-2.0 */
/* Files that tell the kernel what to do. */

#ifndef _KNOB_H
#define _KNOB_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, text, strlen(text));
	close(fd);
	return written == (ssize_t)strlen(text) ? 0 : -EIO;
}

#endif /* _KNOB_H */
