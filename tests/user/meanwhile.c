// SPDX-License-Identifier: GPL-2.0
/* What happens to memory while its range is being replaced, and to its process. */

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "knob.h"
#include "memory.h"
#include "mirror_fixture.h"
#include "mirror_shape.h"
#include "swap_disk.h"

/* From <linux/mempolicy.h>, which has no declaration of the system call either. */
#define MPOL_MF_MOVE 2

/* How many pages the range has. The one with the number HOLE is unmapped. */
#define PAGES 8
#define HOLE 2

/*
 * The pieces are inserted, but an invalidation that goes on keeps them from the tree, so that the
 * old range alone hears of what happens.
 */
struct half_done {
	struct sleeper frozen;
	char *mem;
};

static int half_done_begin(struct half_done *half, int fd)
{
	int ret;

	half->mem = shape_begin(fd, PAGES);
	if (!half->mem)
		return -ENOMEM;
	ret = freeze(&half->frozen, fd);
	if (ret)
		return ret;
	if (munmap(half->mem + HOLE * page_size(), page_size()))
		return -errno;
	/* The old one, that of the invalidation, and two pieces. */
	return mirror_poll(fd, ranges, 4) ? 0 : -ETIMEDOUT;
}

/* The page that things happen to, in the right piece. */
static char *victim(struct half_done *half)
{
	return half->mem + 5 * page_size();
}

static int drop(char *page)
{
	int ret = madvise(page, page_size(), MADV_DONTNEED);

	poke(page, 1);
	return ret;
}

static int page_out(char *page)
{
	poke(page, 2);
	return swap_out(page) ? 0 : -EBUSY;
}

static int write_after_fork(char *page)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child) {
		/* The child's copy is none of the device's business. */
		poke(page, 7);
		_exit(munmap(page, page_size()));
	}
	if (waitpid(child, &status, 0) != child || status)
		return -ECHILD;
	/* This copies it, if the child has not. */
	child = fork();
	if (!child)
		_exit(pause());
	poke(page, 3);
	kill(child, SIGKILL);
	return waitpid(child, &status, 0) == child ? 0 : -errno;
}

static int migrate(char *page)
{
	void *pages[] = { page };
	int node, status = -1;

	poke(page, 4);
	if (syscall(SYS_move_pages, 0, 1UL, pages, NULL, &status, 0) || status < 0)
		return -errno;
	/* There are two. */
	node = !status;
	if (syscall(SYS_move_pages, 0, 1UL, pages, &node, &status, MPOL_MF_MOVE))
		return -errno;
	return status == node ? 0 : -EXDEV;
}

static int merge(char *page)
{
	static uint64_t content;
	long deadline = now_ms() + PATIENCE_MS;
	int ret;

	/* Anew each time, because what is merged already stays so. */
	content++;
	poke(page, content);
	poke(page + page_size(), content);
	ret = madvise(page, 2 * page_size(), MADV_MERGEABLE) ||
	      write_file("/sys/kernel/mm/ksm/pages_to_scan", "1000") ||
	      write_file("/sys/kernel/mm/ksm/sleep_millisecs", "1") ||
	      write_file("/sys/kernel/mm/ksm/run", "1");
	while (!ret && (pagemap_entry(page) & PAGEMAP_PFN) != (pagemap_entry(page + page_size()) & PAGEMAP_PFN))
		ret = now_ms() > deadline;
	ret |= write_file("/sys/kernel/mm/ksm/run", "0");
	return ret ? -ETIMEDOUT : 0;
}

static int protect(char *page)
{
	static int protection = PROT_READ;

	protection ^= PROT_WRITE;
	return mprotect(page, page_size(), protection ^ PROT_WRITE);
}

static int unmap(char *page)
{
	return munmap(page, page_size());
}

static int move_away(char *page)
{
	char *to = map_pages(1);

	return to && mremap(page, page_size(), page_size(), MREMAP_MAYMOVE | MREMAP_FIXED, to) == to ?
		       0 :
		       -ENOMEM;
}

static int leave_empty(char *page)
{
	return mremap(page, page_size(), page_size(), MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL) !=
			       MAP_FAILED ?
		       0 :
		       -errno;
}

