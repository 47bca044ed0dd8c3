/* SPDX-License-Identifier: GPL-2.0 */
/* What stands still in the kernel: calls of other threads, invalidations, faults. */

#ifndef _STALLED_H
#define _STALLED_H

#include <glob.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include "modules.h"
#include "verbs.h"

/* A call that another thread makes, and that stands still in the kernel. */
struct call {
	int (*run)(struct call *call);
	pthread_barrier_t start;
	pthread_t thread;
	pid_t tid;
	/* an eventfd, readable when the call has returned */
	int done;
	int fd, result;
	uint8_t *memory;
	size_t length;
	struct ibv_mr *mr;
	struct ibv_qp *qp;
	struct ibv_ah *ah;
	struct ibv_pd *pd;
	struct ibv_comp_channel *channel;
};

static inline void *call_thread(void *arg)
{
	struct call *call = arg;

	call->tid = gettid();
	pthread_barrier_wait(&call->start);
	pthread_barrier_wait(&call->start);
	call->result = call->run(call);
	must(!eventfd_write(call->done, 1));
	return NULL;
}

/* The thread is there when this returns, and makes its call when start_call() says so. */
static inline void make_call(struct call *call)
{
	call->done = eventfd(0, EFD_CLOEXEC);
	must(call->done >= 0);
	pthread_barrier_init(&call->start, NULL, 2);
	must(!pthread_create(&call->thread, NULL, call_thread, call));
	pthread_barrier_wait(&call->start);
}

static inline void start_call(struct call *call)
{
	pthread_barrier_wait(&call->start);
}

/* Whether a call that was started returns within MS. */
static inline bool ended(struct call *call, int ms)
{
	struct pollfd wait = { .fd = call->done, .events = POLLIN };
	int n = poll(&wait, 1, ms);

	must(n >= 0);
	return n;
}

static inline int dereg_call(struct call *call)
{
	return ibv_dereg_mr(call->mr);
}

/* A prefetch that is through when it returns. */
static inline int prefetch_call(struct call *call)
{
	return advise((uint64_t)call->memory, call->length, call->mr->lkey,
		      IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
}

/* Whether there is a function with FUNCTION in its name in the file of a task. */
static inline bool sleeps_in(const char *path, const char *function)
{
	char names[4096];
	int fd = open(path, O_RDONLY);
	ssize_t got;

	/* It may have ended. */
	if (fd < 0)
		return false;
	got = read(fd, names, sizeof(names) - 1);
	close(fd);
	names[got < 0 ? 0 : got] = '\0';
	return strstr(names, function);
}

/* Whether there is one in FILE of the thread of a call (wchan or stack) within MS. */
static inline bool sleeps_within(const struct call *call, const char *file, const char *function,
				 int ms)
{
	uint64_t deadline = now_ms() + ms;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", call->tid, file);
	do {
		if (sleeps_in(path, function))
			return true;
		sched_yield();
	} while (now_ms() < deadline);
	return false;
}

/*
 * Waits until a thread, or a worker of the kernel's that works for it, is in one of these: as
 * FILE has it, which is wchan for the function that it sleeps in, or stack for any.
 */
static inline void wait_in_one_of(pid_t tid, const char *file, const char * const functions[],
				  size_t n)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	char own[64], pattern[64];
	glob_t all;
	size_t i, task;

	snprintf(own, sizeof(own), "/proc/%d/%s", tid, file);
	snprintf(pattern, sizeof(pattern), "/proc/[0-9]*/%s", file);
	do {
		must(!glob(pattern, 0, NULL, &all));
		for (i = 0; i < n; i++) {
			if (sleeps_in(own, functions[i]))
				return;
			for (task = 0; task < all.gl_pathc; task++)
				if (sleeps_in(all.gl_pathv[task], functions[i]))
					return;
		}
		globfree(&all);
	} while (now_ms() < deadline);
	broken("nobody is in %s", functions[0]);
}

static inline void wait_in(pid_t tid, const char *file, const char *function)
{
	wait_in_one_of(tid, file, &function, 1);
}

/* Invalidations of these addresses stand still from now on; see modules.h for the file. */
static inline int hold(void *start, size_t length)
{
	struct odp_hold_range range = { (uint64_t)start, length };
	int fd = open("/dev/odp_hold", O_RDWR | O_CLOEXEC);

	must(fd >= 0);
	must(!ioctl(fd, ODP_HOLD_ARM, &range));
	return fd;
}

static inline void wait_held(int fd)
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	must(poll(&wait, 1, PATIENCE_MS) == 1);
}

/* Memory in which every fault stands still until user space ends it. */
struct faults {
	/* a userfaultfd, readable when there is one */
	int fd;
	uint8_t *memory;
	size_t length;
};

