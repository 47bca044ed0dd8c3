// SPDX-License-Identifier: GPL-2.0
/*
 * A test for each defect that the series in ../rxe/repairs removes. Each fails without it.
 *
 * usage: repairs [--before] [TEST...]
 */

#include <linux/falloc.h>
#include <linux/memfd.h>
#include <sys/stat.h>

#include "child.h"
#include "harness.h"
#include "memory.h"
#include "stalled.h"

/*
 * Does one operation on the LENGTH bytes at OFFSET of two pages of ODP memory, and compares
 * all of it, and what was read, with what memcpy() makes of the same.
 */
static void check_copy(enum ibv_wr_opcode opcode, size_t offset, size_t length, enum ibv_mtu mtu)
{
	struct pair pair = connected(mtu, TIMEOUT);
	struct ibv_mr *local = pinned(2 * PAGE), *mr;
	uint8_t *memory = map(2 * PAGE), want[2 * PAGE], sent[2 * PAGE];
	int status;
	ssize_t i;

	random_fill(memory, 2 * PAGE);
	random_fill(local->addr, 2 * PAGE);
	memcpy(want, memory, 2 * PAGE);
	memcpy(sent, local->addr, 2 * PAGE);
	if (opcode == IBV_WR_RDMA_READ)
		memcpy(sent, want + offset, length);
	else
		memcpy(want + offset, sent, length);
	mr = reg(memory, 2 * PAGE, ODP);

	at("the operation");
	if (opcode == IBV_WR_SEND)
		post_receive(&pair, (uint64_t)memory + offset, length, mr->lkey);
	status = run_rdma(&pair, opcode, local, local->addr, length, (uint64_t)memory + offset,
			  mr->rkey);
	if (status)
		fail("%s", status_name(status));
	if (opcode == IBV_WR_SEND) {
		at("the receive");
		status = completion(&pair.b);
		if (status)
			fail("receive: %s", status_name(status));
	}

	i = difference(memory, want, 2 * PAGE);
	if (i >= 0)
		fail("byte %zd of the memory is %02x, not %02x", i, memory[i], want[i]);
	i = difference(local->addr, sent, 2 * PAGE);
	if (i >= 0)
		fail("byte %zd of the requester's memory is %02x, not %02x", i,
		     ((uint8_t *)local->addr)[i], sent[i]);
}

static void write_at_offset(void)
{
	check_copy(IBV_WR_RDMA_WRITE, 100, 8, IBV_MTU_4096);
}

static void write_in_packets(void)
{
	check_copy(IBV_WR_RDMA_WRITE, 0, 2048, IBV_MTU_1024);
}

static void write_across_pages(void)
{
	check_copy(IBV_WR_RDMA_WRITE, PAGE - 100, 256, IBV_MTU_4096);
}

static void read_at_offset(void)
{
	check_copy(IBV_WR_RDMA_READ, 500, 8, IBV_MTU_4096);
}

static void receive_at_offset(void)
{
	check_copy(IBV_WR_SEND, 64, 1000, IBV_MTU_1024);
}

#define PERSISTENT_SIZE (16 * PAGE)

/* Memory that the kernel takes for persistent, at ADDRESS or anywhere; see module/odp_pmem.c. */
static uint8_t *map_persistent(void *address)
{
	int fd = open("/dev/odp_pmem", O_RDWR | O_CLOEXEC);
	void *memory;

	must(fd >= 0);
	memory = mmap(address, PERSISTENT_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | (address ? MAP_FIXED : 0), fd, 0);
	must(memory != MAP_FAILED);
	close(fd);
	return memory;
}

#define IOVA 0x123456000ULL

