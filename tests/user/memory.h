/* SPDX-License-Identifier: GPL-2.0 */
/* The process's memory as it and the kernel see it. */

#ifndef _MEMORY_H
#define _MEMORY_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* A word as the process sees it, or somebody else who may change it at any time. */
static inline uint64_t peek(const void *addr)
{
	return __atomic_load_n((const uint64_t *)addr, __ATOMIC_RELAXED);
}

static inline void poke(void *addr, uint64_t value)
{
	__atomic_store_n((uint64_t *)addr, value, __ATOMIC_RELAXED);
}

/* What /proc/self/pagemap says about a page, 0 if it says nothing. */
static inline uint64_t pagemap_entry(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), (uintptr_t)addr / sysconf(_SC_PAGESIZE) * 8) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

#define PAGEMAP_PFN ((1ull << 55) - 1)
#define PAGEMAP_SWAPPED (1ull << 62)

/* Not with PREEMPT_RT. */
static inline int has_transparent_huge_pages(void)
{
	return !access("/sys/kernel/mm/transparent_hugepage", F_OK);
}

/* Has the kernel use huge pages, if it has any; as madvise(). */
static inline int want_huge_pages(void *addr, size_t len)
{
	return has_transparent_huge_pages() ? madvise(addr, len, MADV_HUGEPAGE) : 0;
}

#endif /* _MEMORY_H */
