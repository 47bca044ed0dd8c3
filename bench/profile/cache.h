/* SPDX-License-Identifier: GPL-2.0 */

/*
 * A model of one CPU's caches for data: two levels that have the lines that were used last, as many
 * of each set as there are ways. A line is known by its virtual address. There is no prefetching, and
 * an access to two lines counts as one to the first.
 */

#ifndef ODP_PROFILE_CACHE_H
#define ODP_PROFILE_CACHE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LINE 64
/* 32 KiB. */
#define NEAR_SETS 64
#define NEAR_WAYS 8
/* 1 MiB. */
#define FAR_SETS 1024
#define FAR_WAYS 16

enum level {
	NEAR,
	FAR,
	FARTHER,
};

struct cache {
	/* In each set the line that was used last is the first. */
	uint64_t near[NEAR_SETS][NEAR_WAYS];
	uint64_t far[FAR_SETS][FAR_WAYS];
};

/* Makes it the first of its set. Whether it was there. */
static inline bool cache_use_set(uint64_t *set, unsigned int ways, uint64_t line)
{
	unsigned int at = 0;
	bool found;

	while (at < ways - 1 && set[at] != line)
		at++;
	found = set[at] == line;
	memmove(set + 1, set, at * sizeof(*set));
	set[0] = line;
	return found;
}

/* Where what is at the address was; it is near now. */
static inline enum level cache_use(struct cache *cache, uint64_t address)
{
	uint64_t line = address / LINE;

	if (cache_use_set(cache->near[line % NEAR_SETS], NEAR_WAYS, line))
		return NEAR;
	return cache_use_set(cache->far[line % FAR_SETS], FAR_WAYS, line) ? FAR : FARTHER;
}

#endif
