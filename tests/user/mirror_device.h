/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of the sample device have in common: its ioctls as functions,
 * memory to mirror, and an invalidation that is kept open.
 *
 * The functions return what their ioctl returned, or -errno.
 */

#ifndef _MIRROR_DEVICE_H
#define _MIRROR_DEVICE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../samples/mirror/odp_mirror.h"

#include "kselftest_harness.h"

#define MIRROR_DEVICE "/dev/odp_mirror"

/* After how many seconds a test hangs: see vm/limits.sh. */
static inline int limit_seconds(void)
{
	const char *limit = getenv("ODP_LIMIT");

	return limit ? atoi(limit) : 300;
}

/* How long something is waited for: half of that, and no longer than the device does. */
static inline long patience_ms(void)
{
	long patience = limit_seconds() * 500L;

	return patience < ODP_MIRROR_LONGEST_MS ? patience : ODP_MIRROR_LONGEST_MS;
}

#define PATIENCE_MS patience_ms()

/* The harness would have the same limit on any machine. Runs after the tests have been registered. */
static void __attribute__((constructor)) mirror_limit_tests(void)
{
	for (struct __fixture_metadata *f = __fixture_list; f; f = f->next)
		for (struct __test_metadata *t = f->tests; t; t = t->next)
			if (t->timeout < limit_seconds())
				t->timeout = limit_seconds();
}

static inline int mirror_ioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

static inline int mirror_ioctl_u64(int fd, unsigned long cmd, uint64_t value)
{
	return mirror_ioctl(fd, cmd, &value);
}

static inline int mirror_open(void)
{
	int fd = open(MIRROR_DEVICE, O_RDWR);

	return fd < 0 ? -errno : fd;
}

static inline int mirror_configure(int fd, uint64_t retire, uint64_t flags)
{
	struct odp_mirror_config config = { .retire = retire, .flags = flags };

	return mirror_ioctl(fd, ODP_MIRROR_CONFIGURE, &config);
}

static inline int mirror_insert_at(int fd, uint64_t start, uint64_t len)
{
	struct odp_mirror_range range = { .start = start, .len = len };

	return mirror_ioctl(fd, ODP_MIRROR_INSERT, &range);
}

static inline int mirror_insert(int fd, const void *start, size_t len)
{
	return mirror_insert_at(fd, (uintptr_t)start, len);
}

static inline int mirror_retire(int fd, const void *addr)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_RETIRE, (uintptr_t)addr);
}

static inline int mirror_remove(int fd, const void *addr)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_REMOVE, (uintptr_t)addr);
}

/* The device reads a byte: returned as the result. */
static inline int mirror_read(int fd, const void *addr)
{
	struct odp_mirror_fault fault = { .addr = (uintptr_t)addr };
	int ret = mirror_ioctl(fd, ODP_MIRROR_FAULT, &fault);

	return ret < 0 ? ret : (int)fault.value;
}

static inline int mirror_write(int fd, const void *addr, uint8_t value)
{
	struct odp_mirror_fault fault = {
		.addr = (uintptr_t)addr,
		.flags = ODP_MIRROR_WRITE,
		.value = value,
	};

	return mirror_ioctl(fd, ODP_MIRROR_FAULT, &fault);
}

/* The device loads or stores an aligned word. Returns how many faults that took. */
static inline int mirror_access(int fd, const void *addr, uint64_t flags, uint64_t *value)
{
	struct odp_mirror_access access = {
		.addr = (uintptr_t)addr,
		.flags = flags,
		.value = *value,
	};
	int ret = mirror_ioctl(fd, ODP_MIRROR_ACCESS, &access);

	*value = access.value;
	return ret < 0 ? ret : (int)access.faults;
}

static inline int mirror_load(int fd, const void *addr, uint64_t *value)
{
	*value = 0;
	return mirror_access(fd, addr, 0, value);
}

static inline int mirror_store(int fd, const void *addr, uint64_t value)
{
	return mirror_access(fd, addr, ODP_MIRROR_WRITE, &value);
}

