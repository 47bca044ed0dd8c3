/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Deferred removal of mmu interval notifiers: the interface for drivers in C.
 */
#ifndef ODP_H
#define ODP_H

#include <linux/compiler.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/types.h>

struct hmm_range;

/**
 * DOC: Overview
 *
 * A driver that mirrors parts of a process's address space is told by an interval notifier when a
 * part is unmapped. It may not remove the notifier in that moment: mmu_interval_notifier_remove()
 * in invalidate() waits for the invalidation that it is called from. With this library the driver
 * asks for the removal there, and is called back in process context to do it.
 *
 * There are two levels:
 *
 * - *retire*: the driver owns its notifier, and embeds a &struct odp_request in the object around
 *   it. The library takes the object out of service once, in the right order, after a grace
 *   period, and in a context that may sleep.
 * - *managed*: the library owns the notifier, too, and the way from an address to it. The driver
 *   has an object with a lock, and says how a span of addresses is zapped. Ranges can be removed,
 *   shrunk and split from where they are unmapped.
 *
 * The examples below are parts of samples/minimal.
 */

/**
 * DOC: Context
 *
 * The *user lock* is the driver's: its invalidate() takes it, and so does whatever installs or uses
 * what the device can reach. The *worker* is the library's work item that removes objects.
 *
 * No function may be called from an interrupt handler, whatever its "Context" says.
 *
 * "May be called in invalidate()" means: in any process context in which a spinlock may be taken;
 * under any lock but the library's own; in reclaim; and in a call that may not block. Such a
 * function does not sleep (on PREEMPT_RT it may, for a spinlock) and allocates nothing.
 *
 * "May sleep and wait for invalidations" means: not in invalidate(), not under a lock that
 * invalidate() takes, such as the user lock, not under mmap_lock, and not between odp_read_lock()
 * and odp_read_unlock() of any retirer. "May sleep and wait for invalidations and for the worker"
 * means, in addition: not in a function that the library calls, and not under a lock that such a
 * function takes. Lockdep reports a call that breaks these rules, whether or not it would have
 * hung; for mmap_lock at the managed level only.
 *
 * "Killable" means: ends with -EINTR when the task is killed, because user space may decide how
 * long it takes. The work goes on all the same, and so do others that wait for it. The driver frees
 * what its objects use after odp_retirer_shutdown() or odp_mirror_shutdown(), which no signal ends.
 * If one of these takes more than 10 s, the kernel's log says so, with the name of the retirer or
 * mirror in debugfs and the number of holds.
 */

/**
 * DOC: The retire level
 *
 * The driver says how an object leaves, in three steps that may sleep::
 *
 *	static void window_unpublish(struct odp_request *req)
 *	{
 *		struct window *window = container_of(req, struct window, req);
 *
 *		xa_cmpxchg(&window->ctx->windows, window->index, window, NULL, 0);
 *	}
 *
 *	static void window_remove(struct odp_request *req)
 *	{
 *		struct window *window = container_of(req, struct window, req);
 *		unsigned long start = window->index * WINDOW_SIZE;
 *		struct retiring *ctx = window->ctx;
 *
 *		// A new window may be here by now: its pages are faulted in again.
 *		mutex_lock(&ctx->accel.lock);
 *		accel_unmap(&ctx->accel, start, start + WINDOW_SIZE);
 *		mutex_unlock(&ctx->accel.lock);
 *		odp_remove_notifier(req, &window->notifier);
 *	}
 *
 *	static void window_release(struct odp_request *req)
 *	{
 *		kfree(container_of(req, struct window, req));
 *	}
 *
 * and asks for it in invalidate()::
 *
 *	odp_invalidate_enter(blockable);
 *	if (blockable) {
 *		mutex_lock(&ctx->accel.lock);
 *	} else if (!mutex_trylock(&ctx->accel.lock)) {
 *		handled = false;
 *		goto out;
 *	}
 *	mmu_interval_set_seq(notifier, seq);
 *	accel_unmap(&ctx->accel, range->start, range->end);
 *	if (range->event == MMU_NOTIFY_UNMAP)
 *		odp_retire(ctx->retirer, &window->req);
 *	mutex_unlock(&ctx->accel.lock);
 *  out:
 *	odp_invalidate_exit(blockable);
 *	return handled;
 *
 * An object is inserted like this, so that what is unmapped meanwhile is not lost::
 *
 *	odp_request_init_building(&window->req);
 *	ret = mmu_interval_notifier_insert(&window->notifier, ctx->mm, index * WINDOW_SIZE,
 *					   WINDOW_SIZE, &window_notifier_ops);
 *	if (ret) {
 *		kfree(window);
 *		return ret;
 *	}
 *	// Until this returns, invalidations may pass the window by.
 *	mmu_interval_read_begin(&window->notifier);
 *
 *	ret = xa_err(xa_store(&ctx->windows, index, window, GFP_KERNEL));
 *	if (ret)
 *		odp_retire(ctx->retirer, &window->req);
 *	odp_publish(ctx->retirer, &window->req);
 *	odp_put(ctx->retirer, &window->req);
 *
 * The device's page fault finds an object, and holds it while it sleeps::
 *
 *	idx = odp_read_lock(ctx->retirer);
 *	window = xa_load(&ctx->windows, addr / WINDOW_SIZE);
 *	if (window && !odp_hold(ctx->retirer, &window->req))
 *		window = NULL;
 *	odp_read_unlock(ctx->retirer, idx);
 *
 * It installs what it has found under the user lock, if no invalidation came between and the object
 * has not been retired::
 *
 *	mutex_lock(&ctx->accel.lock);
 *	if (mmu_interval_read_retry(&window->notifier, hmm.notifier_seq))
 *		ret = -EAGAIN;
 *	else if (!odp_request_live(&window->req))
 *		ret = -EFAULT;
 *	else
 *		ret = accel_map(&ctx->accel, addr, pfn);
 *	mutex_unlock(&ctx->accel.lock);
 *
 * At the end the driver stops faults and insertions, retires what is left, and waits. After that
 * none of its functions is running or going to be called::
 *
 *	idx = odp_read_lock(ctx->retirer);
 *	xa_for_each(&ctx->windows, index, window)
 *		odp_retire(ctx->retirer, &window->req);
 *	odp_read_unlock(ctx->retirer, idx);
 *
 *	odp_retirer_shutdown(ctx->retirer);
 */

/**
 * DOC: The managed level
 *
 * The driver says how addresses are taken from the device, and what is to become of a range::
 *
 *	static int managed_zap(void *shared, struct odp_range *range, unsigned long start,
 *			       unsigned long end, unsigned int event)
 *	{
 *		managed_zap_dead(shared, start, end);
 *		return event == MMU_NOTIFY_UNMAP ? ODP_PUNCH : ODP_KEEP;
 *	}
 *
 * A span is mirrored like this::
 *
 *	range = odp_range_insert(ctx->mirror, start, len, ctx);
 *	if (IS_ERR(range))
 *		return PTR_ERR(range);
 *	// Nothing else tells of what was unmapped before the insertion.
 *	odp_range_punch_unmapped(range);
 *	odp_range_put(range);
 *
 * The device's page fault is shown at odp_range_fault().
 */

