/* SPDX-License-Identifier: GPL-2.0 */

/*
 * An address space to test in: notifiers that count, and invalidations that do
 * not end before they are told to.
 */

#ifndef SPACE_H
#define SPACE_H

#include <kunit/test.h>
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>

#define PAGES 8

/*
 * All limits of time that these suites have.
 *
 * LONG_WAIT is for hangs alone: what is waited for takes milliseconds, on a machine
 * however busy some seconds. A case that hangs should fail and say where before the
 * kernel reports a hung task and before KUnit gives up, for a case and for its cleanup:
 * 300 s, and more where the guest was slow to boot (vm/limits.sh). The cleanup itself
 * waits without a limit, because what it waits for may still be in use.
 *
 * SHORT_WAIT is for what is not supposed to happen. If it happens later the case
 * passes, so no slow machine makes one fail.
 */
#define LONG_WAIT (100 * HZ)
#define SHORT_WAIT (HZ / 4)

struct probe;

/*
 * A mapping of PAGES pages, mapped for reading only as yet, and the notifiers in it.
 *
 * The thread of the case uses the address space, and gives it up when it ends, which is
 * beside the cleanup. So the space is a user of its own: the address space outlives what
 * the cleanup has to remove from it.
 */
struct space {
	struct kunit *test;
	struct mm_struct *mm;
	/* by space_end() */
	bool ended;
	unsigned long start;
	struct list_head probes, frozen, jobs;
	/* the user lock, and what it protects: how many callbacks there were for each page */
	struct mutex lock;
	unsigned int told[PAGES];
};

/* A notifier that counts. */
struct probe {
	struct mmu_interval_notifier notifier;
	struct list_head link;
	struct space *space;
	/* in the space, whether or not it is to be removed; to be removed, or removed already */
	bool inserted, removed;
	atomic_t callbacks;
	/* releases that have begun, and that have ended */
	atomic_t releases;
	atomic_t released;
	/* completed by the release: core mm has let go of it */
	struct completion unused;
	/* called by the callback, with the user lock held */
	void (*told)(struct probe *probe, const struct mmu_notifier_range *range);
	/* called by release() */
	void (*gone)(struct probe *probe);
	void *data;
};

/* The modes that the patches offer. */
struct mode {
	const char *name;
	const struct mmu_interval_notifier_ops *ops;
	bool as_posted;
};

extern const struct mmu_interval_notifier_ops hardened, hardened_wake_first;
extern const struct mmu_interval_notifier_ops faithful, faithful_wake_first;
extern const struct mmu_interval_notifier_ops without_release;

int space_init(struct kunit *test);
/*
 * Ends what a case has left, and removes what it has left registered, wherever it was
 * aborted. When this returns nothing that KUnit is about to free can be reached any more.
 */
void space_exit(struct kunit *test);
/* Ends the address space, as the exit of a process does, from the thread of the case. */
void space_end(struct space *space);
unsigned long space_page(struct space *space, unsigned int page);
/* Writes for the first time to a page: an invalidation of it. */
void space_touch(struct space *space, unsigned int page);
void space_unmap(struct space *space, unsigned int page, unsigned int pages);

struct probe *probe_new(struct space *space);
int probe_insert(struct probe *probe, unsigned int page, unsigned int pages,
		 const struct mmu_interval_notifier_ops *ops);
int probe_insert_from_callback(struct probe *probe, unsigned int page, unsigned int pages,
			       const struct mmu_interval_notifier_ops *ops);
bool probe_update(struct probe *probe, unsigned int page, unsigned int pages);
bool probe_remove_deferred(struct probe *probe);
/* The two steps of bench/split_removal, for one without_release. */
void probe_start(struct probe *probe);
void probe_finish(struct probe *probe);

/* Something that another thread does, in the same address space. */
struct job {
	void (*run)(void *data);
	void *data;
	struct mm_struct *mm;
	struct task_struct *task;
	struct completion ended;
	struct list_head link;
};

/* Starts one that space_exit() waits for. */
void job_start(struct kunit *test, struct job *job, void (*run)(void *data), void *data);
/* Starts one that the caller waits for, with job_join(). */
int job_start_alone(struct space *space, struct job *job, void (*run)(void *data), void *data);
/* Waits until nothing of it is left: neither its use of the job nor of the module's text. */
void job_join(struct job *job);
/* Returns whether it has. */
bool job_ended(struct job *job, unsigned long timeout);
/* Returns true when it sleeps until something happens, false when it has ended. */
bool job_waits(struct job *job);

/* An invalidation of a page of its own that goes on until it is told to end. */
struct frozen {
	struct mmu_interval_notifier interval;
	struct mmu_notifier notifier;
	struct list_head link;
	struct space *space;
	unsigned long page;
	bool partial;
	/* nobody told it to end within LONG_WAIT, so it ended by itself */
	bool forgotten;
	unsigned long seq;
	struct job writer;
	struct completion entered, order, done;
	void (*order_run)(void *data);
	void *order_data;
	bool thawed;
};

/*
 * Prepares one, outside of others. If it is to be a partial one, no interval
 * notifier hears of it, so the tree is not frozen.
 */
struct frozen *frozen_prepare(struct space *space, bool partial);
/* Begins it. Until it ends, mmap_lock is held for reading. */
void frozen_begin(struct frozen *frozen);
/* Has its callback do something. */
void frozen_call(struct frozen *frozen, void (*run)(void *data), void *data);
void frozen_end(struct frozen *frozen);

#endif
