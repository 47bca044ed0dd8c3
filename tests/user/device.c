// SPDX-License-Identifier: GPL-2.0
/* What the device loads and stores is what the process has there, whatever becomes of the pages. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "knob.h"
#include "memory.h"
#include "mirror_fixture.h"
#include "swap_disk.h"

#define READ_ONLY (ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT)
#define IN_USE (READ_ONLY | ODP_MIRROR_WRITABLE)

#define A 0x1122334455667788ull
#define B 0x99aabbccddeeff00ull
/* What map_pages() leaves. */
#define INITIAL 0x5a5a5a5a5a5a5a5aull

#define HUGE (2ul << 20)

/* Memory of @pages pages that nobody has touched. NULL if that fails. */
static char *map_untouched(size_t pages)
{
	char *mem = map_pages(pages);

	return mem && !madvise(mem, pages * page_size(), MADV_DONTNEED) ? mem : NULL;
}

TEST_F(mirror, loads_and_stores)
{
	char *mem = map_pages(2);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	poke(mem + 8, A);
	EXPECT_EQ(1, mirror_load(self->fd, mem + 8, &value));
	EXPECT_EQ(A, value);
	/* Now it has the page. */
	EXPECT_EQ(0, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(INITIAL, value);
	poke(mem, B);
	EXPECT_EQ(0, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(B, value);
	EXPECT_EQ(0, mirror_store(self->fd, mem + self->page - 8, A));
	EXPECT_EQ(A, peek(mem + self->page - 8));

	/* The next one is another page. */
	EXPECT_EQ(1, mirror_store(self->fd, mem + self->page, B));
	EXPECT_EQ(B, peek(mem + self->page));
	EXPECT_EQ(INITIAL, peek(mem + self->page + 8));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
	EXPECT_EQ(0, mirror_stats(self->fd).zapped);
}

TEST_F(mirror, without_a_fault)
{
	char *mem = map_pages(1);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(-ENODATA, mirror_store_cached(self->fd, mem, A));
	EXPECT_EQ(1, mirror_store(self->fd, mem, A));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(0, mirror_store_cached(self->fd, mem, B));
	EXPECT_EQ(B, peek(mem));

	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(-ENODATA, mirror_store_cached(self->fd, mem, A));
	EXPECT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(0, value);
}

TEST_F(mirror, a_store_needs_a_writable_page)
{
	char *mem = map_untouched(1);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	/* The zero page, which is everybody's. */
	EXPECT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(0, value);
	EXPECT_EQ(READ_ONLY, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ENODATA, mirror_store_cached(self->fd, mem, A));
	EXPECT_EQ(1, mirror_store(self->fd, mem, A));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
	EXPECT_EQ(A, peek(mem));
	EXPECT_EQ(0, mirror_store(self->fd, mem, B));
	EXPECT_EQ(B, peek(mem));
}

TEST_F(mirror, copies_stay_apart)
{
	char *mem = map_pages(2), byte = 0;
	int go[2], done[2], status;
	uint64_t value;
	pid_t child;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, pipe(done));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(1, mirror_store(self->fd, mem, A));
	ASSERT_EQ(1, mirror_store(self->fd, mem + self->page, A));

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		bool good = read(go[0], &byte, 1) == 1;

		/* The parent's device has stored to the first page. */
		good = good && peek(mem) == A;
		/* This one the child has for itself. */
		poke(mem + self->page, 7);
		/* The file is the parent's mirror, whoever uses it. */
		good = good && mirror_load(self->fd, mem + self->page, &value) >= 0 && value == A;
		good = good && mirror_store(self->fd, mem + self->page, B) >= 0;
		good = good && peek(mem + self->page) == 7;
		good = good && write(done[1], &byte, 1) == 1;
		_exit(!good);
	}
	/* Both have it, so it was taken from the device, and a store gives the parent another. */
	EXPECT_EQ(-ENODATA, mirror_store_cached(self->fd, mem, B));
	EXPECT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(READ_ONLY, mirror_probe(self->fd, mem));
	EXPECT_EQ(1, mirror_store(self->fd, mem, B));
	EXPECT_EQ(B, peek(mem));

	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(1, read(done[0], &byte, 1));
	EXPECT_EQ(B, peek(mem + self->page));
	EXPECT_EQ(0, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(B, value);
}

TEST_F(mirror, what_the_process_may_not)
{
	char *mem = map_pages(4);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_NEVER, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(1, mirror_store(self->fd, mem + i * self->page, A));
	ASSERT_EQ(0, mprotect(mem, self->page, PROT_NONE));
	ASSERT_EQ(0, mprotect(mem + self->page, self->page, PROT_READ));
	ASSERT_EQ(0, munmap(mem + 2 * self->page, self->page));

	EXPECT_EQ(-EFAULT, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(-EFAULT, mirror_store(self->fd, mem, B));
	EXPECT_EQ(1, mirror_load(self->fd, mem + self->page, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(READ_ONLY, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(-EPERM, mirror_store(self->fd, mem + self->page, B));
	EXPECT_EQ(A, peek(mem + self->page));
	EXPECT_EQ(-EFAULT, mirror_load(self->fd, mem + 2 * self->page, &value));
	EXPECT_EQ(-EFAULT, mirror_store(self->fd, mem + 2 * self->page, B));

	/* When it may again, so may the device. */
	ASSERT_EQ(0, mprotect(mem, 2 * self->page, PROT_READ | PROT_WRITE));
	EXPECT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(1, mirror_store(self->fd, mem + self->page, B));
	EXPECT_EQ(B, peek(mem + self->page));
}

TEST_F(mirror, files)
{
	int file = open("/dev/shm", O_TMPFILE | O_RDWR, 0600), readable;
	char path[64], *shared, *private, *protected;
	uint64_t value = A;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, self->page));
	ASSERT_EQ(sizeof(value), pwrite(file, &value, sizeof(value), 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	readable = open(path, O_RDONLY);
	ASSERT_LE(0, readable);
	shared = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	private = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	protected = mmap(NULL, self->page, PROT_READ, MAP_SHARED, readable, 0);
	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_NE(MAP_FAILED, private);
	ASSERT_NE(MAP_FAILED, protected);
	ASSERT_EQ(0, mirror_insert(self->fd, shared, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, private, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, protected, self->page));

	EXPECT_EQ(1, mirror_load(self->fd, protected, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(-EPERM, mirror_store(self->fd, protected, B));
	/* A copy of its own. */
	EXPECT_EQ(1, mirror_store(self->fd, private, 7));
	EXPECT_EQ(7, peek(private));
	EXPECT_EQ(A, peek(shared));
	/* Everybody's. */
	EXPECT_EQ(1, mirror_store(self->fd, shared, B));
	EXPECT_EQ(sizeof(value), pread(file, &value, sizeof(value), 0));
	EXPECT_EQ(B, value);
	EXPECT_EQ(0, mirror_load(self->fd, protected, &value));
	EXPECT_EQ(B, value);

	/* Behind the end of a file there is no page. */
	ASSERT_EQ(0, ftruncate(file, 0));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, shared, &value));
	EXPECT_EQ(-EFAULT, mirror_load(self->fd, shared, &value));
	close(readable);
	close(file);
}

/* So that what the kernel keeps per CPU to do later is done by the one that needs it. */
static int stay_on_this_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	return sched_setaffinity(0, sizeof(cpus), &cpus);
}

TEST_F(mirror, a_store_makes_the_page_dirty)
{
	char *mem = map_pages(2);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, stay_on_this_cpu());
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	/* From here on the kernel may drop both, unless somebody writes to them. */
	ASSERT_EQ(0, madvise(mem, 2 * self->page, MADV_FREE));
	ASSERT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(INITIAL, value);
	ASSERT_EQ(1, mirror_load(self->fd, mem + self->page, &value));
	/* The process's page table hears nothing of it. */
	ASSERT_EQ(0, mirror_store_cached(self->fd, mem, A));

	ASSERT_EQ(0, madvise(mem, 2 * self->page, MADV_PAGEOUT));
	/* So it did drop what it could. */
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem + self->page, &value));
	EXPECT_EQ(0, peek(mem + self->page));
	EXPECT_EQ(A, peek(mem));
	EXPECT_EQ(INITIAL, peek(mem + 8));
}

FIXTURE(swap)
{
	int fd;
	size_t page;
};

FIXTURE_SETUP(swap)
{
	self->page = page_size();
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, swap_disk_on());
}