/* Every operation on an MR whose iova is not its address. */
static void iova(void)
{
	struct pair pair = connected(IBV_MTU_1024, TIMEOUT);
	struct ibv_mr *local = pinned(4 * PAGE), *mr;
	const size_t skip = 512, length = 3 * PAGE;
	uint8_t *memory = map_persistent(NULL), want[5 * PAGE];
	uint64_t *word = (uint64_t *)(memory + skip + PAGE);
	struct operation op = {
		.local = local, .address = local->addr, .length = 8,
		.remote = IOVA + skip + PAGE,
	};
	int status;
	ssize_t i;

	random_fill(memory, 5 * PAGE);
	memcpy(want, memory, 5 * PAGE);
	random_fill(local->addr, 4 * PAGE);
	/* The iova of the first byte; within a page the two have to agree. */
	mr = ibv_reg_mr_iova(pd, memory + skip, length, IOVA + skip, ODP | FLUSHABLE);
	must(mr);
	op.rkey = mr->rkey;

	at("write");
	memcpy(want + skip + 1000, local->addr, 5000);
	status = run_rdma(&pair, IBV_WR_RDMA_WRITE, local, local->addr, 5000, IOVA + skip + 1000,
			  mr->rkey);
	if (status)
		fail("write: %s", status_name(status));
	i = difference(memory, want, 5 * PAGE);
	if (i >= 0)
		fail("byte %zd is wrong after a write", i);

	at("read");
	status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, 3000, IOVA + skip + 2000,
			  mr->rkey);
	if (status)
		fail("read: %s", status_name(status));
	i = difference(local->addr, want + skip + 2000, 3000);
	if (i >= 0)
		fail("byte %zd that was read is wrong", i);

	at("atomics");
	op.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD;
	op.compare_add = 5;
	*word = 37;
	status = run(&pair, &op);
	if (status)
		fail("fetch and add: %s", status_name(status));
	if (*word != 42)
		fail("fetch and add: %lu", *word);
	op.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	op.compare_add = 42;
	op.swap = 4711;
	status = run(&pair, &op);
	if (status)
		fail("compare and swap: %s", status_name(status));
	if (*word != 4711)
		fail("compare and swap: %lu", *word);
	status = run_atomic_write(&pair, mr->rkey, op.remote, 815);
	if (status)
		fail("atomic write: %s", status_name(status));
	if (*word != 815)
		fail("atomic write: %lu", *word);

	at("flush");
	status = run_flush(&pair, mr->rkey, IOVA + skip, length, IBV_FLUSH_PERSISTENT,
			   IBV_FLUSH_RANGE);
	if (status)
		fail("flush: %s", status_name(status));

	at("prefetch");
	status = advise(IOVA + skip, length, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
			IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
	if (status)
		fail("prefetch: %s", strerror(-status));
	/* An address of the process, for one, is no iova. */
	status = advise((uint64_t)memory + skip, PAGE, mr->lkey,
			IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
	if (status != -EFAULT)
		fail("prefetch outside: %d", status);

	at("a read behind the end");
	status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, 8, IOVA + skip + length - 4,
			  mr->rkey);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("read behind the end: %s", status_name(status));
}

/* MRs whose length does not fit into an int, or only as another number. */
static void large(void)
{
	static const size_t lengths[] = { 1UL << 30, 1UL << 31, 1UL << 32, (1UL << 32) + PAGE };
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct ibv_mr *local = pinned(PAGE);
	size_t n, pos;

	memset(local->addr, 0x5a, PAGE);
	for (n = 0; n < sizeof(lengths) / sizeof(*lengths); n++) {
		size_t length = lengths[n], offsets[] = { 0, length / 2, length - PAGE };
		uint8_t *memory = map(length);
		struct ibv_mr *mr;
		int status;

		at("registration of %zu bytes", length);
		mr = ibv_reg_mr(pd, memory, length, ODP);
		if (!mr)
			fail("%zu bytes: %s", length, strerror(errno));
		for (pos = 0; pos < 3; pos++) {
			at("write to %zu of %zu", offsets[pos], length);
			status = run_rdma(&pair, IBV_WR_RDMA_WRITE, local, local->addr, 8,
					  (uint64_t)memory + offsets[pos], mr->rkey);
			if (status)
				fail("write to %zu of %zu: %s", offsets[pos], length,
				     status_name(status));
			if (memory[offsets[pos] + 7] != 0x5a)
				fail("nothing written to %zu of %zu", offsets[pos], length);
		}
		must(!ibv_dereg_mr(mr));
		munmap(memory, length);
	}
}

