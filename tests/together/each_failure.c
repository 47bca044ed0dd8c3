// SPDX-License-Identifier: GPL-2.0
/*
 * Has each allocation of the slab allocator fail that a system call on a device of the library
 * makes, one after the other. What the worker allocates is for tests/user/failing.c, and pages are
 * for tests/user/allocation.c.
 *
 * usage: each_failure DRIVER...
 *
 * The drivers are mirror, managed and retire, which must be loaded. What is done with each is a row
 * of steps, of which one is made to fail in every way that it can. It must say ENOMEM, or do
 * without that memory. Then it is done once more, without a failure, and so are all that follow.
 * What is not freed kmemleak finds when the guest ends. Exits with 0 if all went as it should.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../samples/managed/odp_managed_sample.h"
#include "../../samples/mirror/odp_mirror.h"
#include "../../samples/retire/odp_retire_sample.h"
#include "../user/fail_nth.h"
#include "../user/memory.h"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
/*
 * What is mirrored, in bytes: some pages, whatever their size, and aligned as one of the drivers
 * wants.
 */
#define LENGTH	(16 * (size_t)ODP_SAMPLE_WINDOW)

/* More than any step allocates. */
#define MOST 200
/*
 * How often a step is gone through until an allocation fails that it cannot do without. The kernel
 * allocates for itself as well, and not always as much: if there is only one such allocation, it
 * may be the n-th each time when another is to fail.
 */
#define ROUNDS 16
/* More queues than the library keeps. */
#define SPARE 8

/* What is in a page. */
#define CONTENT 0x0123456789abcdefull

/* A file of a device, or -1, and the memory that it mirrors. */
struct use {
	const char *device;
	int fd;
	char *mem;
};

static int failures;
static size_t page;

static void complain(const struct use *use, const char *step, int n, const char *what, int ret)
{
	printf("# %s: %s, failure %d: %s (%s)\n", use->device, step, n, what, strerror(ret));
	failures++;
}

/* The steps return 0 or what errno says. */

static int to_errno(int ret)
{
	return ret < 0 ? errno : 0;
}

static int step_open(struct use *use)
{
	use->fd = open(use->device, O_RDWR | O_CLOEXEC);
	return to_errno(use->fd);
}

static int mirror_insert(struct use *use)
{
	struct odp_mirror_range range = { (uintptr_t)use->mem, LENGTH };

	return to_errno(ioctl(use->fd, ODP_MIRROR_INSERT, &range));
}

static int mirror_read(struct use *use)
{
	struct odp_mirror_access access = { .addr = (uintptr_t)use->mem };
	int ret = to_errno(ioctl(use->fd, ODP_MIRROR_ACCESS, &access));

	return ret ?: access.value == CONTENT ? 0 : EIO;
}

static int mirror_flush(struct use *use)
{
	uint64_t until = ODP_MIRROR_RELEASED;

	return to_errno(ioctl(use->fd, ODP_MIRROR_FLUSH, &until));
}

static int managed_span(struct use *use, unsigned long command, size_t from, size_t to)
{
	struct odp_managed_span span = { (uintptr_t)use->mem + from, (uintptr_t)use->mem + to };

	return to_errno(ioctl(use->fd, command, &span));
}

static int managed_insert(struct use *use)
{
	return managed_span(use, ODP_MANAGED_INSERT, 0, LENGTH);
}

static int managed_read(struct use *use)
{
	struct odp_managed_read read = { .addr = (uintptr_t)use->mem };
	int ret = to_errno(ioctl(use->fd, ODP_MANAGED_READ, &read));

	return ret ?: read.value == CONTENT ? 0 : EIO;
}

static int managed_hold(struct use *use)
{
	return managed_span(use, ODP_MANAGED_HOLD, 0, 0);
}

static int managed_punch(struct use *use)
{
	return managed_span(use, ODP_MANAGED_PUNCH, page, 2 * page);
}

static int managed_resize(struct use *use)
{
	return managed_span(use, ODP_MANAGED_RESIZE, 0, LENGTH / 2);
}

static int managed_remove(struct use *use)
{
	return to_errno(ioctl(use->fd, ODP_MANAGED_REMOVE));
}

static int managed_flush(struct use *use)
{
	return to_errno(ioctl(use->fd, ODP_MANAGED_FLUSH));
}

static int retire_mirror(struct use *use)
{
	uint64_t addr = (uintptr_t)use->mem;

	return to_errno(ioctl(use->fd, ODP_SAMPLE_MIRROR, &addr));
}

static int retire_read(struct use *use)
{
	struct odp_sample_read read = { .addr = (uintptr_t)use->mem };
	int ret = to_errno(ioctl(use->fd, ODP_SAMPLE_READ, &read));

	return ret ?: read.value == CONTENT ? 0 : EIO;
}

static int retire_flush(struct use *use)
{
	return to_errno(ioctl(use->fd, ODP_SAMPLE_FLUSH));
}

struct step {
	const char *name;
	int (*take)(struct use *use);
	/* Whether it allocates for certain, so that a failure must show. */
	bool allocates;
};

