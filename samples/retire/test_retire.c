// SPDX-License-Identifier: GPL-2.0

/*
 * Tests the retire level of the odp library through odp_retire_sample.ko.
 *
 * usage: test_retire [DIRECTORY]
 *
 * Loads odp.ko and odp_retire_sample.ko from the directory ($ODP_MODULES by default) unless they
 * are loaded, and unloads the latter. Writes KTAP; exits with 0 if everything passed.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odp_retire_sample.h"

#define DEVICE	"/dev/odp_retire_sample"
#define WINDOW	((size_t)ODP_SAMPLE_WINDOW)
#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))
#define VALUE	0x0123456789abcdefull

/* Counts of what went wrong in the test that is running; threads of a test may add to it. */
static atomic_int failures;

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

static int mirror(int fd, const void *at)
{
	uint64_t addr = (uintptr_t)at;

	return ioctl(fd, ODP_SAMPLE_MIRROR, &addr) ? errno : 0;
}

static int device_read(int fd, const void *at, uint64_t *value)
{
	struct odp_sample_read read = { .addr = (uintptr_t)at };

	if (ioctl(fd, ODP_SAMPLE_READ, &read))
		return errno;
	*value = read.value;
	return 0;
}

static void flush(int fd)
{
	EXPECT(ioctl(fd, ODP_SAMPLE_FLUSH) == 0);
}

static struct odp_sample_stats device_stats(int fd)
{
	struct odp_sample_stats stats = {};

	EXPECT(ioctl(fd, ODP_SAMPLE_STATS, &stats) == 0);
	return stats;
}

/* Maps @windows windows of zeroes, at @at or anywhere. */
static uint64_t *map(void *at, size_t windows)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0);
	size_t size = windows * WINDOW;
	uint8_t *start, *aligned;

	start = mmap(at, size + (at ? 0 : WINDOW), PROT_READ | PROT_WRITE, flags, -1, 0);
	REQUIRE(start != MAP_FAILED);
	if (at)
		return at;
	aligned = (uint8_t *)(((uintptr_t)start + WINDOW - 1) / WINDOW * WINDOW);
	if (aligned != start)
		REQUIRE(munmap(start, aligned - start) == 0);
	REQUIRE(munmap(aligned + size, start + WINDOW - aligned) == 0);
	return (uint64_t *)aligned;
}

static void unmap(void *at, size_t windows)
{
	EXPECT(munmap(at, windows * WINDOW) == 0);
}

static void test_map_mirror_unmap(void)
{
	uint64_t *at = map(NULL, 1), value = 0;
	struct odp_sample_stats stats;
	int fd = device_open();

	EXPECT(device_read(fd, at, &value) == ENOENT);
	EXPECT(mirror(fd, at) == 0);
	EXPECT(mirror(fd, at) == EEXIST);
	*at = VALUE;
	EXPECT(device_read(fd, at, &value) == 0 && value == VALUE);
	EXPECT(device_read(fd, (char *)at + 1, &value) == EINVAL);

	unmap(at, 1);
	/* From the moment that munmap() has returned, flushed or not. */
	EXPECT(device_read(fd, at, &value) == ENOENT);
	flush(fd);
	stats = device_stats(fd);
	EXPECT(stats.queued == 1);
	EXPECT(stats.removed == 1);
	EXPECT(stats.released == 1);

	/* The addresses can be used again. */
	map(at, 1);
	EXPECT(mirror(fd, at) == 0);
	EXPECT(device_read(fd, at, &value) == 0 && value == 0);
	unmap(at, 1);
	close(fd);
}

static void test_device_follows(void)
{
	uint64_t *at = map(NULL, 1), *other = at + WINDOW / sizeof(*at) / 2, value = 0;
	int fd = device_open();

	EXPECT(mirror(fd, at) == 0);
	/* First the zero page, then the page that a write puts in its place. */
	EXPECT(device_read(fd, at, &value) == 0 && value == 0);
	*at = VALUE;
	EXPECT(device_read(fd, at, &value) == 0 && value == VALUE);
	/* The page goes, the addresses stay: that is no reason to retire. */
	EXPECT(madvise(at, WINDOW, MADV_DONTNEED) == 0);
	EXPECT(device_read(fd, at, &value) == 0 && value == 0);
	EXPECT(device_stats(fd).queued == 0);
	/* What is unmapped in part is retired altogether. */
	*at = VALUE;
	EXPECT(munmap(other, sysconf(_SC_PAGESIZE)) == 0);
	EXPECT(device_read(fd, at, &value) == ENOENT);
	EXPECT(device_stats(fd).queued == 1);
	EXPECT(mirror(fd, at) == 0);
	EXPECT(device_read(fd, at, &value) == 0 && value == VALUE);
	EXPECT(device_read(fd, other, &value) == EFAULT);
	unmap(at, 1);
	close(fd);
}