/* A pinned MR cannot be prefetched; an ODP MR can. */
static void prefetch_pinned(void)
{
	static const uint64_t advices[] = {
		IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
		IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
	};
	struct ibv_mr *pin = pinned(PAGE), *odp = reg(map(PAGE), PAGE, ODP);
	size_t i;
	int got;

	for (i = 0; i < 6; i++) {
		uint64_t advice = advices[i / 2];
		uint64_t flush = i % 2 ? IB_UVERBS_ADVISE_MR_FLAG_FLUSH : 0;

		at("advice %zu", i);
		got = advise((uint64_t)odp->addr, PAGE, odp->lkey, advice, flush);
		if (got)
			fail("advice %zu on an ODP MR: %s", i, strerror(-got));
		got = advise((uint64_t)pin->addr, PAGE, pin->lkey, advice, flush);
		if (got != -EINVAL)
			fail("advice %zu on a pinned MR: %s", i,
			     got ? strerror(-got) : "accepted");
	}
}

/*
 * A flush of a whole MR looks at all of it: one that is larger than 4 GiB by a page, and has a
 * hole behind that page, cannot be flushed.
 */
static void flush_large(void)
{
	const size_t length = (1UL << 32) + PAGE;
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	uint8_t *memory = map(length);
	struct ibv_mr *mr;
	int status;

	map_persistent(memory);
	at("flush of a small one");
	mr = reg(memory, PERSISTENT_SIZE, ODP | FLUSHABLE);
	status = run_flush(&pair, mr->rkey, 0, 0, IBV_FLUSH_PERSISTENT, IBV_FLUSH_MR);
	if (status)
		broken("a small MR: %s", status_name(status));

	mr = reg(memory, length, ODP | FLUSHABLE);
	munmap(memory + PAGE, PAGE);
	at("flush of a large one");
	status = run_flush(&pair, mr->rkey, 0, 0, IBV_FLUSH_PERSISTENT, IBV_FLUSH_MR);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("an MR with a hole: %s", status_name(status));
}

/* What is in DRAM is not said to be persistent, whatever the MR is. */
static void flush_dram(void)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	uint8_t *memory = map(2 * PERSISTENT_SIZE);
	struct ibv_mr *mr;
	int status;

	map_persistent(memory);
	mr = reg(memory, 2 * PERSISTENT_SIZE, ODP | FLUSHABLE);
	at("a flush of persistent memory");
	status = run_flush(&pair, mr->rkey, (uint64_t)memory, PERSISTENT_SIZE,
			   IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);
	if (status)
		broken("%s: %s", where, status_name(status));
	at("a flush of other memory, for who looks");
	status = run_flush(&pair, mr->rkey, (uint64_t)memory + PERSISTENT_SIZE, PAGE,
			   IBV_FLUSH_GLOBAL, IBV_FLUSH_RANGE);
	if (status)
		broken("%s: %s", where, status_name(status));
	at("a flush of other memory");
	status = run_flush(&pair, mr->rkey, (uint64_t)memory + PERSISTENT_SIZE, 8,
			   IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("%s: %s", where, status_name(status));
}

/* ... nor becomes it that later. */
static void rereg_dram(void)
{
	struct ibv_mr *mr = pinned(PAGE);
	int error;

	at("rereg for a flush");
	error = rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, pd, REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	if (error)
		broken("%s: %s", where, strerror(-error));
	at("rereg for persistence");
	error = rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, pd, REMOTE | FLUSHABLE);
	if (error != -EINVAL)
		fail("%s: %s", where, error ? strerror(-error) : "success");
}

/* An MR does not change under the windows that are bound to it. */
static void rereg_with_window(void)
{
	static const enum ibv_mw_type types[] = { IBV_MW_TYPE_1, IBV_MW_TYPE_2 };
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct ibv_mr *mr = reg(map(PAGE), PAGE, REMOTE | IBV_ACCESS_MW_BIND);
	struct ibv_pd *other = ibv_alloc_pd(device);
	size_t i;
	int error;

	must(other);
	for (i = 0; i < 2; i++) {
		struct ibv_mw *mw = ibv_alloc_mw(pd, types[i]);

		must(mw);
		at("type %zu", i + 1);
		if (!bind_window(&pair.b, mw, mr, (uint64_t)mr->addr, PAGE, WINDOW))
			broken("%s cannot be bound", where);
		error = rereg(mr, IBV_REREG_MR_CHANGE_PD, other, 0);
		if (error != -EINVAL)
			fail("%s: another PD: %s", where, error ? strerror(-error) : "success");
		error = rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, pd, IBV_ACCESS_LOCAL_WRITE);
		if (error != -EINVAL)
			fail("%s: another access: %s", where, error ? strerror(-error) : "success");
		must(!ibv_dealloc_mw(mw));
	}
	at("no window any more");
	error = rereg(mr, IBV_REREG_MR_CHANGE_PD, other, 0);
	if (error)
		fail("%s: %s", where, strerror(-error));
	must(!ibv_dereg_mr(mr));
}

