// SPDX-License-Identifier: GPL-2.0
/*
 * Work requests that no library would post: a process may write what it likes to the queues of its
 * queue pairs, which it has mapped, and at any time.
 *
 * usage: queues [--before] [--seed N] [--requests N] [TEST...]
 */

#include <pthread.h>

#include <rdma/rdma_user_rxe.h>

#include "harness.h"
#include "implicit.h"

static uint64_t seed = 1, requests = 10000;

/* As the driver rounds up what make_end() asks for. */
#define SEND_SHIFT 8
#define RECEIVE_SHIFT 7
#define INLINE_SIZE 32
/* What user space has no name for. */
#define REG_MR 0x20
#define STATE_ERROR 4

union send_slot {
	struct rxe_send_wqe wqe;
	uint8_t bytes[1 << SEND_SHIFT];
	uint32_t words[1 << (SEND_SHIFT - 2)];
};

union receive_slot {
	struct rxe_recv_wqe wqe;
	uint8_t bytes[1 << RECEIVE_SHIFT];
	uint32_t words[1 << (RECEIVE_SHIFT - 2)];
};

/* Who writes to the queues of the first end of a pair; the MR is at both. */
struct writer {
	enum ibv_qp_type type;
	struct pair pair;
	struct rxe_queue_buf *sends, *receives;
	struct ibv_mr *mr;
};

#define MAX_QUEUES 64

static size_t list_queues(struct rxe_queue_buf **list)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned long start;
	size_t n = 0;

	must(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "/uverbs"))
			continue;
		must(n < MAX_QUEUES);
		must(sscanf(line, "%lx-", &start) == 1);
		list[n++] = (void *)start;
	}
	fclose(maps);
	return n;
}

static void connect_writer(struct writer *writer)
{
	struct rxe_queue_buf *before[MAX_QUEUES], *after[MAX_QUEUES];
	size_t n = list_queues(before), i, j;

	make_typed_end(&writer->pair.a, writer->type);
	writer->sends = NULL;
	writer->receives = NULL;
	for (i = list_queues(after); i--;) {
		for (j = 0; j < n && before[j] != after[i]; j++)
			;
		if (j < n)
			continue;
		if (after[i]->log2_elem_size == SEND_SHIFT)
			writer->sends = after[i];
		else if (after[i]->log2_elem_size == RECEIVE_SHIFT)
			writer->receives = after[i];
	}
	if (!writer->sends || !writer->receives)
		broken("the queues are not where they should be");
	make_typed_end(&writer->pair.b, writer->type);
	connect_typed_end(&writer->pair.a, writer->type, writer->pair.b.qp->qp_num);
	connect_typed_end(&writer->pair.b, writer->type, writer->pair.a.qp->qp_num);
}

static void make_writer(struct writer *writer)
{
	writer->type = IBV_QPT_RC;
	writer->mr = reg(map(4 * PAGE), 4 * PAGE, REMOTE | IBV_ACCESS_MW_BIND);
	connect_writer(writer);
}

static void disconnect_writer(struct writer *writer)
{
	destroy_end(&writer->pair.a);
	destroy_end(&writer->pair.b);
}

static void reconnect_writer(struct writer *writer)
{
	disconnect_writer(writer);
	connect_writer(writer);
}

/* A request that is all right, of 8 bytes from the first page of the MR to its second one. */
static union send_slot good_request(const struct writer *writer, uint32_t opcode)
{
	union send_slot slot = { .words = {} };

	slot.wqe.wr.opcode = opcode;
	slot.wqe.wr.send_flags = IBV_SEND_SIGNALED;
	slot.wqe.wr.wr.rdma.remote_addr = (uint64_t)writer->mr->addr + PAGE;
	slot.wqe.wr.wr.rdma.rkey = writer->mr->rkey;
	slot.wqe.iova = (uint64_t)writer->mr->addr + PAGE;
	slot.wqe.dma.length = 8;
	slot.wqe.dma.resid = 8;
	slot.wqe.dma.num_sge = 1;
	slot.wqe.dma.sge[0].addr = (uint64_t)writer->mr->addr;
	slot.wqe.dma.sge[0].length = 8;
	slot.wqe.dma.sge[0].lkey = writer->mr->lkey;
	return slot;
}

static void write_request(struct writer *writer, const union send_slot *slot)
{
	struct rxe_queue_buf *queue = writer->sends;
	uint32_t index = queue->producer_index & queue->index_mask;

	memcpy(queue->data + (index << SEND_SHIFT), slot, sizeof(*slot));
	__atomic_store_n(&queue->producer_index, (index + 1) & queue->index_mask,
			 __ATOMIC_RELEASE);
}