static int map_again(char *page)
{
	int ret = munmap(page, page_size());

	if (mmap(page, page_size(), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != page)
		return -EEXIST;
	poke(page, 5);
	return ret;
}

FIXTURE(meanwhile)
{
	int fd;
};

FIXTURE_VARIANT(meanwhile)
{
	int (*happen)(char *page);
	/* What is left of the ranges: the hole is the third page, the victim the sixth. */
	const char *picture;
	/* It takes other pages from the device, too. */
	bool takes_more;
	/* It waits for whoever invalidates a part of any mapping. */
	bool waits;
	/* Between unmapping and mapping somebody could look, so it is not done once more. */
	bool once;
};

/* The device may have had the page, or not yet have it back; that is filled in by a load. */
#define INTACT "aa.bbbbb"
#define UNMAPPED "aa.bb.cc"

FIXTURE_VARIANT_ADD(meanwhile, drop) { .happen = drop, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, page_out) { .happen = page_out, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, fork) {
	.happen = write_after_fork,
	.picture = INTACT,
	.takes_more = true,
	.waits = true,
};
FIXTURE_VARIANT_ADD(meanwhile, migrate) { .happen = migrate, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, merge) { .happen = merge, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, protect) { .happen = protect, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, unmap) { .happen = unmap, .picture = UNMAPPED };
FIXTURE_VARIANT_ADD(meanwhile, move_away) { .happen = move_away, .picture = UNMAPPED };
FIXTURE_VARIANT_ADD(meanwhile, leave_empty) { .happen = leave_empty, .picture = INTACT };
FIXTURE_VARIANT_ADD(meanwhile, map_again) {
	.happen = map_again,
	.picture = INTACT,
	.once = true,
};

FIXTURE_SETUP(meanwhile)
{
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, swap_disk_on());
}

FIXTURE_TEARDOWN(meanwhile)
{
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, swap_disk_off());
}

/*
 * Whether the device sees what the process does at each page: the same content, or nothing where
 * there is nothing. Returns the first page where it does not, or -1.
 */
static int differs(int fd, char *mem, const char *picture)
{
	for (int i = 0; picture[i]; i++) {
		char *page = mem + i * page_size();
		uint64_t value;
		int ret = mirror_load(fd, page, &value);

		if (picture[i] == '.' ? ret != -ENOENT : (ret < 0 || value != peek(page)))
			return i;
	}
	return -1;
}

/*
 * Somebody who ends an invalidation when a thread waits for the lock of its mapping. Another process:
 * a fork that waits has the address space locked, and what a thread of it touches may have been
 * write-protected by then, its own stack for one.
 */
struct thawer {
	pid_t pid;
	int *go;
};

/* To be called before the invalidation begins, which a fork waits for. */
static int thawer_begin(struct thawer *thawer, int fd)
{
	pid_t tid = gettid();

	thawer->go = map_shared(page_size());
	if (!thawer->go)
		return -ENOMEM;
	thawer->pid = fork();
	if (thawer->pid)
		return thawer->pid < 0 ? -errno : 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!__atomic_load_n(thawer->go, __ATOMIC_ACQUIRE))
		sched_yield();
	_exit(wait_asleep_in(tid, "__vma_start") || mirror_unstall(fd));
}

static void thawer_go(struct thawer *thawer)
{
	__atomic_store_n(thawer->go, 1, __ATOMIC_RELEASE);
}

/* What it came to: 0 if somebody did wait. */
static int thawer_end(struct thawer *thawer)
{
	int status;

	if (waitpid(thawer->pid, &status, 0) != thawer->pid)
		return -errno;
	return munmap(thawer->go, page_size()) || status;
}

