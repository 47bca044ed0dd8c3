/* SPDX-License-Identifier: GPL-2.0 */
/* Memory of the process: of a file, in memory or not, and out of it. */

#ifndef _MEMORY_H
#define _MEMORY_H

#include <sched.h>

#include "verbs.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

/* Says that huge pages are wanted, or not wanted; a kernel with PREEMPT_RT has none. */
static inline void advise_huge_pages(void *address, uint64_t length, int advice)
{
	must(!madvise(address, length, advice) ||
	     (errno == EINVAL && access("/sys/kernel/mm/transparent_hugepage", F_OK)));
}

/* Whether a page of the process is in memory, and mapped. */
static inline bool is_present(void *address)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry;

	must(fd >= 0);
	must(pread(fd, &entry, 8, (uint64_t)address / PAGE * 8) == 8);
	close(fd);
	return entry >> 63;
}

/*
 * Has a page leave memory, by advice on one CPU after the other.
 *
 * A page that was faulted in lately may be in a batch of the CPU where that was, which only advice on
 * that CPU empties; until then it stays. If a peer's access faulted it in, that may be any CPU.
 */
static inline void page_out(void *address)
{
	cpu_set_t all, one;
	int tries, cpu = 0;

	must(!sched_getaffinity(0, sizeof(all), &all));
	for (tries = 0; tries < 1000 && is_present(address); tries++) {
		do
			cpu = (cpu + 1) % CPU_SETSIZE;
		while (!CPU_ISSET(cpu, &all));
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		must(!sched_setaffinity(0, sizeof(one), &one));
		must(!madvise(address, PAGE, MADV_PAGEOUT));
	}
	must(!sched_setaffinity(0, sizeof(all), &all));
	if (is_present(address))
		broken("the page does not leave memory");
}

/* Shared memory of a file without a name, which FD gets. */
static inline void *map_file(int *fd, size_t length)
{
	void *memory;

	*fd = memfd_create("test", MFD_CLOEXEC);
	must(*fd >= 0);
	must(!ftruncate(*fd, length));
	memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	must(memory != MAP_FAILED);
	return memory;
}

#endif