static void write_receive(struct writer *writer, const union receive_slot *slot)
{
	struct rxe_queue_buf *queue = writer->receives;
	uint32_t index = queue->producer_index & queue->index_mask;

	memcpy(queue->data + (index << RECEIVE_SHIFT), slot, sizeof(*slot));
	__atomic_store_n(&queue->producer_index, (index + 1) & queue->index_mask,
			 __ATOMIC_RELEASE);
}

/* Has the driver look at the queue of requests. Returns 0 or an errno. */
static int ring(struct writer *writer)
{
	struct ib_uverbs_post_send_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_post_send post;
	} cmd = {
		.hdr = { IB_USER_VERBS_CMD_POST_SEND, sizeof(cmd) / 4, sizeof(resp) / 4 },
		.post = { .response = (uint64_t)&resp, .qp_handle = writer->pair.a.qp->handle,
			  .wqe_size = sizeof(struct ib_uverbs_send_wr) },
	};

	return write(device->cmd_fd, &cmd, sizeof(cmd)) == sizeof(cmd) ? 0 : errno;
}

static int run_request(struct writer *writer, const union send_slot *slot)
{
	write_request(writer, slot);
	must(!ring(writer));
	return completion(&writer->pair.a);
}

/* Nothing is sent for it. */
static void check_refused(struct writer *writer, const union send_slot *slot)
{
	int status = run_request(writer, slot);

	if (status != IBV_WC_LOC_QP_OP_ERR && status != IBV_WC_WR_FLUSH_ERR)
		fail("%s: %s", where, status_name(status));
	reconnect_writer(writer);
}

static void check_accepted(struct writer *writer, const union send_slot *slot)
{
	int status = run_request(writer, slot);

	if (status)
		fail("%s: %s", where, status_name(status));
}

static void check_good(struct writer *writer)
{
	union send_slot slot = good_request(writer, IBV_WR_RDMA_WRITE);

	at("one that is right, after %s", strdup(where));
	check_accepted(writer, &slot);
}

/* An opcode that there is not, or that looks like one in its low bits. */
static void opcode(void)
{
	static const uint32_t opcodes[] = {
		REG_MR + 1, 64, 200, 0x100 | IBV_WR_BIND_MW, INT32_MAX, 1U << 31, UINT32_MAX,
	};
	static struct writer writer;
	union send_slot slot;
	size_t i;

	make_writer(&writer);
	for (i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		at("request of kind %x", opcodes[i]);
		slot = good_request(&writer, opcodes[i]);
		check_refused(&writer, &slot);
	}
	check_good(&writer);
}

/* The registration of a fast MR, which the request has a pointer to. */
static void fast_mr(void)
{
	static const uint64_t pointers[] = {
		1UL << 47, 0xdead000000000000, 0xffff888000001000, -4096UL, PAGE, 0,
	};
	static struct writer writer;
	union send_slot slot;
	size_t i;

	make_writer(&writer);
	for (i = 0; i < sizeof(pointers) / sizeof(*pointers); i++) {
		at("an MR at %lx", pointers[i]);
		slot = good_request(&writer, REG_MR);
		slot.wqe.wr.wr.rdma.remote_addr = pointers[i];
		check_refused(&writer, &slot);
	}
	check_good(&writer);
}

/* Where the data of a request are said to be in it. */
static void inline_data(void)
{
	static const uint32_t lengths[] = { INLINE_SIZE + 1, 1024, 4096, UINT32_MAX };
	static const uint32_t offsets[] = { 8, 4096, 1 << 20, INT32_MAX, UINT32_MAX };
	static struct writer writer;
	union send_slot slot;
	size_t i;

	make_writer(&writer);
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		at("%u bytes in the request", lengths[i]);
		slot = good_request(&writer, IBV_WR_RDMA_WRITE);
		slot.wqe.wr.send_flags |= IBV_SEND_INLINE;
		slot.wqe.dma.length = lengths[i];
		slot.wqe.dma.resid = lengths[i];
		check_refused(&writer, &slot);
	}
	for (i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		uint64_t *to = (uint64_t *)((uint8_t *)writer.mr->addr + PAGE);

		at("8 bytes in the request, %u have been sent", offsets[i]);
		slot = good_request(&writer, IBV_WR_RDMA_WRITE);
		slot.wqe.wr.send_flags |= IBV_SEND_INLINE;
		slot.wqe.dma.sge_offset = offsets[i];
		memset(slot.wqe.dma.inline_data, 0x5a, 8);
		*to = 0;
		check_accepted(&writer, &slot);
		if (*to != 0x5a5a5a5a5a5a5a5a)
			fail("%s: %lx is written", where, *to);
	}
	check_good(&writer);
}