static void test_many(void)
{
	enum { COUNT = 64 };
	uint64_t *at = map(NULL, COUNT), value = 0;
	struct odp_sample_stats stats;
	int fd = device_open(), i;

	for (i = 0; i < COUNT; i++) {
		uint64_t *window = at + i * (WINDOW / sizeof(*at));

		*window = VALUE + i;
		EXPECT(mirror(fd, window) == 0);
		EXPECT(device_read(fd, window, &value) == 0 && value == VALUE + i);
	}
	unmap(at, COUNT);
	flush(fd);
	stats = device_stats(fd);
	EXPECT(stats.queued == COUNT);
	EXPECT(stats.released == COUNT);
	close(fd);
}

static void test_close_while_mirrored(void)
{
	uint64_t *at = map(NULL, 4), value = 0;
	int fd = device_open();

	EXPECT(mirror(fd, at) == 0);
	EXPECT(device_read(fd, at, &value) == 0);
	close(fd);
	/* Nobody listens any more. */
	unmap(at, 4);
}

static void test_exit_while_mirrored(void)
{
	int answers[2], status, fd;
	uint64_t value = 0;
	pid_t child, heir;
	char answer = '?';

	REQUIRE(pipe(answers) == 0);
	fflush(stdout);
	child = fork();
	REQUIRE(child >= 0);
	if (child == 0) {
		uint64_t *at = map(NULL, 1);
		int parent_gone[2];

		fd = device_open();
		if (pipe(parent_gone) || mirror(fd, at) || device_read(fd, at, &value))
			_exit(1);
		heir = fork();
		if (heir > 0)
			_exit(0);
		/*
		 * The file, and with it the retirer, outlives the process whose memory it is about.
		 * Its memory goes before its files.
		 */
		close(parent_gone[1]);
		if (read(parent_gone[0], &answer, 1) == 0) {
			flush(fd);
			answer = device_read(fd, at, &value) == ENOENT &&
				 mirror(fd, at) == EPERM &&
				 device_stats(fd).released == 1 ? 'y' : 'n';
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

struct storm {
	int fd;
	uint64_t *at;
	atomic_bool stop;
	atomic_ulong found, gone;
};

static void *storm_reader(void *arg)
{
	struct storm *storm = arg;
	uint64_t value = 0;

	while (!atomic_load(&storm->stop)) {
		switch (device_read(storm->fd, storm->at, &value)) {
		case 0:
			/* What has been there since before it was mirrored, or nothing yet. */
			if (value != VALUE)
				fail(__FILE__, __LINE__, "read %llx", (unsigned long long)value);
			atomic_fetch_add(&storm->found, 1);
			break;
		case ENOENT:
		case EFAULT:
			atomic_fetch_add(&storm->gone, 1);
			break;
		default:
			fail(__FILE__, __LINE__, "read");
		}
	}
	return NULL;
}

static void *storm_mirrorer(void *arg)
{
	struct storm *storm = arg;

	while (!atomic_load(&storm->stop)) {
		int error = mirror(storm->fd, storm->at);

		if (error && error != EEXIST)
			fail(__FILE__, __LINE__, "mirror");
	}
	return NULL;
}

/* Several threads use and mirror a window while another one unmaps and maps it again. */
static void test_storm(void)
{
	enum { READERS = 3, ROUNDS = 200 };
	struct storm storm = { .fd = device_open(), .at = map(NULL, 1) };
	uint64_t *fresh = map(NULL, 1), *spare;
	pthread_t readers[READERS], mirrorer;
	struct odp_sample_stats stats;
	int i;

	storm.at[0] = VALUE;
	for (i = 0; i < READERS; i++)
		REQUIRE(pthread_create(&readers[i], NULL, storm_reader, &storm) == 0);
	REQUIRE(pthread_create(&mirrorer, NULL, storm_mirrorer, &storm) == 0);
	for (i = 0; i < ROUNDS; i++) {
		while (mirror(storm.fd, storm.at) == 0)
			;
		unmap(storm.at, 1);
		if (i % 4 == 0)
			flush(storm.fd);
		/* Moved there complete, so that nobody can read anything else. */
		fresh[0] = VALUE;
		spare = mremap(fresh, WINDOW, WINDOW, MREMAP_MAYMOVE | MREMAP_FIXED, storm.at);
		REQUIRE(spare == storm.at);
		map(fresh, 1);
	}
	atomic_store(&storm.stop, true);
	for (i = 0; i < READERS; i++)
		pthread_join(readers[i], NULL);
	pthread_join(mirrorer, NULL);
	unmap(storm.at, 1);
	unmap(fresh, 1);
	flush(storm.fd);
	stats = device_stats(storm.fd);
	printf("# found %lu, gone %lu, retired %llu\n", storm.found, storm.gone,
	       (unsigned long long)stats.queued);
	EXPECT(stats.queued >= ROUNDS);
	EXPECT(stats.removed == stats.queued);
	EXPECT(stats.released == stats.queued);
	EXPECT(storm.gone > 0);
	close(storm.fd);
}

static void test_unload(void)
{
	int fd = device_open();

	/* An open file keeps it loaded. */
	EXPECT(syscall(SYS_delete_module, "odp_retire_sample", O_NONBLOCK) == -1);
	EXPECT(errno == EWOULDBLOCK);
	close(fd);
	EXPECT(syscall(SYS_delete_module, "odp_retire_sample", O_NONBLOCK) == 0);
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

static void set_parameter(const char *name, unsigned long value)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/module/odp_retire_sample/parameters/%s", name);
	file = fopen(path, "w");
	REQUIRE(file);
	EXPECT(fprintf(file, "%lu\n", value) > 0);
	EXPECT(fclose(file) == 0);
}

static void test_config(void)
{
	uint64_t *at = map(NULL, 1);
	int fd;

	/* More than there may be; and nothing at all, where zero stands for the default. */
	set_parameter("wakeup_delay_us", 100001);
	EXPECT(open(DEVICE, O_RDWR) == -1 && errno == EINVAL);
	set_parameter("wakeup_delay_us", -1U);
	set_parameter("expedited", 1);
	fd = device_open();
	EXPECT(mirror(fd, at) == 0);
	EXPECT(munmap(at, WINDOW) == 0);
	flush(fd);
	EXPECT(device_stats(fd).released == 1);
	close(fd);
	set_parameter("wakeup_delay_us", 0);
	set_parameter("expedited", 0);
}

#define GROUP	"/sys/fs/cgroup/odp-retire/"

static void set_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	REQUIRE(file);
	EXPECT(fputs(text, file) >= 0);
	EXPECT(fclose(file) == 0);
}

/* More windows than the memory cgroup below has memory for, by some times. */
#define TOO_MANY	1000000

/* Who mirrors without end comes to the limit of its memory cgroup, and the machine does not. */
static void test_charged(void)
{
	unsigned long kills = 0;
	char line[64];
	FILE *events;
	int status;
	pid_t pid;

	set_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	REQUIRE(mkdir(GROUP, 0755) == 0);
	set_file(GROUP "memory.max", "33554432");
	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0);
	if (!pid) {
		uintptr_t at;
		int fd;

		set_file(GROUP "cgroup.procs", "0");
		fd = device_open();
		/* Nothing has to be mapped there. */
		for (at = 1; at <= TOO_MANY; at++)
			if (mirror(fd, (void *)(at * WINDOW)) == ENOMEM)
				_exit(0);
		_exit(1);
	}
	REQUIRE(waitpid(pid, &status, 0) == pid);
	events = fopen(GROUP "memory.events", "r");
	REQUIRE(events);
	while (fgets(line, sizeof(line), events))
		sscanf(line, "oom_kill %lu", &kills);
	fclose(events);
	/* It was refused one, or the cgroup has killed it. */
	EXPECT(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : kills > 0);
	EXPECT(rmdir(GROUP) == 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "map_mirror_unmap", test_map_mirror_unmap },
	{ "device_follows", test_device_follows },
	{ "many", test_many },
	{ "close_while_mirrored", test_close_while_mirrored },
	{ "exit_while_mirrored", test_exit_while_mirrored },
	{ "storm", test_storm },
	{ "config", test_config },
	{ "charged", test_charged },
	{ "unload", test_unload },
};

int main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : getenv("ODP_MODULES");
	size_t count = ARRAY_SIZE(tests), i;
	int failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..%zu\n", count);
	load(directory ? directory : ".", "odp");
	load(directory ? directory : ".", "odp_retire_sample");
	for (i = 0; i < count; i++) {
		atomic_store(&failures, 0);
		tests[i].run();
		failed += failures > 0;
		printf("%s %zu %s\n", failures ? "not ok" : "ok", i + 1, tests[i].name);
	}
	return failed ? 1 : 0;
}
