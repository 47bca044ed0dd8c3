/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of rxe have in common: two connected queue pairs of one process on rxe0,
 * memory in the forms it can be registered in, and single operations, each of which waits for
 * its completion and says where it was when that did not come.
 *
 * A test ends with fail() when what is tested is wrong, and with broken() when it could not be
 * tried: only the former counts as a failure that was expected.
 */

#ifndef _VERBS_H
#define _VERBS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <infiniband/verbs.h>
#include <rdma/ib_user_verbs.h>

#include "advise.h"

#define PAGE 4096UL
/* Longer than any operation takes on a machine however busy, and shorter than a test may say nothing. */
#define PATIENCE_MS (limit_seconds() * 500)

enum { FAILED = 1, BROKEN = 2 };

/* After how many seconds something hangs: see vm/limits.sh. */
static inline int limit_seconds(void)
{
	const char *limit = getenv("ODP_LIMIT");

	return limit ? atoi(limit) : 300;
}

/* Shared with the parent, which sees whether a test moves, and prints where it hangs or crashes. */
static struct {
	unsigned long steps;
	char where[PAGE - sizeof(unsigned long)];
} *progress;

#define where (progress->where)
#define at(...) do {									\
	snprintf(where, sizeof(where), __VA_ARGS__);					\
	__atomic_add_fetch(&progress->steps, 1, __ATOMIC_RELAXED);			\
} while (0)

static _Noreturn void finish(int status, const char *fmt, ...)
{
	va_list args;

	printf("# ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(status);
}

#define fail(...) finish(FAILED, __VA_ARGS__)
#define broken(fmt, ...) finish(BROKEN, "%s:%d: " fmt, __FILE__, __LINE__, ##__VA_ARGS__)
/* For what has nothing to do with what is tested. */
#define must(condition) do {								\
	if (!(condition))								\
		broken("%s, at %s: %s", #condition, where, strerror(errno));		\
} while (0)

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static inline uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

/* xorshift: the same numbers from the same seed, everywhere. */
static __thread uint64_t random_state = 1;

static inline uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 11) % limit;
}

static inline void random_fill(void *to, size_t length)
{
	uint8_t *byte = to;

	while (length--)
		*byte++ = random_below(256);
}

#define REMOTE (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | \
		IBV_ACCESS_REMOTE_ATOMIC)
#define ODP (REMOTE | IBV_ACCESS_ON_DEMAND)
#define FLUSHABLE (IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_FLUSH_PERSISTENT)

static const char *device_name = "rxe0";
static struct ibv_context *device;
static struct ibv_pd *pd;
/* How many operations of a peer an end that is connected can repeat the answers to. */
static unsigned int responder_resources = 1;
/* How often it sends again what is not answered; 7 is for ever. */
static unsigned int retries = 7;

struct end {
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
};

/* requests go from a to b */
struct pair {
	struct end a, b;
};

static inline void open_device(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL), **each;

	must(list);
	for (each = list; *each && strcmp(ibv_get_device_name(*each), device_name); each++)
		;
	must(*each);
	device = ibv_open_device(*each);
	must(device);
	ibv_free_device_list(list);
	pd = ibv_alloc_pd(device);
	must(pd);
}

static inline void make_end(struct end *end)
{
	struct ibv_qp_init_attr_ex attr = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 16, .max_recv_wr = 16, .max_send_sge = 2,
			 .max_recv_sge = 2 },
		.comp_mask = IBV_QP_INIT_ATTR_PD | IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
		.pd = pd,
		.send_ops_flags = IBV_QP_EX_WITH_FLUSH | IBV_QP_EX_WITH_ATOMIC_WRITE |
				  IBV_QP_EX_WITH_RDMA_WRITE,
	};

	end->channel = ibv_create_comp_channel(device);
	must(end->channel);
	end->cq = ibv_create_cq(device, 32, NULL, end->channel, 0);
	must(end->cq);
	attr.send_cq = end->cq;
	attr.recv_cq = end->cq;
	end->qp = ibv_create_qp_ex(device, &attr);
	must(end->qp);
}

