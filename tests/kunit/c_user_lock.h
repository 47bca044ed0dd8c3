/* SPDX-License-Identifier: GPL-2.0 */
/* The user lock of a driver in C: a mutex, with which the driver's structure begins. */
#ifndef ODP_KUNIT_C_USER_LOCK_H
#define ODP_KUNIT_C_USER_LOCK_H

#include <linux/mutex.h>

static inline void user_lock(void *shared)
{
	struct mutex *lock = shared;

	mutex_lock(lock);
}

static inline bool user_trylock(void *shared)
{
	struct mutex *lock = shared;

	return mutex_trylock(lock);
}

static inline void user_unlock(void *shared)
{
	struct mutex *lock = shared;

	mutex_unlock(lock);
}

#endif /* ODP_KUNIT_C_USER_LOCK_H */
