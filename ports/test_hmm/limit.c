// SPDX-License-Identifier: GPL-2.0

/*
 * kselftest_harness.h waits for a test in poll(), for 30 s in general, which is enough for a
 * machine that runs natively. What is linked with this waits for as long as anything here does
 * before it says that something hangs: $ODP_LIMIT seconds, see vm/limits.sh.
 */

#include <poll.h>
#include <stdlib.h>
#include <time.h>

/* In place of that of the C library. */
int poll(struct pollfd *fds, nfds_t count, int timeout)
{
	const char *seconds = getenv("ODP_LIMIT");
	int limit = seconds ? 1000 * atoi(seconds) : 0;
	struct timespec time;

	if (timeout > 0 && timeout < limit)
		timeout = limit;
	time.tv_sec = timeout / 1000;
	time.tv_nsec = timeout % 1000 * 1000000L;
	return ppoll(fds, count, timeout < 0 ? NULL : &time, NULL);
}