/**
 * struct odp_request - a request to take an object out of service
 *
 * Embedded in the object, and for container_of() only: all members are private to the library. It
 * is initialised by odp_request_init() or odp_request_init_building(), and may be again once
 * &odp_retirer_ops.release has been called for it. There is nothing to destroy.
 *
 * It belongs to the retirer that it is first used with; other retirers refuse it.
 *
 * It takes 32 bytes of the object on a 64-bit machine, more with lock debugging. Nothing is
 * allocated for an object, when it is retired or before.
 */
struct odp_request {
	/* private: laid out like Rust's odp::Request, which the build verifies */
	spinlock_t lock;
	u32 word;
	struct {
		struct odp_request *next;
		struct {
			u8 removed;
			u8 released;
		} tickets;
		bool has_waited;
		u32 since;
	} link;
	void *worker;
};

/**
 * struct odp_retirer_ops - what is called for an object that has been retired
 *
 * The functions are called once for each object, in the order of the members, each after the one
 * before has returned. They run in process context, in a workqueue or in a caller of odp_drain();
 * for different objects at the same time. They may sleep and wait for invalidations, but not for
 * the worker: odp_flush(), odp_wait_removed() and odp_retirer_shutdown() are not for them.
 *
 * The table must stay valid and unchanged until odp_retirer_shutdown() has returned.
 */
struct odp_retirer_ops {
	/**
	 * @owner: the module that has the functions, THIS_MODULE in general. It cannot be unloaded
	 * between odp_retirer_create() and the end of odp_retirer_shutdown(). If this is NULL it
	 * can be, and the driver has to call odp_retirer_shutdown() in its exit function; that is
	 * for a retirer that lives as long as the module.
	 */
	struct module *owner;

	/**
	 * @unpublish: take the object out of the driver's index (optional: invalidate() may have
	 * done that). No lookup that begins after this has returned may find the object. A grace
	 * period of odp_read_lock() follows.
	 */
	void (*unpublish)(struct odp_request *req);

	/**
	 * @remove: remove the notifier (optional). All lookups that found the object have ended.
	 * First stop the device's access once more, under the user lock: a task may have installed
	 * something between invalidate() and odp_retire(). Then call odp_remove_notifier(), which
	 * sleeps. Holds may remain, so nothing that they use is freed here.
	 */
	void (*remove)(struct odp_request *req);

	/**
	 * @release: the object belongs to the driver again, to be freed in general. Its last hold
	 * has ended, and the library does not touch it any more.
	 */
	void (*release)(struct odp_request *req);
};

/**
 * struct odp_stats - what a worker has done so far
 * @inserted: ranges inserted (managed level)
 * @insert_failed: insertions that failed, for whatever reason (managed level)
 * @mm_dead: insertions that failed because the address space was gone (managed level)
 * @queued: objects retired
 * @coalesced: requests to retire an object that was retired already
 * @batches: batches taken, by the worker or by a caller of drain
 * @grace_periods: grace periods waited for
 * @drained: objects taken by callers of drain
 * @started: removals begun for a whole batch before the first was waited for (managed level, in
 *	kernels with mmu_interval_notifier_remove_start())
 * @removed: objects that no callback and no lookup is left of
 * @released: objects released
 * @holds: holds begun
 * @puts: holds ended
 * @held_back: releases that had to wait for a hold
 * @kicks: times that the worker was woken up
 * @would_block: non-blockable invalidations declined, because the user lock was taken or
 *	&odp_mirror_ops.zap sleeps (managed level)
 * @changes: requests to change a range that were accepted (managed level, as are the next five)
 * @unchanged: times that a change came to nothing, because the range was right as it was
 * @replaced: ranges replaced by others
 * @pieces: the ranges that they were replaced by
 * @merged: ranges that became part of a neighbour's, see odp_range_merge(); @replaced has them, too
 * @replace_failed: times that a range was kept as it was because it could not be replaced
 *
 * Each counts from the creation on, and none is ever reset. They are read one after the other, so
 * that they fit together only while nothing happens.
 */
struct odp_stats {
	u64 inserted;
	u64 insert_failed;
	u64 mm_dead;
	u64 queued;
	u64 coalesced;
	u64 batches;
	u64 grace_periods;
	u64 drained;
	u64 started;
	u64 removed;
	u64 released;
	u64 holds;
	u64 puts;
	u64 held_back;
	u64 kicks;
	u64 would_block;
	u64 changes;
	u64 unchanged;
	u64 replaced;
	u64 pieces;
	u64 merged;
	u64 replace_failed;
};

/**
 * enum odp_until - what to wait for
 * @ODP_REMOVED: no callback and no lookup is left. Takes as long as the address space is being
 *	invalidated and lookups last.
 * @ODP_RELEASED: released, too. Takes as long as the slowest hold; where user space can keep one,
 *	that is for user space to say.
 */
enum odp_until {
	ODP_REMOVED,
	ODP_RELEASED,
};

/*
 * struct odp_retirer retires objects of one kind, and is opaque. One for each address space is
 * best: a removal waits for the invalidations of its address space, and later removals of the same
 * retirer wait for it. All retirers and mirrors that one process has made share a workqueue.
 */
context_lock_struct(odp_retirer);

/* For wakeup_delay_us of a configuration: the worker is woken up at once. */
#define ODP_AT_ONCE	(~0U)

/**
 * struct odp_retirer_config - what can be chosen when a retirer is made
 * @mm: the address space that the objects are retired for, if it is one: the worker is woken up a
 *	little later while its mmap_lock is taken, which is when a system call that retires is
 *	likely to go on. The mm_struct is kept, the address space is not. NULL for none.
 * @wakeup_delay_us: about how many microseconds after a request the worker is woken up, so that it
 *	does not run in the middle of the system call that the request came from. The library
 *	adapts it to how long such calls take, between a fourth of this and four times as much,
 *	and waits longer while requests keep coming. A task that waits for the worker does not
 *	wait for this. At most 100000; 0 stands for 500, %ODP_AT_ONCE for no delay.
 * @expedited: whether grace periods are expedited (synchronize_srcu_expedited()): objects are gone
 *	sooner where removals follow each other closely, and each of them costs the machine more
 *
 * A member that is added later will keep today's behaviour when it is 0.
 */
struct odp_retirer_config {
	struct mm_struct *mm;
	unsigned int wakeup_delay_us;
	bool expedited;
};

/**
 * odp_retirer_create() - make a retirer
 * @name: the name of the file with its counters, in debugfs below odp/, to be unique; copied
 * @ops: what to call for an object
 * @config: what is chosen, copied; or NULL, for zeroes
 *
 * Context: may sleep and allocates with GFP_KERNEL_ACCOUNT. @ops->owner must be loaded, or being
 * loaded.
 *
 * Return: the retirer, to be ended by odp_retirer_shutdown(); or an ERR_PTR: -ENOMEM, -ENODEV if
 * @ops->owner is about to be unloaded, or -EINVAL if the wakeup delay is out of range.
 */