/* Lengths that an operation does not have. */
static void lengths(void)
{
	static const struct { uint32_t opcode, length; } requests[] = {
		{ IBV_WR_ATOMIC_WRITE, 4096 }, { IBV_WR_ATOMIC_WRITE, 7 }, { IBV_WR_ATOMIC_WRITE, 0 },
		{ IBV_WR_ATOMIC_FETCH_AND_ADD, 16 }, { IBV_WR_ATOMIC_CMP_AND_SWP, 0 },
		{ IBV_WR_RDMA_READ, UINT32_MAX }, { IBV_WR_RDMA_WRITE, UINT32_MAX - 100 },
	};
	static struct writer writer;
	union send_slot slot;
	size_t i;

	make_writer(&writer);
	for (i = 0; i < sizeof(requests) / sizeof(*requests); i++) {
		at("opcode %x with %u bytes", requests[i].opcode, requests[i].length);
		slot = good_request(&writer, requests[i].opcode);
		slot.wqe.dma.length = requests[i].length;
		slot.wqe.dma.resid = requests[i].length;
		check_refused(&writer, &slot);
	}
	check_good(&writer);
}

/* What a request says of itself before anything has been done for it. */
static void progress_made(void)
{
	static struct writer writer;
	union send_slot slot;
	size_t i;

	make_writer(&writer);
	for (i = 0; i < 6; i++) {
		at("case %zu", i);
		slot = good_request(&writer, i == 5 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE);
		switch (i) {
		case 0:
			slot.wqe.status = IBV_WC_GENERAL_ERR;
			break;
		case 1:
			slot.wqe.dma.cur_sge = 1;
			break;
		case 2:
			slot.wqe.dma.sge_offset = UINT32_MAX;
			break;
		case 3:
			slot.wqe.dma.resid = 100;
			break;
		case 4:
			slot.wqe.has_rd_atomic = 1;
			break;
		case 5:
			slot.wqe.state = STATE_ERROR - 1;
			break;
		}
		memset(writer.mr->addr, i + 1, 8);
		memset((uint8_t *)writer.mr->addr + PAGE, i + 1, 8);
		check_accepted(&writer, &slot);
		if (((uint8_t *)writer.mr->addr)[PAGE] != i + 1)
			fail("%s: it is not done", where);
	}
	check_good(&writer);
}

/* A request that has failed, as it says, and that nobody has begun with. */
static void failed_already(void)
{
	static struct writer writer;
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_SQD };
	uint64_t deadline = now_ms() + PATIENCE_MS;
	union send_slot slot;
	int status;

	make_writer(&writer);
	at("the end of the requests");
	must(!ibv_modify_qp(writer.pair.a.qp, &attr, IBV_QP_STATE));
	at("one more, which is to wait");
	slot = good_request(&writer, IBV_WR_RDMA_WRITE);
	slot.wqe.state = STATE_ERROR;
	write_request(&writer, &slot);
	must(!ring(&writer));
	/* It cannot be seen that nothing is done. */
	if (completed_within(&writer.pair.a, 1000, &status))
		fail("%s: it is completed: %s", where, status_name(status));
	at("the requests go on");
	attr.qp_state = IBV_QPS_RTS;
	while (ibv_modify_qp(writer.pair.a.qp, &attr, IBV_QP_STATE))
		if (now_ms() > deadline)
			fail("%s: %s", where, strerror(errno));
	must(!ring(&writer));
	status = completion(&writer.pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
}