FIXTURE_TEARDOWN(swap)
{
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, swap_disk_off());
}

TEST_F(swap, stores_survive)
{
	char *mem;
	uint64_t value;

	mem = map_pages(1);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(1, mirror_store(self->fd, mem, A));
	ASSERT_TRUE(swap_out(mem));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));

	/* The device alone has it back, and changes it. */
	EXPECT_EQ(1, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(A, value);
	EXPECT_LE(0, mirror_store(self->fd, mem + 8, B));
	ASSERT_TRUE(swap_out(mem));
	EXPECT_EQ(1, mirror_load(self->fd, mem + 8, &value));
	EXPECT_EQ(B, value);
	EXPECT_EQ(0, mirror_store(self->fd, mem, B));
	ASSERT_TRUE(swap_out(mem));
	EXPECT_EQ(B, peek(mem));
	EXPECT_EQ(B, peek(mem + 8));
	EXPECT_EQ(INITIAL, peek(mem + 16));
}

/* A process that another one's device accesses: what they tell each other. */
struct owner {
	int fd;
	char *mem;
	int ready;
};

TEST(from_another_process)
{
	struct owner *owner = map_shared(sizeof(*owner));
	long deadline = now_ms() + PATIENCE_MS;
	const size_t window = 64 << 10;
	uint64_t value;
	int pidfd, fd, status;
	pid_t pid;

	ASSERT_NE(NULL, owner);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		/* Somewhere where the other one has something else, or nothing. */
		owner->mem = map_pages(32);
		owner->fd = mirror_open();
		if (!owner->mem || mirror_configure(owner->fd, ODP_MIRROR_RETIRE_UNMAP,
						    ODP_MIRROR_AUTO))
			_exit(1);
		poke(owner->mem, A);
		__atomic_store_n(&owner->ready, 1, __ATOMIC_RELEASE);
		while (peek(owner->mem + 8) != B)
			sched_yield();
		__atomic_store_n(&owner->ready, 2, __ATOMIC_RELEASE);
		for (;;)
			pause();
	}
	while (!__atomic_load_n(&owner->ready, __ATOMIC_ACQUIRE) && now_ms() < deadline)
		sched_yield();
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	fd = syscall(SYS_pidfd_getfd, pidfd, owner->fd, 0);
	ASSERT_LE(0, fd);

	/* The range is made in the other's address space, and so is the page found. */
	EXPECT_EQ(1, mirror_load(fd, owner->mem, &value));
	EXPECT_EQ(A, value);
	EXPECT_EQ(window, mirror_range_length(fd, owner->mem));
	EXPECT_EQ(0, mirror_store(fd, owner->mem + 8, B));
	while (__atomic_load_n(&owner->ready, __ATOMIC_ACQUIRE) != 2 && now_ms() < deadline)
		sched_yield();
	EXPECT_EQ(2, owner->ready);
	EXPECT_EQ(-EFAULT, mirror_load(fd, NULL, &value));

	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(-ENODATA, mirror_load_cached(fd, owner->mem, &value));
	EXPECT_EQ(-ESRCH, mirror_load(fd, owner->mem, &value));
	EXPECT_EQ(-ESRCH, mirror_store(fd, owner->mem, A));
	ASSERT_EQ(0, mirror_configure(fd, ODP_MIRROR_RETIRE_UNMAP, 0));
	EXPECT_EQ(-ESRCH, mirror_load(fd, owner->mem, &value));
	EXPECT_EQ(0, mirror_pages(fd, NULL, -1ul, NULL, 0));
	EXPECT_EQ(0, close(fd));
}

