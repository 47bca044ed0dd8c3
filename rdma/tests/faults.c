// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults that wait for user space: what goes on meanwhile, and who does not wait for them.
 *
 * usage: faults [--before] [TEST...]
 */

#include "child.h"
#include "harness.h"
#include "walk.h"

/*
 * Has a page of MR's wait for twice as long as a peer with few retries sends without an answer:
 * half a second until a packet is sent again for a timeout of 17. False if the peer has given up.
 */
static bool peer_waits(struct faults *faults, struct ibv_mr *mr, uint8_t timeout)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_SEND,
	};
	struct ibv_mr *local = pinned(PAGE);
	struct pair pair;
	size_t i;
	uint64_t sent, received, timeouts, begin;
	int in_vain_ms, status;

	retries = 3;
	in_vain_ms = 2 * (retries + 1) * (4096LL << timeout) / 1000000;
	pair = connected(IBV_MTU_4096, timeout);
	for (i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		at("opcode %x, timeout %u", opcodes[i], timeout);
		sent = hw_counter("send_rnr_err");
		received = hw_counter("rcvd_rnr_err");
		timeouts = hw_counter("completer_retry_err");
		must(!madvise(faults->memory, PAGE, MADV_DONTNEED));
		if (opcodes[i] == IBV_WR_SEND)
			post_receive(&pair, (uint64_t)faults->memory, PAGE, mr->lkey);
		post(&pair, &(struct operation) {
			.opcode = opcodes[i], .local = local, .address = local->addr, .length = 8,
			.remote = (uint64_t)faults->memory, .rkey = mr->rkey, .compare_add = 1,
		});
		wait_fault(faults);
		begin = now_ms();
		if (completed_within(&pair.a, in_vain_ms, &status)) {
			if (status != IBV_WC_RETRY_EXC_ERR)
				fail("%s: before the page is there: %s", where, status_name(status));
			printf("# %s: gave up after %lu ms, %lu timeouts, %lu of %lu RNR NAKs\n",
			       where, now_ms() - begin, hw_counter("completer_retry_err") - timeouts,
			       hw_counter("rcvd_rnr_err") - received,
			       hw_counter("send_rnr_err") - sent);
			end_faults(faults);
			return false;
		}
		end_faults(faults);
		status = completion(&pair.a);
		if (status)
			fail("%s: %s", where, status_name(status));
	}
	return true;
}

/*
 * A peer with few retries waits for a page for as long as it takes. A machine may be so busy that
 * no answer comes in half a second, four times; then it has more time. Without answers it gives up
 * whatever the timeout is.
 */
static void slow_page(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = reg(faults.memory, PAGE, ODP);

	if (!peer_waits(&faults, mr, 17) && !peer_waits(&faults, mr, 20))
		fail("%s: before the page is there: %s", where, status_name(IBV_WC_RETRY_EXC_ERR));
}

/* As many as fill the queue that they had in common with all packets. */
#define PREFETCHES 2200

/* Prefetches of a page that does not come are in nobody's way, and there is an end to them. */
static void prefetch_flood(void)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP);
	uint64_t deadline;
	int i, error = 0, status;

	at("the prefetches");
	for (i = 0; i < PREFETCHES && !error; i++)
		error = advise((uint64_t)mr->addr, PAGE, mr->lkey,
			       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0);
	if (error && error != -EAGAIN)
		fail("%s: number %d: %s", where, i, strerror(-error));
	at("another one's write");
	status = run_rdma(&pair, IBV_WR_RDMA_WRITE, local, local->addr, 8,
			  (uint64_t)local->addr + 8, local->rkey);
	if (status)
		fail("%s, during %d prefetches: %s", where, i, status_name(status));
	if (!error)
		fail("%d prefetches are accepted", i);
	at("the end of the fault");
	end_faults(&faults);
	deadline = now_ms() + PATIENCE_MS;
	at("one more");
	while ((error = advise((uint64_t)mr->addr, PAGE, mr->lkey,
			       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0))) {
		if (error != -EAGAIN || now_ms() > deadline)
			fail("%s: %s", where, strerror(-error));
		sched_yield();
	}
	at("the end of the MR");
	must(!ibv_dereg_mr(mr));
}