struct odp_retirer *odp_retirer_create(const char *name, const struct odp_retirer_ops *ops,
				       const struct odp_retirer_config *config);

/**
 * odp_retirer_shutdown() - end a retirer
 * @retirer: the retirer, which is freed; or NULL, for which nothing is done
 *
 * Waits until every object that has been retired is released, and until nothing of the driver's is
 * being called or going to be. Objects that have not been retired are not waited for, and not
 * touched: the driver retires them before.
 *
 * Context: may sleep and wait for invalidations and for the worker. Waits for all holds of
 * retired objects. No other call for the retirer may be going on or begin, except what ends those
 * holds, and odp_retire() in the invalidate() of objects that have been retired.
 */
void odp_retirer_shutdown(struct odp_retirer *retirer);

/**
 * odp_request_init() - make an object that is in service from now on
 * @req: the request in the object
 *
 * Nobody holds it. So if its notifier is in the tree and invalidate() retires it, it may be freed
 * at any moment. Unless something else excludes that, use odp_request_init_building(). A driver's
 * mmap() excludes it: mmap_lock is held for writing, so that nothing is unmapped.
 *
 * Context: any. Nobody else may know of the object yet.
 */
void odp_request_init(struct odp_request *req);

/**
 * odp_request_init_building() - make an object that is not in service yet and held by the caller
 * @req: the request in the object
 *
 * For an object whose notifier is about to be inserted. It may be retired from then on, but the
 * library calls nothing for it before odp_publish(). If the notifier cannot be inserted, the driver
 * may free the object as it is.
 *
 * Context: any. Nobody else may know of the object yet.
 */
void odp_request_init_building(struct odp_request *req);

/**
 * odp_publish() - say that an object is in service, and found by lookups
 * @retirer: the retirer
 * @req: a request initialised by odp_request_init_building()
 *
 * If it has been retired meanwhile, this is the moment in which it is queued. The caller's hold
 * remains, and keeps the object until odp_put().
 *
 * mmu_interval_notifier_insert() may return before the notifier is in core mm's tree. Until it is
 * there, invalidate() is not called for it, neither for munmap() nor at the end of the address
 * space. So call mmu_interval_read_begin() before this function; it sleeps until the notifier is in
 * the tree. The caller keeps the address space (mmget_not_zero()) meanwhile. If a page is mapped
 * after that, invalidate() will be called when it is unmapped.
 *
 * Context: may be called in invalidate().
 *
 * Return: 0, or -EXDEV if the object belongs to another retirer; then it is as it was.
 */
int odp_publish(struct odp_retirer *retirer, struct odp_request *req);

/**
 * odp_retire() - have an object taken out of service
 * @retirer: the retirer
 * @req: the request in the object
 *
 * Returns at once; the functions in &struct odp_retirer_ops are called later. From here on
 * odp_hold() and odp_request_live() fail. It cannot be undone, and however many ask for it, it
 * happens once.
 *
 * The object must be valid during the call, and from the first call on until
 * &odp_retirer_ops.release is called. In invalidate() it is, because its notifier is removed
 * before that; elsewhere a hold or a read section keeps it.
 *
 * Context: may be called in invalidate(), under the user lock or not.
 *
 * Return:
 * * 0 - this was the first call: the object is on its way out
 * * -EALREADY - it was on its way out before
 * * -ESHUTDOWN - the retirer is being shut down and takes nothing; the object is as it was. In
 *   invalidate() go on as for any other event: stop access, record the sequence, return true. All
 *   objects are retired before odp_retirer_shutdown() is called; one that was left out is still
 *   registered, and remains the driver's to remove
 * * -EXDEV - the object belongs to another retirer; it is as it was
 */
int odp_retire(struct odp_retirer *retirer, struct odp_request *req);

/**
 * odp_remove_notifier() - remove the notifier of an object
 * @req: the request in the object
 * @notifier: the object's notifier, which has been inserted
 *
 * For &odp_retirer_ops.remove. Does what mmu_interval_notifier_remove() does, and lets the worker
 * know if that had to wait for invalidations: then it has more objects removed at the same time.
 * With mmu_interval_notifier_remove() itself at most eight objects are, because a @remove that
 * takes long may as well wait for a lock of the driver's.
 *
 * Context: sleeps until the invalidations of the address space that are going on have ended. Not
 * under a lock that invalidate() takes.
 */
void odp_remove_notifier(struct odp_request *req, struct mmu_interval_notifier *notifier);

/**
 * odp_request_live() - say whether an object is in service
 * @req: the request in the object
 *
 * To be asked under the user lock together with mmu_interval_read_retry(), before anything is
 * installed: the sequence of a notifier that was removed meanwhile says nothing. What is
 * installed after the answer was true, and before the user lock is let go of, is seen by the zap in
 * &odp_retirer_ops.remove. It is also to be asked before what was installed is used.
 *
 * Context: any. The object must be valid, by a hold or a read section.
 *
 * Return: false if it has been retired or not been published yet.
 */
bool odp_request_live(const struct odp_request *req);

/**
 * odp_hold() - begin to hold an object
 * @retirer: the retirer
 * @req: the request in an object that is valid during the call
 *
 * The hold keeps the object from being released, and nothing else: &odp_retirer_ops.remove does
 * not wait for it, so it may be long. The notifier may be removed meanwhile, and then it does not
 * keep its mm. After a fault that sleeps, look at odp_request_live() again.
 *
 * Context: may be called in invalidate().
 *
 * Return: whether there is a hold now, to be ended by odp_put(); false if the object is not in
 * service or belongs to another retirer.
 */
bool __must_check odp_hold(struct odp_retirer *retirer, struct odp_request *req);

/**
 * odp_put() - end a hold
 * @retirer: the retirer
 * @req: the request in the object
 *
 * The caller does not touch the object after this. If it was the last hold of an object that has
 * been removed, &odp_retirer_ops.release is called by the worker.
 *
 * Context: may be called in invalidate().
 */
void odp_put(struct odp_retirer *retirer, struct odp_request *req);

/**
 * odp_read_lock() - begin a read section, in which objects that are found stay valid
 * @retirer: the retirer
 *
 * A section of the retirer's SRCU domain. Everything that is retired waits for it, so it must be
 * short: it may wait for a user lock, but not for user space, an invalidation or the worker. Who
 * needs longer takes a hold.
 *
 * Context: any process context. Sections nest.
 *
 * Return: what to pass to odp_read_unlock().
 */
int odp_read_lock(struct odp_retirer *retirer) __acquires_shared(retirer);

/**
 * odp_read_unlock() - end a read section
 * @retirer: the retirer
 * @idx: what odp_read_lock() returned, in the same task
 *
 * Context: any process context.
 */
void odp_read_unlock(struct odp_retirer *retirer, int idx) __releases_shared(retirer);