/*
 * OTHER is the number of the queue pair at the other end, which is where GID says.
 * TIMEOUT is the exponent of the time after which a packet is sent again; with 0 that never
 * happens, for tests in which the other end stands still on purpose.
 */
static inline void connect_end_to(struct end *end, const union ibv_gid *gid, uint32_t other,
				  enum ibv_mtu mtu, int timeout)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };

	must(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE));

	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_INIT, .port_num = 1,
		.qp_access_flags = REMOTE | FLUSHABLE,
	};
	must(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			    IBV_QP_ACCESS_FLAGS));

	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR, .path_mtu = mtu, .dest_qp_num = other,
		.max_dest_rd_atomic = responder_resources, .min_rnr_timer = 12,
		.ah_attr = { .is_global = 1, .port_num = 1,
			     .grh = { .dgid = *gid, .hop_limit = 1, .sgid_index = 1 } },
	};
	must(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			    IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			    IBV_QP_MIN_RNR_TIMER));

	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS, .timeout = timeout, .retry_cnt = retries, .rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	must(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			    IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
}

/* ... which is this device's own: GID 1 of one on lo is the loopback address. */
static inline void connect_end(struct end *end, uint32_t other, enum ibv_mtu mtu, int timeout)
{
	union ibv_gid own;

	must(!ibv_query_gid(device, 1, 1, &own));
	connect_end_to(end, &own, other, mtu, timeout);
}

static inline struct pair connected(enum ibv_mtu mtu, int timeout)
{
	struct pair pair;

	make_end(&pair.a);
	make_end(&pair.b);
	connect_end(&pair.b, pair.a.qp->qp_num, mtu, timeout);
	connect_end(&pair.a, pair.b.qp->qp_num, mtu, timeout);
	return pair;
}

/* About two seconds until a packet is sent again. */
#define TIMEOUT 19

/*
 * Whether anything is completed within @ms milliseconds, and if so with which *@status. That there
 * is an event does not say so: it may be that of a completion which was polled before.
 */
static inline bool completed_within(struct end *end, int ms, int *status)
{
	struct pollfd fd = { .fd = end->channel->fd, .events = POLLIN };
	uint64_t now = now_ms(), deadline = now + ms;
	struct ibv_cq *cq;
	struct ibv_wc wc;
	void *context;
	int n;

	for (;;) {
		must(!ibv_req_notify_cq(end->cq, 0));
		n = ibv_poll_cq(end->cq, 1, &wc);
		must(n >= 0);
		if (n) {
			*status = wc.status;
			return true;
		}
		now = now_ms();
		n = poll(&fd, 1, now < deadline ? deadline - now : 0);
		must(n >= 0);
		if (!n)
			return false;
		must(!ibv_get_cq_event(end->channel, &cq, &context));
		ibv_ack_cq_events(cq, 1);
	}
}

/* The next completion's status, or -1 if none came. */
static inline int completion(struct end *end)
{
	int status;

	return completed_within(end, PATIENCE_MS, &status) ? status : -1;
}

/* A counter of the device's. What it shows may be of 10 ms ago. */
static inline uint64_t hw_counter(const char *name)
{
	char path[128];
	unsigned long value;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/class/infiniband/%s/ports/1/hw_counters/%s",
		 device_name, name);
	file = fopen(path, "r");
	must(file);
	must(fscanf(file, "%lu", &value) == 1);
	fclose(file);
	return value;
}

static inline const char *status_name(int status)
{
	return status < 0 ? "no completion" : ibv_wc_status_str(status);
}

struct operation {
	enum ibv_wr_opcode opcode;
	struct ibv_mr *local;	/* from ADDRESS, which is one of the process */
	void *address;
	uint32_t length;
	uint64_t remote;
	uint32_t rkey;
	uint64_t compare_add, swap;
};