/* A connection whose packets are not sent again, and a read that a fault stands in the way of. */
static struct pair stall_read(struct faults *faults, struct ibv_mr *local, struct ibv_mr *mr)
{
	struct pair pair = connected(IBV_MTU_4096, 0);

	post(&pair, &(struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = local, .address = local->addr, .length = 8,
		.remote = (uint64_t)faults->memory, .rkey = mr->rkey,
	});
	wait_fault(faults);
	return pair;
}

static int destroy_call(struct call *call)
{
	return ibv_destroy_qp(call->qp);
}

static int reset_call(struct call *call)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };

	return ibv_modify_qp(call->qp, &attr, IBV_QP_STATE);
}

static int destroy_ah_call(struct call *call)
{
	return ibv_destroy_ah(call->ah);
}

static int dealloc_pd_call(struct call *call)
{
	return ibv_dealloc_pd(call->pd);
}

/* What has to be through in the middle of a fault, which is over when this returns. */
static void check_does_not_wait(struct call *call, struct faults *faults)
{
	bool in_time;

	make_call(call);
	start_call(call);
	in_time = ended(call, PATIENCE_MS / 10);
	/* In any case, for without that nothing can be ended. */
	end_faults(faults);
	if (!in_time)
		fail("%s: it waits for a fault", where);
	if (call->result)
		fail("%s: %s", where, strerror(call->result));
}

/* ... and which has ended by that: the next access to the page is a fault again. */
static void check_ends(struct call *call, struct faults *faults)
{
	check_does_not_wait(call, faults);
	must(!madvise(faults->memory, PAGE, MADV_DONTNEED));
}

/*
 * Two tasks reset one queue pair at the same time, as uverbs lets them. Both wait, asleep, for a
 * fault that nobody can end.
 */
static void reset_twice(void)
{
	struct pair pair = connected(IBV_MTU_4096, 0);
	struct ibv_mr *local = pinned(PAGE);
	struct call calls[2] = { };
	bool asleep[2], in_time[2];
	struct stuck_walk walk;
	int n;

	for (n = 0; n < 2; n++) {
		calls[n].run = reset_call;
		calls[n].qp = pair.b.qp;
		make_call(&calls[n]);
	}
	make_stuck_walk(&walk, 0);
	/* So that the MR has to be walked again. */
	must(!madvise(walk.prefetch.memory, HUGE, MADV_DONTNEED));
	hold_walks(&walk);
	at("the walk");
	post(&pair, &(struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = local, .address = local->addr, .length = 8,
		.remote = (uint64_t)walk.prefetch.memory, .rkey = walk.prefetch.mr->rkey,
	});
	wait_in(gettid(), "stack", STUCK_IN);
	for (n = 0; n < 2; n++) {
		at("reset %d", n);
		start_call(&calls[n]);
		asleep[n] = sleeps_within(&calls[n], "wchan", n ? "rxe_" : "rxe_disable_task",
					  PATIENCE_MS / 10);
	}
	at("the end of the walk");
	release_walks(&walk);
	for (n = 0; n < 2; n++)
		in_time[n] = ended(&calls[n], PATIENCE_MS);
	for (n = 0; n < 2; n++) {
		if (!asleep[n])
			fail("reset %d does not sleep while it waits", n);
		if (!in_time[n])
			fail("reset %d does not end", n);
		if (calls[n].result)
			fail("reset %d: %s", n, strerror(calls[n].result));
	}
	must(!ibv_destroy_qp(pair.a.qp));
	must(!ibv_destroy_qp(pair.b.qp));
}