/* The same with what the device has a page for already. */
static inline int mirror_load_cached(int fd, const void *addr, uint64_t *value)
{
	*value = 0;
	return mirror_access(fd, addr, ODP_MIRROR_CACHED, value);
}

static inline int mirror_store_cached(int fd, const void *addr, uint64_t value)
{
	return mirror_access(fd, addr, ODP_MIRROR_WRITE | ODP_MIRROR_CACHED, &value);
}

/* Keeps only a part of the range at an address, or says that a part of it is unmapped. */
static inline int mirror_change(int fd, unsigned long cmd, const void *addr, const void *start,
				size_t len)
{
	struct odp_mirror_part part = {
		.addr = (uintptr_t)addr,
		.start = (uintptr_t)start,
		.len = len,
	};

	return mirror_ioctl(fd, cmd, &part);
}

static inline int mirror_resize(int fd, const void *addr, const void *start, size_t len)
{
	return mirror_change(fd, ODP_MIRROR_RESIZE, addr, start, len);
}

static inline int mirror_grow(int fd, const void *addr, const void *start, size_t len)
{
	return mirror_change(fd, ODP_MIRROR_GROW, addr, start, len);
}

static inline int mirror_punch(int fd, const void *addr, const void *start, size_t len)
{
	return mirror_change(fd, ODP_MIRROR_PUNCH, addr, start, len);
}

/* Lists the pages that the device has in @len bytes at @start; returns how many were listed. */
static inline int mirror_pages(int fd, const void *start, size_t len,
			       struct odp_mirror_page *pages, size_t room)
{
	struct odp_mirror_pages list = {
		.start = (uintptr_t)start,
		.end = (uintptr_t)start + len,
		.pages = (uintptr_t)pages,
		.count = room,
	};
	int ret = mirror_ioctl(fd, ODP_MIRROR_PAGES, &list);

	return ret < 0 ? ret : (int)list.count;
}

/* Has the worker wait with the next ranges that it takes out of service. */
static inline int mirror_hold_worker(int fd, uint64_t ranges)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_HOLD_WORKER, ranges);
}

static inline int mirror_release_worker(int fd)
{
	return mirror_ioctl(fd, ODP_MIRROR_RELEASE_WORKER, NULL);
}

/* What the device can do: a combination of MIRRORED, PRESENT and WRITABLE. */
static inline int mirror_probe(int fd, const void *addr)
{
	struct odp_mirror_probe probe = { .addr = (uintptr_t)addr };
	int ret = mirror_ioctl(fd, ODP_MIRROR_PROBE, &probe);

	return ret < 0 ? ret : (int)probe.flags;
}

/* The length of the range that is in service at an address, 0 if none is. */
static inline long mirror_range_length(int fd, const void *addr)
{
	struct odp_mirror_probe probe = { .addr = (uintptr_t)addr };
	int ret = mirror_ioctl(fd, ODP_MIRROR_PROBE, &probe);

	return ret < 0 ? ret : (long)probe.len;
}

static inline int mirror_hold(int fd, const void *addr, uint64_t *id)
{
	struct odp_mirror_hold hold = { .addr = (uintptr_t)addr };
	int ret = mirror_ioctl(fd, ODP_MIRROR_HOLD, &hold);

	*id = hold.id;
	return ret;
}

static inline int mirror_put(int fd, uint64_t id)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_PUT, id);
}

static inline int mirror_begin(int fd, const void *addr, uint64_t *id)
{
	struct odp_mirror_hold hold = { .addr = (uintptr_t)addr };
	int ret = mirror_ioctl(fd, ODP_MIRROR_BEGIN, &hold);

	*id = hold.id;
	return ret;
}

static inline int mirror_commit(int fd, uint64_t id)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_COMMIT, id);
}

static inline int mirror_drain(int fd)
{
	return mirror_ioctl(fd, ODP_MIRROR_DRAIN, NULL);
}

static inline int mirror_flush(int fd, enum odp_mirror_until until)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_FLUSH, until);
}

static inline int mirror_shutdown(int fd)
{
	return mirror_ioctl(fd, ODP_MIRROR_SHUTDOWN, NULL);
}