/* A window lies in its MR, also if its address and its length have a sum that wraps, or from zero. */
static void window_outside(void)
{
	static const struct {
		const char *what;
		int64_t offset;
		uint64_t length;
		unsigned int access;
	} windows[] = {
		{ "around the end of all addresses", 0, 2 * PAGE, 0 },
		{ "zero-based, before the MR", -(int64_t)PAGE, PAGE, IBV_ACCESS_ZERO_BASED },
		{ "zero-based, behind it", PAGE, 8, IBV_ACCESS_ZERO_BASED },
		{ "zero-based, over its end", PAGE - 4, 8, IBV_ACCESS_ZERO_BASED },
	};
	uint8_t *memory = map(PAGE);
	struct ibv_mr *mr = reg(memory, PAGE, REMOTE | IBV_ACCESS_MW_BIND);
	size_t i;

	for (i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
		struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
		struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		uint64_t address = i ? (uint64_t)memory + windows[i].offset : -PAGE;

		must(mw);
		at("a window %s", windows[i].what);
		if (bind_window(&pair.b, mw, mr, address, windows[i].length,
				WINDOW | windows[i].access))
			fail("%s can be bound", where);
		must(!ibv_dealloc_mw(mw));
	}
	must(!ibv_dereg_mr(mr));
}

/* An MR that may only be read can be prefetched for that. */
static void prefetch_read_only(void)
{
	struct ibv_mr *mr = reg(map(PAGE), PAGE, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ);
	int flush, error;

	for (flush = 0; flush < 2; flush++) {
		uint64_t flags = flush ? IB_UVERBS_ADVISE_MR_FLAG_FLUSH : 0;

		at("%s", flush ? "now" : "later");
		error = advise((uint64_t)mr->addr, PAGE, mr->lkey,
			       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, flags);
		if (error)
			fail("%s: %s", where, strerror(-error));
		error = advise((uint64_t)mr->addr, PAGE, mr->lkey,
			       IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, flags);
		if (error != -EPERM)
			fail("%s: for writing: %s", where, error ? strerror(-error) : "success");
	}
}

/*
 * Has a page wait for twice as long as a peer with few retries sends without an answer: half a
 * second until a packet is sent again for a timeout of 17. False if the peer has given up.
 */
static bool peer_waits(uint8_t timeout)
{
	static const enum ibv_wr_opcode opcodes[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_SEND,
	};
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP);
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
		must(!madvise(faults.memory, PAGE, MADV_DONTNEED));
		if (opcodes[i] == IBV_WR_SEND)
			post_receive(&pair, (uint64_t)faults.memory, PAGE, mr->lkey);
		post(&pair, &(struct operation) {
			.opcode = opcodes[i], .local = local, .address = local->addr, .length = 8,
			.remote = (uint64_t)faults.memory, .rkey = mr->rkey, .compare_add = 1,
		});
		wait_fault(&faults);
		begin = now_ms();
		if (completed_within(&pair.a, in_vain_ms, &status)) {
			if (status != IBV_WC_RETRY_EXC_ERR)
				fail("%s: before the page is there: %s", where, status_name(status));
			printf("# %s: gave up after %lu ms, %lu timeouts, %lu of %lu RNR NAKs\n",
			       where, now_ms() - begin, hw_counter("completer_retry_err") - timeouts,
			       hw_counter("rcvd_rnr_err") - received,
			       hw_counter("send_rnr_err") - sent);
			end_faults(&faults);
			return false;
		}
		end_faults(&faults);
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
	if (!peer_waits(17) && !peer_waits(20))
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