/* How many operations of a peer it can repeat the answers to. */
static int change_resources(struct ibv_qp *qp, uint8_t n)
{
	struct ibv_qp_attr attr = { .max_dest_rd_atomic = n };

	return ibv_modify_qp(qp, &attr, IBV_QP_MAX_DEST_RD_ATOMIC);
}

#define RESOURCES 16

static int resources_call(struct call *call)
{
	return change_resources(call->qp, RESOURCES);
}

/* That changes while one of these operations is in a fault, which goes on: nobody waits for it. */
static void resources_in_fault(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP);
	struct pair pair = stall_read(&faults, local, mr);
	struct ibv_device_attr limits;
	struct ibv_qp_init_attr init;
	struct ibv_qp_attr attr;
	int status;

	memset(local->addr, 1, 8);
	at("the change");
	check_does_not_wait(&(struct call) { .run = resources_call, .qp = pair.b.qp }, &faults);
	must(!ibv_query_qp(pair.b.qp, &attr, IBV_QP_MAX_DEST_RD_ATOMIC, &init));
	if (attr.max_dest_rd_atomic != RESOURCES)
		fail("%s: it is %u", where, attr.max_dest_rd_atomic);
	at("the read");
	status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	if (*(uint64_t *)local->addr)
		fail("%s: it is %lx", where, *(uint64_t *)local->addr);
	at("the next one");
	faults.memory[0] = 2;
	status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, 8, (uint64_t)faults.memory,
			  mr->rkey);
	if (status)
		fail("%s: %s", where, status_name(status));
	if (*(uint64_t *)local->addr != 2)
		fail("%s: it is %lx", where, *(uint64_t *)local->addr);
	at("more than a queue pair may have");
	must(!ibv_query_device(device, &limits));
	if (change_resources(pair.b.qp, limits.max_qp_rd_atom + 1) != EINVAL)
		fail("%s are accepted", where);
}

#define CHANGES 1000

static int changes_call(struct call *call)
{
	int i, error = 0;

	for (i = 0; i < CHANGES && !error; i++)
		error = change_resources(call->qp, 1 + i % RESOURCES);
	return error;
}

/* Two tasks do so at the same time, which is a race. */
static void changed_at_once(void)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct call calls[2] = { };
	int n;

	for (n = 0; n < 2; n++) {
		calls[n].run = changes_call;
		calls[n].qp = pair.b.qp;
		make_call(&calls[n]);
	}
	at("the changes");
	for (n = 0; n < 2; n++)
		start_call(&calls[n]);
	for (n = 0; n < 2; n++) {
		if (!ended(&calls[n], PATIENCE_MS))
			fail("%s: no end", where);
		if (calls[n].result)
			fail("%s: %s", where, strerror(calls[n].result));
	}
}

/*
 * A fault that waits for user space is in the way of nobody who ends what it is for: the MR, the
 * queue pair. A prefetch is in nobody's way either.
 */
static void fault_ends(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP),
		      *second = reg(map(PAGE), PAGE, ODP);
	struct ibv_sge both[] = {
		{ (uint64_t)mr->addr, PAGE, mr->lkey },
		{ (uint64_t)second->addr, PAGE, second->lkey },
	};
	struct pair pair;
	int status;

	at("the end of the MR");
	pair = stall_read(&faults, local, mr);
	check_ends(&(struct call) { .run = dereg_call, .mr = mr }, &faults);
	status = completion(&pair.a);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("%s: read: %s", where, status_name(status));

	at("the end of the queue pair");
	mr = reg(faults.memory, PAGE, ODP);
	pair = stall_read(&faults, local, mr);
	check_ends(&(struct call) { .run = destroy_call, .qp = pair.b.qp }, &faults);

	at("the queue pair's reset");
	pair = stall_read(&faults, local, mr);
	check_ends(&(struct call) { .run = reset_call, .qp = pair.b.qp }, &faults);
	connect_end(&pair.b, pair.a.qp->qp_num, IBV_MTU_4096, TIMEOUT);
	connect_end(&pair.a, pair.b.qp->qp_num, IBV_MTU_4096, TIMEOUT);
	status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, 8, (uint64_t)second->addr,
			  second->rkey);
	if (status)
		fail("%s: read afterwards: %s", where, status_name(status));

	at("the end of the second MR of a prefetch that is in the first");
	both[0].lkey = mr->lkey;
	must(!advise_mr(pd, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0, both, 2));
	wait_fault(&faults);
	check_ends(&(struct call) { .run = dereg_call, .mr = second }, &faults);

	at("the end of the MR that a prefetch is in");
	must(!advise((uint64_t)mr->addr, PAGE, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0));
	wait_fault(&faults);
	check_ends(&(struct call) { .run = dereg_call, .mr = mr }, &faults);
}

