/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_KUNIT_C_SPACE_H
#define ODP_KUNIT_C_SPACE_H

#include <kunit/test.h>
#include <linux/kthread.h>
#include <linux/mman.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

/* Gives the test's thread an address space, and memory of that many pages. Returns its address. */
static inline unsigned long space_begin(struct kunit *test, unsigned long pages)
{
	unsigned long addr;

	KUNIT_ASSERT_EQ(test, kunit_attach_mm(), 0);
	addr = vm_mmap(NULL, 0, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	return addr;
}

static inline void space_unmap(struct kunit *test, unsigned long addr)
{
	KUNIT_EXPECT_EQ(test, vm_munmap(addr, PAGE_SIZE), 0);
}

/* KUnit itself would not wait for its end. */
static inline void space_end(void)
{
	struct mm_struct *mm = current->mm;

	kthread_unuse_mm(mm);
	mmput(mm);
}

#endif /* ODP_KUNIT_C_SPACE_H */
