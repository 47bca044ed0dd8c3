// SPDX-License-Identifier: GPL-2.0
/*
 * Delays tasks at points of other modules' code, so that what rarely happens at the same time does.
 *
 * A point is an instruction: a module's name, a function of it, and an offset in bytes. Lines of
 * these are written to odp_delay/points in debugfs. A point becomes a kprobe when its module is
 * loaded, before any of the module's code runs, and is none any more when that is unloaded.
 *
 * Everything is decided by the seed: which of the points are used, and for each of them which of
 * its hits are delayed, and for how long. When a point is hit is not: that depends on the tasks.
 *
 * The handler of a kprobe must not sleep, so a delay keeps its CPU busy, with interrupts disabled.
 * Other CPUs go on, and at least one is needed that does.
 */

#include <linux/atomic.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/siphash.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

static unsigned long seed;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "of the points that are used, and of the delays");

static unsigned int used = 16;
module_param(used, uint, 0444);
MODULE_PARM_DESC(used, "one point in so many is used (16)");

static unsigned int delayed = 8;
module_param(delayed, uint, 0444);
MODULE_PARM_DESC(delayed, "one hit in so many is delayed (8)");

static unsigned int longest = 2000;
module_param(longest, uint, 0444);
MODULE_PARM_DESC(longest, "the longest delay, in microseconds (2000: it outlasts a wake-up)");

/* Most delays are shorter than so many microseconds. */
#define SHORT 64

/* One delay in so many may be a long one. */
#define LONG_ONE_IN 32

/* How much can be written to the file at once, in bytes. */
#define MOST (1024 * 1024)

struct point {
	struct list_head list;
	struct kprobe probe;
	/* In which order it was written. */
	u64 number;
	/* Since its module was loaded. */
	atomic64_t hits;
	/* Whether the probe is registered; with the mutex. */
	bool armed;
	/* What is probed, as a kprobe names it: MODULE:FUNCTION. */
	char *symbol;
	char module[MODULE_NAME_LEN];
};

/* All points that are used. */
static LIST_HEAD(points);
static DEFINE_MUTEX(mutex);
static u64 written;

/* Hits of modules that have been unloaded since; delays; points that are no instruction. */
static atomic64_t earlier, delays, refused;

/* What the seed says about a hit of a point, or, before the first hit, about the point. */
static u64 chance(const struct point *point, u64 hit)
{
	const siphash_key_t key = { { seed, 0 } };

	return siphash_2u64(point->number, hit, &key);
}

static int hit(struct kprobe *probe, struct pt_regs *regs)
{
	struct point *point = container_of(probe, struct point, probe);
	u64 drawn = chance(point, atomic64_inc_return(&point->hits));
	unsigned int us;

	if ((u32)drawn % delayed)
		return 0;
	drawn >>= 32;
	if (drawn % LONG_ONE_IN)
		us = 1 + drawn / LONG_ONE_IN % SHORT;
	else
		us = 1 + drawn / LONG_ONE_IN % longest;
	atomic64_inc(&delays);
	mdelay(us / 1000);
	udelay(us % 1000);
	return 0;
}
NOKPROBE_SYMBOL(hit);

/*
 * To be called with the mutex held. A kprobe that has been registered is not registered again as
 * it is.
 */
static void arm(struct point *point)
{
	unsigned int offset = point->probe.offset;

	memset(&point->probe, 0, sizeof(point->probe));
	/* What has run before does not matter to what the seed does. */
	atomic64_add(atomic64_xchg(&point->hits, 0), &earlier);
	point->probe.symbol_name = point->symbol;
	point->probe.offset = offset;
	point->probe.pre_handler = hit;
	point->armed = !register_kprobe(&point->probe);
	if (!point->armed)
		atomic64_inc(&refused);
}

/* To be called with the mutex held. */
static void disarm(struct point *point)
{
	if (point->armed)
		unregister_kprobe(&point->probe);
	point->armed = false;
}

static int module_changes(struct notifier_block *block, unsigned long event, void *data)
{
	struct module *module = data;
	struct point *point;

	guard(mutex)(&mutex);
	list_for_each_entry(point, &points, list) {
		if (strcmp(point->module, module->name))
			continue;
		if (event == MODULE_STATE_COMING)
			arm(point);
		else if (event == MODULE_STATE_GOING)
			disarm(point);
	}
	return NOTIFY_OK;
}

static struct notifier_block modules = { .notifier_call = module_changes };

static void forget(struct point *point)
{
	list_del(&point->list);
	kfree(point->symbol);
	kfree(point);
}

/* Takes "MODULE FUNCTION OFFSET", and keeps the point if the seed wants it. With the mutex held. */
static int add(char *line)
{
	char *module = strsep(&line, " "), *function = strsep(&line, " ");
	struct point *point;
	int err = -ENOMEM;

	if (!line || strlen(module) >= MODULE_NAME_LEN)
		return -EINVAL;
	point = kzalloc_obj(*point);
	if (!point)
		return -ENOMEM;
	INIT_LIST_HEAD(&point->list);
	strscpy(point->module, module);
	point->number = written++;
	if (chance(point, 0) % used) {
		kfree(point);
		return 0;
	}
	point->symbol = kasprintf(GFP_KERNEL, "%s:%s", module, function);
	if (point->symbol)
		err = kstrtouint(line, 0, &point->probe.offset);
	if (err) {
		forget(point);
		return err;
	}
	list_add_tail(&point->list, &points);
	return 0;
}

static ssize_t points_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char *text, *at, *line;
	int err = 0;

	if (len > MOST)
		return -E2BIG;
	text = memdup_user_nul(from, len);
	if (IS_ERR(text))
		return PTR_ERR(text);
	at = text;
	guard(mutex)(&mutex);
	while (!err && (line = strsep(&at, "\n")))
		if (*line)
			err = add(line);
	kfree(text);
	return err ?: len;
}

static const struct file_operations points_fops = {
	.owner = THIS_MODULE,
	.write = points_write,
};

/* What has come of it: one line, "points N, refused N, hits N, delays N". */
static int sum_show(struct seq_file *file, void *unused)
{
	struct point *point;
	u64 count = 0, hits = atomic64_read(&earlier);

	guard(mutex)(&mutex);
	list_for_each_entry(point, &points, list) {
		count++;
		hits += atomic64_read(&point->hits);
	}
	seq_printf(file, "points %llu, refused %lld, hits %llu, delays %lld\n", count,
		   atomic64_read(&refused), hits, atomic64_read(&delays));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(sum);

static struct dentry *directory;

static int __init odp_delay_init(void)
{
	int err;

	if (!used || !delayed || !longest)
		return -EINVAL;
	err = register_module_notifier(&modules);
	if (err)
		return err;
	directory = debugfs_create_dir("odp_delay", NULL);
	debugfs_create_file("points", 0200, directory, NULL, &points_fops);
	debugfs_create_file("sum", 0400, directory, NULL, &sum_fops);
	return 0;
}

static void __exit odp_delay_exit(void)
{
	struct point *point, *next;

	debugfs_remove(directory);
	unregister_module_notifier(&modules);
	guard(mutex)(&mutex);
	list_for_each_entry_safe(point, next, &points, list) {
		disarm(point);
		forget(point);
	}
}

module_init(odp_delay_init);
module_exit(odp_delay_exit);
MODULE_DESCRIPTION("Delays at points of other modules, by seed");
MODULE_LICENSE("GPL");
