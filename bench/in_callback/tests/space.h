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
/* Longer than anything takes, on the slowest machine, and shorter than KUnit's own limit. */
#define LONG_WAIT (30 * HZ)
/* Long enough for what is not supposed to happen. */
#define SHORT_WAIT (HZ / 4)

struct probe;

/* A mapping of PAGES pages, mapped for reading only as yet, and the notifiers in it. */
struct space {
	struct kunit *test;
	struct mm_struct *mm;
	unsigned long start;
	/* the user lock, and what protects what follows */
	struct mutex lock;
	struct list_head probes, frozen;
	/* how many callbacks there were for each page */
	unsigned int told[PAGES];
};

/* A notifier that counts. */
struct probe {
	struct mmu_interval_notifier notifier;
	struct list_head link;
	struct space *space;
	bool inserted;
	atomic_t callbacks;
	/* releases that have begun, and that have ended */
	atomic_t releases;
	atomic_t released;
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

int space_init(struct kunit *test);
void space_exit(struct kunit *test);
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

/* Something that another thread does, in the same address space. */
struct job {
	void (*run)(void *data);
	void *data;
	struct mm_struct *mm;
	struct task_struct *task;
	struct completion ended;
};

void job_start(struct kunit *test, struct job *job, void (*run)(void *data), void *data);
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