/* How far a receive request has been filled, as it says. */
static void receive_progress(void)
{
	static const struct { uint32_t cur_sge, sge_offset, resid; } made[] = {
		{ 1, 0, 64 }, { 40, 0, 64 }, { 1 << 20, 0, 64 }, { INT32_MAX, 0, 64 },
		{ UINT32_MAX, 0, 64 }, { 0, 64, 64 }, { 0, 1U << 31, 64 }, { 0, 0, 0 },
		{ 0, 0, UINT32_MAX }, { 40, UINT32_MAX, UINT32_MAX },
	};
	static struct writer writer;
	struct pair back;
	size_t i;

	make_writer(&writer);
	back = (struct pair) { writer.pair.b, writer.pair.a };
	for (i = 0; i < sizeof(made) / sizeof(*made); i++) {
		uint8_t *to = (uint8_t *)writer.mr->addr + 2 * PAGE;
		union receive_slot slot = { .wqe.dma = {
			.length = 64, .resid = made[i].resid, .cur_sge = made[i].cur_sge,
			.sge_offset = made[i].sge_offset, .num_sge = 1,
		} };
		int status;

		at("sge %u, offset %u, %u bytes are left", made[i].cur_sge, made[i].sge_offset,
		   made[i].resid);
		slot.wqe.dma.sge[0].addr = (uint64_t)to;
		slot.wqe.dma.sge[0].length = 64;
		slot.wqe.dma.sge[0].lkey = writer.mr->lkey;
		memset(writer.mr->addr, i + 1, 64);
		write_receive(&writer, &slot);
		status = run_rdma(&back, IBV_WR_SEND, writer.mr, writer.mr->addr, 64, 0, 0);
		if (status)
			fail("%s: send: %s", where, status_name(status));
		status = completion(&writer.pair.a);
		if (status)
			fail("%s: receive: %s", where, status_name(status));
		if (difference(to, writer.mr->addr, 64) >= 0)
			fail("%s: it is not there", where);
	}
}

/* One that has a length, and no memory, after one that had some. */
static void receive_nowhere(void)
{
	static struct writer writer;
	union receive_slot slot = { .wqe.dma = { .length = 64, .resid = 64 } };
	struct pair back;
	uint8_t *to;

	make_writer(&writer);
	back = (struct pair) { writer.pair.b, writer.pair.a };
	to = (uint8_t *)writer.mr->addr + 2 * PAGE;
	post_receive_to(&writer.pair.a, (uint64_t)to, 64, writer.mr->lkey);
	memset(writer.mr->addr, 1, 64);
	at("one with memory");
	must(!run_rdma(&back, IBV_WR_SEND, writer.mr, writer.mr->addr, 64, 0, 0));
	must(!completion(&writer.pair.a));
	at("one without");
	memset(writer.mr->addr, 2, 64);
	write_receive(&writer, &slot);
	if (!run_rdma(&back, IBV_WR_SEND, writer.mr, writer.mr->addr, 64, 0, 0))
		fail("%s: success", where);
	if (to[0] != 1)
		fail("%s: it is where the one before was", where);
}

/* The size of a shared receive queue, which user space is told in memory that it can write to. */
static void shared_queue_size(void)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 15, .max_sge = 2 } };
	struct rxe_queue_buf *before[MAX_QUEUES], *after[MAX_QUEUES], *queue = NULL;
	struct ibv_srq_attr attr = {}, real;
	size_t n = list_queues(before), i, j;
	struct ibv_srq *srq;
	uint32_t mask;

	srq = ibv_create_srq(pd, &init);
	must(srq);
	for (i = list_queues(after); i--;) {
		for (j = 0; j < n && before[j] != after[i]; j++)
			;
		if (j == n)
			queue = after[i];
	}
	if (!queue)
		broken("the queue is not where it should be");
	must(!ibv_query_srq(srq, &real));
	mask = queue->index_mask;
	if (real.max_wr != mask)
		broken("the size is %u and %u", real.max_wr, mask);
	queue->index_mask = 0xffff;
	at("a query");
	must(!ibv_query_srq(srq, &attr));
	if (attr.max_wr != real.max_wr)
		fail("%s: %u, not %u", where, attr.max_wr, real.max_wr);
	at("a limit above the size");
	attr.srq_limit = mask + 1;
	if (!ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT))
		fail("%s: success", where);
	queue->index_mask = mask;
	attr.srq_limit = mask;
	if (ibv_modify_srq(srq, &attr, IBV_SRQ_LIMIT))
		fail("the limit can't be the size: %s", strerror(errno));
	must(!ibv_destroy_srq(srq));
}

static union send_slot invalidation(uint32_t rkey)
{
	union send_slot slot = { .words = {} };

	slot.wqe.wr.opcode = IBV_WR_LOCAL_INV;
	slot.wqe.wr.send_flags = IBV_SEND_SIGNALED;
	slot.wqe.wr.ex.invalidate_rkey = rkey;
	return slot;
}

