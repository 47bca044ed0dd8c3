/* SPDX-License-Identifier: GPL-2.0 */
/* Allocations that fail, of a thread's own choice; see fault-injection.rst in the kernel's tree. */

#ifndef _FAIL_NTH_H
#define _FAIL_NTH_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "knob.h"

/* Opens this thread's file, and has what may sleep fail, too, and nothing be said of it. */
static inline int fail_nth_open(void)
{
	int file = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (file < 0)
		return -errno;
	if (write_file("/sys/kernel/debug/failslab/verbose", "0") ||
	    write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N")) {
		close(file);
		return -EIO;
	}
	return file;
}

/* Has the n-th allocation of this thread from now on fail, or none if n is 0. */
static inline int fail_nth(int file, int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", n);

	return pwrite(file, text, len, 0) == len ? 0 : -errno;
}

/* How many allocations there were still to come until one fails; 0 if one has. */
static inline int fail_nth_left(int file)
{
	char text[16] = "";

	return pread(file, text, sizeof(text) - 1, 0) > 0 ? atoi(text) : -errno;
}

#endif /* _FAIL_NTH_H */
