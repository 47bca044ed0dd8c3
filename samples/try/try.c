// SPDX-License-Identifier: GPL-2.0
/*
 * Shows what the library does, with the driver of samples/managed: a device that mirrors memory of
 * this process, what munmap() takes from it, and what becomes of the mirrored range.
 */

#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../managed/odp_managed_sample.h"

#define PAGES 8

static int device;
static size_t page;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

/* Says what the device has of @at, after a heading. */
static void say(const char *at, const char *format, ...)
{
	struct odp_managed_count count = {
		.start = (uintptr_t)at,
		.end = (uintptr_t)at + PAGES * page,
	};
	struct odp_managed_stats stats;
	va_list arguments;

	if (ioctl(device, ODP_MANAGED_COUNT, &count))
		fail("ODP_MANAGED_COUNT");
	if (ioctl(device, ODP_MANAGED_STATS, &stats))
		fail("ODP_MANAGED_STATS");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf(": in service %llu ranges, %llu pages; the device reaches %llu\n",
	       (unsigned long long)count.ranges, (unsigned long long)(count.mirrored / page),
	       (unsigned long long)stats.installed);
}

static void unmap(char *at, size_t first, size_t count)
{
	double before = now_us();

	if (munmap(at + first * page, count * page))
		fail("munmap");
	say(at, "munmap() of pages %zu..%zu, %.0f us", first, first + count, now_us() - before);
}

/* Waits for what the callback has asked for. */
static void flush(const char *at)
{
	double before = now_us();

	if (ioctl(device, ODP_MANAGED_FLUSH))
		fail("ODP_MANAGED_FLUSH");
	say(at, "  and the worker, %.0f us later", now_us() - before);
}

int main(void)
{
	struct odp_managed_span span;
	struct odp_managed_read word;
	struct odp_managed_stats stats;
	size_t i;
	char *at;

	page = sysconf(_SC_PAGESIZE);
	device = open("/dev/odp_managed_sample", O_RDWR);
	if (device < 0)
		fail("/dev/odp_managed_sample");
	at = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		fail("mmap");

	span.start = (uintptr_t)at;
	span.end = span.start + PAGES * page;
	if (ioctl(device, ODP_MANAGED_INSERT, &span))
		fail("ODP_MANAGED_INSERT");
	for (i = 0; i < PAGES; i++) {
		*(uint64_t *)(at + i * page) = i;
		word.addr = span.start + i * page;
		if (ioctl(device, ODP_MANAGED_READ, &word))
			fail("ODP_MANAGED_READ");
		if (word.value != i) {
			fprintf(stderr, "the device reads %llu, not %zu\n",
				(unsigned long long)word.value, i);
			return 1;
		}
	}
	say(at, "a device mirrors pages 0..%d and has read each", PAGES);

	unmap(at, 3, 1);
	flush(at);
	unmap(at, 0, 3);
	flush(at);
	unmap(at, 4, PAGES - 4);
	flush(at);

	if (ioctl(device, ODP_MANAGED_STATS, &stats))
		fail("ODP_MANAGED_STATS");
	printf("in all, %llu ranges were released, and %llu bytes are mirrored\n",
	       (unsigned long long)stats.released, (unsigned long long)stats.mirrored);
	return stats.mirrored ? 1 : 0;
}