/* A memory window is invalidated by the queue pair that it is bound to, while it is. */
static void invalidate_window(void)
{
	static struct writer writer;
	struct pair other;
	union send_slot slot;
	struct ibv_mw *mw;
	uint32_t rkey;

	make_writer(&writer);
	other = connected(IBV_MTU_4096, TIMEOUT);
	mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	must(mw);
	rkey = bind_window(&other.a, mw, writer.mr, (uint64_t)writer.mr->addr, 8,
			   IBV_ACCESS_REMOTE_READ);
	if (!rkey)
		broken("the window cannot be bound");
	at("one that is bound to another one");
	slot = invalidation(rkey);
	check_refused(&writer, &slot);
	must(!ibv_dealloc_mw(mw));

	mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	must(mw);
	at("one that is not bound");
	slot = invalidation(mw->rkey);
	check_refused(&writer, &slot);

	at("one that is bound");
	rkey = bind_window(&writer.pair.a, mw, writer.mr, (uint64_t)writer.mr->addr, 8,
			   IBV_ACCESS_REMOTE_READ);
	if (!rkey)
		broken("the window cannot be bound");
	slot = invalidation(rkey);
	check_accepted(&writer, &slot);
	at("one that was bound");
	check_refused(&writer, &slot);
	must(!ibv_dealloc_mw(mw));
	must(!ibv_dereg_mr(writer.mr));
}

/* A fast MR of the kernel's, by a process that has guessed its key, and by its peer. */
static void fast_mr_of_kernel(void)
{
	static struct writer writer;
	int fd = open("/dev/odp_fast", O_RDONLY | O_CLOEXEC), status;
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND_WITH_INV, .send_flags = IBV_SEND_SIGNALED,
	}, *bad;
	union send_slot slot;
	uint32_t rkey;

	must(fd >= 0);
	must(read(fd, &rkey, sizeof(rkey)) == sizeof(rkey));
	make_writer(&writer);
	at("LOCAL_INV");
	slot = invalidation(rkey);
	check_refused(&writer, &slot);
	at("SEND_WITH_INV");
	post_receive(&writer.pair, (uint64_t)writer.mr->addr, 8, writer.mr->lkey);
	wr.invalidate_rkey = rkey;
	must(!ibv_post_send(writer.pair.a.qp, &wr, &bad));
	/* Who sent it has it acknowledged nevertheless. */
	must(completion(&writer.pair.a) >= 0);
	status = completion(&writer.pair.b);
	if (status != IBV_WC_REM_INV_REQ_ERR && status != IBV_WC_WR_FLUSH_ERR)
		fail("%s: %s", where, status_name(status));
	close(fd);
}

/* What another thread does to a queue meanwhile. */
struct scribbler {
	pthread_t thread;
	/* to change what follows */
	pthread_mutex_t lock;
	struct rxe_queue_buf *sends, *receives;
	/* once */
	void (*scribble)(struct scribbler *scribbler);
	bool end;
};

static void *scribbler_thread(void *arg)
{
	struct scribbler *scribbler = arg;
	bool end = false;

	random_state = seed * 2 + 1;
	while (!end) {
		pthread_mutex_lock(&scribbler->lock);
		if (scribbler->sends)
			scribbler->scribble(scribbler);
		end = scribbler->end;
		pthread_mutex_unlock(&scribbler->lock);
		/* For who waits for the lock. */
		sched_yield();
	}
	return NULL;
}

static void make_scribbler(struct scribbler *scribbler)
{
	pthread_mutex_init(&scribbler->lock, NULL);
	must(!pthread_create(&scribbler->thread, NULL, scribbler_thread, scribbler));
}

static void point_scribbler(struct scribbler *scribbler, const struct writer *writer)
{
	pthread_mutex_lock(&scribbler->lock);
	scribbler->sends = writer ? writer->sends : NULL;
	scribbler->receives = writer ? writer->receives : NULL;
	pthread_mutex_unlock(&scribbler->lock);
}

static void end_scribbler(struct scribbler *scribbler)
{
	pthread_mutex_lock(&scribbler->lock);
	scribbler->end = true;
	pthread_mutex_unlock(&scribbler->lock);
	must(!pthread_join(scribbler->thread, NULL));
}

static void scribble_bind(struct scribbler *scribbler)
{
	int i, round;

	for (round = 0; round < 200; round++) {
		for (i = 0; i < 16; i++) {
			struct rxe_send_wqe *wqe =
				(void *)(scribbler->sends->data + (i << SEND_SHIFT));
			__u64 length;

			__atomic_load(&wqe->wr.wr.mw.length, &length, __ATOMIC_RELAXED);
			length = length ? 0 : 8;
			__atomic_store(&wqe->wr.wr.mw.length, &length, __ATOMIC_RELAXED);
		}
	}
}

