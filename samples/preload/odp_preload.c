// SPDX-License-Identifier: GPL-2.0
/*
 * Has the sample device touch the memory of a program that knows nothing of it:
 *
 *	LD_PRELOAD=odp_preload.so PROGRAM
 *
 * A thread of its own goes from mapping to mapping and has the device load a few words of each.
 * It never stores: the memory is the program's. If there is no device, there is no thread.
 *
 * ODP_PRELOAD_TOUCH	"present" (the default): only pages that the program has, so that what it
 *			has is not changed by it (but for a page that goes in the very moment).
 *			"any": whatever is mapped, which makes pages where there were none.
 * ODP_PRELOAD_POLICY	"punch" (the default) or "retire", which is what the device does with a range
 *			that is partly unmapped
 * ODP_PRELOAD_PAUSE	(5000) microseconds between two mappings
 *
 * The thread allocates nothing and takes no lock, for it may find the program, or what was forked of it,
 * in any state. It has no signals, and ends with the last of the program's threads. Its files have
 * high numbers and are closed by exec(). A program may close them nevertheless; then they are opened
 * again.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../mirror/odp_mirror.h"

#define PAGE		4096UL
/* What the thread's files have at least, so that a program gets the numbers that it expects. */
#define FIRST_FILE	800
#define STACK		(256UL << 10)
/* How many pages of a mapping it touches, and how often it may have to begin anew. */
#define TOUCHES		8
#define REOPENINGS	64

/* A file that is ours for as long as it is the same one. */
struct file {
	int fd;
	dev_t dev;
	ino_t ino;
	dev_t rdev;
};

static struct {
	/* How it is to behave. */
	uint64_t policy;
	bool any;
	long pause_us;
	/* What it has. */
	struct file device, maps, pagemap, stat;
	int reopenings;
	/* What it does. */
	uint64_t address;
	uint64_t random;
} agent;

static bool is_ours(const struct file *file)
{
	struct stat now;

	return file->fd >= 0 && !fstat(file->fd, &now) && now.st_dev == file->dev &&
	       now.st_ino == file->ino && now.st_rdev == file->rdev;
}

static void close_ours(struct file *file)
{
	if (is_ours(file))
		close(file->fd);
	file->fd = -1;
}

static bool open_high(struct file *file, const char *path, int flags)
{
	struct stat now;
	int low = open(path, flags | O_CLOEXEC), high;

	file->fd = -1;
	if (low < 0)
		return false;
	high = fcntl(low, F_DUPFD_CLOEXEC, FIRST_FILE);
	if (high >= 0)
		close(low);
	/* There may be a limit. */
	file->fd = high >= 0 ? high : low;
	if (fstat(file->fd, &now))
		return false;
	file->dev = now.st_dev;
	file->ino = now.st_ino;
	file->rdev = now.st_rdev;
	return true;
}

static void close_all(void)
{
	close_ours(&agent.device);
	close_ours(&agent.maps);
	close_ours(&agent.pagemap);
	close_ours(&agent.stat);
}

static bool open_all(void)
{
	struct odp_mirror_config config = { .retire = agent.policy, .flags = ODP_MIRROR_AUTO };

	if (open_high(&agent.device, "/dev/odp_mirror", O_RDWR) &&
	    !ioctl(agent.device.fd, ODP_MIRROR_CONFIGURE, &config) &&
	    open_high(&agent.maps, "/proc/self/maps", O_RDONLY) &&
	    open_high(&agent.pagemap, "/proc/self/pagemap", O_RDONLY) &&
	    open_high(&agent.stat, "/proc/self/stat", O_RDONLY))
		return true;
	close_all();
	return false;
}

/* The program closed one of our files, and may have one of its own at that number now. */
static bool reopen(void)
{
	if (is_ours(&agent.device) && is_ours(&agent.maps) && is_ours(&agent.pagemap) &&
	    is_ours(&agent.stat))
		return true;
	close_all();
	return agent.reopenings++ < REOPENINGS && open_all();
}

/* Some number below @limit, which is not 0 (xorshift64). */
static uint64_t below(uint64_t limit)
{
	agent.random ^= agent.random << 13;
	agent.random ^= agent.random >> 7;
	agent.random ^= agent.random << 17;
	return agent.random % limit;
}

/* Memory of a device, or of the kernel: to load from it is no access to memory, or forbidden. */
static bool is_special(const char *name)
{
	return !strncmp(name, "[v", 2) || !strncmp(name, "anon_inode:", 11) ||
	       (!strncmp(name, "/dev/", 5) && strncmp(name, "/dev/zero", 9) &&
		strncmp(name, "/dev/shm/", 9));
}

/*
 * Finds the next mapping that can be read, from the current address on, and goes behind it.
 * Returns false if there is none any more, or none to be touched.
 */
