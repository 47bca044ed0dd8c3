/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_KUNIT_EXCLUSIVE_H
#define ODP_KUNIT_EXCLUSIVE_H

struct mm_struct;

int odp_kunit_make_exclusive(struct mm_struct *mm, unsigned long addr, void *owner);
int odp_kunit_migrate(struct mm_struct *mm, unsigned long addr, void *owner);

#endif /* ODP_KUNIT_EXCLUSIVE_H */