/*
 * A peer reads a page, and writes to it, and then the page is reclaimed: what was written is
 * still there when it comes back. In between it is read only, so that what makes its entry in
 * the page table dirty is not the process itself.
 */
static void dirty(uint8_t *memory)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(memory, PAGE, ODP);
	uint64_t remote = (uint64_t)memory, value = 0x1122334455667788;
	struct operation op = {
		.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD, .local = local, .address = local->addr,
		.length = 8, .remote = remote + 8, .rkey = mr->rkey, .compare_add = value,
	};
	uint64_t old[3], got[3];
	int how, status;

	for (how = 0; how < 3; how++) {
		at("read before %d", how);
		status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, PAGE, remote,
				  mr->rkey);
		if (status)
			fail("read: %s", status_name(status));
		memcpy(old, local->addr, sizeof(old));
		at("write %d", how);
		switch (how) {
		case 0:
			memcpy(local->addr, &value, 8);
			status = run_rdma(&pair, IBV_WR_RDMA_WRITE, local, local->addr, 8, remote,
					  mr->rkey);
			old[0] = value;
			break;
		case 1:
			status = run(&pair, &op);
			old[1] += value;
			break;
		case 2:
			status = run_atomic_write(&pair, mr->rkey, remote + 16, value);
			old[2] = value;
			break;
		}
		if (status)
			fail("write %d: %s", how, status_name(status));
		at("page out after %d", how);
		page_out(memory);
		memcpy(got, memory, sizeof(got));
		if (memcmp(got, old, sizeof(got)))
			fail("write %d is lost: %lx %lx %lx, not %lx %lx %lx", how, got[0],
			     got[1], got[2], old[0], old[1], old[2]);
		/* Reading it mapped it; away with that, the peer is to do it. */
		page_out(memory);
	}
}

static void dirty_shmem(void)
{
	int fd;

	dirty(map_file(&fd, PAGE));
}

static void dirty_swapped(void)
{
	uint8_t *memory = map(PAGE);

	random_fill(memory, PAGE);
	page_out(memory);
	dirty(memory);
}

#define HUGE (2UL << 20)

static int punch_call(struct call *call)
{
	return fallocate(call->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HUGE);
}

static int discard_call(struct call *call)
{
	return madvise(call->memory, PAGE, MADV_DONTNEED);
}

/*
 * A prefetch that stands still in the middle of its walk of the page table, where nobody can end
 * it: it waits for the lock of the mapping of a file of two huge pages. The removal of the first
 * one has that lock, and stands still as well. The MR is the second one, and LENGTH bytes that are
 * mapped behind it.
 */
struct stuck_walk {
	struct call punch, prefetch;
	uint8_t *behind;
	int hold;
};

static void make_stuck_walk(struct stuck_walk *walk, size_t length)
{
	uint8_t *memory = map(5 * HUGE);
	uint8_t *huge = (uint8_t *)(((uint64_t)memory + HUGE - 1) & -HUGE);

	walk->punch = (struct call) { .run = punch_call };
	walk->prefetch = (struct call) { .run = prefetch_call };
	walk->punch.fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
	must(walk->punch.fd >= 0);
	must(!ftruncate(walk->punch.fd, 2 * HUGE));
	must(mmap(huge, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, walk->punch.fd,
		  0) == huge);
	memset(huge, 1, 2 * HUGE);
	walk->behind = huge + 2 * HUGE;
	walk->prefetch.memory = huge + HUGE;
	walk->prefetch.length = HUGE + length;
	walk->prefetch.mr = reg(walk->prefetch.memory, walk->prefetch.length, ODP);
	/* From here on, until the prefetch is through, nothing may map or unmap. */
	make_call(&walk->punch);
	make_call(&walk->prefetch);
	walk->hold = hold(huge, HUGE);
}

static void start_stuck_walk(struct stuck_walk *walk)
{
	at("the removal of the huge page");
	start_call(&walk->punch);
	wait_held(walk->hold);
	at("the walk");
	start_call(&walk->prefetch);
	/* The lock's own function is inlined there. */
	wait_in(walk->prefetch.tid, "walk_page_range");
}

