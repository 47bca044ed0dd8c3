/* SPDX-License-Identifier: GPL-2.0 */
/* A walk of the page table that stands still, and that nobody can end. */

#ifndef _WALK_H
#define _WALK_H

#include <linux/falloc.h>
#include <linux/memfd.h>
#include <malloc.h>

#include "stalled.h"

#define HUGE (2UL << 20)
/* Where that is in the kernel: somewhere in its stack. With PREEMPT_RT it sleeps in the lock's. */
#define STUCK_IN "walk_page_range"

static inline int punch_call(struct call *call)
{
	return fallocate(call->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HUGE);
}

/*
 * A prefetch that stands still in the middle of its walk of the page table, where nobody can end
 * it: it waits for the lock of the mapping of a file of two huge pages. The removal of the first
 * one has that lock, and stands still as well. The MR is the second one, and LENGTH bytes that are
 * mapped behind it.
 */
struct stuck_walk {
	struct call punch, prefetch;
	uint8_t *behind;
	int hold;
};

static inline void make_stuck_walk(struct stuck_walk *walk, size_t length)
{
	uint8_t *memory = map(5 * HUGE);
	uint8_t *huge = (uint8_t *)(((uint64_t)memory + HUGE - 1) & -HUGE);
	void *room;

	walk->punch = (struct call) { .run = punch_call };
	walk->prefetch = (struct call) { .run = prefetch_call };
	walk->punch.fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	must(walk->punch.fd >= 0);
	must(!ftruncate(walk->punch.fd, 2 * HUGE));
	must(mmap(huge, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, walk->punch.fd,
		  0) == huge);
	memset(huge, 1, 2 * HUGE);
	walk->behind = huge + 2 * HUGE;
	walk->prefetch.memory = huge + HUGE;
	walk->prefetch.length = HUGE + length;
	walk->prefetch.mr = reg(walk->prefetch.memory, walk->prefetch.length, ODP);
	/*
	 * From here on, until the prefetch is through, nothing may map or unmap; nor does malloc(),
	 * which has as much as is looked at of other tasks meanwhile.
	 */
	must(mallopt(M_TRIM_THRESHOLD, -1) && mallopt(M_MMAP_MAX, 0));
	room = malloc(HUGE);
	must(malloc_usable_size(room) >= HUGE);
	free(room);
	make_call(&walk->punch);
	make_call(&walk->prefetch);
	walk->hold = hold(huge, HUGE);
}

/* From here on a walk of the MR stands still, whoever makes it. */
static inline void hold_walks(struct stuck_walk *walk)
{
	at("the removal of the huge page");
	start_call(&walk->punch);
	wait_held(walk->hold);
}

static inline void start_stuck_walk(struct stuck_walk *walk)
{
	hold_walks(walk);
	at("the walk");
	start_call(&walk->prefetch);
	wait_in(walk->prefetch.tid, "stack", STUCK_IN);
}

static inline void release_walks(struct stuck_walk *walk)
{
	must(!ioctl(walk->hold, ODP_HOLD_RELEASE));
	pthread_join(walk->punch.thread, NULL);
	must(!walk->punch.result);
}

static inline void release_stuck_walk(struct stuck_walk *walk)
{
	release_walks(walk);
	if (!ended(&walk->prefetch, PATIENCE_MS))
		fail("the prefetch does not end");
}

#endif