#define BINDS 4000
#define AT_ONCE 8

/* A window is bound to something or to nothing, which changes all the time. */
static void bind_length(void)
{
	struct scribbler scribbler = { .scribble = scribble_bind };
	static struct writer writer;
	struct ibv_mw *mw;
	uint32_t rkey;
	int i, j;

	make_writer(&writer);
	mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
	must(mw);
	rkey = mw->rkey;
	make_scribbler(&scribbler);
	point_scribbler(&scribbler, &writer);
	for (i = 0; i < BINDS; i += AT_ONCE) {
		at("bind %d", i);
		for (j = 0; j < AT_ONCE; j++) {
			union send_slot slot = { .words = {} };

			slot.wqe.wr.opcode = IBV_WR_BIND_MW;
			slot.wqe.wr.send_flags = IBV_SEND_SIGNALED;
			slot.wqe.wr.wr.mw.addr = (uint64_t)writer.mr->addr;
			slot.wqe.wr.wr.mw.length = j & 1 ? 8 : 0;
			slot.wqe.wr.wr.mw.mr_lkey = writer.mr->lkey;
			slot.wqe.wr.wr.mw.mw_rkey = rkey;
			rkey = ibv_inc_rkey(rkey);
			slot.wqe.wr.wr.mw.rkey = rkey;
			slot.wqe.wr.wr.mw.access = IBV_ACCESS_REMOTE_READ;
			write_request(&writer, &slot);
		}
		must(!ring(&writer));
		for (j = 0; j < AT_ONCE; j++) {
			int status = completion(&writer.pair.a);

			if (status)
				fail("%s: %s", where, status_name(status));
		}
	}
	end_scribbler(&scribbler);
	at("the end of the window");
	must(!ibv_dealloc_mw(mw));
	at("the end of the MR");
	if (ibv_dereg_mr(writer.mr))
		fail("%s: %s, though no window is bound to it", where, strerror(errno));
}

/* What there is to be guessed. */
struct names {
	struct ibv_mr *mr, *guard;
	struct ibv_mw *mw[2];
};

static struct names names;

static uint32_t random_key(void)
{
	const uint32_t keys[] = {
		names.mr->lkey, names.mr->lkey, names.mr->lkey, names.guard->lkey,
		names.mw[0]->rkey, names.mw[1]->rkey, ibv_inc_rkey(names.mw[0]->rkey),
		ibv_inc_rkey(names.mw[1]->rkey), 0, random_below(1UL << 32),
	};

	return keys[random_below(sizeof(keys) / sizeof(*keys))];
}

static uint32_t random_number(void)
{
	const uint32_t numbers[] = {
		0, 1, 2, 3, 8, 8, 16, INLINE_SIZE, PAGE, PAGE + 1, 4 * PAGE, INT32_MAX, 1U << 31,
		UINT32_MAX, random_key(), random_below(1UL << 32),
	};

	return numbers[random_below(sizeof(numbers) / sizeof(*numbers))];
}

static uint64_t random_address(void)
{
	switch (random_below(8)) {
	case 0:
		return random_number();
	case 1:
		return (uint64_t)random_number() << 32 | random_number();
	case 2:
		return (uint64_t)names.guard->addr;
	default:
		return (uint64_t)names.mr->addr + random_below(4) * PAGE + random_below(4) * 8;
	}
}

static union send_slot random_request(const struct writer *writer)
{
	static const uint32_t opcodes[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, IBV_WR_SEND_WITH_IMM,
		IBV_WR_RDMA_READ, IBV_WR_ATOMIC_CMP_AND_SWP, IBV_WR_ATOMIC_FETCH_AND_ADD,
		IBV_WR_LOCAL_INV, IBV_WR_BIND_MW, IBV_WR_BIND_MW, IBV_WR_SEND_WITH_INV, IBV_WR_TSO,
		11, 12, 13, IBV_WR_FLUSH, IBV_WR_ATOMIC_WRITE, REG_MR, REG_MR + 1,
	};
	union send_slot slot = good_request(writer, 0);
	struct rxe_send_wr *wr = &slot.wqe.wr;
	struct rxe_dma_info *dma = &slot.wqe.dma;
	uint32_t *words = slot.words, n, i;

