/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory that the device has all pages of, through one range that loses what is unmapped, and
 * what is left of the range.
 */

#ifndef _MIRROR_SHAPE_H
#define _MIRROR_SHAPE_H

#include "mirror_device.h"

/* What map_pages() fills memory with, as a word. */
#define CONTENT 0x5a5a5a5a5a5a5a5aULL

/* Maps and mirrors pages, and has the device reach each of them. NULL if that fails. */
static inline char *shape_begin(int fd, size_t pages)
{
	char *mem = map_pages(pages);
	uint64_t value;

	if (!mem || mirror_configure(fd, ODP_MIRROR_PUNCH_UNMAP, 0) ||
	    mirror_insert(fd, mem, pages * page_size()))
		return NULL;
	for (size_t i = 0; i < pages; i++)
		if (mirror_load(fd, mem + i * page_size(), &value) < 0 || value != CONTENT)
			return NULL;
	return mem;
}

/*
 * Compares what there is with a picture, a character for each page from @mem on:
 * '.' for no range, '-' for a range of which the device does not have the page, and the same
 * letter for the pages of one range that the device has. Returns the first page that is wrong, or
 * -1.
 */
static inline int shape_wrong(int fd, char *mem, const char *picture)
{
	struct odp_mirror_probe last = {};

	for (int i = 0; picture[i]; i++) {
		struct odp_mirror_probe probe = { .addr = (uintptr_t)mem + i * page_size() };
		uint64_t value;
		bool same;

		if (mirror_ioctl(fd, ODP_MIRROR_PROBE, &probe))
			return i;
		if (!(probe.flags & ODP_MIRROR_MIRRORED) != (picture[i] == '.'))
			return i;
		same = i && picture[i] != '.' && last.flags & ODP_MIRROR_MIRRORED &&
		       last.start == probe.start;
		if (i && picture[i] >= 'a' && picture[i - 1] >= 'a' &&
		    same != (picture[i] == picture[i - 1]))
			return i;
		if ((picture[i] >= 'a') !=
		    !mirror_load_cached(fd, mem + i * page_size(), &value))
			return i;
		last = probe;
	}
	return -1;
}

/* How many ranges the file has besides those that leave; waits for those. */
static inline int shape_ranges(int fd)
{
	return mirror_flush(fd, ODP_MIRROR_RELEASED) ? -1 : (int)mirror_stats(fd).ranges;
}

/* Has the worker wait, busy with a range that is made for it; 0 once it is. */
static inline int shape_hold_worker(int fd)
{
	char *other = map_pages(1);

	if (!other || mirror_insert(fd, other, page_size()) || mirror_hold_worker(fd, 1) ||
	    mirror_retire(fd, other))
		return -EINVAL;
	return mirror_wait(fd, ODP_MIRROR_IN_WORKER, 1);
}

/* Has it go on, and waits until it has done what had been asked for. */
static inline int shape_release_worker(int fd)
{
	int ret = mirror_release_worker(fd);

	return ret ? ret : mirror_flush(fd, ODP_MIRROR_REMOVED);
}

#endif /* _MIRROR_SHAPE_H */