TEST_F(mirror, memory_that_is_secret)
{
	int file = syscall(SYS_memfd_secret, 0);
	uint64_t value;
	char *mem;

	if (file < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_EQ(0, ftruncate(file, self->page));
	mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	poke(mem, A);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	/* The kernel has no access to it, and says so. */
	EXPECT_EQ(-EFAULT, mirror_load(self->fd, mem, &value));
	EXPECT_EQ(-EFAULT, mirror_store(self->fd, mem, B));
	EXPECT_EQ(A, peek(mem));
	close(file);
}

TEST_F(mirror, pages_are_listed)
{
	/*
	 * More than are listed with the table locked, and too few for a huge page: splitting a
	 * mapping that has room for one takes all its pages from the device.
	 */
	const int n = 300;
	struct odp_mirror_page *pages = calloc(2 * n + 1, sizeof(*pages));
	char *mem = map_pages(n), *other = map_pages(n), *low, *high;

	ASSERT_NE(NULL, pages);
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, other);
	low = mem < other ? mem : other;
	high = mem < other ? other : mem;
	EXPECT_EQ(0, mirror_pages(self->fd, NULL, -1ul, pages, n));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, n * self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, other, n * self->page));
	for (int i = n - 1; i >= 0; i--) {
		ASSERT_EQ(1, mirror_store(self->fd, mem + i * self->page, i));
		ASSERT_EQ(1, mirror_store(self->fd, other + i * self->page, i));
	}

	/* In order of address, whatever range they belong to. */
	ASSERT_EQ(2 * n, mirror_pages(self->fd, NULL, -1ul, pages, 2 * n + 1));
	for (int i = 0; i < 2 * n; i++) {
		char *addr = (i < n ? low : high) + i % n * self->page;

		ASSERT_EQ((uintptr_t)addr, pages[i].addr);
		ASSERT_EQ(pagemap_entry(addr) & PAGEMAP_PFN, pages[i].pfn);
		ASSERT_EQ(ODP_MIRROR_WRITABLE, pages[i].flags);
	}
	/* No more than there is room for, and none that was not asked for. */
	EXPECT_EQ(5, mirror_pages(self->fd, mem, n * self->page, pages, 5));
	EXPECT_EQ(256, mirror_pages(self->fd, mem, n * self->page, pages, 256));
	EXPECT_EQ(n, mirror_pages(self->fd, mem, n * self->page, pages, 2 * n));
	ASSERT_EQ(2, mirror_pages(self->fd, mem + 7 * self->page, 2 * self->page, pages, n));
	EXPECT_EQ((uintptr_t)mem + 8 * self->page, pages[1].addr);
	EXPECT_EQ(0, mirror_pages(self->fd, mem, n * self->page, pages, 0));
	EXPECT_EQ(-EFAULT, mirror_pages(self->fd, mem, n * self->page, (void *)8, n));

	ASSERT_EQ(0, madvise(mem + self->page, 2 * self->page, MADV_DONTNEED));
	ASSERT_EQ(0, munmap(other, n * self->page));
	EXPECT_EQ(n - 2, mirror_pages(self->fd, NULL, -1ul, pages, n));
	free(pages);
}

