/* SPDX-License-Identifier: GPL-2.0 */
/* A RAM disk to swap to, because the guest has no disk. */

#ifndef _SWAP_DISK_H
#define _SWAP_DISK_H

#include <sched.h>
#include <sys/swap.h>

#include "memory.h"
#include "mirror_device.h"

#define SWAP_DISK "/dev/ram0"

/* Makes the disk what mkswap would make it, and swaps to it. */
static inline int swap_disk_on(void)
{
	const uint32_t header[] = { 1, 4095, 0 };
	int file = open(SWAP_DISK, O_WRONLY), ret = 0;

	if (file < 0)
		return -errno;
	if (pwrite(file, header, sizeof(header), 1024) != sizeof(header) ||
	    pwrite(file, "SWAPSPACE2", 10, page_size() - 10) != 10 || fsync(file))
		ret = -EIO;
	close(file);
	if (!ret && swapon(SWAP_DISK, 0))
		ret = -errno;
	return ret;
}

static inline int swap_disk_off(void)
{
	return swapoff(SWAP_DISK) ? -errno : 0;
}

/*
 * Has a page swapped out, from one CPU after the other; whether it was.
 *
 * A page that was faulted in lately may be in a batch of the CPU where that was, which only a reclaim on that
 * CPU empties. Until then the batch has a reference, and the page stays.
 */
static inline bool swap_out(char *mem)
{
	long deadline = now_ms() + PATIENCE_MS;
	bool swapped = false;
	cpu_set_t all, one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all))
		return false;
	/* It may be in somebody's hands for a moment. */
	do {
		while (!CPU_ISSET(cpu, &all))
			cpu = (cpu + 1) % CPU_SETSIZE;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one) ||
		    madvise(mem, page_size(), MADV_PAGEOUT))
			break;
		swapped = pagemap_entry(mem) & PAGEMAP_SWAPPED;
		cpu = (cpu + 1) % CPU_SETSIZE;
	} while (!swapped && now_ms() < deadline);
	return !sched_setaffinity(0, sizeof(all), &all) && swapped;
}

#endif /* _SWAP_DISK_H */
