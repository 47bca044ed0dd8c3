/* SPDX-License-Identifier: GPL-2.0 */
/* A RAM disk to swap to, because the guest has no disk. */

#ifndef _SWAP_DISK_H
#define _SWAP_DISK_H

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

/* Has a page swapped out; whether it was. */
static inline bool swap_out(char *mem)
{
	long deadline = now_ms() + PATIENCE_MS;

	/* It may be in somebody's hands for a moment. */
	do {
		if (madvise(mem, page_size(), MADV_PAGEOUT))
			return false;
		if (pagemap_entry(mem) & PAGEMAP_SWAPPED)
			return true;
		sched_yield();
	} while (now_ms() < deadline);
	return false;
}

#endif /* _SWAP_DISK_H */