static inline void post(struct pair *pair, const struct operation *op)
{
	struct ibv_sge sge = {
		.addr = (uint64_t)op->address, .length = op->length, .lkey = op->local->lkey,
	};
	struct ibv_send_wr wr = {
		.opcode = op->opcode, .send_flags = IBV_SEND_SIGNALED, .sg_list = &sge,
		.num_sge = 1,
	}, *bad;

	if (op->opcode == IBV_WR_ATOMIC_CMP_AND_SWP || op->opcode == IBV_WR_ATOMIC_FETCH_AND_ADD) {
		wr.wr.atomic.remote_addr = op->remote;
		wr.wr.atomic.rkey = op->rkey;
		wr.wr.atomic.compare_add = op->compare_add;
		wr.wr.atomic.swap = op->swap;
	} else {
		wr.wr.rdma.remote_addr = op->remote;
		wr.wr.rdma.rkey = op->rkey;
	}
	errno = ibv_post_send(pair->a.qp, &wr, &bad);
	must(!errno);
}

static inline int run(struct pair *pair, const struct operation *op)
{
	post(pair, op);
	return completion(&pair->a);
}

static inline int run_rdma(struct pair *pair, enum ibv_wr_opcode opcode, struct ibv_mr *local,
			   void *address, uint32_t length, uint64_t remote, uint32_t rkey)
{
	struct operation op = {
		.opcode = opcode, .local = local, .address = address, .length = length,
		.remote = remote, .rkey = rkey,
	};

	return run(pair, &op);
}

static inline void post_receive_to(struct end *end, uint64_t address, uint32_t length,
				   uint32_t lkey)
{
	struct ibv_sge sge = { .addr = address, .length = length, .lkey = lkey };
	struct ibv_recv_wr wr = { .sg_list = &sge, .num_sge = 1 }, *bad;

	must(!ibv_post_recv(end->qp, &wr, &bad));
}

static inline void post_receive(struct pair *pair, uint64_t address, uint32_t length,
				uint32_t lkey)
{
	post_receive_to(&pair->b, address, length, lkey);
}

static inline int run_flush(struct pair *pair, uint32_t rkey, uint64_t remote, size_t length,
			    uint8_t type, uint8_t level)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(pair->a.qp);

	ibv_wr_start(qp);
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_flush(qp, rkey, remote, length, type, level);
	must(!ibv_wr_complete(qp));
	return completion(&pair->a);
}

static inline int run_atomic_write(struct pair *pair, uint32_t rkey, uint64_t remote,
				   uint64_t value)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(pair->a.qp);

	ibv_wr_start(qp);
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_atomic_write(qp, rkey, remote, &value);
	must(!ibv_wr_complete(qp));
	return completion(&pair->a);
}

/* Returns 0 or -errno. */
static inline int advise(uint64_t address, uint32_t length, uint32_t lkey, uint64_t advice,
			 uint64_t flags)
{
	struct ibv_sge sge = { .addr = address, .length = length, .lkey = lkey };

	return -advise_mr(pd, advice, flags, &sge, 1);
}

static inline void *map(size_t length)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(memory != MAP_FAILED);
	return memory;
}

static inline struct ibv_mr *reg(void *memory, size_t length, int access)
{
	struct ibv_mr *mr = ibv_reg_mr(pd, memory, length, access);

	must(mr);
	return mr;
}

/* As ibv_rereg_mr(), which rdma-core's provider for rxe does not have. Returns 0 or -errno. */
static inline int rereg(struct ibv_mr *mr, int flags, struct ibv_pd *new_pd, int access)
{
	struct ib_uverbs_rereg_mr_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_rereg_mr rereg;
	} cmd = {
		.hdr = { IB_USER_VERBS_CMD_REREG_MR, sizeof(cmd) / 4, sizeof(resp) / 4 },
		.rereg = { .response = (uint64_t)&resp, .mr_handle = mr->handle, .flags = flags,
			   .pd_handle = new_pd->handle, .access_flags = access },
	};

	return write(device->cmd_fd, &cmd, sizeof(cmd)) == sizeof(cmd) ? 0 : -errno;
}

/* Memory of the requester's side: pinned, so that what is looked at is the other side. */
static inline struct ibv_mr *pinned(size_t length)
{
	return reg(map(length), length, REMOTE);
}

/* Where A and B differ first, or -1. */
static inline ssize_t difference(const void *a, const void *b, size_t length)
{
	const uint8_t *x = a, *y = b;
	size_t i;

	if (!memcmp(a, b, length))
		return -1;
	for (i = 0; x[i] == y[i]; i++)
		;
	return i;
}

#endif