static void release_stuck_walk(struct stuck_walk *walk)
{
	must(!ioctl(walk->hold, ODP_HOLD_RELEASE));
	if (!ended(&walk->prefetch, PATIENCE_MS))
		fail("the prefetch does not end");
	pthread_join(walk->punch.thread, NULL);
	must(!walk->punch.result);
}

/*
 * What a walk of the page table finds while an invalidation is on its way is not to be believed.
 *
 * Behind the huge page that a walk is stuck at are a page, and a hole. Now the page is discarded:
 * the MR's entry is cleared, and the page still mapped, for that stands still as well. The walk
 * goes on, finds the page, and fails at the hole. When the page is gone, the peer is to see that.
 */
static void stale_page(void)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	struct ibv_mr *local = pinned(PAGE);
	struct call discard = { .run = discard_call };
	struct stuck_walk walk;
	uint8_t zeroes[PAGE] = {};
	int hold_page, status;

	make_call(&discard);
	make_stuck_walk(&walk, 2 * PAGE);
	discard.memory = walk.behind;
	memset(discard.memory, 2, PAGE);
	must(!munmap(discard.memory + PAGE, PAGE));
	hold_page = hold(discard.memory, PAGE);
	start_stuck_walk(&walk);
	at("the page's end");
	start_call(&discard);
	wait_held(hold_page);
	at("the walk's second half");
	must(!ioctl(walk.hold, ODP_HOLD_RELEASE));
	pthread_join(walk.prefetch.thread, NULL);
	at("the end of the page's end");
	must(!ioctl(hold_page, ODP_HOLD_RELEASE));
	pthread_join(discard.thread, NULL);
	pthread_join(walk.punch.thread, NULL);
	must(!walk.punch.result);
	must(!discard.result);
	if (walk.prefetch.result != -EFAULT)
		broken("prefetch: %s", strerror(-walk.prefetch.result));

	at("a read of what is gone");
	status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, PAGE,
			  (uint64_t)discard.memory, walk.prefetch.mr->rkey);
	if (status)
		fail("read: %s", status_name(status));
	if (difference(local->addr, zeroes, PAGE) >= 0)
		fail("a page that was freed is read, with %02x in it", *(uint8_t *)local->addr);
}

/* Longer than HMM tries to get hold of pages. */
#define INVALIDATION_MS 2000