TEST_F(mirror, a_worker_that_waits)
{
	char *mem = map_pages(2);
	struct odp_mirror_stats stats;
	struct odp_mirror_page page;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem + self->page, self->page));
	ASSERT_EQ(1, mirror_store(self->fd, mem, A));
	ASSERT_EQ(0, mirror_hold_worker(self->fd, 1));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	ASSERT_EQ(0, mirror_wait(self->fd, ODP_MIRROR_IN_WORKER, 1));
	/* It has taken the range out of service and the page from the device, and that is all. */
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.zapped);
	EXPECT_EQ(0, stats.grace_periods);
	EXPECT_EQ(0, mirror_pages(self->fd, mem, self->page, &page, 1));
	/* Nobody else waits. */
	EXPECT_EQ(0, mirror_insert(self->fd, mem, self->page));
	EXPECT_EQ(1, mirror_store(self->fd, mem, B));
	ASSERT_EQ(0, mirror_retire(self->fd, mem + self->page));

	ASSERT_EQ(0, mirror_release_worker(self->fd));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(2, mirror_stats(self->fd).told);
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));

}

TEST_F(mirror, a_worker_goes_on_after_close)
{
	char *mem = map_pages(1);
	int fd = mirror_open();
	long start;

	ASSERT_NE(NULL, mem);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mirror_insert(fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold_worker(fd, 1));
	ASSERT_EQ(0, mirror_retire(fd, mem));
	ASSERT_EQ(0, mirror_wait(fd, ODP_MIRROR_IN_WORKER, 1));
	start = now_ms();
	EXPECT_EQ(0, close(fd));
	/* Not only when it is tired of waiting. */
	EXPECT_GT(PATIENCE_MS, now_ms() - start);
}