/**
 * odp_drain() - remove here what the worker has not begun to remove
 * @retirer: the retirer
 *
 * Calls &odp_retirer_ops.unpublish, waits for a grace period and calls &odp_retirer_ops.remove for
 * what nobody has taken yet. Never waits for the worker, and leaves releases to it. A fault path
 * that does this first makes those who create objects pay for their removal.
 *
 * Context: may sleep and wait for invalidations; without locks that those two functions take.
 *
 * Return: how many objects that was.
 */
size_t odp_drain(struct odp_retirer *retirer);

/**
 * odp_flush() - wait for everything that was retired before the call
 * @retirer: the retirer
 * @until: what to wait for
 *
 * Context: may sleep and wait for invalidations and for the worker; killable. With ODP_RELEASED the
 * caller must not hold what it waits for.
 *
 * Return: 0; or -EINTR if the task has been killed.
 */
int odp_flush(struct odp_retirer *retirer, enum odp_until until);

/**
 * odp_wait_removed() - wait until &odp_retirer_ops.remove has returned for an object
 * @retirer: the retirer
 * @req: the request in an object that the caller holds
 *
 * Context: may sleep and wait for invalidations and for the worker; killable.
 *
 * Return: 0; -EINVAL if the object has not been retired, -EXDEV if it belongs to another retirer,
 * -EINTR if the task has been killed.
 */
int odp_wait_removed(struct odp_retirer *retirer, struct odp_request *req);

/**
 * odp_retirer_stats() - read the counters
 * @retirer: the retirer
 * @stats: where to put them
 *
 * The same as in debugfs. Those of the managed level are zero.
 *
 * Context: any.
 */
void odp_retirer_stats(struct odp_retirer *retirer, struct odp_stats *stats);

/**
 * odp_invalidate_enter() - tell lockdep that an invalidate() begins
 * @blockable: whether it may sleep, see mmu_notifier_range_blockable()
 *
 * The first thing in an invalidate() of the driver's own. Core mm has a lockdep map for most
 * invalidations, but not for MMU_NOTIFY_RELEASE, and none that this library could touch when it
 * waits for them. With the map of ours, calls that would deadlock are reported. The driver's lock
 * is taken after this. A call that is not blockable is marked so for CONFIG_DEBUG_ATOMIC_SLEEP,
 * except on PREEMPT_RT, where spinlocks would be reported.
 *
 * Context: invalidate(). Does nothing in kernels without lockdep and CONFIG_DEBUG_ATOMIC_SLEEP.
 */
void odp_invalidate_enter(bool blockable);

/**
 * odp_invalidate_exit() - tell lockdep that an invalidate() ends
 * @blockable: as for odp_invalidate_enter(), in the same task
 *
 * Context: invalidate(), without the locks taken since.
 */
void odp_invalidate_exit(bool blockable);

/*
 * The managed level.
 */

/**
 * enum odp_verdict - what becomes of a range when &odp_mirror_ops.zap has returned
 * @ODP_KEEP: it stays in service
 * @ODP_RETIRE: it is retired, as by odp_range_retire()
 * @ODP_PUNCH: what is unmapped leaves it, as by odp_range_punch() of the addresses zapped
 *
 * Whatever the verdict, MMU_NOTIFY_RELEASE retires a range.
 */
enum odp_verdict {
	ODP_KEEP,
	ODP_RETIRE,
	ODP_PUNCH,
};

/**
 * struct odp_span - addresses in bytes
 * @start: the first byte, a multiple of PAGE_SIZE
 * @end: the first byte behind it, a greater multiple
 */
struct odp_span {
	unsigned long start;
	unsigned long end;
};

/*
 * struct odp_mirror is what one device context mirrors of one address space, and struct odp_range
 * is a span of addresses of it. Both are opaque.
 */
struct odp_mirror;
struct odp_range;

/**
 * struct odp_mirror_ops - what a driver says about the addresses that it mirrors
 *
 * @shared is the driver's object behind one or more ranges: its page table, with one lock. It is
 * what was passed to odp_range_insert(). Addresses are in bytes, multiples of PAGE_SIZE, and ends
 * are exclusive.
 *
 * What has been installed between odp_commit_begin() and odp_commit_end() is good until @zap or
 * @zap_dead is called for its address. The library calls one of them before the address loses its
 * notifier, whatever becomes of the range. So if the table is keyed by absolute address, an entry
 * may be used under the user lock without knowing the range, as a device does that walks the table.
 * Such a use ends with @zap_dead, not with odp_range_retire(); if it has to end with the latter,
 * see odp_access_begin().
 *
 * The user lock may have a shared side, as an rw_semaphore has. @lock, @trylock and @unlock are the
 * other side, which excludes it. Then an entry may be used under the shared side as well, by
 * several at a time, for that holds off @zap and @zap_dead. Nothing may be installed under it.
 */
struct odp_mirror_ops {
	/**
	 * @owner: the module that the functions are text of, THIS_MODULE in general. It cannot be
	 * unloaded between odp_mirror_create() and the end of odp_mirror_shutdown(). With NULL it
	 * can, and the driver has to call the latter before its exit function returns.
	 */
	struct module *owner;

	/**
	 * @lock: take the user lock of @shared: a mutex, a spinlock, or an rw_semaphore for
	 * writing. It is taken in invalidate(), in reclaim, too. So nothing may be allocated under
	 * it that could reclaim, nor under its shared side if it has one. The library takes its own
	 * spinlocks inside, and nothing else. In kernels with lockdep an insertion takes it once
	 * for nothing, to tell lockdep that.
	 */
	void (*lock)(void *shared);

	/**
	 * @trylock: take it unless somebody has it, and say whether that was so. Does not sleep.
	 */
	bool (*trylock)(void *shared);

	/**
	 * @unlock: let go of it.
	 */
	void (*unlock)(void *shared);

	/**
	 * @zap: stop the device's access to @start..@end, which is part of @range; the pages there
	 * change when this has returned. @event is an &enum mmu_notifier_event. Returns an
	 * &enum odp_verdict.
	 *
	 * Context: invalidate(), with the user lock held and the sequence recorded. Must not sleep,
	 * unless @zap_sleeps says so. Of this header it may call odp_range_retire(),
	 * odp_range_punch(), odp_range_resize(), odp_range_shared(), odp_range_start(),
	 * odp_range_end() and odp_range_live() for @range; and, for a range that the driver holds,
	 * whatever "may be called in invalidate()".
	 *
	 * It is also called for a range that has been retired or replaced, until that is removed,
	 * and for one that is about to take the place of another one, so that it may come twice for
	 * the same addresses, or for such as are about to be added. As long as core mm puts off the
	 * insertion of the new range it is called for the old one alone. What it answers then counts
	 * for both, so it must not depend on the size of @range.
	 */
	int (*zap)(void *shared, struct odp_range *range, unsigned long start, unsigned long end,
		   unsigned int event);