/* Far from all else: a range is of 64 KiB at least, and stays while anything is mapped there. */
static inline struct faults stall_faults(size_t length)
{
	struct faults faults = { .memory = (void *)(1UL << 45), .length = length };
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uint64_t)faults.memory, length },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	must(mmap(faults.memory, length, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == faults.memory);
	/* One that blocks is always ready, for poll(). */
	faults.fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	must(faults.fd >= 0);
	must(!ioctl(faults.fd, UFFDIO_API, &api));
	must(!ioctl(faults.fd, UFFDIO_REGISTER, &range));
	return faults;
}

static inline void wait_fault(struct faults *faults)
{
	struct pollfd wait = { .fd = faults->fd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&wait, 1, PATIENCE_MS) != 1)
		broken("no fault");
	must(read(faults->fd, &msg, sizeof(msg)) == sizeof(msg));
}

/* With zeroes, in all of the memory that is left. */
static inline void end_faults(struct faults *faults)
{
	struct uffdio_zeropage zero = { .range = { (uint64_t)faults->memory, faults->length } };

	must(!ioctl(faults->fd, UFFDIO_ZEROPAGE, &zero));
}

/* The device's end. */
static inline int delete_call(struct call *call)
{
	(void)call;
	return system("rdma link del rxe0");
}

static inline void make_device(void)
{
	at("the next device");
	if (system("rdma link add rxe0 type rxe netdev lo"))
		fail("%s: it cannot be made", where);
}

/*
 * ... not waiting for user space to end FAULTS, if there are any. Others need a device, whatever
 * comes of it.
 */
static inline void check_device_ends(struct faults *faults)
{
	struct call delete = { .run = delete_call };

	at("the end of the device");
	make_call(&delete);
	start_call(&delete);
	if (!ended(&delete, PATIENCE_MS / 10)) {
		if (faults)
			end_faults(faults);
		if (ended(&delete, PATIENCE_MS))
			make_device();
		fail("the end of the device waits for %s", faults ? "a fault" : "who has it");
	}
	must(!delete.result);
}

/* Who has a device that is gone is told so, and everything but the end of what it had is EIO. */
static inline void check_device_gone(void)
{
	struct ibv_port_attr port;
	struct ibv_async_event event;
	uint64_t now, deadline = now_ms() + PATIENCE_MS;
	int error;

	at("the event");
	do {
		struct pollfd wait = { .fd = device->async_fd, .events = POLLIN };

		now = now_ms();
		if (now >= deadline || poll(&wait, 1, deadline - now) != 1)
			fail("no event says that the device is gone");
		must(!ibv_get_async_event(device, &event));
		ibv_ack_async_event(&event);
	} while (event.event_type != IBV_EVENT_DEVICE_FATAL);
	at("calls afterwards");
	error = ibv_query_port(device, 1, &port);
	if (error != EIO)
		fail("%s: a query: %s", where, error ? strerror(error) : "success");
	errno = 0;
	if (ibv_reg_mr(pd, map(PAGE), PAGE, REMOTE) || errno != EIO)
		fail("%s: a registration: %s", where, strerror(errno));
}

/* Another thread waits for a prefetch of MR, which is in FAULTS. */
static inline void stall_prefetch(struct call *prefetch, struct faults *faults, struct ibv_mr *mr)
{
	*prefetch = (struct call) {
		.run = prefetch_call, .mr = mr, .memory = faults->memory, .length = faults->length,
	};
	make_call(prefetch);
	at("the fault of a prefetch that is waited for");
	start_call(prefetch);
	wait_fault(faults);
}

static inline void check_prefetch_ended(struct call *prefetch, int error)
{
	at("the end of the prefetch");
	if (!ended(prefetch, PATIENCE_MS))
		fail("%s: it does not end", where);
	if (prefetch->result != -error)
		fail("%s: %s, not %s", where, strerror(-prefetch->result), strerror(error));
}

/* The MR ends while somebody waits for a prefetch, which ends with it, and the fault does not. */
static inline void check_mr_ends(struct faults *faults, struct ibv_mr *mr)
{
	struct call prefetch, dereg = { .run = dereg_call, .mr = mr };

	make_call(&dereg);
	stall_prefetch(&prefetch, faults, mr);
	at("dereg during the fault");
	start_call(&dereg);
	if (!ended(&dereg, PATIENCE_MS / 10)) {
		end_faults(faults);
		fail("%s: it waits", where);
	}
	if (dereg.result)
		fail("%s: %s", where, strerror(dereg.result));
	check_prefetch_ended(&prefetch, ECANCELED);
}

/* ... and the device. */
static inline void check_device_ends_in_prefetch(struct faults *faults, struct ibv_mr *mr)
{
	struct call prefetch;

	stall_prefetch(&prefetch, faults, mr);
	check_device_ends(faults);
	check_prefetch_ended(&prefetch, EIO);
	check_device_gone();
	make_device();
}

#endif