static const struct driver {
	const char *name, *device;
	struct step steps[10];
} drivers[] = {
	{ "mirror", "/dev/odp_mirror", {
		{ "open", step_open, true },
		{ "insert", mirror_insert, true },
		{ "read", mirror_read, true },
		{ "flush", mirror_flush, false },
	} },
	{ "managed", "/dev/odp_managed_sample", {
		{ "open", step_open, true },
		{ "insert", managed_insert, true },
		/* An xarray tries twice. */
		{ "read", managed_read, false },
		{ "hold", managed_hold, false },
		{ "punch", managed_punch, false },
		{ "resize", managed_resize, false },
		{ "flush", managed_flush, false },
		/* Others have taken the place of the range. */
		{ "hold", managed_hold, false },
		{ "remove", managed_remove, false },
		{ "flush", managed_flush, false },
	} },
	{ "retire", "/dev/odp_retire_sample", {
		{ "open", step_open, true },
		{ "mirror", retire_mirror, true },
		{ "read", retire_read, false },
		{ "flush", retire_flush, false },
	} },
};

/* Memory with content, so that what a device reads takes none of the process's. */
static char *map_memory(void)
{
	char *mem = mmap(NULL, 2 * LENGTH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);
	char *aligned = (char *)(((uintptr_t)mem + LENGTH - 1) & ~(LENGTH - 1));

	if (mem == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	/* What lies before it and behind it is not needed. */
	if (aligned > mem)
		munmap(mem, aligned - mem);
	munmap(aligned + LENGTH, mem + LENGTH - aligned);
	for (size_t i = 0; i < LENGTH; i += sizeof(uint64_t))
		poke(aligned + i, CONTENT);
	return aligned;
}

/*
 * The library keeps some queues of processes that have ended. A child that has a file open uses up
 * one, so that the next process has to make its own. It is there until it is killed.
 */
static pid_t use_up_a_queue(const char *device)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready)) {
		perror("pipe");
		exit(1);
	}
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (open(device, O_RDWR) < 0 || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	if (pid < 0 || read(ready[0], &byte, 1) != 1) {
		printf("# %s: a child cannot open it\n", device);
		exit(1);
	}
	close(ready[0]);
	return pid;
}

/* All steps of a driver, of which the one with a number has its n-th allocation fail. */
static bool try_failure(const struct driver *driver, size_t which, int n, int file, bool *failed)
{
	struct use use = { .device = driver->device, .fd = -1, .mem = map_memory() };
	const struct step *step = driver->steps;
	bool more = false;
	int ret, left;

	for (size_t i = 0; i < ARRAY_SIZE(driver->steps) && step->name; i++, step++) {
		if (i != which) {
			ret = step->take(&use);
			if (ret)
				complain(&use, step->name, n, "not done beside a failure", ret);
			continue;
		}
		if (fail_nth(file, n))
			exit(1);
		ret = step->take(&use);
		left = fail_nth_left(file);
		more = !left;
		if (left < 0 || fail_nth(file, 0))
			exit(1);
		if (!ret)
			continue;
		*failed = true;
		if (!more || ret != ENOMEM)
			complain(&use, step->name, n, "not what a failure may come to", ret);
		ret = step->take(&use);
		if (ret)
			complain(&use, step->name, n, "not done the next time", ret);
	}
	if (munmap(use.mem, LENGTH))
		complain(&use, "munmap", n, "not done", errno);
	if (close(use.fd))
		complain(&use, "the end", n, "not done", errno);
	return more;
}

/* Goes through a step once, and says whether an allocation has failed that it cannot do without. */
static bool try_round(const struct driver *driver, size_t which, int file)
{
	const struct step *step = &driver->steps[which];
	bool failed = false, more = true;
	pid_t children[SPARE + MOST];
	int n = 0, used_up = 0;

	while (!which && used_up < SPARE)
		children[used_up++] = use_up_a_queue(driver->device);
	while (more && n < MOST) {
		more = try_failure(driver, which, ++n, file, &failed);
		if (!which)
			children[used_up++] = use_up_a_queue(driver->device);
	}
	while (used_up) {
		kill(children[--used_up], SIGKILL);
		waitpid(children[used_up], NULL, 0);
	}
	printf("# %s: %s: %d allocations\n", driver->name, step->name, n - 1);
	if (more) {
		printf("# %s: %s: there is no end to it\n", driver->name, step->name);
		failures++;
	}
	return failed;
}

static void try_step(const struct driver *driver, size_t which, int file)
{
	const struct step *step = &driver->steps[which];
	bool failed = false;

	for (int round = 0; round < ROUNDS && !failed && (!round || step->allocates); round++)
		failed = try_round(driver, which, file);
	if (step->allocates && !failed) {
		printf("# %s: %s: nothing failed\n", driver->name, step->name);
		failures++;
	}
}

int main(int argc, char **argv)
{
	int file = fail_nth_open();

	if (file < 0) {
		printf("# no allocation can be made to fail: %s\n", strerror(-file));
		return 1;
	}
	if (argc < 2)
		return 2;
	page = sysconf(_SC_PAGESIZE);
	for (int arg = 1; arg < argc; arg++) {
		const struct driver *driver = drivers;

		while (driver < drivers + ARRAY_SIZE(drivers) && strcmp(driver->name, argv[arg]))
			driver++;
		if (driver == drivers + ARRAY_SIZE(drivers))
			return 2;
		for (size_t i = 0; i < ARRAY_SIZE(driver->steps) && driver->steps[i].name; i++)
			try_step(driver, i, file);
	}
	return failures != 0;
}
