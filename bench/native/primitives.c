// SPDX-License-Identifier: GPL-2.0
/* What the designs are made of, one by one: each so many times, on as many objects. */

#include <linux/atomic.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/maple_tree.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "native.h"

/* What stands for a range: as large as the notifier of one with what belongs to it. */
struct object {
	atomic_t count;
	/* Guards nothing. */
	spinlock_t lock;
	/* Guards nothing. */
	struct mutex mutex;
	struct rcu_head head;
	struct work_struct work;
} __aligned(256);

/* Where a range is: they lie side by side. */
#define FIRST(i) (0x10000000ul + (i) * 0x4000ul)
#define LAST(i) (FIRST((i) + 1) - 1)

static struct maple_tree tree = MTREE_INIT(tree, MT_FLAGS_USE_RCU);
static DEFINE_XARRAY(array);
DEFINE_STATIC_SRCU(readers);
static struct workqueue_struct *queue;
static struct object *objects;

static void nothing(unsigned int n)
{
}

static void do_empty(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		OPTIMIZER_HIDE_VAR(i);
}

static void do_atomic(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		atomic_inc(&objects[i].count);
}

static void do_barrier(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		smp_mb(); /* Between nothing and nothing: what it takes. */
}

static void do_interrupts(unsigned int n)
{
	unsigned long flags;
	unsigned int i;

	for (i = 0; i < n; i++) {
		local_irq_save(flags);
		local_irq_restore(flags);
	}
}

static void do_clock(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		ktime_get();
}

static void do_spinlock(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		spin_lock(&objects[i].lock);
		spin_unlock(&objects[i].lock);
	}
}

static void do_mutex(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		mutex_lock(&objects[i].mutex);
		mutex_unlock(&objects[i].mutex);
	}
}

static void do_section(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		srcu_read_unlock(&readers, srcu_read_lock(&readers));
}

static void do_store(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		WARN_ON_ONCE(mtree_store_range(&tree, FIRST(i), LAST(i), &objects[i], GFP_KERNEL));
}

static void do_erase(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		WARN_ON_ONCE(mtree_erase(&tree, FIRST(i)) != &objects[i]);
}

static void empty_tree(unsigned int n)
{
	unsigned int i;

	/* A tree in RCU mode is destroyed when there is nothing left in it. */
	for (i = 0; i < n; i++)
		mtree_erase(&tree, FIRST(i));
	mtree_destroy(&tree);
	mt_init_flags(&tree, MT_FLAGS_USE_RCU);
}

static void do_slot(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		WARN_ON_ONCE(xa_insert(&array, FIRST(i) >> PAGE_SHIFT, &objects[i], GFP_KERNEL));
}

static void do_unslot(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		WARN_ON_ONCE(xa_cmpxchg(&array, FIRST(i) >> PAGE_SHIFT, &objects[i], NULL, 0) !=
			     &objects[i]);
}

static void empty_array(unsigned int n)
{
	xa_destroy(&array);
}

static void expired(struct rcu_head *head)
{
}

static void do_call_srcu(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		call_srcu(&readers, &objects[i].head, expired);
}

static void barrier_srcu(unsigned int n)
{
	srcu_barrier(&readers);
}

static void worked(struct work_struct *work)
{
}

static void do_queue(unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++)
		queue_work(queue, &objects[i].work);
}

static void flush_queue(unsigned int n)
{
	flush_workqueue(queue);
}

static const struct operation {
	const char *name;
	void (*before)(unsigned int n);
	void (*run)(unsigned int n);
	void (*after)(unsigned int n);
	/* It allocates memory. */
	bool sleeps;
} operations[] = {
	{ "empty-loop", nothing, do_empty, nothing },
	{ "atomic_inc", nothing, do_atomic, nothing },
	{ "smp_mb", nothing, do_barrier, nothing },
	{ "local_irq_save+restore", nothing, do_interrupts, nothing },
	{ "ktime_get", nothing, do_clock, nothing },
	{ "spin_lock+unlock", nothing, do_spinlock, nothing },
	{ "mutex_lock+unlock", nothing, do_mutex, nothing },
	{ "srcu_read_lock+unlock", nothing, do_section, nothing },
	{ "call_srcu", nothing, do_call_srcu, barrier_srcu },
	{ "queue_work", nothing, do_queue, flush_queue },
	{ "maple-store", nothing, do_store, empty_tree, true },
	{ "maple-erase", do_store, do_erase, empty_tree, true },
	{ "xarray-store", nothing, do_slot, empty_array, true },
	{ "xarray-erase", do_slot, do_unslot, empty_array },
};

const char *odp_native_operation_name(unsigned int which)
{
	return which < ARRAY_SIZE(operations) ? operations[which].name : NULL;
}

int odp_native_operation(unsigned int which, unsigned int n, size_t cool, u64 *ticks)
{
	const struct operation *operation = &operations[which];
	unsigned int i;
	u64 begin;

	if (!queue)
		/* As the arms have it, and the library. */
		queue = alloc_workqueue("odp_native", WQ_UNBOUND | WQ_MEM_RECLAIM, 512);
	objects = kvcalloc(n, sizeof(*objects), GFP_KERNEL);
	if (!queue || !objects)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		spin_lock_init(&objects[i].lock);
		mutex_init(&objects[i].mutex);
		INIT_WORK(&objects[i].work, worked);
	}
	operation->before(n);
	odp_native_cool(cool);

	begin = operation->sleeps ? odp_native_ticks() : odp_native_begin();
	operation->run(n);
	*ticks = (operation->sleeps ? odp_native_ticks() : odp_native_end()) - begin;

	operation->after(n);
	kvfree(objects);
	return 0;
}