	/**
	 * @zap_dead: stop the device's access to @start..@end once more. The range that covered
	 * these addresses was retired, or other ranges that do not cover them have taken its
	 * place, and a commit may have installed something since @zap.
	 *
	 * Context: process context, with the user lock and the mirror's index held: no
	 * insertion. The worker, a caller of odp_mirror_drain() or of odp_range_insert().
	 */
	void (*zap_dead)(void *shared, unsigned long start, unsigned long end);

	/**
	 * @zapped: wait for the device (optional). Called after @zap_dead, for all of the range,
	 * without the user lock. Other ranges may be in service at part of these addresses, such
	 * as those that have taken its place.
	 *
	 * Context: may sleep and wait for invalidations, but not for the worker.
	 */
	void (*zapped)(void *shared, unsigned long start, unsigned long end);

	/**
	 * @replaced: other ranges, @n of them, are in service in the place of the one at
	 * @old_start..@old_end, at @pieces, in order of address (optional): smaller ones, or one
	 * that reaches beyond it, see odp_range_grow(). Where several have become one, see
	 * odp_range_merge(), they were at @old_start..@old_end. What is installed stays, but
	 * for what leaves coverage, which has been zapped, by @zap_dead. @pieces is valid
	 * during the call; by now they may be on their way out or be replaced themselves.
	 *
	 * Context: may sleep and wait for invalidations, but not for the worker.
	 */
	void (*replaced)(void *shared, unsigned long old_start, unsigned long old_end,
			 const struct odp_span *pieces, size_t n);

	/**
	 * @released: a range is gone, with its callbacks, its lookups and its holds, and does not
	 * count for &odp_mirror_config.max_ranges any more (optional). Called once for every range
	 * that was inserted, and for every one that took the place of part of one.
	 *
	 * Context: may sleep and wait for invalidations, but not for the worker.
	 */
	void (*released)(void *shared, unsigned long start, unsigned long end);

	/**
	 * @get: keep @shared from being freed (optional). Called by odp_range_insert().
	 */
	void (*get)(void *shared);

	/**
	 * @put: undo @get (optional). Called when a range has been released, and all that took its
	 * place; and when it was not inserted.
	 *
	 * Context: may sleep and wait for invalidations, but not for the worker. It must not end
	 * the mirror, because odp_mirror_shutdown() waits for it.
	 */
	void (*put)(void *shared);

	/**
	 * @zap_sleeps: whether @zap may sleep, to wait for the device. Invalidations that may not
	 * block are refused then, so that reclaim, say, looks for other pages; and the user lock
	 * has to be one that sleeps. Whoever unmaps or migrates the pages waits for @zap.
	 */
	bool zap_sleeps;
};

/**
 * struct odp_section - what a fault has begun and may commit: since when it looks at pages
 *
 * Filled in by odp_range_fault(), odp_read_begin() or odp_section_adopt(), for odp_commit_begin()
 * of the same range; for another range that returns -EAGAIN. May be copied, and used again.
 */
struct odp_section {
	/* private: */
	u64 opaque[3];
};

/**
 * struct odp_mirror_config - what can be chosen when a mirror is made
 * @max_ranges: how many ranges there may be, counting those that are not released yet and those
 *	that take the place of others; 0 for 65536. Each takes 256 bytes, 32 more if there has been a
 *	fault in it, and what the driver has for it.
 * @grain: in bytes. When a range is split, the ends of the smaller ranges are rounded outward to a
 *	multiple of this, but not beyond the old range. A power of two, and no less than PAGE_SIZE;
 *	0 stands for PAGE_SIZE. A device with huge pages wants the size of those.
 * @owner: what the driver passes to migrate_vma_setup() or make_device_exclusive() as the owner;
 *	NULL if it calls neither. Events of those that have this owner are the driver's own doing,
 *	and @zap is not called for them. Before it migrates pages the driver stops its device's
 *	access to them itself; a fault that has found them begins again. Two mirrors of one address
 *	space must not have the same owner, because neither is told of what is done for the other.
 *	A device that a process may open twice has one owner for its memory, which is what
 *	migrate_vma_setup() takes. Its mirrors have no owner, or one that only
 *	make_device_exclusive() is passed, and are told of migrations
 * @wakeup_delay_us: as &odp_retirer_config.wakeup_delay_us
 * @expedited: as &odp_retirer_config.expedited
 *
 * A member that is added later will keep today's behaviour when it is 0.
 */
struct odp_mirror_config {
	size_t max_ranges;
	size_t grain;
	void *owner;
	unsigned int wakeup_delay_us;
	bool expedited;
};

/**
 * odp_mirror_create() - make the mirror of an address space, with nothing in it
 * @mm: the address space, with users (current->mm, in general)
 * @ops: the driver's functions; copied
 * @config: what is chosen, copied; or NULL, for zeroes
 *
 * It keeps the mm_struct, not the address space: the process may exit first, or last.
 *
 * What the library allocates for the mirror, its ranges, and what takes their place later, is
 * charged to the memory cgroup that is the caller's, or active, now; if the caller is a kernel
 * thread, to that of the owner of @mm. At that cgroup's limit ranges are not replaced, and who
 * inserts one has the cgroup reclaim, as with any allocation. The mirror itself takes about two
 * KiB, and another one for each CPU.
 *
 * Context: may sleep and allocates with GFP_KERNEL_ACCOUNT. The first mirror of a process takes
 * mmap_lock for writing, and the locks of all mappings.
 *
 * Return: the mirror, to be ended by odp_mirror_shutdown(); or an ERR_PTR: -ENOMEM, -EINTR if a
 * signal arrived, -ENODEV if @ops->owner is about to be unloaded, -EINVAL if a function is missing
 * or the grain or the wakeup delay is not what it has to be.
 */
struct odp_mirror *odp_mirror_create(struct mm_struct *mm, const struct odp_mirror_ops *ops,
				     const struct odp_mirror_config *config);

/**
 * odp_mirror_shutdown() - end a mirror
 * @mirror: the mirror, which is freed; or NULL, for which nothing is done
 *
 * Retires all ranges, waits until they are released, and until nothing of the driver's is being
 * called or going to be.
 *
 * Context: may sleep and wait for invalidations and for the worker. Waits for all holds; the
 * caller must have none. No other call for the mirror may be going on or begin, except what ends
 * those holds.
 */
void odp_mirror_shutdown(struct odp_mirror *mirror);

