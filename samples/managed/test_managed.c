// SPDX-License-Identifier: GPL-2.0

/*
 * Tests the C interface of the managed level of the odp library through odp_managed_sample.ko.
 *
 * usage: test_managed [DIRECTORY]
 *
 * ODP_RACES in the environment is how often insertions race unmaps, 320 by default.
 *
 * Loads odp.ko and odp_managed_sample.ko from the directory ($ODP_MODULES by default) unless they
 * are loaded, and unloads the latter. Writes KTAP; exits with 0 if everything passed.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odp_managed_sample.h"

#define DEVICE	"/dev/odp_managed_sample"
#define PARAMETERS	"/sys/module/odp_managed_sample/parameters/"
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

/* Counts of what went wrong in the test that is running; threads of a test may add to it. */
static atomic_int failures;
static size_t page;

static void fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("# %s:%d: ", file, line);
	vprintf(format, args);
	printf(" (errno %d, %s)\n", errno, strerror(errno));
	va_end(args);
	atomic_fetch_add(&failures, 1);
}

#define EXPECT(condition)						\
	do {								\
		if (!(condition))					\
			fail(__FILE__, __LINE__, "%s", #condition);	\
	} while (0)

#define EXPECT_EQ(a, b)							\
	do {								\
		long long is = (a), want = (b);				\
									\
		if (is != want)						\
			fail(__FILE__, __LINE__, "%s is %lld, not %lld", #a, is, want); \
	} while (0)

/* Without these, nothing that follows means anything. */
#define REQUIRE(condition)						\
	do {								\
		if (!(condition)) {					\
			fail(__FILE__, __LINE__, "%s", #condition);	\
			exit(1);					\
		}							\
	} while (0)

static int device_open(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	REQUIRE(fd >= 0);
	return fd;
}

/* The functions that stand for ioctls return 0 or what errno says. */

static int with_span(int fd, unsigned long command, const char *at, size_t first, size_t count)
{
	struct odp_managed_span span = {
		.start = (uintptr_t)at + first * page,
		.end = (uintptr_t)at + (first + count) * page,
	};

	return ioctl(fd, command, &span) ? errno : 0;
}

static int insert(int fd, const char *at, size_t count)
{
	return with_span(fd, ODP_MANAGED_INSERT, at, 0, count);
}

static int punch(int fd, const char *at, size_t first, size_t count)
{
	return with_span(fd, ODP_MANAGED_PUNCH, at, first, count);
}

static int resize(int fd, const char *at, size_t first, size_t count)
{
	return with_span(fd, ODP_MANAGED_RESIZE, at, first, count);
}

static int without(int fd, unsigned long command)
{
	return ioctl(fd, command) ? errno : 0;
}

static int device_read(int fd, const char *at, size_t number, uint64_t *value)
{
	struct odp_managed_read read = { .addr = (uintptr_t)at + number * page };

	if (ioctl(fd, ODP_MANAGED_READ, &read))
		return errno;
	*value = read.value;
	return 0;
}

static struct odp_managed_stats device_stats(int fd)
{
	struct odp_managed_stats stats = {};

	EXPECT(ioctl(fd, ODP_MANAGED_STATS, &stats) == 0);
	return stats;
}

/* Goes through the ranges of which any part lies in a span, in bytes. */
static struct odp_managed_count ranges(int fd, const char *at, size_t first, size_t behind)
{
	struct odp_managed_count count = {
		.start = (uintptr_t)at + first,
		.end = (uintptr_t)at + behind,
	};

	EXPECT(ioctl(fd, ODP_MANAGED_COUNT, &count) == 0);
	return count;
}

static void flush(int fd)
{
	EXPECT_EQ(without(fd, ODP_MANAGED_FLUSH), 0);
}

static void stall(int fd, uint64_t places)
{
	EXPECT(ioctl(fd, ODP_MANAGED_STALL, &places) == 0);
}

static bool wait_until_stalled(int fd)
{
	int left = 10000;

	while (!device_stats(fd).stalled && --left)
		usleep(1000);
	return left;
}

/* Holds the range that a page is mirrored by, and says whether it is this one, in pages. */
static bool hold(int fd, const char *at, size_t number, size_t first, size_t count)
{
	struct odp_managed_span span = { .start = (uintptr_t)at + number * page };

	if (ioctl(fd, ODP_MANAGED_HOLD, &span))
		return false;
	return span.start == (uintptr_t)at + first * page &&
	       span.end == (uintptr_t)at + (first + count) * page;
}

static bool mirrored(int fd, const char *at, size_t number)
{
	struct odp_managed_span span = { .start = (uintptr_t)at + number * page };

	return !ioctl(fd, ODP_MANAGED_HOLD, &span);
}

/* Ends the hold, by asking for what there is none of. */
static void put(int fd)
{
	EXPECT(!mirrored(fd, NULL, 0));
}

/*
 * Has the worker wait, with a range of @other, one page, that it is taking out of service: what is
 * asked for from now on is pending until stall(fd, 0).
 */
static void keep_worker_busy(int fd, const char *other)
{
	EXPECT_EQ(insert(fd, other, 1), 0);
	EXPECT(hold(fd, other, 0, 0, 1));
	stall(fd, ODP_MANAGED_IN_WORKER);
	EXPECT_EQ(without(fd, ODP_MANAGED_RETIRE), 0);
	EXPECT(wait_until_stalled(fd));
	put(fd);
}

static uint64_t *word(char *at, size_t number)
{
	return (uint64_t *)(at + number * page);
}

#define VALUE(number)	(0x0123456789abcd00ull + (number))

/* Maps pages at a multiple of @align pages, each beginning with its VALUE(). */
static char *map_aligned(size_t count, size_t align)
{
	size_t room = (count + align) * page, i;
	uintptr_t start, aligned;
	char *at;

	at = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	REQUIRE(at != MAP_FAILED);
	start = (uintptr_t)at;
	aligned = (start + align * page - 1) / (align * page) * (align * page);
	at += aligned - start;
	if (aligned != start)
		REQUIRE(munmap((char *)start, aligned - start) == 0);
	REQUIRE(munmap(at + count * page, start + room - aligned - count * page) == 0);
	for (i = 0; i < count; i++)
		*word(at, i) = VALUE(i);
	return at;
}

static char *map(size_t count)
{
	return map_aligned(count, 1);
}

static void unmap(char *at, size_t first, size_t count)
{
	EXPECT(munmap(at + first * page, count * page) == 0);
}

/* Puts a page in the place of another one, or of nothing, in one step. */
static void move_page(char *from, char *at, size_t number)
{
	char *to = at + number * page;

	REQUIRE(mremap(from, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
}

/* Has the device read pages, which fills its page table. */
static void expect_values(int fd, const char *at, size_t first, size_t count)
{
	uint64_t value;
	size_t i;

	for (i = first; i < first + count; i++) {
		value = 0;
		EXPECT_EQ(device_read(fd, at, i, &value), 0);
		EXPECT_EQ(value, VALUE(i));
	}
}

static void expect_gone(int fd, const char *at, size_t number)
{
	uint64_t value;

	EXPECT_EQ(device_read(fd, at, number, &value), ENOENT);
}

/* A file that mirrors @count pages, all of which the device has. */
static int device_with(char *at, size_t count)
{
	int fd = device_open();

	EXPECT_EQ(insert(fd, at, count), 0);
	expect_values(fd, at, 0, count);
	EXPECT_EQ(device_stats(fd).installed, count);
	return fd;
}

static void test_whole(void)
{
	struct odp_managed_stats stats;
	char *at = map(4);
	uint64_t value;
	int fd;

	fd = device_with(at, 4);
	EXPECT_EQ(insert(fd, at, 4), EEXIST);
	EXPECT_EQ(insert(fd, at + 1, 4), EINVAL);
	EXPECT_EQ(insert(fd, at, 0), EINVAL);
	EXPECT_EQ(device_stats(fd).mirrored, 4 * page);

	unmap(at, 0, 4);
	/* From the moment that munmap() has returned, flushed or not. */
	EXPECT_EQ(device_stats(fd).installed, 0);
	EXPECT(device_read(fd, at, 0, &value) != 0);
	flush(fd);
	expect_gone(fd, at, 0);
	stats = device_stats(fd);
	EXPECT_EQ(stats.changes, 1);
	EXPECT_EQ(stats.replaced, 0);
	EXPECT_EQ(stats.released, 1);
	EXPECT_EQ(stats.mirrored, 0);
	close(fd);
}

static void test_hole(void)
{
	struct odp_managed_stats stats;
	char *at = map(5), *fresh;
	uint64_t value;
	int fd;

	fd = device_with(at, 5);
	unmap(at, 2, 1);
	EXPECT(device_read(fd, at, 2, &value) != 0);
	flush(fd);
	expect_gone(fd, at, 2);
	stats = device_stats(fd);
	EXPECT_EQ(stats.changes, 1);
	EXPECT_EQ(stats.replaced, 1);
	EXPECT_EQ(stats.pieces, 2);
	EXPECT_EQ(stats.released, 1);
	EXPECT_EQ(stats.mirrored, 4 * page);
	/* What lives has not been touched. */
	EXPECT_EQ(stats.installed, 4);
	EXPECT(hold(fd, at, 1, 0, 2));
	EXPECT(hold(fd, at, 3, 3, 2));
	put(fd);
	expect_values(fd, at, 0, 2);
	expect_values(fd, at, 3, 2);

	/* Whole ranges, of which any byte is in the span. */
	EXPECT_EQ(ranges(fd, at, 0, 5 * page).ranges, 2);
	EXPECT_EQ(ranges(fd, at, 0, 5 * page).mirrored, 4 * page);
	EXPECT_EQ(ranges(fd, at, 2 * page - 1, 3 * page + 1).ranges, 2);
	EXPECT_EQ(ranges(fd, at, 2 * page - 1, 3 * page + 1).mirrored, 4 * page);
	EXPECT_EQ(ranges(fd, at, 2 * page - 1, 3 * page).mirrored, 2 * page);
	EXPECT_EQ(ranges(fd, at, 2 * page, 3 * page).ranges, 0);
	EXPECT_EQ(ranges(fd, at, 5 * page, 0).ranges, 0);
	EXPECT_EQ(ranges(fd, NULL, 0, -1ul).ranges, 2);

	/* The hole can be mirrored by a range of its own. */
	fresh = map(1);
	*word(fresh, 0) = VALUE(2);
	move_page(fresh, at, 2);
	EXPECT_EQ(insert(fd, at + 2 * page, 1), 0);
	expect_values(fd, at, 0, 5);
	EXPECT_EQ(ranges(fd, at, 0, 5 * page).ranges, 3);
	/* Three ranges hear of what happens to all of them. */
	EXPECT(madvise(at, 5 * page, MADV_DONTNEED) == 0);
	EXPECT_EQ(device_stats(fd).installed, 0);
	unmap(at, 0, 5);
	flush(fd);
	EXPECT_EQ(device_stats(fd).mirrored, 0);
	close(fd);
}

static void test_both_ends(void)
{
	char *at = map(5);
	int fd;

	fd = device_with(at, 5);
	unmap(at, 0, 1);
	unmap(at, 4, 1);
	flush(fd);
	expect_gone(fd, at, 0);
	expect_gone(fd, at, 4);
	EXPECT(hold(fd, at, 2, 1, 3));
	EXPECT_EQ(device_stats(fd).installed, 3);
	EXPECT_EQ(punch(fd, at, 0, 1), EINVAL);
	put(fd);
	flush(fd);
	EXPECT_EQ(device_stats(fd).mirrored, 3 * page);
	expect_values(fd, at, 1, 3);
	close(fd);
	unmap(at, 1, 3);
}

static void test_bad_input(void)
{
	char *at = map(4);
	int fd;

	fd = device_with(at, 4);
	EXPECT_EQ(punch(fd, at, 0, 1), EBADF);
	EXPECT(hold(fd, at, 0, 0, 4));
	/* Empty, inverted, not of whole pages, and beyond either end. */
	EXPECT_EQ(punch(fd, at, 1, 0), EINVAL);
	EXPECT_EQ(resize(fd, at, 1, 0), EINVAL);
	EXPECT_EQ(punch(fd, at, 2, -1), EINVAL);
	EXPECT_EQ(resize(fd, at, 2, -1), EINVAL);
	EXPECT_EQ(punch(fd, at + 8, 1, 1), EINVAL);
	EXPECT_EQ(resize(fd, at + 8, 1, 1), EINVAL);
	EXPECT_EQ(punch(fd, at - page, 0, 2), EINVAL);
	EXPECT_EQ(resize(fd, at - page, 0, 2), EINVAL);
	EXPECT_EQ(punch(fd, at, 3, 2), EINVAL);
	EXPECT_EQ(resize(fd, at, 3, 2), EINVAL);
	EXPECT_EQ(resize(fd, at, 0, 5), EINVAL);
	flush(fd);
	EXPECT_EQ(device_stats(fd).changes, 0);
	EXPECT(hold(fd, at, 0, 0, 4));

	/* What is still mapped is not punched. */
	EXPECT_EQ(punch(fd, at, 1, 2), 0);
	flush(fd);
	EXPECT(hold(fd, at, 0, 0, 4));
	EXPECT_EQ(device_stats(fd).unchanged, 1);
	EXPECT_EQ(device_stats(fd).installed, 4);
	close(fd);
	unmap(at, 0, 4);
}

static void test_resize(void)
{
	char *at = map(6), *other = map(1);
	int fd;

	fd = device_with(at, 6);
	keep_worker_busy(fd, other);
	EXPECT(hold(fd, at, 0, 0, 6));
	EXPECT_EQ(resize(fd, at, 0, 5), 0);
	EXPECT_EQ(resize(fd, at, 1, 5), 0);
	/* It is in service as it was until it is replaced. */
	expect_values(fd, at, 0, 6);
	stall(fd, 0);
	flush(fd);
	/* Though it is mapped. */
	expect_gone(fd, at, 0);
	expect_gone(fd, at, 5);
	EXPECT_EQ(device_stats(fd).installed, 4);
	EXPECT(hold(fd, at, 1, 1, 4));
	put(fd);
	flush(fd);
	EXPECT_EQ(device_stats(fd).mirrored, 4 * page);
	expect_values(fd, at, 1, 4);

	EXPECT(hold(fd, at, 1, 1, 4));
	EXPECT_EQ(without(fd, ODP_MANAGED_REMOVE), 0);
	EXPECT_EQ(device_stats(fd).installed, 0);
	expect_gone(fd, at, 1);

	/* Nothing in common is nothing left. */
	EXPECT_EQ(insert(fd, at, 6), 0);
	keep_worker_busy(fd, other);
	EXPECT(hold(fd, at, 0, 0, 6));
	EXPECT_EQ(resize(fd, at, 0, 2), 0);
	EXPECT_EQ(resize(fd, at, 2, 2), 0);
	put(fd);
	stall(fd, 0);
	flush(fd);
	expect_gone(fd, at, 0);
	expect_gone(fd, at, 2);
	EXPECT_EQ(device_stats(fd).mirrored, 0);
	close(fd);
	unmap(at, 0, 6);
	unmap(other, 0, 1);
}

static void test_replaced_is_stale(void)
{
	char *at = map(3);
	int fd;

	fd = device_with(at, 3);
	EXPECT(hold(fd, at, 0, 0, 3));
	unmap(at, 1, 1);
	flush(fd);
	/* The hold is of what is not there any more. */
	EXPECT_EQ(without(fd, ODP_MANAGED_RETIRE), ESTALE);
	EXPECT_EQ(punch(fd, at, 0, 1), ESTALE);
	EXPECT_EQ(resize(fd, at, 0, 1), ESTALE);
	EXPECT_EQ(punch(fd, at, 0, 4), EINVAL);
	EXPECT_EQ(device_stats(fd).released, 0);
	EXPECT_EQ(without(fd, ODP_MANAGED_REMOVE), ESTALE);
	EXPECT_EQ(without(fd, ODP_MANAGED_REMOVE), EBADF);
	flush(fd);
	EXPECT_EQ(device_stats(fd).released, 1);
	/* The pieces stay as they are. */
	EXPECT_EQ(device_stats(fd).installed, 2);
	expect_values(fd, at, 0, 1);
	expect_values(fd, at, 2, 1);

	EXPECT(hold(fd, at, 0, 0, 1));
	EXPECT_EQ(without(fd, ODP_MANAGED_RETIRE), 0);
	EXPECT_EQ(without(fd, ODP_MANAGED_RETIRE), EALREADY);
	EXPECT_EQ(punch(fd, at, 0, 1), ESTALE);
	EXPECT_EQ(without(fd, ODP_MANAGED_REMOVE), 0);
	expect_gone(fd, at, 0);
	expect_values(fd, at, 2, 1);
	close(fd);
	unmap(at, 0, 1);
	unmap(at, 2, 1);
}

struct fault {
	int fd, error;
	char *at;
	uint64_t value;
};

static void *fault_thread(void *arg)
{
	struct fault *fault = arg;

	fault->error = device_read(fault->fd, fault->at, 1, &fault->value);
	return NULL;
}

static void test_fault_collides(void)
{
	struct fault fault = { .fd = device_open(), .at = map(3) };
	struct odp_managed_stats stats;
	char *fresh = map(1);
	pthread_t thread;

	*word(fresh, 0) = VALUE(100);
	EXPECT_EQ(insert(fault.fd, fault.at, 3), 0);
	stall(fault.fd, ODP_MANAGED_IN_FAULT);
	REQUIRE(pthread_create(&thread, NULL, fault_thread, &fault) == 0);
	EXPECT(wait_until_stalled(fault.fd));
	/* HMM has found the old page by now. */
	move_page(fresh, fault.at, 1);
	stall(fault.fd, 0);
	pthread_join(thread, NULL);
	EXPECT_EQ(fault.error, 0);
	EXPECT_EQ(fault.value, VALUE(100));
	EXPECT_EQ(device_stats(fault.fd).collided, 1);

	/* The old page was unmapped, but the address is in use again: nothing to be done. */
	flush(fault.fd);
	stats = device_stats(fault.fd);
	EXPECT_EQ(stats.changes, 1);
	EXPECT_EQ(stats.unchanged, 1);
	EXPECT_EQ(stats.replaced, 0);
	EXPECT_EQ(stats.mirrored, 3 * page);
	close(fault.fd);
	unmap(fault.at, 0, 3);
}

static void test_fault_finds_range_gone(void)
{
	struct fault fault = { .fd = device_open(), .at = map(3) };
	pthread_t thread;

	EXPECT_EQ(insert(fault.fd, fault.at, 3), 0);
	stall(fault.fd, ODP_MANAGED_IN_FAULT);
	REQUIRE(pthread_create(&thread, NULL, fault_thread, &fault) == 0);
	EXPECT(wait_until_stalled(fault.fd));
	/* The range that the fault holds is replaced by a smaller one. */
	unmap(fault.at, 2, 1);
	EXPECT(mirrored(fault.fd, fault.at, 0));
	flush(fault.fd);
	EXPECT(hold(fault.fd, fault.at, 1, 0, 2));
	stall(fault.fd, 0);
	pthread_join(thread, NULL);
	/* It has looked again. */
	EXPECT_EQ(fault.error, 0);
	EXPECT_EQ(fault.value, VALUE(1));
	EXPECT_EQ(device_stats(fault.fd).installed, 1);
	EXPECT_EQ(device_stats(fault.fd).replaced, 1);
	close(fault.fd);
	unmap(fault.at, 0, 2);
}

static void set_parameter(const char *name, unsigned long value)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	file = fopen(path, "w");
	REQUIRE(file);
	EXPECT(fprintf(file, "%lu\n", value) > 0);
	EXPECT(fclose(file) == 0);
}

static void test_config(void)
{
	char *at;
	int fd;

	set_parameter("grain", page / 2);
	EXPECT(open(DEVICE, O_RDWR) == -1 && errno == EINVAL);
	set_parameter("grain", 3 * page);
	EXPECT(open(DEVICE, O_RDWR) == -1 && errno == EINVAL);

	set_parameter("grain", 4 * page);
	at = map_aligned(16, 4);
	fd = device_with(at, 16);
	/* Less than there is a grain of. */
	unmap(at, 5, 1);
	flush(fd);
	EXPECT_EQ(device_stats(fd).unchanged, 1);
	EXPECT(hold(fd, at, 4, 0, 16));
	put(fd);
	/* And more: the page of the next grain stays covered. */
	unmap(at, 4, 5);
	flush(fd);
	EXPECT(hold(fd, at, 3, 0, 4));
	EXPECT(hold(fd, at, 9, 8, 8));
	expect_gone(fd, at, 5);
	close(fd);
	unmap(at, 0, 4);
	unmap(at, 9, 7);
	set_parameter("grain", 0);

	set_parameter("max_ranges", 1);
	at = map(4);
	fd = device_with(at, 1);
	EXPECT_EQ(insert(fd, at + 2 * page, 1), ENOSPC);
	close(fd);
	unmap(at, 0, 4);
	set_parameter("max_ranges", 0);

	/* More than there may be; and nothing at all, where zero stands for the default. */
	set_parameter("wakeup_delay_us", 100001);
	EXPECT(open(DEVICE, O_RDWR) == -1 && errno == EINVAL);
	set_parameter("wakeup_delay_us", -1U);
	set_parameter("expedited", 1);
	at = map(4);
	fd = device_with(at, 4);
	unmap(at, 0, 4);
	flush(fd);
	expect_gone(fd, at, 0);
	close(fd);
	set_parameter("wakeup_delay_us", 0);
	set_parameter("expedited", 0);
}

/* A process exits while the worker, which is to punch a hole into one of its ranges, is busy. */
static void test_exit_with_pending_punch(void)
{
	int answers[2], status, fd;
	char answer = '?';
	pid_t child, heir;

	REQUIRE(pipe(answers) == 0);
	fflush(stdout);
	child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		char *other = map(1), *at = map(5);
		struct odp_managed_stats stats;
		int parent_gone[2];

		fd = device_with(at, 5);
		keep_worker_busy(fd, other);
		unmap(at, 2, 1);
		EXPECT_EQ(device_stats(fd).changes, 1);
		if (pipe(parent_gone) || failures)
			_exit(1);

		heir = fork();
		if (heir > 0)
			_exit(0);
		/* The file outlives the process, whose memory goes before its files. */
		close(parent_gone[1]);
		if (read(parent_gone[0], &answer, 1) == 0) {
			expect_gone(fd, at, 0);
			EXPECT_EQ(insert(fd, at, 1), ESRCH);
			stall(fd, 0);
			flush(fd);
			stats = device_stats(fd);
			EXPECT_EQ(stats.replaced, 0);
			EXPECT_EQ(stats.released, 2);
			EXPECT_EQ(stats.mirrored, 0);
			EXPECT_EQ(stats.installed, 0);
			answer = failures ? 'n' : 'y';
		}
		if (write(answers[1], &answer, 1) != 1)
			_exit(1);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && status == 0);
	close(answers[1]);
	EXPECT(read(answers[0], &answer, 1) == 1 && answer == 'y');
	close(answers[0]);
}

/* What a process that is about to be killed and its parent both see. */
struct victim {
	int stalls;
	int other;
	atomic_bool ready;
};

/* Sleeps in an invalidation of one device, and has another one mirror its memory. */
static void be_a_victim(struct victim *victim, bool other_sleeps)
{
	char *at, *mem;

	set_parameter("zap_sleeps", 1);
	at = map(2);
	victim->stalls = device_with(at, 2);
	set_parameter("zap_sleeps", other_sleeps);
	mem = map(2);
	/* A mapping of its own, for each is taken or left as a whole. */
	EXPECT(madvise(mem, 2 * page, MADV_DONTFORK) == 0);
	victim->other = device_with(mem, 2);
	set_parameter("zap_sleeps", 0);
	stall(victim->stalls, ODP_MANAGED_IN_ZAP);
	atomic_store(&victim->ready, !failures);
	unmap(at, 0, 1);
	_exit(1);
}

/*
 * process_mrelease() takes a dying process's pages, and does not sleep for that: its invalidations
 * may not block, and a device that has to be waited for refuses them.
 */
static void expect_release_of_memory(bool other_sleeps)
{
	struct victim *victim;
	int pidfd, stalls, other, status;
	pid_t child;

	victim = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	REQUIRE(victim != MAP_FAILED);
	fflush(stdout);
	child = fork();
	REQUIRE(child >= 0);
	if (child == 0)
		be_a_victim(victim, other_sleeps);
	pidfd = syscall(SYS_pidfd_open, child, 0);
	REQUIRE(pidfd >= 0);
	while (!atomic_load(&victim->ready) && waitpid(child, &status, WNOHANG) == 0)
		usleep(1000);
	REQUIRE(atomic_load(&victim->ready));
	stalls = syscall(SYS_pidfd_getfd, pidfd, victim->stalls, 0);
	other = syscall(SYS_pidfd_getfd, pidfd, victim->other, 0);
	REQUIRE(stalls >= 0 && other >= 0);
	EXPECT(wait_until_stalled(stalls));
	EXPECT(kill(child, SIGKILL) == 0);

	/* Memory of the first one stays in any case: the lock of that is taken. */
	EXPECT(syscall(SYS_process_mrelease, pidfd, 0) == -1 && errno == EAGAIN);
	EXPECT_EQ(device_stats(other).installed, other_sleeps ? 2 : 0);

	stall(stalls, 0);
	EXPECT(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	EXPECT_EQ(device_stats(other).installed, 0);
	close(stalls);
	close(other);
	close(pidfd);
	munmap(victim, page);
}

static void test_refusal(void)
{
	expect_release_of_memory(false);
	expect_release_of_memory(true);
}

static void test_close_with_pending_punch(void)
{
	char *other = map(1), *at = map(3);
	int fd;

	fd = device_with(at, 3);
	keep_worker_busy(fd, other);
	unmap(at, 1, 1);
	EXPECT_EQ(device_stats(fd).changes, 1);
	EXPECT(mirrored(fd, at, 0));
	stall(fd, 0);
	close(fd);
	unmap(at, 0, 1);
	unmap(at, 2, 1);
	unmap(other, 0, 1);
}

enum { STORM_PAGES = 8 };

struct storm {
	int fd;
	char *at;
	atomic_bool stop;
	atomic_ulong found, gone;
};

static void *storm_reader(void *arg)
{
	struct storm *storm = arg;
	uint64_t value = 0;
	size_t i;

	for (i = 0; !atomic_load(&storm->stop); i = (i + 1) % STORM_PAGES) {
		switch (device_read(storm->fd, storm->at, i, &value)) {
		case 0:
			if (value != VALUE(i))
				fail(__FILE__, __LINE__, "page %zu: %llx", i,
				     (unsigned long long)value);
			atomic_fetch_add(&storm->found, 1);
			break;
		case ENOENT:
		case EFAULT:
			atomic_fetch_add(&storm->gone, 1);
			break;
		case EBUSY:
			break;
		default:
			fail(__FILE__, __LINE__, "read");
		}
	}
	return NULL;
}

static void storm_insert(struct storm *storm, size_t number)
{
	int error = insert(storm->fd, storm->at + number * page, 1);

	/* Part of a range that has not been replaced. */
	EXPECT(!error || error == EEXIST);
}

/* Mirrors all of it by one range again, of which there may be several. */
static void storm_heal(struct storm *storm)
{
	size_t i;

	for (i = 0; i < STORM_PAGES; i++) {
		if (mirrored(storm->fd, storm->at, i)) {
			int error = without(storm->fd, ODP_MANAGED_REMOVE);

			EXPECT(!error || error == ESTALE);
			/* It had a hole by then. */
			if (error)
				i--;
		}
	}
	EXPECT_EQ(insert(storm->fd, storm->at, STORM_PAGES), 0);
}

/* Holes come and go while several threads use the device. */
static void test_storm(void)
{
	enum { READERS = 3, ROUNDS = 96 };
	struct storm storm = { .at = map(STORM_PAGES) };
	struct odp_managed_stats stats;
	pthread_t readers[READERS];
	unsigned int seed = 1;
	char *fresh;
	size_t i;
	int r;

	storm.fd = device_with(storm.at, STORM_PAGES);
	for (r = 0; r < READERS; r++)
		REQUIRE(pthread_create(&readers[r], NULL, storm_reader, &storm) == 0);
	for (r = 0; r < ROUNDS; r++) {
		i = rand_r(&seed) % STORM_PAGES;
		unmap(storm.at, i, 1);
		if (r % 2)
			flush(storm.fd);
		/* Moved there complete, so that nobody can read anything else. */
		fresh = map(1);
		*word(fresh, 0) = VALUE(i);
		move_page(fresh, storm.at, i);
		storm_insert(&storm, i);
		if (r % 8 == 7)
			storm_heal(&storm);
	}
	atomic_store(&storm.stop, true);
	for (r = 0; r < READERS; r++)
		pthread_join(readers[r], NULL);
	flush(storm.fd);
	/* What the range has been replaced without since is not mirrored. */
	for (i = 0; i < STORM_PAGES; i++)
		storm_insert(&storm, i);
	expect_values(storm.fd, storm.at, 0, STORM_PAGES);
	EXPECT_EQ(device_stats(storm.fd).mirrored, STORM_PAGES * page);

	unmap(storm.at, 0, STORM_PAGES);
	flush(storm.fd);
	stats = device_stats(storm.fd);
	printf("# found %lu, gone %lu, collided %llu, replaced %llu by %llu, unchanged %llu\n",
	       storm.found, storm.gone, (unsigned long long)stats.collided,
	       (unsigned long long)stats.replaced, (unsigned long long)stats.pieces,
	       (unsigned long long)stats.unchanged);
	EXPECT(stats.replaced > ROUNDS / 8);
	EXPECT(storm.found > 0);
	EXPECT_EQ(stats.mirrored, 0);
	EXPECT_EQ(stats.installed, 0);
	close(storm.fd);
}

enum { RACE_PAGES = 4, DISTURBED_PAGES = 64 };

/* Ranges are inserted and unmapped at the same time, while something else is invalidated. */
struct race {
	int fd;
	pthread_barrier_t begin, end;
	/* NULL if there is no more to be inserted. */
	char *at;
	int error;
	char *disturbed;
	atomic_bool stop;
};

static void *race_inserter(void *arg)
{
	struct race *race = arg;

	for (;;) {
		pthread_barrier_wait(&race->begin);
		if (!race->at)
			return NULL;
		race->error = insert(race->fd, race->at, RACE_PAGES);
		pthread_barrier_wait(&race->end);
	}
}

/* Drops pages that are mirrored, enough of them that it takes a while. */
static void *race_disturber(void *arg)
{
	struct race *race = arg;

	while (!atomic_load(&race->stop)) {
		memset(race->disturbed, 1, DISTURBED_PAGES * page);
		EXPECT(madvise(race->disturbed, DISTURBED_PAGES * page, MADV_DONTNEED) == 0);
	}
	return NULL;
}

static void test_insertions_race_unmaps(void)
{
	const char *option = getenv("ODP_RACES");
	int races = option ? atoi(option) : 320, i;
	struct race race = { .fd = device_open(), .disturbed = map(DISTURBED_PAGES) };
	pthread_t inserter, disturber;
	unsigned int seed = 1;

	EXPECT_EQ(insert(race.fd, race.disturbed, DISTURBED_PAGES), 0);
	race.at = map(RACE_PAGES);
	pthread_barrier_init(&race.begin, NULL, 2);
	pthread_barrier_init(&race.end, NULL, 2);
	REQUIRE(pthread_create(&inserter, NULL, race_inserter, &race) == 0);
	REQUIRE(pthread_create(&disturber, NULL, race_disturber, &race) == 0);
	for (i = 0; i < races && !failures; i++) {
		/* From one end or from the other, and the rest is not to be left either. */
		size_t part = 1 + rand_r(&seed) % RACE_PAGES;
		size_t first = rand_r(&seed) % 2 ? 0 : RACE_PAGES - part;
		unsigned int spin = rand_r(&seed) % 20000;

		pthread_barrier_wait(&race.begin);
		while (spin--)
			atomic_signal_fence(memory_order_seq_cst);
		unmap(race.at, first, part);
		pthread_barrier_wait(&race.end);
		EXPECT_EQ(race.error, 0);
		/* No page twice: the event of that would make up for one that was lost. */
		if (part < RACE_PAGES)
			unmap(race.at, first ? 0 : part, RACE_PAGES - part);
		flush(race.fd);
		EXPECT_EQ(device_stats(race.fd).mirrored, DISTURBED_PAGES * page);
		race.at = map(RACE_PAGES);
	}
	printf("# %d races\n", i);
	unmap(race.at, 0, RACE_PAGES);
	race.at = NULL;
	pthread_barrier_wait(&race.begin);
	pthread_join(inserter, NULL);
	atomic_store(&race.stop, true);
	pthread_join(disturber, NULL);
	unmap(race.disturbed, 0, DISTURBED_PAGES);
	flush(race.fd);
	EXPECT_EQ(device_stats(race.fd).mirrored, 0);
	close(race.fd);
}

static void test_unload(void)
{
	int fd = device_open();

	/* An open file keeps it loaded. */
	EXPECT(syscall(SYS_delete_module, "odp_managed_sample", O_NONBLOCK) == -1);
	EXPECT(errno == EWOULDBLOCK);
	close(fd);
	EXPECT(syscall(SYS_delete_module, "odp_managed_sample", O_NONBLOCK) == 0);
}

static void load(const char *directory, const char *name)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "/sys/module/%s", name);
	if (access(path, F_OK) == 0)
		return;
	snprintf(path, sizeof(path), "%s/%s.ko", directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)) {
		printf("Bail out! %s: %s\n", path, strerror(errno));
		exit(1);
	}
	close(fd);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "whole", test_whole },
	{ "hole", test_hole },
	{ "both_ends", test_both_ends },
	{ "bad_input", test_bad_input },
	{ "resize", test_resize },
	{ "replaced_is_stale", test_replaced_is_stale },
	{ "fault_collides", test_fault_collides },
	{ "fault_finds_range_gone", test_fault_finds_range_gone },
	{ "config", test_config },
	{ "exit_with_pending_punch", test_exit_with_pending_punch },
	{ "close_with_pending_punch", test_close_with_pending_punch },
	{ "refusal", test_refusal },
	{ "storm", test_storm },
	{ "insertions_race_unmaps", test_insertions_race_unmaps },
	{ "unload", test_unload },
};

int main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : getenv("ODP_MODULES");
	size_t count = ARRAY_SIZE(tests), i;
	int failed = 0;

	page = sysconf(_SC_PAGESIZE);
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..%zu\n", count);
	load(directory ? directory : ".", "odp");
	load(directory ? directory : ".", "odp_managed_sample");
	for (i = 0; i < count; i++) {
		atomic_store(&failures, 0);
		tests[i].run();
		failed += failures > 0;
		printf("%s %zu %s\n", failures ? "not ok" : "ok", i + 1, tests[i].name);
	}
	return failed ? 1 : 0;
}