	n = random_below(sizeof(opcodes) / sizeof(*opcodes) + 1);
	wr->opcode = n < sizeof(opcodes) / sizeof(*opcodes) ? opcodes[n] : random_number();
	wr->send_flags = random_below(4) ? IBV_SEND_SIGNALED : random_below(32);
	wr->ex.invalidate_rkey = random_key();
	if (wr->opcode == IBV_WR_BIND_MW) {
		n = random_below(2);
		wr->wr.mw.addr = random_address();
		wr->wr.mw.length = random_below(2) ? 8 : random_number();
		wr->wr.mw.mr_lkey = random_key();
		wr->wr.mw.mw_rkey = names.mw[n]->rkey + random_below(3);
		wr->wr.mw.rkey = ibv_inc_rkey(wr->wr.mw.mw_rkey);
		wr->wr.mw.access = random_below(3) ? IBV_ACCESS_REMOTE_READ : random_below(256);
	} else if (writer->type == IBV_QPT_UD) {
		wr->wr.ud.remote_qpn = writer->pair.b.qp->qp_num;
		wr->wr.ud.remote_qkey = 1;
		wr->wr.ud.ah_num = random_below(4);
		for (i = 0; i < sizeof(wr->wr.ud.av); i++)
			((uint8_t *)&wr->wr.ud.av)[i] = random_below(4) ? 0 : random_below(256);
		wr->wr.ud.av.network_type = random_below(4);
	} else if (wr->opcode == IBV_WR_FLUSH) {
		wr->wr.flush.remote_addr = random_address();
		wr->wr.flush.rkey = random_key();
		wr->wr.flush.length = random_number();
		wr->wr.flush.type = random_below(8);
		wr->wr.flush.level = random_below(4);
	} else {
		wr->wr.atomic.remote_addr = random_address();
		wr->wr.atomic.compare_add = random_number();
		wr->wr.atomic.rkey = random_key();
		wr->wr.rdma.rkey = random_key();
	}
	slot.wqe.iova = random_below(4) ? wr->wr.rdma.remote_addr : random_address();
	if (!random_below(3)) {
		dma->length = random_number();
		dma->resid = random_below(2) ? dma->length : random_number();
	}
	for (i = 0; i < 2; i++) {
		dma->sge[i].addr = random_address();
		dma->sge[i].length = random_below(2) ? 8 : random_number();
		dma->sge[i].lkey = random_key();
	}
	if (!random_below(4))
		dma->num_sge = random_number();
	if (!random_below(8))
		dma->cur_sge = random_number();
	if (!random_below(8))
		dma->sge_offset = random_number();
	if (!random_below(8))
		slot.wqe.state = random_number();
	if (!random_below(8))
		slot.wqe.has_rd_atomic = random_number();
	for (i = random_below(3); i--;)
		words[random_below(sizeof(slot) / 4)] = random_number();
	return slot;
}

static union receive_slot random_receive(void)
{
	union receive_slot slot = { .wqe.dma = { .length = PAGE, .resid = PAGE, .num_sge = 1 } };
	uint32_t i;

	for (i = 0; i < 2; i++) {
		slot.wqe.dma.sge[i].addr = random_address();
		slot.wqe.dma.sge[i].length = random_below(2) ? PAGE : random_number();
		slot.wqe.dma.sge[i].lkey = random_key();
	}
	for (i = random_below(4); i--;)
		slot.words[random_below(sizeof(slot) / 4)] = random_number();
	return slot;
}

static void scribble_anything(struct scribbler *scribbler)
{
	int i;

	for (i = 0; i < 50; i++) {
		bool receives = !random_below(4);
		struct rxe_queue_buf *queue = receives ? scribbler->receives : scribbler->sends;
		uint32_t *words = (uint32_t *)queue->data;
		size_t word = random_below(16UL << ((receives ? RECEIVE_SHIFT : SEND_SHIFT) - 2));

		__atomic_store_n(&words[word], (uint32_t)random_number(), __ATOMIC_RELAXED);
	}
	if (!random_below(64))
		__atomic_store_n(&scribbler->sends->producer_index, (uint32_t)random_number(),
				 __ATOMIC_RELAXED);
}

/* As long as requests are completed, or it may take a moment to begin. */
static void wait_idle(const struct writer *writer)
{
	const uint32_t *index = &writer->sends->consumer_index;
	uint64_t moved = now_ms();
	uint32_t last = __atomic_load_n(index, __ATOMIC_RELAXED);

	while (now_ms() - moved < 20) {
		if (__atomic_load_n(index, __ATOMIC_RELAXED) != last) {
			last = __atomic_load_n(index, __ATOMIC_RELAXED);
			moved = now_ms();
		}
		if (last == writer->sends->producer_index)
			return;
		sched_yield();
	}
}