/**
 * odp_range_insert() - mirror a span of addresses from now on
 * @mirror: the mirror
 * @start: the first byte
 * @len: the length in bytes
 * @shared: the driver's object
 *
 * An object is used with one mirror only. An invalidation that comes before this returns may have
 * retired the range already. If a page is mapped after this has returned, &odp_mirror_ops.zap will
 * be called when it is unmapped: the notifier is in core mm's tree by now.
 *
 * Context: may sleep; waits until the invalidations of the address space that are going on have
 * ended, of whatever addresses, and for somebody else who is inserting a range that overlaps, who
 * waits for the same. Not under mmap_lock, nor the user lock. Allocates with GFP_KERNEL_ACCOUNT;
 * who is charged is said at odp_mirror_create().
 *
 * Return: the range, held by the caller, who ends that by odp_range_put() or odp_range_remove();
 * or an ERR_PTR:
 * * -EINVAL - @len is 0, or one of the two is not a multiple of PAGE_SIZE
 * * -EOVERFLOW - the span ends beyond the last address
 * * -ESRCH - the address space is gone
 * * -EEXIST - part of the span is mirrored already. A range that is retired does not count; what
 *   odp_range_punch() or odp_range_resize() has been asked to let go of does until smaller ranges
 *   are in the range's place, for which odp_mirror_flush() waits
 * * -ENOSPC - there are as many ranges as there may be. Call odp_mirror_drain(), or wait for
 *   &odp_mirror_ops.released; a range that is held is not released
 * * -ENOMEM
 */
struct odp_range *odp_range_insert(struct odp_mirror *mirror, unsigned long start,
				   unsigned long len, void *shared);

/**
 * odp_range_lookup() - find the range in service at an address
 * @mirror: the mirror
 * @addr: the address
 *
 * Context: any process context. Takes no lock, but may wait for a moment for a change of the
 * mirror's index: not under a lock that an interrupt handler takes.
 *
 * Return: the range, held by the caller, who ends that by odp_range_put() or odp_range_remove();
 * or NULL.
 */
struct odp_range *odp_range_lookup(struct odp_mirror *mirror, unsigned long addr);

/**
 * odp_range_first() - find the first range in service in a span of addresses
 * @mirror: the mirror
 * @start: the first byte
 * @end: the first byte behind the span
 *
 * Context: as for odp_range_lookup().
 *
 * Return: the range in service at the lowest address of which any part lies in the span, held by
 * the caller, who ends that by odp_range_put() or odp_range_remove(); or NULL. A range that is held
 * as often as it can be is passed over.
 */
struct odp_range *odp_range_first(struct odp_mirror *mirror, unsigned long start,
				  unsigned long end);

/**
 * odp_range_next() - find the range in service behind another one
 * @mirror: the mirror
 * @range: a range of that mirror that the caller holds, which this ends
 * @end: the first byte behind the span that is gone through
 *
 * Context: as for odp_range_lookup(), but the end of the hold may take a spinlock: see
 * odp_range_put().
 *
 * Return: as for odp_range_first(), with the end of @range for the start.
 */
struct odp_range *odp_range_next(struct odp_mirror *mirror, struct odp_range *range,
				 unsigned long end);

/**
 * odp_for_each_range() - go through the ranges in service of a span of addresses
 * @range: a variable for the range, which is held in the body of the loop
 * @mirror: the mirror
 * @start: the first byte
 * @end: the first byte behind the span
 *
 * In order of address; of a range that reaches beyond the span, too. It is no snapshot: between two
 * steps ranges come and go. One that is in service all the time is found, once; and no address is
 * passed over that is mirrored all the time, whatever range it is part of. So the next one may
 * begin before the end of the last one, if it has grown over that or both have become part of it.
 *
 * The body may sleep. It does not end the hold, which the next step does: it calls
 * odp_range_retire(), say, and neither odp_range_put() nor odp_range_remove(). A break, goto or
 * return out of it leaves @range held.
 */
#define odp_for_each_range(range, mirror, start, end)				\
	for (range = odp_range_first(mirror, start, end); range;		\
	     range = odp_range_next(mirror, range, end))

/**
 * odp_range_put() - end a hold
 * @range: a range that the caller holds, and does not touch after this
 *
 * Context: may be called in invalidate().
 */
void odp_range_put(struct odp_range *range);

/**
 * odp_range_start() - say where a range begins
 * @range: a range that the caller holds, or that &odp_mirror_ops.zap has been called with
 *
 * Context: any.
 *
 * Return: the first byte.
 */
unsigned long odp_range_start(const struct odp_range *range);

/**
 * odp_range_end() - say where a range ends
 * @range: as for odp_range_start()
 *
 * Context: any.
 *
 * Return: the first byte behind it.
 */
unsigned long odp_range_end(const struct odp_range *range);

/**
 * odp_range_shared() - find the driver's object
 * @range: as for odp_range_start()
 *
 * Context: any.
 *
 * Return: what was passed to odp_range_insert(), valid for as long as the range is.
 */
void *odp_range_shared(const struct odp_range *range);

/**
 * odp_range_live() - say whether a range was in service at some moment during the call
 * @range: as for odp_range_start()
 *
 * Context: any.
 *
 * Return: false if it has been retired or replaced.
 */
bool odp_range_live(const struct odp_range *range);

/**
 * odp_range_retire() - have a range removed
 * @range: as for odp_range_start()
 *
 * Returns at once; &odp_mirror_ops.released is called later. Lookups, accesses and commits fail
 * from here on.
 *
 * Context: may be called in invalidate(), under the user lock or not.
 *
 * Return:
 * * 0 - this was the first call: the range is on its way out
 * * -EALREADY - it was on its way out before
 * * -ESTALE - other ranges are in its place, and stay as they are. In &odp_mirror_ops.zap there
 *   is nothing to be done about that, because it is called for them, too; elsewhere look the
 *   addresses up again
 * * -ESHUTDOWN - the mirror is being shut down
 */
int odp_range_retire(struct odp_range *range);

/**
 * odp_range_punch() - say that part of a range is not mapped any more, and may leave the range
 * @range: as for odp_range_start()
 * @start: the first byte of that part
 * @end: the first byte behind it; at most the end of the range
 *
 * Returns at once. The worker looks at what the process has mapped by then, so it does no harm to
 * say this of what is still mapped, or mapped again. If part of the range is not mapped, smaller
 * ranges take its place, with ends as &odp_mirror_config.grain says, and &odp_mirror_ops.replaced
 * is called; if nothing is, the range is retired. Until then it is in service as it was. Requests
 * that come meanwhile are combined, in whatever order they come; odp_range_retire() wins.
 *
 * A range that cannot be replaced, for want of memory or because of &odp_mirror_config.max_ranges,
 * stays as it was, which is too large but loses nothing (&odp_stats.replace_failed). That is tried
 * again by the next request for it, by odp_mirror_drain(), which tries a few that could not be
 * replaced, and by odp_mirror_flush(), which tries all, and waits for it.
 *
 * Context: may be called in invalidate(), under the user lock or not.
 *
 * Return:
 * * 0 - accepted
 * * -EINVAL - the span is empty or inverted, not of whole pages, or not part of the range
 * * -ESTALE - the range is retired or has been replaced; it is as it was
 * * -ESHUTDOWN - the mirror is being shut down; the range is as it was
 */
int odp_range_punch(struct odp_range *range, unsigned long start, unsigned long end);