TEST_F(meanwhile, the_device_sees_what_the_process_does)
{
	struct half_done half;
	struct thawer thawer = {};
	uint64_t value;
	char *page;

	if (variant->waits)
		ASSERT_EQ(0, thawer_begin(&thawer, self->fd));
	ASSERT_EQ(0, half_done_begin(&half, self->fd));
	page = victim(&half);
	/* In service, all of it, though some of it is going to be replaced. */
	ASSERT_EQ(0, mirror_load_cached(self->fd, page, &value));
	ASSERT_EQ(0, mirror_load_cached(self->fd, half.mem, &value));

	if (variant->waits)
		thawer_go(&thawer);
	ASSERT_EQ(0, variant->happen(page));
	if (variant->waits)
		EXPECT_EQ(0, thawer_end(&thawer));
	/* Nobody has waited for anything, and the device does not reach the old page. */
	EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, page, &value));
	/* The others are none of its business. */
	if (!variant->takes_more) {
		EXPECT_EQ(0, mirror_load_cached(self->fd, page - page_size(), &value));
		EXPECT_EQ(CONTENT, value);
	}

	ASSERT_EQ(0, thaw(&half.frozen));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, differs(self->fd, half.mem, variant->picture));
	EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, variant->picture));
	/* Once more, with the pieces. */
	if (variant->picture[5] != '.' && !variant->once) {
		ASSERT_EQ(0, variant->happen(page));
		EXPECT_EQ(-ENODATA, mirror_load_cached(self->fd, page, &value));
		EXPECT_EQ(-1, differs(self->fd, half.mem, variant->picture));
		EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, variant->picture));
	}
	ASSERT_EQ(0, munmap(half.mem, PAGES * page_size()));
	/* That of the invalidation. */
	EXPECT_EQ(1, shape_ranges(self->fd));
}

/* What the whole range is asked for while it is being replaced. */
TEST_F(mirror, a_retire_meanwhile)
{
	struct half_done half;

	ASSERT_EQ(0, half_done_begin(&half, self->fd));
	ASSERT_EQ(0, mirror_retire(self->fd, half.mem));
	EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, "........"));
	ASSERT_EQ(0, thaw(&half.frozen));
	EXPECT_EQ(1, shape_ranges(self->fd));
	EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, "........"));
	EXPECT_EQ(0, mirror_stats(self->fd).replaced);
}

TEST_F(mirror, a_resize_meanwhile)
{
	struct half_done half;

	ASSERT_EQ(0, half_done_begin(&half, self->fd));
	ASSERT_EQ(0, mirror_resize(self->fd, half.mem, half.mem + page_size(), 5 * page_size()));
	/* In service until then. */
	EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, "aa-aaaaa"));
	ASSERT_EQ(0, thaw(&half.frozen));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, half.mem, ".a.bbb.."));
}

TEST_F(mirror, an_insertion_meanwhile)
{
	struct inserter inserter;
	struct half_done half;
	char *hole;

	ASSERT_EQ(0, half_done_begin(&half, self->fd));
	hole = half.mem + HOLE * page_size();
	/* The range is in service there, and would do. */
	EXPECT_EQ(-EEXIST, mirror_insert(self->fd, hole, page_size()));
	ASSERT_EQ(0, mirror_retire(self->fd, half.mem));
	/* Now it is not, though it has yet to leave. */
	ASSERT_EQ(0, inserter_start(&inserter, self->fd, half.mem, PAGES * page_size()));
	ASSERT_EQ(0, thaw(&half.frozen));
	EXPECT_EQ(0, inserter_end(&inserter));
	EXPECT_EQ(2, shape_ranges(self->fd));
	EXPECT_EQ(PAGES * page_size(), mirror_range_length(self->fd, half.mem));
}

/* The device stores to the living part all the time. */
struct storer {
	pthread_t thread;
	int fd;
	char *page;
	uint64_t stored, failed;
	bool stop;
};

static void *storer_run(void *arg)
{
	struct storer *storer = arg;

	while (!__atomic_load_n(&storer->stop, __ATOMIC_RELAXED)) {
		int ret = mirror_store(storer->fd, storer->page, storer->stored + 1);

		if (ret < 0)
			storer->failed++;
		else
			storer->stored++;
	}
	return NULL;
}

TEST_F(mirror, the_living_part_stays_in_service)
{
	char *mem = shape_begin(self->fd, 64);
	struct storer storer = { .fd = self->fd, .page = mem };

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, pthread_create(&storer.thread, NULL, storer_run, &storer));
	for (int i = 63; i > 0; i -= 2) {
		ASSERT_EQ(0, munmap(mem + i * self->page, self->page));
		ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	}
	__atomic_store_n(&storer.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(storer.thread, NULL));
	EXPECT_EQ(0, storer.failed);
	EXPECT_LT(0, storer.stored);
	EXPECT_EQ(storer.stored, peek(mem));
	EXPECT_EQ(32, mirror_stats(self->fd).replaced);
}

TEST_HARNESS_MAIN