static bool next_mapping(uint64_t *start, uint64_t *end)
{
	char name[256] = "";
	struct procmap_query query = {
		.size = sizeof(query),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA | PROCMAP_QUERY_VMA_READABLE,
		.query_addr = agent.address,
		.vma_name_addr = (uintptr_t)name,
		.vma_name_size = sizeof(name),
	};

	if (ioctl(agent.maps.fd, PROCMAP_QUERY, &query)) {
		/* A long name is that of a file, which may be a device. */
		if (errno == ENAMETOOLONG) {
			query.vma_name_addr = 0;
			query.vma_name_size = 0;
			if (!ioctl(agent.maps.fd, PROCMAP_QUERY, &query)) {
				agent.address = query.vma_end;
				return false;
			}
		}
		agent.address = 0;
		return false;
	}
	agent.address = query.vma_end;
	*start = query.vma_start;
	*end = query.vma_end;
	return !is_special(name);
}

static bool is_present(uint64_t address)
{
	uint64_t entry;

	return pread(agent.pagemap.fd, &entry, sizeof(entry), address / PAGE * sizeof(entry)) ==
		       sizeof(entry) &&
	       entry >> 63;
}

/* Touches a few pages of a mapping, one after the other. Returns false to have it end. */
static bool touch(uint64_t start, uint64_t end)
{
	uint64_t page = start + below((end - start) / PAGE) * PAGE;
	int i;

	for (i = 0; i < TOUCHES && page < end; i++, page += PAGE) {
		struct odp_mirror_access access = { .addr = page + below(PAGE / 8) * 8 };

		if (!agent.any && !is_present(page))
			continue;
		/* That there is no page any more, or none to be loaded from, is as it should be. */
		if (!ioctl(agent.device.fd, ODP_MIRROR_ACCESS, &access))
			continue;
		if (errno == ESRCH || errno == ESHUTDOWN)
			return false;
		if (errno == EBADF || errno == ENOTTY || errno == EINVAL)
			return true;
	}
	return true;
}

/*
 * Is there no other thread any more? A program may end by the end of its last thread, without
 * exit_group(). The first one stays as a zombie until then, and @code is what it ended with.
 */
static bool is_alone(int *code)
{
	char text[1024], *field;
	ssize_t len = pread(agent.stat.fd, text, sizeof(text) - 1, 0);
	int i;

	if (len <= 0)
		return false;
	text[len] = 0;
	/* The state is behind the name, which may have anything in it; 17 fields on is the number. */
	field = strrchr(text, ')');
	if (!field || strncmp(field, ") Z", 3))
		return false;
	*code = atoi(strrchr(text, ' ')) >> 8 & 0xff;
	for (i = 0; field && i < 18; i++)
		field = strchr(field + 1, ' ');
	return field && field[1] <= '2' && field[2] == ' ';
}

static void *run(void *unused)
{
	const struct timespec pause = {
		.tv_sec = agent.pause_us / 1000000,
		.tv_nsec = agent.pause_us % 1000000 * 1000,
	};
	uint64_t start, end;
	int code = 0;

	(void)unused;
	prctl(PR_SET_NAME, "odp-preload");
	do {
		if (next_mapping(&start, &end) && !touch(start, end))
			break;
		nanosleep(&pause, NULL);
	} while (reopen() && !is_alone(&code));
	close_all();
	/* What the last thread ends with is what the program ends with. */
	if (code)
		syscall(SYS_exit, code);
	return NULL;
}

static void start(void)
{
	struct timespec now;
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int failed;

	if (!open_all())
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	agent.random = (now.tv_nsec + ((uint64_t)getpid() << 32)) | 1;
	agent.reopenings = 0;

	/* It inherits that it has no signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	failed = pthread_create(&thread, &attributes, run, NULL);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		close_all();
}

/* A child has the files, which are about its parent, and not the thread. */
static void start_in_child(void)
{
	int error = errno;

	close_all();
	start();
	errno = error;
}

static const char *setting(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value ? value : otherwise;
}

__attribute__((constructor)) static void preload(void)
{
	int error = errno;

	agent.policy = strcmp(setting("ODP_PRELOAD_POLICY", "punch"), "retire") ?
			       ODP_MIRROR_PUNCH_UNMAP :
			       ODP_MIRROR_RETIRE_UNMAP;
	agent.any = !strcmp(setting("ODP_PRELOAD_TOUCH", "present"), "any");
	agent.pause_us = strtol(setting("ODP_PRELOAD_PAUSE", "5000"), NULL, 10);
	if (agent.pause_us < 0 || agent.pause_us > 10000000)
		agent.pause_us = 5000;
	agent.device.fd = -1;
	agent.maps.fd = -1;
	agent.pagemap.fd = -1;
	agent.stat.fd = -1;
	pthread_atfork(NULL, NULL, start_in_child);
	start();
	errno = error;
}
