// SPDX-License-Identifier: GPL-2.0
/*
 * A test for each defect that the series in ../rxe/repairs removes. Each fails without it.
 *
 * usage: repairs [--before] [TEST...]
 */

#include <sys/stat.h>

#include "child.h"
#include "harness.h"
#include "memory.h"
#include "walk.h"

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

static int discard_call(struct call *call)
{
	return madvise(call->memory, PAGE, MADV_DONTNEED);
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

	advise_huge_pages(memory, LARGE, MADV_NOHUGEPAGE);
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
	advise_huge_pages(memory, TABLES * TABLE, MADV_NOHUGEPAGE);
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
	{ "device_goes_with_window", device_goes_with_window },
	/* Without the repair the MR is freed under its user, so it is the last. */
	{ "dereg_in_use", dereg_in_use },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