TEST_F(mirror, pieces_keep_their_pages)
{
	char *mem = map_pages(4), *last;
	uint64_t value;

	ASSERT_NE(NULL, mem);
	last = mem + 3 * self->page;
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 4 * self->page));
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(1, mirror_store(self->fd, mem + i * self->page, A));
	ASSERT_EQ(0, munmap(mem + self->page, 2 * self->page));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem + self->page, &value));
	/* Replaced or not, the rest is in service. */
	EXPECT_EQ(0, mirror_store_cached(self->fd, mem, B));
	EXPECT_TRUE(mirror_poll(self->fd, replaced, 1));
	EXPECT_EQ(0, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(self->page, mirror_range_length(self->fd, mem));
	EXPECT_EQ(self->page, mirror_range_length(self->fd, last));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(B, value);
	EXPECT_EQ(0, mirror_load_cached(self->fd, last, &value));
	EXPECT_EQ(A, value);
	/* And they hear what becomes of it. */
	ASSERT_EQ(0, madvise(last, self->page, MADV_DONTNEED));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, last, &value));
	EXPECT_EQ(1, mirror_load(self->fd, last, &value));
	EXPECT_EQ(0, value);
	EXPECT_EQ(2, mirror_stats(self->fd).pieces);
}

TEST_F(mirror, parts)
{
	char *mem = map_pages(3);
	uint64_t value;

	ASSERT_NE(NULL, mem);
	EXPECT_EQ(-ENOENT, mirror_resize(self->fd, mem, mem, self->page));
	EXPECT_EQ(-ENOENT, mirror_punch(self->fd, mem, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	EXPECT_EQ(-EINVAL, mirror_resize(self->fd, mem, mem, 3 * self->page));
	EXPECT_EQ(-EINVAL, mirror_punch(self->fd, mem, mem + self->page, 2 * self->page));
	EXPECT_EQ(-EINVAL, mirror_resize(self->fd, mem, mem + 1, self->page));
	EXPECT_EQ(-EINVAL, mirror_punch(self->fd, mem, mem, 0));
	EXPECT_EQ(0, mirror_stats(self->fd).changes);

	ASSERT_EQ(1, mirror_store(self->fd, mem, A));
	ASSERT_EQ(1, mirror_store(self->fd, mem + self->page, B));
	ASSERT_EQ(0, mirror_resize(self->fd, mem, mem + self->page, self->page));
	EXPECT_TRUE(mirror_poll(self->fd, replaced, 1));
	/* What is not mirrored any more is taken away, mapped or not. */
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_TRUE(mirror_poll(self->fd, zapped, 1));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem + self->page, &value));
	EXPECT_EQ(B, value);

	/* It is still mapped, whoever says that it is not. */
	ASSERT_EQ(0, mirror_punch(self->fd, mem + self->page, mem + self->page, self->page));
	EXPECT_TRUE(mirror_poll(self->fd, unchanged, 1));
	EXPECT_EQ(0, mirror_load_cached(self->fd, mem + self->page, &value));
}

/* A device that does not stop to store. */
struct storer {
	pthread_t thread;
	int fd;
	char *mem;
	int stop;
	uint64_t stored;
	int failed;
};

static void *keep_storing(void *arg)
{
	struct storer *storer = arg;

	while (!__atomic_load_n(&storer->stop, __ATOMIC_ACQUIRE)) {
		int ret = mirror_store(storer->fd, storer->mem, B);

		if (ret >= 0)
			__atomic_add_fetch(&storer->stored, 1, __ATOMIC_RELAXED);
		else if (ret != -EAGAIN)
			storer->failed = ret;
	}
	return NULL;
}