/* All ones if it fails, which no test expects. */
static inline struct odp_mirror_stats mirror_stats(int fd)
{
	struct odp_mirror_stats stats;

	if (mirror_ioctl(fd, ODP_MIRROR_STATS, &stats))
		memset(&stats, 0xff, sizeof(stats));
	return stats;
}

static inline int mirror_stall(int fd, uint64_t callbacks)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_STALL, callbacks);
}

static inline int mirror_unstall(int fd)
{
	return mirror_ioctl(fd, ODP_MIRROR_UNSTALL, NULL);
}

static inline int mirror_park(int fd, const void *addr, enum odp_mirror_place place)
{
	struct odp_mirror_park park = { .addr = (uintptr_t)addr, .place = place };

	return mirror_ioctl(fd, ODP_MIRROR_PARK, &park);
}

static inline int mirror_unpark(int fd, enum odp_mirror_place place)
{
	return mirror_ioctl_u64(fd, ODP_MIRROR_UNPARK, place);
}

static inline int mirror_wait(int fd, enum odp_mirror_place place, uint64_t tasks)
{
	struct odp_mirror_wait wait = {
		.place = place,
		.tasks = tasks,
		.timeout_ms = PATIENCE_MS,
	};

	return mirror_ioctl(fd, ODP_MIRROR_WAIT, &wait);
}

static inline long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

/*
 * Looks at a counter, a member of struct odp_mirror_stats, until it has reached a value: for what
 * happens in the worker and cannot be waited for otherwise.
 */
#define mirror_poll(fd, counter, value) \
	mirror_poll_at(fd, offsetof(struct odp_mirror_stats, counter), value)

static inline bool mirror_poll_at(int fd, size_t counter, uint64_t value)
{
	long deadline = now_ms() + PATIENCE_MS;

	for (;;) {
		struct odp_mirror_stats stats = mirror_stats(fd);

		if (*(uint64_t *)((char *)&stats + counter) >= value)
			return true;
		if (now_ms() >= deadline)
			return false;
		sched_yield();
	}
}

/* Waits until a thread sleeps in a function of the kernel, so many milliseconds. */
static inline int wait_asleep_in_for(pid_t tid, const char *function, long patience_ms)
{
	long deadline = now_ms() + patience_ms;
	char path[64], name[128];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/wchan", tid);
	for (;;) {
		fd = open(path, O_RDONLY);
		if (fd < 0)
			return -errno;
		got = read(fd, name, sizeof(name) - 1);
		close(fd);
		if (got < 0)
			return -errno;
		name[got] = '\0';
		if (strstr(name, function))
			return 0;
		if (now_ms() >= deadline)
			return -ETIMEDOUT;
		sched_yield();
	}
}

static inline int wait_asleep_in(pid_t tid, const char *function)
{
	return wait_asleep_in_for(tid, function, PATIENCE_MS);
}

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/*
 * Maps that many pages, which have content, and nothing on either side, so that no other mapping
 * is merged with them. NULL if that fails.
 */