/* A datagram is sent from a page that does not come. The end of the way to it does not wait. */
static void ah_goes_in_fault(void)
{
	struct ibv_ah_attr way = { .is_global = 1, .port_num = 1,
				   .grh = { .hop_limit = 1, .sgid_index = 1 } };
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = reg(faults.memory, PAGE, ODP);
	struct ibv_sge sge = { (uint64_t)mr->addr, 8, mr->lkey };
	struct ibv_send_wr send = {
		.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED, .sg_list = &sge,
		.num_sge = 1, .wr.ud.remote_qkey = 1,
	}, *bad;
	struct end end;
	int status;

	must(!ibv_query_gid(device, 1, 1, &way.grh.dgid));
	send.wr.ud.ah = ibv_create_ah(pd, &way);
	must(send.wr.ud.ah);
	make_typed_end(&end, IBV_QPT_UD);
	connect_typed_end(&end, IBV_QPT_UD, 0);
	send.wr.ud.remote_qpn = end.qp->qp_num;
	at("the fault");
	must(!ibv_post_send(end.qp, &send, &bad));
	wait_fault(&faults);
	at("the end of the address handle");
	check_does_not_wait(&(struct call) { .run = destroy_ah_call, .ah = send.wr.ud.ah },
			    &faults);
	at("the datagram");
	status = completion(&end);
	if (status)
		fail("%s: %s", where, status_name(status));
}

/* An MR moves to another PD in the middle of a prefetch. The end of the old PD does not wait. */
static void pd_goes_in_prefetch(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = reg(faults.memory, PAGE, ODP);
	struct ibv_pd *other = ibv_alloc_pd(device);

	must(other);
	at("the fault");
	must(!advise((uint64_t)mr->addr, PAGE, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0));
	wait_fault(&faults);
	must(!rereg(mr, IBV_REREG_MR_CHANGE_PD, other, 0));
	at("the end of the PD");
	check_ends(&(struct call) { .run = dealloc_pd_call, .pd = pd }, &faults);
	at("the end of the MR");
	must(!ibv_dereg_mr(mr));
}

/* A prefetch of a range that cannot be is still one of the next. */
static void prefetch_goes_on(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = reg(faults.memory, PAGE, ODP);
	struct ibv_sge both[] = {
		{ (uint64_t)mr->addr + PAGE, PAGE, mr->lkey },
		{ (uint64_t)mr->addr, PAGE, mr->lkey },
	};
	struct pollfd fault = { .fd = faults.fd, .events = POLLIN };
	int n;

	at("the second range");
	must(!advise_mr(pd, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0, both, 2));
	n = poll(&fault, 1, PATIENCE_MS / 10);
	must(n >= 0);
	if (!n)
		fail("%s is not prefetched", where);
	end_faults(&faults);
	must(!ibv_dereg_mr(mr));
}

/*
 * A process deregisters memory that a peer is in the middle of, in a fault that the process would
 * have to handle, and is killed: it goes. What would end the fault is closed only after the call.
 */
