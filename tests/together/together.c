// SPDX-License-Identifier: GPL-2.0
/*
 * Uses several drivers at once, in one process.
 *
 * usage: together ROUNDS DRIVER...
 *
 * The drivers are mirror, managed, retire and bench. Each has a thread, and a file that is opened and
 * closed in each round. In between, all of them mirror pages, which are then unmapped. Exits with 0 if
 * nobody was told of an error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../samples/managed/odp_managed_sample.h"
#include "../../samples/mirror/odp_mirror.h"
#include "../../samples/retire/odp_retire_sample.h"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
/* As many bytes and aligned to as many, because one of the drivers wants it so. */
#define WINDOW	((size_t)ODP_SAMPLE_WINDOW)
#define PAGE	((size_t)4096)

/* What bench/module/uapi.rs says of the benchmark's device. */
struct bench_region {
	uint64_t start;
	uint64_t range_size;
	uint32_t ranges;
	uint32_t stamped;
};
#define BENCH_CHOOSE	_IOW('o', 0, uint32_t)
#define BENCH_MIRROR	_IOW('o', 1, struct bench_region)
#define BENCH_SETTLE	_IOW('o', 4, uint32_t)
#define BENCH_RETIRE	2

static int use_mirror(int fd, char *mem)
{
	struct odp_mirror_range range = { (uintptr_t)mem, WINDOW };
	struct odp_mirror_fault fault = { .addr = (uintptr_t)mem, .flags = ODP_MIRROR_WRITE };

	return ioctl(fd, ODP_MIRROR_INSERT, &range) || ioctl(fd, ODP_MIRROR_FAULT, &fault);
}

static int use_managed(int fd, char *mem)
{
	struct odp_managed_span span = { (uintptr_t)mem, (uintptr_t)mem + WINDOW };
	struct odp_managed_read read = { .addr = (uintptr_t)mem };

	return ioctl(fd, ODP_MANAGED_INSERT, &span) || ioctl(fd, ODP_MANAGED_READ, &read);
}

static int use_retire(int fd, char *mem)
{
	uint64_t addr = (uintptr_t)mem;
	struct odp_sample_read read = { .addr = addr };

	return ioctl(fd, ODP_SAMPLE_MIRROR, &addr) || ioctl(fd, ODP_SAMPLE_READ, &read);
}

static int use_bench(int fd, char *mem)
{
	struct bench_region region = { (uintptr_t)mem, PAGE, WINDOW / PAGE, 0 };
	uint32_t arm = BENCH_RETIRE;

	return ioctl(fd, BENCH_CHOOSE, &arm) || ioctl(fd, BENCH_MIRROR, &region);
}

static int settle_mirror(int fd)
{
	uint64_t until = ODP_MIRROR_RELEASED;

	return ioctl(fd, ODP_MIRROR_FLUSH, &until);
}

static int settle_managed(int fd)
{
	return ioctl(fd, ODP_MANAGED_FLUSH);
}

static int settle_retire(int fd)
{
	return ioctl(fd, ODP_SAMPLE_FLUSH);
}

static int settle_bench(int fd)
{
	uint32_t nothing = 0;

	return ioctl(fd, BENCH_SETTLE, &nothing);
}

static const struct driver {
	const char *name;
	const char *device;
	/* Mirrors the window at an address, and accesses it. */
	int (*use)(int fd, char *mem);
	/* Waits until what was unmapped is gone. */
	int (*settle)(int fd);
} drivers[] = {
	{ "mirror", "/dev/odp_mirror", use_mirror, settle_mirror },
	{ "managed", "/dev/odp_managed_sample", use_managed, settle_managed },
	{ "retire", "/dev/odp_retire_sample", use_retire, settle_retire },
	{ "bench", "/dev/odp_bench", use_bench, settle_bench },
};

static int rounds;
static pthread_barrier_t in_step;
static char *window;
static atomic_int failures;

static void check(int failed, const struct driver *driver, const char *what)
{
	if (!failed)
		return;
	printf("# %s: %s: %s\n", driver->name, what, strerror(errno));
	atomic_fetch_add(&failures, 1);
}

/* Returns a window that nobody mirrors. */
static char *map_window(void)
{
	char *mem = mmap(NULL, 2 * WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);

	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return (char *)(((uintptr_t)mem + WINDOW - 1) & ~(WINDOW - 1));
}

static void *user(void *arg)
{
	const struct driver *driver = arg;
	int round, first, fd;

	for (round = 0; round < rounds; round++) {
		fd = open(driver->device, O_RDWR);
		check(fd < 0, driver, "open");

		/* One window that all drivers mirror, and that one of them unmaps. */
		first = pthread_barrier_wait(&in_step) == PTHREAD_BARRIER_SERIAL_THREAD;
		if (first)
			window = map_window();
		pthread_barrier_wait(&in_step);
		check(driver->use(fd, window), driver, "use");
		pthread_barrier_wait(&in_step);
		if (first)
			check(munmap(window, WINDOW), driver, "munmap");
		pthread_barrier_wait(&in_step);
		check(driver->settle(fd), driver, "settle");
		check(close(fd), driver, "close");
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[ARRAY_SIZE(drivers)];
	int i, j, n = argc - 2;

	if (n < 1 || n > (int)ARRAY_SIZE(drivers))
		return 2;
	rounds = atoi(argv[1]);
	pthread_barrier_init(&in_step, NULL, n);
	for (i = 0; i < n; i++) {
		for (j = 0; j < (int)ARRAY_SIZE(drivers); j++)
			if (!strcmp(argv[2 + i], drivers[j].name))
				break;
		if (j == ARRAY_SIZE(drivers) ||
		    pthread_create(&threads[i], NULL, user, (void *)&drivers[j]))
			return 2;
	}
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return failures != 0;
}
