/* SPDX-License-Identifier: GPL-2.0 */
#ifndef ODP_LOCKDEP_H
#define ODP_LOCKDEP_H

/* Tells lockdep that the caller waits for a worker, which waits for invalidate(), too. */
void odp_may_wait_for_worker(void);
/* Brackets of a callback of a worker other than the last, and of the last. */
void odp_worker_enter(void);
void odp_worker_exit(void);
void odp_release_enter(void);
void odp_release_exit(void);

#endif
