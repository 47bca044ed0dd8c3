// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs, and what ends before them, with them or not at all: processes, programs, faults,
 * modules.
 *
 * usage: lifetimes [--before] [TEST...]
 */

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "child.h"
#include "harness.h"
#include "stalled.h"

/* Shared with the process whose memory it is. */
static uint8_t *shared;

static void make_shared(void)
{
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(shared != MAP_FAILED);
}

/* Returns when there is nobody at the other end any more. */
static void until_hung_up(int socket)
{
	char byte;

	while (read(socket, &byte, 1) == 1)
		;
}

static void destroy_mr(struct owner *owner, int want)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attr;
	} cmd = {
		.hdr = { .length = sizeof(cmd), .object_id = UVERBS_OBJECT_MR,
			 .method_id = UVERBS_METHOD_MR_DESTROY, .num_attrs = 1,
			 .driver_id = RDMA_DRIVER_RXE },
		.attr = { .attr_id = UVERBS_ATTR_DESTROY_MR_HANDLE,
			  .flags = UVERBS_ATTR_F_MANDATORY, .data = owner->mr_handle },
	};
	int got = ioctl(owner->device, RDMA_VERBS_IOCTL, &cmd) ? errno : 0;

	if (got != want)
		fail("%s: the MR's end: %s", where, strerror(got));
}

/*
 * The owner's file is with somebody else when it ends. Its memory is gone, its MR is not: whoever
 * has the file can still end that, and only once.
 */
static void owner_exits(void)
{
	struct owner owner;

	make_shared();
	owner = make_owner(until_hung_up, true);
	at("the owner lives");
	check_write(&owner.peer, shared, PAGE);
	if (!ranges())
		broken("no ranges");
	at("the owner's end");
	must(!shutdown(owner.socket, SHUT_RDWR));
	wait_child(owner.pid);
	at("the owner is gone");
	if (peer_run(&owner.peer, IBV_WR_RDMA_READ, 8, (uint64_t)shared) != IBV_WC_REM_ACCESS_ERR)
		fail("memory of a process that is gone can be read");
	check_ranges(0);
	at("the MR's end");
	destroy_mr(&owner, 0);
	check_all_gone();
	destroy_mr(&owner, ENOENT);
	close(owner.device);
}

static void become_cat(int socket)
{
	must(!fcntl(device->cmd_fd, F_SETFD, 0));
	must(dup2(socket, 0) == 0);
	execlp("cat", "cat", NULL);
}

/* A program that has an MR of the memory of the one that it has taken the place of. */
static void owner_becomes_another(void)
{
	struct owner owner;
	char link[64], target[256] = "";
	uint64_t deadline = now_ms() + PATIENCE_MS;

	make_shared();
	owner = make_owner(become_cat, false);
	at("the other program");
	snprintf(link, sizeof(link), "/proc/%d/exe", owner.pid);
	while (!strstr(target, "/cat")) {
		if (now_ms() > deadline)
			broken("it is still %s", target);
		if (readlink(link, target, sizeof(target) - 1) < 0)
			*target = '\0';
	}
	at("its memory");
	if (peer_run(&owner.peer, IBV_WR_RDMA_READ, 8, (uint64_t)shared) != IBV_WC_REM_ACCESS_ERR)
		fail("memory of a program that is gone can be read");
	check_ranges(0);
	at("its end");
	must(!shutdown(owner.socket, SHUT_RDWR));
	wait_child(owner.pid);
}

/* A lot of memory takes its time to go. */
#define BULK (64UL << 20)

static uint8_t *bulk;

static void fill_bulk(int socket)
{
	/* At an address that is the same in the parent, where nothing is there. */
	must(mmap(bulk, BULK, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0) == bulk);
	say(socket, "f", 1);
	until_hung_up(socket);
}

/*
 * The owner is killed while a peer writes to its memory, and somebody else takes that away at the
 * same time. Until then everything that the peer is told is written is written.
 */
