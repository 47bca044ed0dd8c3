/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_KUNIT_C_DRIVER_H
#define ODP_KUNIT_C_DRIVER_H

struct mm_struct;
struct odp_kunit_driver;

struct odp_kunit_driver *odp_kunit_driver_begin(struct mm_struct *mm, unsigned long start,
						unsigned long end);
void odp_kunit_driver_end(struct odp_kunit_driver *driver);
unsigned long odp_kunit_driver_extend(struct odp_kunit_driver *driver, unsigned long end);
int odp_kunit_driver_look(struct odp_kunit_driver *driver, unsigned long start, unsigned long end);
int odp_kunit_driver_commit(struct odp_kunit_driver *driver);

#endif /* ODP_KUNIT_C_DRIVER_H */