static void killed_in_dereg(void)
{
	struct introduction { uint32_t qp_num, rkey; } its;
	struct end end;
	struct ibv_mr *local = pinned(PAGE);
	uint32_t other;
	int socket, status;
	uint64_t deadline;
	pid_t child;
	char byte;

	make_end(&end);
	child = fork_child(&socket);
	if (!child) {
		struct faults faults = stall_faults(PAGE);
		struct end own;
		struct ibv_mr *mr;

		open_device();
		mr = reg(faults.memory, PAGE, ODP);
		make_end(&own);
		say(socket, &(struct introduction) { own.qp->qp_num, mr->rkey }, sizeof(its));
		hear(socket, &other, sizeof(other));
		connect_end(&own, other, IBV_MTU_4096, TIMEOUT);
		say(socket, "c", 1);
		wait_fault(&faults);
		say(socket, "f", 1);
		must(!ibv_dereg_mr(mr));
		say(socket, "d", 1);
		for (;;)
			pause();
	}
	hear(socket, &its, sizeof(its));
	say(socket, &end.qp->qp_num, sizeof(other));
	hear(socket, &byte, 1);
	connect_end(&end, its.qp_num, IBV_MTU_4096, TIMEOUT);
	at("the fault");
	post(&(struct pair) { .a = end }, &(struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = local, .address = local->addr, .length = 8,
		.remote = 1UL << 45, .rkey = its.rkey,
	});
	hear(socket, &byte, 1);
	at("the end of the process");
	/* Whether the call is through or not. */
	must(poll(&(struct pollfd) { .fd = socket, .events = POLLIN }, 1, PATIENCE_MS / 10) >= 0);
	must(!kill(child, SIGKILL));
	deadline = now_ms() + PATIENCE_MS;
	while (!waitpid(child, &status, WNOHANG)) {
		if (now_ms() > deadline)
			fail("%s: it does not go", where);
		sched_yield();
	}
}

/*
 * The device goes, with a peer's fault, a prefetch that is in one, and a memory window: that takes
 * no user space to come to its end. Who has it is told, and gets no more of it.
 */
static void device_goes_in_fault(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr;
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	struct pair pair;

	must(mw);
	mr = reg(faults.memory, PAGE, ODP | IBV_ACCESS_MW_BIND);
	pair = connected(IBV_MTU_4096, TIMEOUT);
	if (!bind_window(&pair.b, mw, mr, (uint64_t)mr->addr, PAGE, WINDOW))
		broken("the window cannot be bound");
	at("the fault");
	pair = stall_read(&faults, local, mr);
	must(!advise((uint64_t)mr->addr, PAGE, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0));
	wait_fault(&faults);
	check_device_ends(&faults);
	check_device_gone();
	make_device();
}

/* Who waits for a prefetch of a page that does not come waits only while the MR is there, */
static void mr_goes_in_prefetch(void)
{
	struct faults faults = stall_faults(PAGE);

	check_mr_ends(&faults, reg(faults.memory, PAGE, ODP));
}

/* and the device. */
static void device_goes_in_prefetch(void)
{
	struct faults faults = stall_faults(PAGE);

	check_device_ends_in_prefetch(&faults, reg(faults.memory, PAGE, ODP));
}

/* As many as are made in the background at a time, of all processes. */
#define CALLERS 256

static int end_of_pd_call(struct call *call)
{
	return ibv_dereg_mr(call->mr) ?: ibv_dealloc_pd(pd);
}

/* Makes a call that has to be through in the middle of the faults of others. */
static void check_not_held_up(struct call *call, struct faults *faults)
{
	make_call(call);
	start_call(call);
	if (!ended(call, PATIENCE_MS / 10)) {
		end_faults(faults);
		fail("%s: it waits for others", where);
	}
	if (call->result)
		fail("%s: %s", where, strerror(abs(call->result)));
}

/*
 * A process waits for prefetches of a page that does not come, with all the tasks it likes. What
 * another one prefetches, and waits for or not, is not held up by that, nor the end of its PD.
 */