static inline char *map_pages(size_t pages)
{
	size_t len = pages * page_size();
	char *start = mmap(NULL, len + 2 * page_size(), PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (start == MAP_FAILED)
		return NULL;
	start += page_size();
	if (mprotect(start, len, PROT_READ | PROT_WRITE))
		return NULL;
	memset(start, 0x5a, len);
	return start;
}

/* Memory that a child shares, zeroed. NULL if that fails. */
static inline void *map_shared(size_t size)
{
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* Somebody who runs an ioctl that does not return, or an invalidation that does not end. */
struct sleeper {
	pthread_t thread;
	int fd;
	char *addr;
	enum odp_mirror_place place;
	int result;
};

static inline void *sleeper_park(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->result = mirror_park(sleeper->fd, sleeper->addr, sleeper->place);
	return NULL;
}

static inline void *sleeper_invalidate(void *arg)
{
	struct sleeper *sleeper = arg;

	sleeper->result = madvise(sleeper->addr, page_size(), MADV_DONTNEED);
	return NULL;
}

/* Has a thread wait in the lock or a lookup; 0 once it does. */
static inline int sleeper_start(struct sleeper *sleeper, int fd, char *addr,
				enum odp_mirror_place place)
{
	*sleeper = (struct sleeper){ .fd = fd, .addr = addr, .place = place, .result = 1 };
	if (pthread_create(&sleeper->thread, NULL, sleeper_park, sleeper))
		return -EAGAIN;
	return mirror_wait(fd, place, 1);
}

/* Ends it; returns how its wait ended. */
static inline int sleeper_end(struct sleeper *sleeper)
{
	mirror_unpark(sleeper->fd, sleeper->place);
	pthread_join(sleeper->thread, NULL);
	return sleeper->result;
}

/*
 * Begins an invalidation that does not end before thaw(): a thread drops a page, and sleeps in the
 * callback of a range that is made for it. Removals of the address space's notifiers sleep, too.
 * Other invalidations do not wait, and since only that page's mapping is locked, others can be
 * changed.
 */
static inline int freeze(struct sleeper *sleeper, int fd)
{
	int ret;

	*sleeper = (struct sleeper){
		.fd = fd,
		.addr = map_pages(1),
		.place = ODP_MIRROR_IN_CALLBACK,
		.result = 1,
	};
	if (!sleeper->addr)
		return -ENOMEM;
	ret = mirror_insert(fd, sleeper->addr, page_size());
	if (!ret)
		ret = mirror_stall(fd, 1);
	if (ret)
		return ret;
	if (pthread_create(&sleeper->thread, NULL, sleeper_invalidate, sleeper))
		return -EAGAIN;
	return mirror_wait(fd, ODP_MIRROR_IN_CALLBACK, 1);
}

static inline int thaw(struct sleeper *sleeper)
{
	mirror_unstall(sleeper->fd);
	pthread_join(sleeper->thread, NULL);
	return sleeper->result;
}

/* Whether core mm can begin a removal, and have it waited for later. */
static inline bool kernel_removes_in_steps(void)
{
	FILE *symbols = fopen("/proc/kallsyms", "r");
	char line[512];
	bool found = false;

	while (symbols && !found && fgets(line, sizeof(line), symbols))
		found = strstr(line, " mmu_interval_notifier_remove_start\n");
	if (symbols)
		fclose(symbols);
	return found;
}

/* Retires a range and waits until the worker, which has taken it, is about to remove it. */
static inline bool put_worker_to_sleep(int fd, char *mem)
{
	uint64_t before = mirror_stats(fd).grace_periods;

	return !mirror_retire(fd, mem) && mirror_poll(fd, grace_periods, before + 1);
}

/* Somebody who inserts a range while that has to wait for an invalidation. */
struct inserter {
	pthread_t thread;
	int fd;
	char *addr;
	size_t len;
	pid_t tid;
	int result;
};

static inline void *inserter_run(void *arg)
{
	struct inserter *inserter = arg;
	uint64_t value;

	__atomic_store_n(&inserter->tid, gettid(), __ATOMIC_RELEASE);
	inserter->result = inserter->len ?
				   mirror_insert(inserter->fd, inserter->addr, inserter->len) :
				   mirror_load(inserter->fd, inserter->addr, &value);
	return NULL;
}

/*
 * Has a thread insert a range or, where @len is 0, the device load a word, for which one is made if
 * the file is configured so; 0 once that waits for the end of an invalidation.
 */
static inline int inserter_start(struct inserter *inserter, int fd, char *addr, size_t len)
{
	pid_t tid;

	*inserter = (struct inserter){ .fd = fd, .addr = addr, .len = len, .result = 1 };
	if (pthread_create(&inserter->thread, NULL, inserter_run, inserter))
		return -EAGAIN;
	while (!(tid = __atomic_load_n(&inserter->tid, __ATOMIC_ACQUIRE)))
		sched_yield();
	return wait_asleep_in(tid, "mmu_interval_read_begin");
}

/* Waits for it; returns what the ioctl did. */
static inline int inserter_end(struct inserter *inserter)
{
	pthread_join(inserter->thread, NULL);
	return inserter->result;
}

#endif /* _MIRROR_DEVICE_H */