/**
 * odp_range_punch_unmapped() - have what is not mapped taken out of a range
 * @range: a range that the caller holds
 *
 * Looks whether the process has all of the range mapped, but for what &odp_mirror_config.grain
 * would keep. If not, this is odp_range_punch() of all of it, or of those that are in its place,
 * and the worker takes out what is not mapped by then.
 *
 * &odp_mirror_ops.zap is called for what is unmapped while the range is in service, and nothing is
 * called for what was unmapped before. So after a driver has inserted a range for a fault, it calls
 * this once. Otherwise the range may stay for ever at addresses that a munmap() at the same time
 * has unmapped.
 *
 * Context: may sleep; takes mmap_lock for reading, so not under that, nor under the user lock.
 *
 * Return:
 * * 0 - all of it is mapped, or the worker is going to see to it
 * * -ESRCH - the address space is gone
 * * -ESTALE - the range is retired
 * * -ESHUTDOWN - the mirror is being shut down
 */
int odp_range_punch_unmapped(struct odp_range *range);

/**
 * odp_range_resize() - have a range cut to part of it
 * @range: as for odp_range_start()
 * @start: the first byte that is to stay, in the range
 * @end: the first byte behind it, in the range or its end
 *
 * What lies outside leaves the range, mapped or not, apart from what &odp_mirror_config.grain
 * keeps. Of several requests the range keeps the intersection; if that is empty, the range is
 * retired. Otherwise as odp_range_punch().
 *
 * If the range is just becoming one with those beside it, this may count as odp_range_punch() of
 * what lies outside: what of that is mapped stays. See odp_range_merge().
 *
 * Context: may be called in invalidate(), under the user lock or not.
 *
 * Return: as odp_range_punch().
 */
int odp_range_resize(struct odp_range *range, unsigned long start, unsigned long end);

/**
 * odp_range_grow() - have a range become larger, or move
 * @range: a range that the caller holds
 * @start: the first byte that it is to have
 * @end: the first byte behind it
 *
 * What it is to have is part of the range and what lies beyond it, at one end or both. At an end
 * that moves outward, what has been asked for before does not count any more.
 *
 * Returns at once. The range stays in service until one that covers all of it is in its place, so
 * that no address that both have is without a notifier, or not found, for a moment. That one is
 * held by nobody: call odp_mirror_flush() and odp_range_lookup(). Nothing tells of what was not
 * mapped of it before, so call odp_range_punch_unmapped() for it, as after an insertion.
 *
 * If another range is inserted in what is to be added before the worker is done, or if what is to
 * be added is unmapped and that retires a range, the range stays as it is, and
 * &odp_stats.replace_failed counts.
 *
 * Context: may sleep; not under the user lock, nor mmap_lock.
 *
 * Return:
 * * 0 - accepted
 * * -EINVAL - the span is empty or inverted, not of whole pages, or has no part of the range
 * * -EEXIST - another range has part of what is to be added. One that is retired does not count
 * * -ESTALE - the range is retired or has been replaced; it is as it was
 * * -ESHUTDOWN - the mirror is being shut down; the range is as it was
 */
int odp_range_grow(struct odp_range *range, unsigned long start, unsigned long end);

/**
 * odp_range_merge() - have a range become one with those beside it
 * @range: a range that the caller holds
 * @start: the first byte that the one may have; at most the start of the range
 * @end: the first byte behind that; at least the end of the range
 *
 * Those that become one lie in @start..@end and follow each other without a gap, and the same
 * pointer was passed to odp_range_insert() for them.
 *
 * Returns at once. They stay in service until one that has the addresses of all is in their places,
 * so that no address is without a notifier, or not found, for a moment. What is installed stays,
 * and &odp_mirror_ops.replaced is called once, with the span of all. That one is held by nobody,
 * and needs no room in &odp_mirror_config.max_ranges. So memory that grows in small steps, with a
 * range for each step, ends with few ranges. If all are asked to, they become one whatever the
 * order.
 *
 * The worker leaves out a range that it has for another request, or that it could not cut as
 * odp_range_resize() wants it, and what lies beyond that range: ask again. &odp_stats.merged counts
 * the ranges that have become part of another.
 *
 * Requests for one of them that come meanwhile are done. A range that is retired or resized in time
 * is left out, and what odp_range_punch() says counts for the one. For a moment, just before the
 * one is in their places, it is too late for that: then odp_range_retire() of one of them retires
 * all, and odp_range_resize() counts as odp_range_punch() of what was to be cut off.
 *
 * Context: may be called in invalidate(), under the user lock or not.
 *
 * Return:
 * * 0 - accepted
 * * -EINVAL - the span is empty or inverted, not of whole pages, or lacks part of the range
 * * -ESTALE - the range is retired or has been replaced; it is as it was
 * * -ESHUTDOWN - the mirror is being shut down; the range is as it was
 */
int odp_range_merge(struct odp_range *range, unsigned long start, unsigned long end);

/**
 * odp_range_remove() - remove a range
 * @range: a range that the caller holds; the hold ends here, whatever this returns
 *
 * Returns when no callback, lookup or access is left of it. What others hold delays its release,
 * not this.
 *
 * Context: may sleep and wait for invalidations and for the worker; killable.
 *
 * Return:
 * * 0
 * * -ESTALE - other ranges are in its place. They stay: look the addresses up again
 * * -EINTR - the task has been killed. The range is retired, and is removed later
 */
int odp_range_remove(struct odp_range *range);

/**
 * odp_range_fault() - find the process's pages, and fault them in as needed
 * @range: a range that the caller holds
 * @hmm: what is wanted, within the range; this sets its notifier
 * @timeout: for how many jiffies HMM begins again when an invalidation of the range interrupts it,
 *	and waits for those that are going on; 0 for as long as it takes
 * @section: what odp_commit_begin() wants
 *
 * hmm_range_fault_unlocked_timeout() with the notifier of the range. Only invalidations of the
 * addresses that @hmm asks for keep what is found from being committed, as long as the driver does
 * not have the range retired or replaced for others; unless there was no memory to note the fault,
 * or 64 or more others of the same @shared object have begun since.
 *
 * A fault looks like this; what is needed to install is allocated before the user lock is taken::
 *
 *	do {
 *		ret = odp_range_fault(range, &hmm, HZ, &section);
 *		if (ret == -EBUSY)
 *			continue;
 *		if (ret)
 *			break;
 *		ret = accel_reserve(&ctx->accel, addr);
 *		if (ret) {
 *			odp_section_abandon(range, &section);
 *			break;
 *		}
 *		ret = odp_commit_begin(range, &section);
 *		if (ret)
 *			continue;
 *		ret = accel_map(&ctx->accel, addr, pfn);
 *		odp_commit_end(range);
 *	} while ((ret == -EAGAIN || ret == -EBUSY) && !fatal_signal_pending(current));
 *
 * Where @hmm is::
 *
 *	struct hmm_range hmm = {
 *		.start = addr,
 *		.end = addr + PAGE_SIZE,
 *		.hmm_pfns = &pfn,
 *		.default_flags = HMM_PFN_REQ_FAULT,
 *	};
 *
 * Context: may sleep, for as long as user space likes if it handles the fault; takes mmap_lock for
 * reading, and the user lock. So not under either, nor between odp_access_begin() and
 * odp_access_end().
 *
 * Return:
 * * 0 - there is an entry for each page, and @section is for odp_commit_begin()
 * * -ESTALE - the range is retired or replaced: look the address up again
 * * -ESRCH - the address space is gone
 * * -EBUSY - invalidations of the range kept coming for as long as @timeout
 * * -EINVAL - @hmm asks for what is not within the range, or not for whole pages
 * * -EFAULT, -EPERM, -ENOMEM, -EINTR - as HMM says
 */
