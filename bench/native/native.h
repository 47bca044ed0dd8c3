/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_NATIVE_H
#define ODP_NATIVE_H

#include <linux/types.h>

struct mm_struct;

/* The CPU's own clock, between everything before and everything behind. */
u64 odp_native_ticks(void);

/* The same, and until odp_native_end() nothing preempts the caller, who must not sleep. */
u64 odp_native_begin(void);
u64 odp_native_end(void);

/* How many of its ticks there are in a second, in thousands. Takes a fifth of a second. */
u64 odp_native_khz(void);

/* An address space with nothing in it, which the caller puts with mmput(); NULL without memory. */
struct mm_struct *odp_native_mm(void);

/*
 * Has everybody who watches mm from start to end hear that it is unmapped, which nobody may be busy
 * with elsewhere. The ticks that takes. Just before, the same happens to another address space, for
 * the caches, and then a walk through so many bytes of the buffer.
 */
u64 odp_native_unmap(struct mm_struct *before, struct mm_struct *mm, unsigned long start,
		     unsigned long end, size_t cool);

/* Memory to walk through, of so many bytes at most. 0 or -ENOMEM. Never freed. */
int odp_native_buffer(size_t size);

/* Reads a byte of each cache line of the first so many bytes of it: others leave the caches. */
void odp_native_cool(size_t size);

/* In Rust: measures everything, and prints that. */
void odp_native_run(void);

/*
 * A bare operation of the kernel's: prepares n of them, walks through so much of the buffer, and
 * does them. 0 or an error; *ticks has what all of them took.
 */
int odp_native_operation(unsigned int which, unsigned int n, size_t cool, u64 *ticks);

/* Its name; NULL if there are not so many. */
const char *odp_native_operation_name(unsigned int which);

#endif
