// SPDX-License-Identifier: GPL-2.0
/* What the process does to its pages, other than unmapping them, and faults of the device. */

#include "mirror_fixture.h"

#define IN_USE (ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT | ODP_MIRROR_WRITABLE)

TEST_F(mirror, madvise_takes_the_page)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(2);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_write(self->fd, mem + self->page, 2));

	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem + self->page));
	stats = mirror_stats(self->fd);
	EXPECT_EQ(1, stats.events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_EQ(1, stats.zapped);
	EXPECT_EQ(0, stats.queued);

	/* The range serves as before. */
	EXPECT_EQ(0, mirror_read(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT, mirror_probe(self->fd, mem));
}

TEST_F(mirror, mprotect_takes_the_page)
{
	char *mem = map_pages(2);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));

	ASSERT_EQ(0, mprotect(mem, 2 * self->page, PROT_READ));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_PROTECTION_VMA]);
	EXPECT_EQ(0, mirror_stats(self->fd).queued);

	EXPECT_EQ(-EPERM, mirror_write(self->fd, mem, 2));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(1, mirror_read(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT, mirror_probe(self->fd, mem));
}

/* Whom a file belongs to decides what there is, not whom the device belongs to. */
TEST_F(mirror, another_process_takes_the_page)
{
	int file = open("/dev/shm", O_TMPFILE | O_RDWR, 0600), status;
	pid_t child;
	char *mem;

	ASSERT_LE(0, file);
	ASSERT_EQ(0, ftruncate(file, 2 * self->page));
	mem = mmap(NULL, 2 * self->page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, mirror_write(self->fd, mem + self->page, 2));

	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(!!ftruncate(file, self->page));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);

	EXPECT_EQ(1, mirror_read(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem + self->page));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, mem + self->page));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_EQ(0, mirror_stats(self->fd).queued);
}

TEST_F(mirror, mremap_moves)
{
	char *mem = map_pages(2), *target = map_pages(2);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, target);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 3));

	ASSERT_EQ(target, mremap(mem, 2 * self->page, 2 * self->page,
				 MREMAP_MAYMOVE | MREMAP_FIXED, target));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
	EXPECT_EQ(1, mirror_stats(self->fd).queued);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	/* The core says nothing about the new address. */
	EXPECT_EQ(0, mirror_probe(self->fd, target));
	ASSERT_EQ(0, mirror_insert(self->fd, target, 2 * self->page));
	EXPECT_EQ(3, mirror_read(self->fd, target));
}

TEST_F(mirror, mremap_keeps_the_old_mapping)
{
	char *mem = map_pages(1), *target = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, target);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 3));

	ASSERT_EQ(target, mremap(mem, self->page, self->page,
				 MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, target));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
	EXPECT_EQ(0, mirror_probe(self->fd, mem));

	/* There is memory at both addresses, and both can be mirrored, the removal over or not. */
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, target, self->page));
	EXPECT_EQ(0, mirror_read(self->fd, mem));
	EXPECT_EQ(3, mirror_read(self->fd, target));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT, mirror_probe(self->fd, mem));
	EXPECT_EQ(2, mirror_stats(self->fd).ranges);
}

TEST_F(mirror, copy_on_write_takes_the_page)
{
	char *mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	/* The device reads the zero page, which the process replaces. */
	ASSERT_EQ(0, mirror_read(self->fd, mem));
	EXPECT_EQ(ODP_MIRROR_MIRRORED | ODP_MIRROR_PRESENT, mirror_probe(self->fd, mem));
	*mem = 9;
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_EQ(9, mirror_read(self->fd, mem));
}

TEST_F(mirror, fault_invalidates_itself)
{
	struct odp_mirror_fault fault = { .flags = ODP_MIRROR_WRITE, .value = 4 };
	char *mem = mmap(NULL, self->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, mem);
	ASSERT_EQ(0, *mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	/* The write replaces the zero page, within the read section. HMM begins a new one. */
	fault.addr = (uintptr_t)mem;
	ASSERT_EQ(0, mirror_ioctl(self->fd, ODP_MIRROR_FAULT, &fault));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_CLEAR]);
	EXPECT_EQ(1, fault.attempts);
	EXPECT_EQ(4, *mem);
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
}