static void kill_owner(bool keep)
{
	struct owner owner;
	uint64_t *local, n;
	int pidfd, status;
	bool reaping = false;
	char byte;

	make_shared();
	if (!bulk)
		bulk = map(BULK);
	owner = make_owner(fill_bulk, keep);
	hear(owner.socket, &byte, 1);
	pidfd = syscall(SYS_pidfd_open, owner.pid, 0);
	must(pidfd >= 0);
	local = owner.peer.local->addr;
	for (n = 1; ; n++) {
		*local = n;
		at("write %lu", n);
		/* Every second one is to memory that there is less and less of. */
		status = peer_run(&owner.peer, IBV_WR_RDMA_WRITE, 8,
				  (uint64_t)(n % 2 ? shared : bulk + n * PAGE % BULK));
		if (status)
			break;
		if (n % 2 && *(uint64_t *)shared != n)
			fail("write %lu is lost", n);
		if (n == 50)
			must(!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
		if (n >= 50 && !syscall(SYS_process_mrelease, pidfd, 0))
			reaping = true;
		if (n > 100000)
			fail("a process that was killed can still be written to");
	}
	printf("# %lu writes, %s\n", n, reaping ? "memory was taken away" : "gone by itself");
	if (n < 50)
		fail("write %lu: %s", n, status_name(status));
	/* Where its queue pair is gone with it, nobody answers. */
	if (status != IBV_WC_REM_ACCESS_ERR && (keep || status != IBV_WC_RETRY_EXC_ERR))
		fail("write %lu: %s", n, status_name(status));
	must(waitpid(owner.pid, &status, 0) == owner.pid);
	check_ranges(0);
	if (keep) {
		destroy_mr(&owner, 0);
		close(owner.device);
	}
	check_all_gone();
}

#define KILLS 5

static void killed_with_mr(void)
{
	int i;

	for (i = 0; i < KILLS; i++)
		kill_owner(false);
}

static void killed_without_mr(void)
{
	int i;

	for (i = 0; i < KILLS; i++)
		kill_owner(true);
}

static struct call *make_dereg(struct call *dereg, struct ibv_mr *mr)
{
	*dereg = (struct call) { .run = dereg_call, .mr = mr };
	make_call(dereg);
	return dereg;
}

/* A connection in which packets are not sent again, and a read that a fault stands in the way of. */
static struct peer stall_read(struct faults *faults, uint32_t rkey)
{
	struct peer peer = make_peer(rkey, IBV_MTU_4096);

	connect_end(&peer.pair.b, peer.pair.a.qp->qp_num, IBV_MTU_4096, 0);
	connect_end(&peer.pair.a, peer.pair.b.qp->qp_num, IBV_MTU_4096, 0);
	post(&peer.pair, &(struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = peer.local, .address = peer.local->addr,
		.length = 8, .remote = (uint64_t)faults->memory, .rkey = rkey,
	});
	wait_fault(faults);
	return peer;
}

/*
 * A fault stands still. That is nobody's business but of who waits for it: other memory can be
 * read and unmapped, its ranges go, and the end of the MR is the end of the fault.
 */
static void fault_stands_still(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = implicit(REMOTE);
	struct peer other = make_peer(mr->rkey, IBV_MTU_4096), peer;
	struct call dereg;
	bool in_time;
	int i, status;
	int64_t n;

	make_dereg(&dereg, mr);
	at("the fault");
	peer = stall_read(&faults, mr->rkey);
	n = ranges();
	for (i = 0; i < 20; i++) {
		/* Far from it: 1 GiB each. */
		uint8_t *memory = (uint8_t *)(1UL << 44) + (1UL << 30) * i;

		at("other memory, %d", i);
		must(mmap(memory, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
		check_write(&other, memory, PAGE);
		must(!munmap(memory, PAGE));
	}
	at("the ranges of other memory");
	check_ranges(n);

	at("dereg during the fault");
	start_call(&dereg);
	in_time = ended(&dereg, PATIENCE_MS / 10);
	/* In any case, for without that nothing can be ended. */
	end_faults(&faults);
	if (!in_time)
		fail("%s: it waits", where);
	status = completion(&peer.pair.a);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("%s: the read: %s", where, status_name(status));
	if (dereg.result)
		fail("dereg: %s", strerror(dereg.result));
	check_all_gone();
}

/* What a fault waits in is unmapped: nobody waits for the fault, which finds nothing in the end. */
static void fault_in_what_goes(void)
{
	struct faults faults = stall_faults(PAGE);
	uint64_t deadline;
	struct peer peer;
	int status;

	at("the fault");
	peer = stall_read(&faults, implicit(REMOTE)->rkey);
	deadline = now_ms() + PATIENCE_MS;
	at("munmap() during the fault");
	must(!munmap(faults.memory, PAGE));
	at("the removal of its range");
	while (counter("removed") < counter("inserted")) {
		if (now_ms() > deadline)
			fail("the removal waits for the fault");
		sched_yield();
	}
	at("the end of the fault");
	close(faults.fd);
	status = completion(&peer.pair.a);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("what is unmapped is read: %s", status_name(status));
	check_ranges(0);
}

#define LIMIT 8

/*
 * A fault stands still in one of a few ranges, and all are in use: who needs another one gets it
 * all the same, from those that nobody waits in.
 */
static void fault_at_limit(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = implicit_with_room(LIMIT);
	struct peer other = make_peer(mr->rkey, IBV_MTU_4096), peer;
	int i, status = 0;

	at("the fault");
	peer = stall_read(&faults, mr->rkey);
	for (i = 0; i < 3 * LIMIT && !status; i++) {
		uint8_t *memory = (uint8_t *)(1UL << 44) + (1UL << 30) * i;

		at("mapping %d, while a fault stands still", i);
		must(mmap(memory, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
		status = peer_run(&other, IBV_WR_RDMA_WRITE, PAGE, (uint64_t)memory);
		if (!limit_holds(LIMIT)) {
			end_faults(&faults);
			fail("%s: %ld ranges", where, ranges());
		}
	}
	/* In any case, for without that nothing can be ended. */
	end_faults(&faults);
	if (status)
		fail("%s: %s", where, status_name(status));
	if (completion(&peer.pair.a))
		fail("the read does not come to its end after the fault");
	must(!ibv_dereg_mr(mr));
	check_all_gone();
}

/*
 * There is room for one range, and a fault stands still in that. Who waits for another one in a
 * call of its own can be killed.
 */
static void killed_at_limit(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = implicit_with_room(1);
	static const char * const drivers[] = { "rxe_mirror", "odp_" };
	uint8_t *memory = (uint8_t *)(1UL << 44);
	uint64_t deadline;
	struct peer peer;
	int socket, status;
	pid_t child, gone;
	char byte;

	must(mmap(memory, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
	at("the fault");
	peer = stall_read(&faults, mr->rkey);
	at("the prefetch");
	child = fork_child(&socket);
	if (!child) {
		int error;

		say(socket, "p", 1);
		error = advise((uint64_t)memory, PAGE, mr->lkey,
			       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
		fail("a prefetch with no room for it: %s", strerror(-error));
	}
	hear(socket, &byte, 1);
	wait_in_one_of(child, "wchan", drivers, 2);
	at("its end");
	must(!kill(child, SIGKILL));
	deadline = now_ms() + PATIENCE_MS;
	while (!(gone = waitpid(child, &status, WNOHANG)) && now_ms() < deadline)
		sched_yield();
	end_faults(&faults);
	if (!gone)
		fail("who waits for room cannot be killed");
	must(gone == child);
	if (!WIFSIGNALED(status))
		fail("it ended by itself");
	if (completion(&peer.pair.a))
		fail("the read does not come to its end after the fault");
}

/* When each of the two begins; the later the more the other is ahead. */
static uint64_t dereg_at;

static int timed_dereg(struct call *call)
{
	while (now_ns() < dereg_at)
		;
	return ibv_dereg_mr(call->mr);
}

#define BINDS 400

/*
 * A window is bound to an MR that is deregistered at the same time: one of the two fails. As much as
 * the one was late the last time, it begins earlier the next time, so that they come to meet.
 */
static void bind_during_dereg(void)
{
	int64_t lead = 0, step = 100000;
	int round, bound = 0, gone = 0;
	struct peer peer = make_peer(0, IBV_MTU_1024);
	uint8_t *memory = map(PAGE);
	bool last = false;

	for (round = 0; round < BINDS; round++) {
		struct ibv_mr *mr = reg(memory, PAGE, REMOTE | IBV_ACCESS_MW_BIND);
		struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		struct call dereg = { .run = timed_dereg, .mr = mr };
		uint64_t start;
		bool is_bound;

		must(mw);
		at("round %d", round);
		make_call(&dereg);
		start = now_ns() + 500000;
		dereg_at = start + lead;
		start_call(&dereg);
		while (now_ns() < start)
			;
		is_bound = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory, PAGE, WINDOW);
		if (!ended(&dereg, PATIENCE_MS)) {
			/* What it waits for can still be ended. */
			must(!ibv_dealloc_mw(mw));
			fail("%s: %s, and the end of the MR waits%s", where,
			     is_bound ? "it is bound" : "it is not bound",
			     ended(&dereg, PATIENCE_MS) ? " for the window" : "");
		}
		if (is_bound == !dereg.result)
			fail("%s: %s, and the end of the MR: %s", where,
			     is_bound ? "it is bound" : "it is not bound",
			     strerror(dereg.result));
		must(!pthread_join(dereg.thread, NULL));
		close(dereg.done);
		must(!ibv_dealloc_mw(mw));
		if (is_bound && ibv_dereg_mr(mr))
			fail("%s: the MR stays when the window is gone", where);
		/* The bind that fails stops its queue pair. */
		if (!is_bound)
			reconnect(&peer);
		bound += is_bound;
		gone += !is_bound;
		/* Towards the moment from which on the other one is the first. */
		step = is_bound == last ? step + step / 4 : step / 2;
		step = step < 200 ? 200 : step > 1000000 ? 1000000 : step;
		lead += is_bound ? -step : step;
		last = is_bound;
	}
	printf("# %d times bound, %d times gone; in the end %ld us apart\n", bound, gone,
	       lead / 1000);
	if (bound < BINDS / 10 || gone < BINDS / 10)
		broken("there was no race");
}

/* An MR ends while peers are busy with it; each operation succeeds or is denied. */
static void dereg_under_traffic(void)
{
	uint8_t *memory = map(16 * PAGE);
	struct peer peer = make_peer(0, IBV_MTU_4096);
	int round, i, denied = 0, done = 0;

	for (round = 0; round < 30; round++) {
		struct call dereg;
		struct ibv_mr *mr = implicit(REMOTE);

		peer.rkey = mr->rkey;
		make_dereg(&dereg, mr);
		random_fill(peer.local->addr, PEER_SIZE);
		for (i = 0; i < 12; i++) {
			at("round %d", round);
			post(&peer.pair, &(struct operation) {
				.opcode = IBV_WR_RDMA_WRITE, .local = peer.local,
				.address = (uint8_t *)peer.local->addr + i * PAGE, .length = PAGE,
				.remote = (uint64_t)memory + i * PAGE, .rkey = mr->rkey,
			});
			if (i == round % 12)
				start_call(&dereg);
		}
		for (i = 0; i < 12; i++) {
			int status = completion(&peer.pair.a);

			if (status == IBV_WC_REM_ACCESS_ERR || status == IBV_WC_WR_FLUSH_ERR)
				break;
			if (status)
				fail("write %d: %s", i, status_name(status));
			if (difference(memory + i * PAGE, (uint8_t *)peer.local->addr + i * PAGE,
				       PAGE) >= 0)
				fail("write %d is lost", i);
			done++;
		}
		denied += i < 12;
		if (!ended(&dereg, PATIENCE_MS))
			fail("dereg does not end");
		if (dereg.result)
			fail("dereg: %s", strerror(dereg.result));
		must(!pthread_join(dereg.thread, NULL));
		reconnect(&peer);
		at("round %d, afterwards", round);
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
		check_all_gone();
	}
	printf("# %d writes done, %d of %d rounds cut off\n", done, denied, round);
	if (!done || !denied)
		broken("there was no race");
}

/* What goes on until the device is gone; not longer, and then there is nothing to wait for. */
static struct {
	struct peer peer;
	uint64_t to;
	atomic_bool stop;
	atomic_ulong written;
} traffic;

static void *traffic_loop(void *arg)
{
	struct ibv_mr *local = traffic.peer.local;
	struct ibv_sge sge = { (uint64_t)local->addr, PAGE, local->lkey };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED, .sg_list = &sge,
		.num_sge = 1, .wr.rdma = { traffic.to, traffic.peer.rkey },
	}, *bad;
	struct ibv_wc wc;

	while (!traffic.stop && !ibv_post_send(traffic.peer.pair.a.qp, &wr, &bad)) {
		while (!ibv_poll_cq(traffic.peer.pair.a.cq, 1, &wc) && !traffic.stop)
			sched_yield();
		traffic.written++;
	}
	return arg;
}

/*
 * The device goes, with an implicit MR that a peer writes to through a memory window, and in which
 * another peer and a prefetch are in a fault. Nobody waits for user space.
 */
static void device_goes(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *mr = implicit(REMOTE | IBV_ACCESS_MW_BIND);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	uint8_t *memory = map(PAGE);
	uint64_t deadline;
	pthread_t thread;

	must(mw);
	traffic.peer = make_peer(mr->rkey, IBV_MTU_4096);
	traffic.to = (uint64_t)memory;
	traffic.peer.rkey = bind_window(&traffic.peer.pair.b, mw, mr, (uint64_t)memory, PAGE,
					WINDOW);
	if (!traffic.peer.rkey)
		broken("the window cannot be bound");
	at("the fault");
	stall_read(&faults, mr->rkey);
	must(!advise((uint64_t)faults.memory, PAGE, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH,
		     0));
	wait_fault(&faults);
	at("the traffic");
	must(!pthread_create(&thread, NULL, traffic_loop, NULL));
	deadline = now_ms() + PATIENCE_MS;
	while (traffic.written < 20) {
		if (now_ms() > deadline)
			broken("there is none");
		sched_yield();
	}
	check_device_ends(&faults);
	check_device_gone();
	traffic.stop = true;
	pthread_join(thread, NULL);
	check_ranges(0);
	make_device();
}

/* Who waits for a prefetch of a page that does not come waits no longer than the MR is there. */
static void mr_goes_in_prefetch(void)
{
	struct faults faults = stall_faults(PAGE);

	check_mr_ends(&faults, implicit(REMOTE));
	check_all_gone();
}

static int unload(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK) ? errno : 0;
}

/* How many there are who keep the driver from being unloaded. */
static long users(void)
{
	FILE *file = fopen("/sys/module/rdma_rxe/refcnt", "r");
	long n;

	must(file);
	must(fscanf(file, "%ld", &n) == 1);
	fclose(file);
	return n;
}

/*
 * Neither the driver nor the library can go while there is an MR. The driver's files and sockets
 * keep it as well, so that only the count shows that the MR does.
 */
static void unload_under_traffic(void)
{
	static const char * const modules[] = { "rdma_rxe", "odp" };
	uint8_t *memory = map(PAGE);
	long before = users(), with;
	struct ibv_mr *mr;
	struct peer peer;
	size_t i;

	mr = implicit(REMOTE);
	with = users();
	if (with != before + 1)
		fail("%ld users of the driver, and %ld with an MR", before, with);
	peer = make_peer(mr->rkey, IBV_MTU_4096);
	for (i = 0; i < 40; i++) {
		int got;

		at("attempt %zu", i);
		post(&peer.pair, &(struct operation) {
			.opcode = IBV_WR_RDMA_WRITE, .local = peer.local,
			.address = peer.local->addr, .length = PAGE, .remote = (uint64_t)memory,
			.rkey = peer.rkey,
		});
		got = unload(modules[i % 2]);
		if (got != EWOULDBLOCK)
			fail("%s: %s", modules[i % 2], got ? strerror(got) : "gone");
		if (completion(&peer.pair.a))
			fail("no traffic after an attempt to unload %s", modules[i % 2]);
	}
	at("the end of the MR");
	with = users();
	must(!ibv_dereg_mr(mr));
	if (users() != with - 1)
		fail("%ld users of the driver with an MR, and %ld without", with, users());
}

static const struct test tests[] = {
	{ "owner_exits", owner_exits },
	{ "owner_becomes_another", owner_becomes_another },
	{ "killed_with_mr", killed_with_mr },
	{ "killed_without_mr", killed_without_mr },
	{ "fault_stands_still", fault_stands_still },
	{ "fault_in_what_goes", fault_in_what_goes },
	{ "dereg_under_traffic", dereg_under_traffic },
	{ "unload_under_traffic", unload_under_traffic },
	{ "bind_during_dereg", bind_during_dereg },
	{ "fault_at_limit", fault_at_limit },
	{ "killed_at_limit", killed_at_limit },
	{ "device_goes", device_goes },
	{ "mr_goes_in_prefetch", mr_goes_in_prefetch },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