/* A peer waits while the process changes a mapping, however long that takes. */
static void invalidated_long(void)
{
	struct pair pair = connected(IBV_MTU_4096, TIMEOUT);
	uint8_t *memory = map(3 * PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(memory, 3 * PAGE, ODP);
	struct call discard = { .run = discard_call, .memory = memory + PAGE };
	int held, status;
	bool early;

	memset(memory, 1, 3 * PAGE);
	make_call(&discard);
	/* Behind the MR's beginning, so that the MR is told first. */
	held = hold(discard.memory, PAGE);
	at("the discard");
	start_call(&discard);
	wait_held(held);
	at("a read meanwhile");
	post(&pair, &(struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = local, .address = local->addr, .length = 8,
		.remote = (uint64_t)memory + 2 * PAGE, .rkey = mr->rkey,
	});
	early = completed_within(&pair.a, INVALIDATION_MS, &status);
	must(!ioctl(held, ODP_HOLD_RELEASE));
	pthread_join(discard.thread, NULL);
	must(!discard.result);
	if (!early)
		status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	if (*(uint8_t *)local->addr != 1)
		fail("%s: it is %02x", where, *(uint8_t *)local->addr);
}

#define LARGE (1UL << 30)

/* A prefetch that is not through ends with its MR: it does not first do all the rest. */
static void prefetch_ends_with_mr(void)
{
	uint8_t *memory = map(LARGE);
	struct ibv_mr *mr = reg(memory, LARGE, ODP);

	must(!madvise(memory, LARGE, MADV_NOHUGEPAGE));
	at("the prefetch");
	must(!advise((uint64_t)memory, LARGE, mr->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0));
	at("the end of the MR");
	must(!ibv_dereg_mr(mr));
	if (is_present(memory + LARGE - PAGE))
		fail("%s: all of the prefetch was waited for", where);
}

#define CGROUP "/sys/fs/cgroup/"

static void write_to(const char *path, const char *what)
{
	FILE *file = fopen(path, "w");

	must(file);
	must(fputs(what, file) >= 0);
	must(!fclose(file));
}

/* How much of its memory are page tables, in bytes. The kernel sums that up now and then. */
static uint64_t charged_page_tables(void)
{
	FILE *file = fopen(CGROUP "charged/memory.stat", "r");
	unsigned long value;
	char name[64];

	must(file);
	while (fscanf(file, "%63s %lu", name, &value) == 2) {
		if (!strcmp(name, "pagetables")) {
			fclose(file);
			return value;
		}
	}
	broken("the kernel does not count page tables");
}

#define TABLES 256
#define TABLE (2UL << 20)

/* The page tables that a peer's accesses make are the process's to pay for. */
static void page_tables_charged(void)
{
	uint64_t before, after, deadline;
	struct ibv_mr *local, *mr;
	uint8_t *memory;
	struct pair pair;
	int i, status;

	write_to(CGROUP "cgroup.subtree_control", "+memory");
	must(!mkdir(CGROUP "charged", 0755) || errno == EEXIST);
	write_to(CGROUP "charged/cgroup.procs", "0");
	pair = connected(IBV_MTU_4096, TIMEOUT);
	local = pinned(PAGE);
	memory = map(TABLES * TABLE);
	must(!madvise(memory, TABLES * TABLE, MADV_NOHUGEPAGE));
	mr = reg(memory, TABLES * TABLE, ODP);
	before = charged_page_tables();
	for (i = 0; i < TABLES; i++) {
		at("read %d", i);
		status = run_rdma(&pair, IBV_WR_RDMA_READ, local, local->addr, 8,
				  (uint64_t)memory + i * TABLE, mr->rkey);
		if (status)
			fail("%s: %s", where, status_name(status));
	}
	at("what is charged");
	deadline = now_ms() + PATIENCE_MS / 10;
	do {
		after = charged_page_tables();
		sched_yield();
	} while (after - before < TABLES / 2 * PAGE && now_ms() < deadline);
	write_to(CGROUP "cgroup.procs", "0");
	if (after - before < TABLES / 2 * PAGE)
		fail("%lu bytes are charged for %d page tables", after - before, TABLES);
}

/* The mm of an implicit root is there as long as the root is, if not as long as its process. */
static void implicit_root(void)
{
	int round;

	for (round = 0; round < 32; round++) {
		int fd = open("/dev/odp_root", O_RDWR | O_CLOEXEC), status;
		pid_t child;

		at("round %d", round);
		must(fd >= 0);
		child = fork();
		must(child >= 0);
		if (!child)
			_exit(!!ioctl(fd, ODP_ROOT_ALLOC));
		must(waitpid(child, &status, 0) == child);
		must(!status);
		/* What has run since lets go of an mm that a CPU had still borrowed. */
		child = fork();
		must(child >= 0);
		if (!child)
			_exit(0);
		must(waitpid(child, &status, 0) == child);
		at("child of a root of a process that is gone, round %d", round);
		if (!ioctl(fd, ODP_ROOT_CHILD, PAGE))
			fail("a child in the mm of a process that is gone");
		if (errno != EFAULT)
			fail("%s", strerror(errno));
		close(fd);
	}
}

/*
 * The device goes, with a queue pair that a memory window is bound to. Who cleans up after the
 * process begins with what was made last, and so the window is the older one.
 */
static void device_goes_with_window(void)
{
	struct call delete = { .run = delete_call };
	struct ibv_mr *mr = reg(map(PAGE), PAGE, REMOTE | IBV_ACCESS_MW_BIND);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	struct pair pair;

	must(mw);
	pair = connected(IBV_MTU_4096, TIMEOUT);
	if (!bind_window(&pair.b, mw, mr, (uint64_t)mr->addr, PAGE, WINDOW))
		broken("the window cannot be bound");
	make_call(&delete);
	at("the end of the device");
	start_call(&delete);
	if (!ended(&delete, PATIENCE_MS))
		fail("%s: it stays", where);
	must(!delete.result);
	make_device();
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

/* What has to be through in the middle of a fault; without that, the fault goes on. */
static void check_ends(struct call *call, struct faults *faults)
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
	must(!madvise(faults->memory, PAGE, MADV_DONTNEED));
}

#define RESETS 20

/* Two tasks reset one queue pair at the same time, while it is in a fault: uverbs lets them. */
static void reset_twice(void)
{
	struct faults faults = stall_faults(PAGE);
	struct ibv_mr *local = pinned(PAGE), *mr = reg(faults.memory, PAGE, ODP);
	struct pair pair;
	int i, n;

	for (i = 0; i < RESETS; i++) {
		struct call calls[2] = { };

		at("reset %d", i);
		pair = stall_read(&faults, local, mr);
		for (n = 0; n < 2; n++) {
			calls[n].run = reset_call;
			calls[n].qp = pair.b.qp;
			make_call(&calls[n]);
		}
		for (n = 0; n < 2; n++)
			start_call(&calls[n]);
		for (n = 0; n < 2; n++) {
			if (!ended(&calls[n], PATIENCE_MS / 10)) {
				/* Without that nothing can be ended. */
				end_faults(&faults);
				fail("%s: it waits for a fault", where);
			}
			if (calls[n].result)
				fail("%s: %s", where, strerror(calls[n].result));
			must(!pthread_join(calls[n].thread, NULL));
		}
		must(!ibv_destroy_qp(pair.a.qp));
		must(!ibv_destroy_qp(pair.b.qp));
	}
	end_faults(&faults);
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

/* Longer than rxe waited, shorter than what the kernel takes for a hung task. */
#define STALL_MS 53000

/* An MR is not freed while somebody is in it whom nobody can end. */
static void dereg_in_use(void)
{
	struct call dereg = { .run = dereg_call };
	struct stuck_walk walk;
	uint64_t start, took;
	bool early;

	make_call(&dereg);
	make_stuck_walk(&walk, 0);
	dereg.mr = walk.prefetch.mr;
	start_stuck_walk(&walk);

	at("dereg during the walk");
	start = now_ms();
	start_call(&dereg);
	early = ended(&dereg, STALL_MS);
	took = now_ms() - start;

	at("the end of the walk");
	release_stuck_walk(&walk);
	if (early)
		fail("dereg was through after %lu ms, in the middle of a walk", took);
	at("the end of dereg");
	if (!ended(&dereg, PATIENCE_MS))
		fail("dereg does not end");
	if (dereg.result)
		fail("dereg: %s", strerror(dereg.result));
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

static const struct test tests[] = {
	{ "write_at_offset", write_at_offset },
	{ "write_in_packets", write_in_packets },
	{ "write_across_pages", write_across_pages },
	{ "read_at_offset", read_at_offset },
	{ "receive_at_offset", receive_at_offset },
	{ "iova", iova },
	{ "large", large },
	{ "prefetch_pinned", prefetch_pinned },
	{ "prefetch_read_only", prefetch_read_only },
	{ "flush_large", flush_large },
	{ "flush_dram", flush_dram },
	{ "rereg_dram", rereg_dram },
	{ "rereg_with_window", rereg_with_window },
	{ "window_outside", window_outside },
	{ "dirty_shmem", dirty_shmem },
	{ "dirty_swapped", dirty_swapped },
	{ "stale_page", stale_page },
	{ "invalidated_long", invalidated_long },
	{ "page_tables_charged", page_tables_charged },
	{ "prefetch_ends_with_mr", prefetch_ends_with_mr },
	{ "implicit_root", implicit_root },
	{ "slow_page", slow_page },
	{ "prefetch_flood", prefetch_flood },
	{ "fault_ends", fault_ends },
	{ "reset_twice", reset_twice },
	{ "killed_in_dereg", killed_in_dereg },
	{ "device_goes_with_window", device_goes_with_window },
	{ "device_goes_in_fault", device_goes_in_fault },
	{ "mr_goes_in_prefetch", mr_goes_in_prefetch },
	{ "device_goes_in_prefetch", device_goes_in_prefetch },
	/* Without the repair the MR is freed under its user, so it is the last. */
	{ "dereg_in_use", dereg_in_use },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