TEST_F(mirror, no_store_goes_astray)
{
	const int rounds = 300, others = 4;
	struct storer storer = { .fd = self->fd };
	uint64_t seen = 0;

	storer.mem = map_pages(1);
	ASSERT_NE(NULL, storer.mem);
	ASSERT_EQ(0, mirror_insert(self->fd, storer.mem, self->page));
	ASSERT_EQ(0, pthread_create(&storer.thread, NULL, keep_storing, &storer));
	for (int i = 0; i < rounds; i++) {
		const long deadline = now_ms() + PATIENCE_MS;
		uint64_t stored;
		char *mem;

		/* The first has the device fault, and the last may come in the midst of that. */
		for (int again = 0; again <= i % 16; again++)
			ASSERT_EQ(0, madvise(storer.mem, self->page, MADV_DONTNEED));
		/* Somebody else gets what the device has just had. */
		mem = mmap(NULL, others * self->page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		ASSERT_NE(MAP_FAILED, mem);
		stored = __atomic_load_n(&storer.stored, __ATOMIC_RELAXED);
		while (__atomic_load_n(&storer.stored, __ATOMIC_RELAXED) < stored + 2 &&
		       now_ms() < deadline)
			sched_yield();
		for (int other = 0; other < others; other++)
			seen += peek(mem + other * self->page) != 0;
		munmap(mem, others * self->page);
	}
	__atomic_store_n(&storer.stop, 1, __ATOMIC_RELEASE);
	pthread_join(storer.thread, NULL);
	EXPECT_EQ(0, seen);
	EXPECT_EQ(0, storer.failed);
	EXPECT_LT(0, storer.stored);
	/* Every page that it had was taken from it. */
	EXPECT_LT(0, mirror_stats(self->fd).zapped);
}

/* At the end, because making huge pages moves other ones, and takes them from the device. */

/* Whether the device has the pages of a huge page, which it has accessed at both ends. */
static bool has_ends_of(int fd, char *huge)
{
	struct odp_mirror_page pages[3];
	const uint64_t last = HUGE / page_size() - 1;

	return mirror_pages(fd, huge, HUGE, pages, 3) == 2 &&
	       pages[0].addr == (uintptr_t)huge && !(pages[0].pfn & last) &&
	       pages[1].pfn == pages[0].pfn + last;
}

TEST_F(mirror, a_transparent_huge_page)
{
	char *mem = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *huge = (char *)(((uintptr_t)mem + HUGE - 1) & ~(HUGE - 1));
	char *last = huge + HUGE - self->page;
	uint64_t value;

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, want_huge_pages(huge, HUGE));
	ASSERT_EQ(0, mirror_insert(self->fd, huge, HUGE));
	/* The device is the first to touch it. */
	EXPECT_EQ(1, mirror_store(self->fd, huge, A));
	EXPECT_EQ(1, mirror_store(self->fd, last, B));
	if (has_transparent_huge_pages())
		EXPECT_TRUE(has_ends_of(self->fd, huge));
	EXPECT_EQ(A, peek(huge));
	EXPECT_EQ(B, peek(last));

	/* A piece of it goes, so it is split. */
	ASSERT_EQ(0, madvise(huge, self->page, MADV_DONTNEED));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, huge, &value));
	EXPECT_EQ(0, peek(huge));
	EXPECT_LE(0, mirror_load(self->fd, last, &value));
	EXPECT_EQ(B, value);
	EXPECT_LE(0, mirror_store(self->fd, last, A));
	EXPECT_EQ(A, peek(last));
	EXPECT_EQ(0, munmap(mem, 2 * HUGE));
}

TEST_F(mirror, a_page_of_hugetlbfs)
{
	char *mem = MAP_FAILED;
	char *last;
	uint64_t value;

	ASSERT_EQ(0, write_file("/proc/sys/vm/nr_hugepages", "2"));
	mem = mmap(NULL, HUGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	ASSERT_NE(MAP_FAILED, mem);
	last = mem + HUGE - self->page;
	ASSERT_EQ(0, mirror_insert(self->fd, mem, HUGE));
	EXPECT_EQ(1, mirror_store(self->fd, mem, A));
	EXPECT_EQ(1, mirror_load(self->fd, last, &value));
	EXPECT_EQ(0, value);
	EXPECT_TRUE(has_ends_of(self->fd, mem));
	EXPECT_EQ(A, peek(mem));
	poke(last, B);
	EXPECT_EQ(0, mirror_load(self->fd, last, &value));
	EXPECT_EQ(B, value);
	EXPECT_EQ(0, munmap(mem, HUGE));
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, mem, &value));
	EXPECT_EQ(0, write_file("/proc/sys/vm/nr_hugepages", "0"));
}

TEST_HARNESS_MAIN