static void prefetches_of_others(void)
{
	static struct call calls[CALLERS];
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = reg(faults.memory, PAGE, ODP), *other;
	int i;

	for (i = 0; i < CALLERS; i++) {
		calls[i] = (struct call) {
			.run = prefetch_call, .mr = mr, .memory = faults.memory, .length = PAGE,
		};
		make_call(&calls[i]);
		at("prefetch %d", i);
		start_call(&calls[i]);
		if (!sleeps_within(&calls[i], "wchan", "rxe_", PATIENCE_MS))
			fail("%s: nobody waits for it", where);
	}
	/* Another user context, which is as good as another process. */
	open_device();
	other = reg(map(PAGE), PAGE, ODP);
	at("the end of another one's PD, after a prefetch");
	must(!advise((uint64_t)other->addr, PAGE, other->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH,
		     0));
	check_not_held_up(&(struct call) { .run = end_of_pd_call, .mr = other }, &faults);
	at("a prefetch that another one waits for");
	pd = ibv_alloc_pd(device);
	must(pd);
	other = reg(map(PAGE), PAGE, ODP);
	check_not_held_up(&(struct call) {
		.run = prefetch_call, .mr = other, .memory = other->addr, .length = PAGE,
	}, &faults);
	at("the end of the fault");
	end_faults(&faults);
	for (i = 0; i < CALLERS; i++) {
		if (!ended(&calls[i], PATIENCE_MS))
			fail("prefetch %d does not end", i);
		if (calls[i].result)
			fail("prefetch %d: %s", i, strerror(-calls[i].result));
	}
}

/* More than what a user context may prefetch at a time. */
#define STALLED 20
#define SEEN_STALLED 16

/* A process has queue pairs in faults that do not end: others' are not held up. */
static void queue_pairs_of_others(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP);
	struct pair pairs[STALLED], other;
	bool in_time;
	int i, status;

	for (i = 0; i < STALLED; i++)
		pairs[i] = connected(IBV_MTU_4096, 0);
	at("the faults");
	for (i = 0; i < STALLED; i++)
		post(&pairs[i], &(struct operation) {
			.opcode = IBV_WR_RDMA_READ, .local = local, .address = local->addr,
			.length = 8, .remote = (uint64_t)faults.memory, .rkey = mr->rkey,
		});
	for (i = 0; i < SEEN_STALLED; i++)
		wait_fault(&faults);
	/* Another user context, which is as good as another process. */
	open_device();
	other = connected(IBV_MTU_4096, TIMEOUT);
	at("another one's write");
	local = pinned(PAGE);
	post(&other, &(struct operation) {
		.opcode = IBV_WR_RDMA_WRITE, .local = local, .address = local->addr, .length = 8,
		.remote = (uint64_t)local->addr + 8, .rkey = local->rkey,
	});
	in_time = completed_within(&other.a, PATIENCE_MS / 10, &status);
	end_faults(&faults);
	if (!in_time)
		fail("%s: it waits for the faults of others", where);
	if (status)
		fail("%s: %s", where, status_name(status));
	for (i = 0; i < STALLED; i++) {
		at("read %d", i);
		status = completion(&pairs[i].a);
		if (status)
			fail("%s: %s", where, status_name(status));
	}
}

static const struct test tests[] = {
	{ "slow_page", slow_page },
	{ "prefetch_flood", prefetch_flood },
	{ "fault_ends", fault_ends },
	{ "resources_in_fault", resources_in_fault },
	{ "changed_at_once", changed_at_once },
	{ "reset_twice", reset_twice },
	{ "ah_goes_in_fault", ah_goes_in_fault },
	{ "pd_goes_in_prefetch", pd_goes_in_prefetch },
	{ "prefetch_goes_on", prefetch_goes_on },
	{ "killed_in_dereg", killed_in_dereg },
	{ "mr_goes_in_prefetch", mr_goes_in_prefetch },
	{ "device_goes_in_prefetch", device_goes_in_prefetch },
	{ "prefetches_of_others", prefetches_of_others },
	{ "queue_pairs_of_others", queue_pairs_of_others },
	/* Without the repairs there is no device after it. */
	{ "device_goes_in_fault", device_goes_in_fault },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