TEST_F(mirror, every_event_may_retire)
{
	char *mem = map_pages(1);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_EVERY, 0));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));
	ASSERT_EQ(0, madvise(mem, self->page, MADV_DONTNEED));
	EXPECT_EQ(0, mirror_probe(self->fd, mem));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(1, mirror_stats(self->fd).told);
	EXPECT_EQ(0, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_UNMAP]);
}

TEST_F(mirror, faults_make_ranges)
{
	const size_t window = 64 << 10;
	char *mem = map_pages(2 * window / self->page);
	char *around;

	ASSERT_NE(NULL, mem);
	around = (char *)(((uintptr_t)mem + window - 1) & ~(window - 1));
	ASSERT_EQ(-ENOENT, mirror_read(self->fd, around + self->page));
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_RETIRE_UNMAP, ODP_MIRROR_AUTO));
	EXPECT_EQ(0x5a, mirror_read(self->fd, around + self->page));
	EXPECT_EQ(window, mirror_range_length(self->fd, around));
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, around));
	EXPECT_EQ(1, mirror_stats(self->fd).inserted);

	/* It goes, and comes again. */
	ASSERT_EQ(0, mirror_retire(self->fd, around));
	EXPECT_EQ(0x5a, mirror_read(self->fd, around));
	EXPECT_EQ(window, mirror_range_length(self->fd, around));

	/* Where another range is in the way of the window, the gap beside it is mirrored. */
	ASSERT_EQ(0, mirror_retire(self->fd, around));
	ASSERT_EQ(0, mirror_insert(self->fd, around, self->page));
	EXPECT_EQ(0x5a, mirror_read(self->fd, around + self->page));
	EXPECT_EQ(window - self->page,
		  mirror_range_length(self->fd, around + self->page));

	/* Where there is no memory nothing is mirrored. */
	ASSERT_EQ(0, munmap(around, window));
	EXPECT_EQ(-EFAULT, mirror_read(self->fd, around));
	EXPECT_EQ(0, mirror_probe(self->fd, around));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(0, mirror_stats(self->fd).ranges);
}

TEST_F(mirror, fork_concerns_the_parent)
{
	struct odp_mirror_stats stats;
	char *mem = map_pages(2);
	int go[2], status;
	pid_t child;
	char byte = 0;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(0, mirror_insert(self->fd, mem, 2 * self->page));
	ASSERT_EQ(0, mirror_write(self->fd, mem, 1));

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* The file is the parent's mirror, and what it reads is the parent's memory. */
		bool good = read(go[0], &byte, 1) == 1;

		mem[0] = 2;
		good = good && mirror_read(self->fd, mem) == 4;
		good = good && mirror_probe(self->fd, mem) == IN_USE;
		good = good && !madvise(mem, self->page, MADV_DONTNEED);
		good = good && !munmap(mem, self->page);
		good = good && mirror_probe(self->fd, mem) == IN_USE;
		_exit(!good);
	}

	/* Its pages have become read-only. */
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_PROTECTION_PAGE]);
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_EQ(1, mirror_read(self->fd, mem));
	/* The child has the page, too, so the parent gets another one. */
	mem[0] = 3;
	EXPECT_EQ(ODP_MIRROR_MIRRORED, mirror_probe(self->fd, mem));
	EXPECT_LE(1, mirror_stats(self->fd).events[ODP_MIRROR_EVENT_CLEAR]);
	ASSERT_EQ(0, mirror_write(self->fd, mem, 4));

	stats = mirror_stats(self->fd);
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);

	/* Whatever the child did, its end included, was none of the mirror's business. */
	EXPECT_EQ(0, memcmp(stats.events, mirror_stats(self->fd).events, sizeof(stats.events)));
	EXPECT_EQ(0, mirror_stats(self->fd).queued);
	EXPECT_EQ(IN_USE, mirror_probe(self->fd, mem));
	EXPECT_EQ(4, mem[0]);
}

TEST_HARNESS_MAIN