int __must_check odp_range_fault(struct odp_range *range, struct hmm_range *hmm,
				 unsigned long timeout, struct odp_section *section);

/**
 * odp_read_begin() - begin to look at the process's pages
 * @range: a range that the caller holds
 * @start: the first byte that is looked at
 * @end: the first byte behind it; at most the end of the range
 * @section: what odp_commit_begin() wants
 *
 * For a driver that finds pages without HMM, such as by make_device_exclusive(). What it sees of
 * the process's pages there from now on can be committed, unless an invalidation of them comes
 * before the commit. Sleeps until no invalidation is going on that has met the range
 * (mmu_interval_read_begin()). A section that is not committed is for odp_section_abandon().
 *
 * Context: may sleep and wait for invalidations, and takes the user lock.
 *
 * Return:
 * * 0
 * * -EINVAL - the span is empty or inverted, not of whole pages, or not part of the range
 * * -ESTALE - the range is retired or replaced: look the address up again
 */
int __must_check odp_read_begin(struct odp_range *range, unsigned long start, unsigned long end,
				struct odp_section *section);

/**
 * odp_range_notifier() - find a range's notifier
 * @range: as for odp_range_start()
 *
 * For whatever reads with one, see odp_section_adopt(). Not to be inserted, removed or changed. Its
 * member mm is the address space of the mirror; like the notifier it is valid for as long as the
 * range is, but its users may be gone.
 *
 * Context: any.
 *
 * Return: the notifier.
 */
struct mmu_interval_notifier *odp_range_notifier(struct odp_range *range);

/**
 * odp_section_adopt() - make a section of what has been read with a range's notifier
 * @range: a range that the caller holds
 * @section: what odp_commit_begin() wants
 * @notifier_seq: what HMM has left in &hmm_range.notifier_seq, or mmu_interval_read_begin() has
 *	returned, for the notifier of this range and no other
 *
 * Instead of odp_range_fault(), for a driver that calls HMM itself, and keeps the address space
 * meanwhile. Every invalidation of the range makes the section stale.
 *
 * Context: any.
 */
void odp_section_adopt(struct odp_range *range, struct odp_section *section,
		       unsigned long notifier_seq);

/**
 * odp_section_abandon() - end a section that is not going to be committed
 * @range: the range that it is of
 * @section: the section
 *
 * One that is left alone does no harm, but every invalidation of the range looks at it, until one
 * meets it or 64 others have begun.
 *
 * Context: as the user lock wants it; not under it.
 */
void odp_section_abandon(struct odp_range *range, const struct odp_section *section);

/**
 * odp_commit_begin() - take the user lock if what was found may be installed
 * @range: a range that the caller holds
 * @section: what odp_range_fault(), odp_read_begin() or odp_section_adopt() filled in for this
 *           range
 *
 * If this returns 0 the user lock is held. The caller installs what it has found since the section
 * began, within what it asked for, and calls odp_commit_end(). On an error the lock is not held.
 *
 * A section of odp_range_fault() or odp_read_begin() that is used for the first time may be
 * committed if no invalidation has met the addresses that were asked for. Any other section may be
 * committed if none has met any part of the range, which mmu_interval_read_retry() decides. A
 * failure ends the section.
 *
 * Context: as the user lock wants it.
 *
 * Return:
 * * 0 - the user lock is held
 * * -EAGAIN - an invalidation came between: begin again
 * * -ESTALE - the range is retired or replaced: look the address up again
 */
int __must_check odp_commit_begin(struct odp_range *range, const struct odp_section *section);

/**
 * odp_commit_end() - let go of the user lock
 * @range: the range for which odp_commit_begin() returned 0
 *
 * Context: as the user lock wants it.
 */
void odp_commit_end(struct odp_range *range);

/**
 * odp_access_begin() - take the user lock if the range is in service
 * @range: a range that the caller holds
 *
 * To use what is installed within the range. Nothing may be installed: odp_commit_begin() is for
 * that. A driver whose table is keyed by absolute address needs no range to use it, see &struct
 * odp_mirror_ops; this is for a table that is found through the range, and for accesses that are to
 * end with odp_range_retire().
 *
 * Context: as the user lock wants it.
 *
 * Return: 0, and the user lock is held; or -ESTALE if the range is retired or replaced: look the
 * address up again.
 */
int __must_check odp_access_begin(struct odp_range *range);

/**
 * odp_access_end() - let go of the user lock
 * @range: the range for which odp_access_begin() returned 0
 *
 * Context: as the user lock wants it.
 */
void odp_access_end(struct odp_range *range);

/**
 * odp_mirror_drain() - remove here what the worker has not begun to remove
 * @mirror: the mirror
 *
 * And replaces what it has not begun to replace. Never waits for the worker, and leaves to it
 * releases, and the removal of a range that has been replaced. A fault path that does this first
 * makes those who create ranges pay for their removal, and finds what is in the place of ranges
 * that have holes. If ranges have been released since, it has another try made for up to eight that
 * could not be replaced; the next call goes on with others.
 *
 * Context: may sleep and wait for invalidations; without locks that &odp_mirror_ops.replaced or
 * &odp_mirror_ops.zapped take.
 *
 * Return: how many ranges that was.
 */
size_t odp_mirror_drain(struct odp_mirror *mirror);

/**
 * odp_mirror_flush() - wait for everything that was retired before the call
 * @mirror: the mirror
 * @until: what to wait for
 *
 * And for everything that odp_range_punch() and odp_range_resize() were asked for before, whether
 * or not there was memory for it: smaller ranges are in the places of those that could be replaced,
 * which are removed, or released.
 *
 * Context: may sleep and wait for invalidations and for the worker; killable. With ODP_RELEASED the
 * caller must not hold what it waits for.
 *
 * Return: 0; or -EINTR if the task has been killed.
 */
int odp_mirror_flush(struct odp_mirror *mirror, enum odp_until until);

/**
 * odp_mirror_retire_all() - have all ranges removed
 * @mirror: the mirror
 *
 * Does not wait for that.
 *
 * Context: may sleep; not in invalidate().
 */
void odp_mirror_retire_all(struct odp_mirror *mirror);

/**
 * odp_mirror_stats() - read the counters
 * @mirror: the mirror
 * @stats: where to put them
 *
 * Context: any.
 */
void odp_mirror_stats(struct odp_mirror *mirror, struct odp_stats *stats);

#endif /* ODP_H */