/*
 * Random requests, to which another thread does what it likes: the kernel has nothing to report, no
 * object stays, nothing that belongs to somebody else is changed, and others are not disturbed.
 */
static void random_requests(void)
{
	struct scribbler scribbler = { .scribble = scribble_anything };
	struct pair other = connected(IBV_MTU_4096, TIMEOUT);
	static struct writer writer;
	struct ibv_pd *mine = pd, *theirs;
	uint8_t secret[PAGE], *memory;
	uint64_t written = 0;
	int rounds = 0, i, n;

	random_state = seed;
	theirs = ibv_alloc_pd(device);
	must(theirs);
	names.guard = ibv_reg_mr(theirs, map(PAGE), PAGE, REMOTE);
	must(names.guard);
	random_fill(names.guard->addr, PAGE);
	memcpy(secret, names.guard->addr, PAGE);
	make_scribbler(&scribbler);
	while (written < requests) {
		at("seed %lu, request %lu", seed, written);
		memory = map(4 * PAGE);
		names.mr = reg(memory, 4 * PAGE,
			       REMOTE | IBV_ACCESS_MW_BIND | IBV_ACCESS_FLUSH_GLOBAL);
		for (i = 0; i < 2; i++) {
			names.mw[i] = ibv_alloc_mw(mine, i ? IBV_MW_TYPE_2 : IBV_MW_TYPE_1);
			must(names.mw[i]);
		}
		n = random_below(8);
		writer.type = n ? n > 1 ? IBV_QPT_RC : IBV_QPT_UC : IBV_QPT_UD;
		writer.mr = names.mr;
		connect_writer(&writer);
		for (i = random_below(8); i--;) {
			union receive_slot slot = random_receive();

			write_receive(&writer, &slot);
			post_receive_to(&writer.pair.b, (uint64_t)names.mr->addr, PAGE,
					names.mr->lkey);
		}
		/* Half of them as they are. */
		if (random_below(2))
			point_scribbler(&scribbler, &writer);
		for (i = 1 + random_below(12); i--; written++) {
			union send_slot slot = random_request(&writer);

			write_request(&writer, &slot);
			if (!random_below(3))
				ring(&writer);
		}
		ring(&writer);
		wait_idle(&writer);
		if (writer.type == IBV_QPT_RC && random_below(2)) {
			struct pair back = { writer.pair.b, writer.pair.a };

			post(&back, &(struct operation) {
				.opcode = IBV_WR_SEND, .local = names.mr,
				.address = names.mr->addr, .length = PAGE,
			});
		}
		at("seed %lu, the end before request %lu", seed, written);
		point_scribbler(&scribbler, NULL);
		disconnect_writer(&writer);
		for (i = 0; i < 2; i++)
			if (ibv_dealloc_mw(names.mw[i]))
				fail("%s: window: %s", where, strerror(errno));
		if (ibv_dereg_mr(names.mr))
			fail("%s: MR: %s", where, strerror(errno));
		munmap(memory, 4 * PAGE);
		if (difference(names.guard->addr, secret, PAGE) >= 0)
			fail("%s: what is another PD's is changed", where);
		if (++rounds % 64 == 0) {
			struct ibv_mr *mr = pinned(PAGE);

			if (run_rdma(&other, IBV_WR_RDMA_WRITE, mr, mr->addr, 8,
				     (uint64_t)mr->addr + 8, mr->rkey))
				fail("%s: another one's write fails", where);
			must(!ibv_dereg_mr(mr));
		}
	}
	end_scribbler(&scribbler);
	printf("# seed %lu: %lu requests, %d times\n", seed, written, rounds);
}

static const struct test tests[] = {
	{ "lengths", lengths },
	{ "progress_made", progress_made },
	{ "receive_nowhere", receive_nowhere },
	{ "failed_already", failed_already },
	{ "shared_queue_size", shared_queue_size },
	{ "fast_mr_of_kernel", fast_mr_of_kernel },
	{ "invalidate_window", invalidate_window },
	{ "opcode", opcode },
	{ "receive_progress", receive_progress },
	{ "inline_data", inline_data },
	{ "fast_mr", fast_mr },
	{ "bind_length", bind_length },
	{ "random_requests", random_requests },
};

int main(int argc, char **argv)
{
	take_option(&argc, argv, "--seed", &seed);
	take_option(&argc, argv, "--requests", &requests);
	/* The generator has no use for 0. */
	seed |= 1ULL << 32;
	return RUN_TESTS(tests, argc, argv);
}
