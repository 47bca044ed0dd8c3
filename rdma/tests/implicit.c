// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs, of memory that stays as it is: registration, every operation, and what is not to
 * be had through them.
 *
 * usage: implicit [--before] [TEST...]
 */

#include <linux/memfd.h>
#include <sys/syscall.h>

#include <sys/auxv.h>

#include "harness.h"
#include "implicit.h"

#define GIB (1UL << 30)
/* The first address that no process of five or four levels of page tables has. */
#define USER_END (1UL << 47)

static void odp_caps(void)
{
	struct ibv_device_attr_ex attr;

	must(!ibv_query_device_ex(device, NULL, &attr));
	if (!(attr.odp_caps.general_caps & IBV_ODP_SUPPORT_IMPLICIT))
		fail("general ODP capabilities are %#lx", attr.odp_caps.general_caps);
}

/* Through a registration of the whole, memory that came before it and after it. */
static void registration(void)
{
	uint8_t *before = map(PAGE), *after;
	struct ibv_mr *mr;
	struct peer peer;

	random_fill(before, PAGE);
	mr = implicit(REMOTE);
	if (ranges())
		fail("%ld ranges before anything was done", ranges());
	after = map(PAGE);
	peer = make_peer(mr->rkey, IBV_MTU_4096);
	at("memory from before");
	check_read(&peer, before, before, PAGE);
	check_write(&peer, before, PAGE);
	at("memory from after");
	check_write(&peer, after, PAGE);
	at("the end");
	must(!ibv_dereg_mr(mr));
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)after);
}

/* What N registrations, and their ends, take; of some tries the least. */
static uint64_t registrations_ms(int n)
{
	uint64_t least = UINT64_MAX;
	int tries, i;

	for (tries = 0; tries < 5; tries++) {
		uint64_t start = now_ms(), took;

		for (i = 0; i < n; i++)
			must(!ibv_dereg_mr(implicit(REMOTE)));
		took = now_ms() - start;
		if (took < least)
			least = took;
	}
	return least;
}

/* It does not look at the memory: it takes no longer for 512 MiB more. */
static void constant_time(void)
{
	const size_t length = 512UL << 20;
	/* As many as take a hundred ticks of the clock, at least. */
	uint64_t little = 0, much;
	int n = 5;

	do {
		n *= 2;
		little = registrations_ms(n);
	} while (little < 400);
	memset(map(length), 1, length);
	much = registrations_ms(n);
	printf("# %d registrations: %lu ms with little memory, %lu ms with 512 MiB more\n", n,
	       little, much);
	/*
	 * A walk of the page tables takes more than a hundred times as long. What other things the
	 * machine does make no factor of ten, the least of five times.
	 */
	if (much > 10 * little)
		fail("%d registrations take %lu ms with little memory, %lu ms with 512 MiB more",
		     n, little, much);
}

static void bad_registrations(void)
{
	static const struct {
		const char *what;
		uint64_t start, length, iova;
		unsigned int access;
		int error;
	} bad[] = {
		{ "an iova", 0, SIZE_MAX, PAGE, ODP, EINVAL },
		{ "an iova that is no page's", 0, SIZE_MAX, 8, ODP, EINVAL },
		{ "a start", PAGE, SIZE_MAX, PAGE, ODP, EINVAL },
		{ "a byte less", 0, SIZE_MAX - 1, 0, ODP, EOVERFLOW },
		{ "nothing", 0, 0, 0, ODP, EOVERFLOW },
		{ "pinned memory", 0, SIZE_MAX, 0, REMOTE, EINVAL },
		{ "huge pages only", 0, SIZE_MAX, 0, ODP | IBV_ACCESS_HUGETLB, EOPNOTSUPP },
		{ "a flush to persistence", 0, SIZE_MAX, 0, ODP | IBV_ACCESS_FLUSH_PERSISTENT,
		  EOPNOTSUPP },
		{ "remote writes without local ones", 0, SIZE_MAX, 0,
		  IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_WRITE, EINVAL },
	};
	size_t i;

	must(!ibv_dereg_mr(implicit(REMOTE)));
	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct ibv_mr *mr;

		at("%s", bad[i].what);
		errno = 0;
		mr = ibv_reg_mr_iova(pd, (void *)bad[i].start, bad[i].length, bad[i].iova,
				     bad[i].access);
		if (mr)
			fail("%s: accepted", bad[i].what);
		if (errno != bad[i].error)
			fail("%s: %s, not %s", bad[i].what, strerror(errno),
			     strerror(bad[i].error));
	}
}

#define BORDER (4 * PAGE)

/* An address at which anonymous memory ends and a file begins; both have as much as that. */
static uint8_t *make_border(uint64_t align)
{
	uint8_t *space = map(2 * align + BORDER), *border;
	int fd = memfd_create("border", MFD_CLOEXEC);

	must(fd >= 0);
	must(!ftruncate(fd, BORDER));
	border = (uint8_t *)(((uint64_t)space + BORDER + align - 1) & -align);
	must(mmap(border, BORDER, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == border);
	random_fill(border - BORDER, 2 * BORDER);
	close(fd);
	return border;
}

/*
 * Writes and reads over the border of two mappings, at addresses at which tables of pages have
 * borders, too, in packets of every size.
 */
static void across_mappings(void)
{
	static const uint64_t aligns[] = { 2 * BORDER, 2UL << 20, GIB };
	static const uint32_t offsets[] = { 1, 100, PAGE - 1, PAGE, 3 * PAGE + 5 };
	struct ibv_mr *mr = implicit(REMOTE);
	uint8_t want[2 * BORDER];
	struct peer peers[5];
	size_t a, o, m;

	for (m = 0; m < 5; m++)
		peers[m] = make_peer(mr->rkey, IBV_MTU_256 + m);
	for (a = 0; a < sizeof(aligns) / sizeof(*aligns); a++) {
		uint8_t *border = make_border(aligns[a]);

		memcpy(want, border - BORDER, 2 * BORDER);
		for (o = 0; o < 5 * sizeof(offsets) / sizeof(*offsets); o++) {
			struct peer *peer = &peers[o % 5];
			uint32_t offset = offsets[o / 5], length = 2 * offset;
			ssize_t wrong;

			at("%u bytes over %p, MTU %d", length, border, 256 << o % 5);
			peer_write(peer, border - offset, length);
			memcpy(want + BORDER - offset, peer->local->addr, length);
			wrong = difference(border - BORDER, want, 2 * BORDER);
			if (wrong >= 0)
				fail("%s: byte %zd is wrong", where, wrong - (ssize_t)BORDER);
			check_read(peer, border - offset, want + BORDER - offset, length);
		}
	}
}

/* The owner of the MR receives, and sends, through it: from two places, and over a border. */
static void send_and_receive(void)
{
	struct ibv_mr *mr = implicit(IBV_ACCESS_LOCAL_WRITE);
	struct pair pair = connected(IBV_MTU_1024, TIMEOUT);
	uint8_t *border = make_border(2 * BORDER), *from = map(2 * PAGE), want[3000];
	struct ibv_sge places[] = {
		{ (uint64_t)from + PAGE - 10, 20, mr->lkey },
		{ (uint64_t)border - 2000, 2980, mr->lkey },
	};
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED, .sg_list = places,
		.num_sge = 2,
	}, *bad;
	uint8_t *to = map(PAGE);
	int status;
	ssize_t wrong;

	random_fill(from, 2 * PAGE);
	memcpy(want, from + PAGE - 10, 20);
	memcpy(want + 20, border - 2000, 2980);
	post_receive(&pair, (uint64_t)to + 7, sizeof(want), mr->lkey);
	at("the send");
	must(!ibv_post_send(pair.a.qp, &wr, &bad));
	status = completion(&pair.a);
	if (status)
		fail("send: %s", status_name(status));
	at("the receive");
	status = completion(&pair.b);
	if (status)
		fail("receive: %s", status_name(status));
	wrong = difference(to + 7, want, sizeof(want));
	if (wrong >= 0)
		fail("byte %zd that was received is wrong", wrong);

	at("a receive where nothing is mapped");
	must(!munmap(to, PAGE));
	post_receive(&pair, (uint64_t)to, sizeof(want), mr->lkey);
	must(!ibv_post_send(pair.a.qp, &wr, &bad));
	status = completion(&pair.b);
	/*
	 * The first is what the specification has for a receive whose memory cannot be accessed, the
	 * second what rxe makes of it for every MR.
	 */
	if (status != IBV_WC_LOC_PROT_ERR && status != IBV_WC_LOC_QP_OP_ERR)
		fail("receive where nothing is mapped: %s", status_name(status));
}

static void atomics(void)
{
	struct ibv_mr *mr = implicit(REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	uint64_t *word = (uint64_t *)(make_border(2 * BORDER) - 8);
	uint64_t *old = peer.local->addr;
	struct operation op = {
		.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD, .local = peer.local,
		.address = peer.local->addr, .length = 8, .remote = (uint64_t)word,
		.rkey = mr->rkey, .compare_add = 5,
	};
	int status;

	at("fetch and add");
	*word = 37;
	status = run(&peer.pair, &op);
	if (status)
		fail("fetch and add: %s", status_name(status));
	if (*word != 42 || *old != 37)
		fail("37 + 5 is %lu, and was %lu", *word, *old);

	at("compare and swap");
	op.opcode = IBV_WR_ATOMIC_CMP_AND_SWP;
	op.swap = 4711;
	op.compare_add = 43;
	status = run(&peer.pair, &op);
	if (status)
		fail("compare and swap: %s", status_name(status));
	if (*word != 42 || *old != 42)
		fail("42 is swapped for being 43: %lu, was %lu", *word, *old);
	op.compare_add = 42;
	status = run(&peer.pair, &op);
	if (status)
		fail("compare and swap: %s", status_name(status));
	if (*word != 4711)
		fail("42 is not swapped: %lu", *word);

	at("atomic write");
	status = run_atomic_write(&peer.pair, mr->rkey, op.remote, 815);
	if (status)
		fail("atomic write: %s", status_name(status));
	if (*word != 815)
		fail("atomic write: %lu", *word);

	at("flush");
	status = run_flush(&peer.pair, mr->rkey, op.remote - 1000, 3000, IBV_FLUSH_GLOBAL,
			   IBV_FLUSH_RANGE);
	if (status)
		fail("flush: %s", status_name(status));

	at("an atomic where nothing is mapped");
	op.remote = (uint64_t)map(PAGE);
	must(!munmap((void *)op.remote, PAGE));
	status = run(&peer.pair, &op);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("unmapped: %s", status_name(status));
	reconnect(&peer);
	status = run_atomic_write(&peer.pair, mr->rkey, op.remote, 815);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("atomic write, unmapped: %s", status_name(status));
}

/* What is not the MR's to give: writes, and then anything, to a peer. */
static void access_rights(void)
{
	uint8_t *memory = map(PAGE);
	struct ibv_mr *reads = implicit(IBV_ACCESS_REMOTE_READ), *local = implicit(0);
	struct peer peer = make_peer(reads->rkey, IBV_MTU_4096);

	random_fill(memory, PAGE);
	must(!mprotect(memory, PAGE, PROT_READ));
	at("a read");
	check_read(&peer, memory, memory, PAGE);
	at("a write that only reads are granted for");
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory);
	at("a read that is not granted");
	peer.rkey = local->rkey;
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
	at("a read of an MR that is no more");
	must(!ibv_dereg_mr(reads));
	peer.rkey = reads->rkey;
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
}

/* A window is a part of the address space, whatever the MR is. */
static void memory_window(void)
{
	struct ibv_mr *mr = implicit(REMOTE | IBV_ACCESS_MW_BIND);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	uint8_t *memory = map(4 * PAGE);
	int status;

	must(mw);
	at("the window");
	peer.rkey = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory + PAGE, 2 * PAGE,
				WINDOW);
	if (!peer.rkey)
		fail("it cannot be bound");
	check_write(&peer, memory + PAGE, 2 * PAGE);
	at("an access beside the window");
	status = peer_run(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + 3 * PAGE);
	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("an access beside the window: %s", status_name(status));
	/* Before the queue pair that it is bound to. */
	must(!ibv_dealloc_mw(mw));
	reconnect(&peer);

	at("a window around the end of all addresses");
	mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	must(mw);
	if (bind_window(&peer.pair.b, mw, mr, -PAGE, 2 * PAGE, WINDOW))
		fail("%s can be bound", where);
	must(!ibv_dealloc_mw(mw));
}

/* A window does not make memory persistent of which nobody knows whether it is, or could be. */
static void persistent_window(void)
{
	static const size_t lengths[] = { 0, 8, PAGE };
	struct ibv_mr *mr = implicit(REMOTE | IBV_ACCESS_FLUSH_GLOBAL | IBV_ACCESS_MW_BIND);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	uint8_t *memory = map(PAGE);
	size_t i;

	memset(memory, 1, PAGE);
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		uint32_t rkey;

		must(mw);
		at("the bind");
		rkey = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory, PAGE,
				   WINDOW | IBV_ACCESS_FLUSH_PERSISTENT);
		at("a flush of %zu bytes", lengths[i]);
		if (rkey && !run_flush(&peer.pair, rkey, (uint64_t)memory, lengths[i],
				       IBV_FLUSH_PERSISTENT, IBV_FLUSH_RANGE))
			fail("%s: is said to be persistent", where);
		must(!ibv_dealloc_mw(mw));
		reconnect(&peer);
	}
}

/*
 * The end of a queue pair with a window bound to it: it is refused, or the window can no longer be
 * used. It does not wait for the window, which nobody could end any more.
 */
static void window_outlives_queue_pair(void)
{
	struct ibv_mr *mr = implicit(REMOTE | IBV_ACCESS_MW_BIND);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	uint8_t *memory = map(PAGE);
	struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	int error;

	must(mw);
	at("the bind");
	peer.rkey = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory, PAGE, WINDOW);
	check_write(&peer, memory, PAGE);
	at("the end of the queue pair");
	error = ibv_destroy_qp(peer.pair.b.qp);
	if (error && error != EBUSY)
		fail("destroy: %s", strerror(error));
	at("the end of the window");
	must(!ibv_dealloc_mw(mw));
	if (error && ibv_destroy_qp(peer.pair.b.qp))
		fail("the queue pair stays when the window is gone");
}

/* The last page that a process can have, the first one, and what is beyond them. */
static void bounds(void)
{
	static const struct { uint64_t address; uint32_t length; } beyond[] = {
		{ USER_END - PAGE, 8 }, { USER_END - PAGE - 4, 8 }, { USER_END - 4, 8 },
		{ USER_END, 8 }, { 1UL << 56, 8 }, { 1UL << 63, PAGE }, { -USER_END, PAGE },
		/* where the kernel has text, vsyscall, and an ERR_PTR */
		{ 0xffffffff81000000, 8 }, { 0xffffffffff600000, 8 }, { -4095UL, 8 },
		/* around the end of all addresses */
		{ -1UL, 1 }, { -1UL, 2 }, { -4UL, 8 }, { -PAGE, 2 * PAGE },
		{ -1UL, 8 * PAGE },
	};
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *last = (uint8_t *)USER_END - 2 * PAGE, *first = NULL;
	size_t i;

	for (i = 0; i < sizeof(beyond) / sizeof(*beyond); i++) {
		at("beyond %zu", i);
		check_denied(&peer, IBV_WR_RDMA_READ, beyond[i].length, beyond[i].address);
		check_denied(&peer, IBV_WR_RDMA_WRITE, beyond[i].length, beyond[i].address);
	}
	if (counter("inserted"))
		fail("%lu ranges were made for what nobody can have", counter("inserted"));
	at("the last page");
	must(mmap(last, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == last);
	check_write(&peer, last, PAGE);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)last + PAGE - 4);
	at("the first page");
	must(mmap(first, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
		  0) == first);
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, 0);
	if (peer_run(&peer, IBV_WR_RDMA_READ, PAGE, 0))
		fail("the first page cannot be read");
}

/* A peer that guesses gets nothing, and makes the process pay for nothing. */
static void guesses(void)
{
	struct ibv_mr *mr = implicit(REMOTE);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	int i;

	for (i = 0; i < 200; i++) {
		/* Of all addresses, or of those that a process can have; mapped by chance never. */
		uint64_t address = random_below(1UL << 53) << 11 | random_below(2048);
		uint32_t length = 1 + random_below(PEER_SIZE);

		if (i % 2)
			address %= USER_END;
		at("guess %d: %u bytes at %#lx", i, length, address);
		check_denied(&peer, i % 4 < 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE, length,
			     address);
	}
	for (i = 1; i < 256; i++) {
		at("key %x for %x", mr->rkey ^ i, mr->rkey);
		peer.rkey = mr->rkey ^ i;
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)&peer);
	}
	if (counter("inserted"))
		fail("%lu ranges were made", counter("inserted"));
}

/* Memory that even the kernel has no mapping of. */
static void secret_memory(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_1024);
	int fd = syscall(SYS_memfd_secret, 0);
	uint8_t *memory;

	must(fd >= 0);
	must(!ftruncate(fd, PAGE));
	memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	must(memory != MAP_FAILED);
	memset(memory, 1, PAGE);
	at("secret memory");
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory);
	if (memory[0] != 1)
		fail("it was written to");
}

/* Some of the program itself. */
static const uint8_t constant[2 * PAGE] = { 1, 2, 3, [PAGE] = 4, 5, 6 };

/* What the process may not write to can be read, sent and prefetched, and not written to. */
static void check_read_only(struct peer *peer, struct ibv_mr *all, struct ibv_mr *reads,
			    const uint8_t *memory)
{
	uint8_t *to = map(PAGE);
	struct ibv_mr *received = reg(to, PAGE, IBV_ACCESS_LOCAL_WRITE);
	int status;

	must(!madvise((void *)memory, PAGE, MADV_DONTNEED) || errno == EINVAL);
	peer->rkey = reads->rkey;
	check_read(peer, memory, memory, PAGE);
	peer->rkey = all->rkey;
	check_read(peer, memory, memory, PAGE);
	post_receive(&peer->pair, (uint64_t)to, PAGE, received->lkey);
	status = run_rdma(&peer->pair, IBV_WR_SEND, reads, (void *)memory, PAGE, 0, 0);
	if (status || completion(&peer->pair.b))
		fail("%s: send: %s", where, status_name(status));
	if (difference(to, memory, PAGE) >= 0)
		fail("%s: what was sent is something else", where);
	status = advise((uint64_t)memory, PAGE, reads->lkey, IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH,
			IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
	if (status)
		fail("%s: prefetch: %s", where, strerror(-status));
	status = advise((uint64_t)memory, PAGE, all->lkey,
			IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
	if (!status)
		fail("%s: prefetch for writing: success", where);
	check_denied(peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory);
	must(!ibv_dereg_mr(received));
}

static void read_only(void)
{
	static const char * const what[] = {
		"constants of the program", "the vdso", "a file", "a file, mapped privately",
	};
	struct ibv_mr *all = implicit(REMOTE), *reads = implicit(IBV_ACCESS_REMOTE_READ);
	struct peer peer = make_peer(all->rkey, IBV_MTU_4096);
	int fd = memfd_create("read", MFD_CLOEXEC);
	uint8_t bytes[PAGE];
	void *memories[4];
	size_t i;

	must(fd >= 0);
	random_fill(bytes, PAGE);
	must(write(fd, bytes, PAGE) == PAGE);
	memories[0] = (void *)(((uint64_t)constant + PAGE - 1) & -PAGE);
	memories[1] = (void *)getauxval(AT_SYSINFO_EHDR);
	must(memories[1]);
	memories[2] = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	memories[3] = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
	must(memories[2] != MAP_FAILED && memories[3] != MAP_FAILED);
	for (i = 0; i < 4; i++) {
		void *memory = memories[i];
		struct ibv_mr *explicit[] = {
			reg(memory, PAGE, ODP),
			reg(memory, PAGE, IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ),
		};

		at("%s, implicit", what[i]);
		check_read_only(&peer, all, reads, memory);
		at("%s, explicit", what[i]);
		check_read_only(&peer, explicit[0], explicit[1], memory);
	}
}

static const char * const kinds[] = { "pinned", "explicit", "implicit" };
#define KINDS 3

static struct ibv_mr *reg_kind(int kind, void *memory, size_t length, int access)
{
	if (kind == 2)
		return implicit(access);
	return reg(memory, length, access | (kind ? IBV_ACCESS_ON_DEMAND : 0));
}

#define MESSAGE (PAGE + 500)
/* What a datagram brings along, in front of it. */
#define GRH 40

/* A message from one place of MEMORY to another one, by what SEND is filled with. */
static void check_message(struct pair *pair, struct ibv_mr *mr, uint8_t *memory, size_t length,
			  size_t grh, struct ibv_srq *srq, struct ibv_send_wr *send)
{
	struct ibv_sge from = { (uint64_t)memory + 100, length, mr->lkey },
		       to = { (uint64_t)memory + 4 * PAGE - 100, length + grh, mr->lkey };
	struct ibv_recv_wr receive = { .sg_list = &to, .num_sge = 1 }, *bad_receive;
	struct ibv_send_wr *bad;
	int status;

	random_fill(memory, 2 * PAGE);
	must(srq ? !ibv_post_srq_recv(srq, &receive, &bad_receive) :
		   !ibv_post_recv(pair->b.qp, &receive, &bad_receive));
	send->opcode = IBV_WR_SEND;
	send->send_flags = IBV_SEND_SIGNALED;
	send->sg_list = &from;
	send->num_sge = 1;
	must(!ibv_post_send(pair->a.qp, send, &bad));
	status = completion(&pair->a);
	if (status)
		fail("%s: send: %s", where, status_name(status));
	status = completion(&pair->b);
	if (status)
		fail("%s: receive: %s", where, status_name(status));
	if (difference((void *)(to.addr + grh), (void *)from.addr, length) >= 0)
		fail("%s: what is received is something else", where);
}

/* From a queue of receive requests that queue pairs share. */
static void shared_receives(void)
{
	struct ibv_srq_init_attr init = { .attr = { .max_wr = 8, .max_sge = 1 } };
	int kind;

	for (kind = 0; kind < KINDS; kind++) {
		uint8_t *memory = map(8 * PAGE);
		struct ibv_mr *mr = reg_kind(kind, memory, 8 * PAGE, REMOTE);
		struct ibv_srq *srq = ibv_create_srq(pd, &init);
		struct pair pairs[2];
		size_t i;

		must(srq);
		for (i = 0; i < 2; i++) {
			struct pair *pair = &pairs[i];

			make_typed_end(&pair->a, IBV_QPT_RC);
			make_sharing_end(&pair->b, IBV_QPT_RC, srq);
			connect_typed_end(&pair->a, IBV_QPT_RC, pair->b.qp->qp_num);
			connect_typed_end(&pair->b, IBV_QPT_RC, pair->a.qp->qp_num);
		}
		for (i = 0; i < 4; i++) {
			at("%s, message %zu", kinds[kind], i);
			check_message(&pairs[i % 2], mr, memory, MESSAGE, 0, srq,
				      &(struct ibv_send_wr) {});
		}
	}
}

/* Connections that promise nothing, and datagrams. */
static void unreliable(void)
{
	struct ibv_ah_attr way = { .is_global = 1, .port_num = 1,
				   .grh = { .hop_limit = 1, .sgid_index = 1 } };
	int kind;

	must(!ibv_query_gid(device, 1, 1, &way.grh.dgid));
	for (kind = 0; kind < KINDS; kind++) {
		uint8_t *memory = map(8 * PAGE);
		struct ibv_mr *mr = reg_kind(kind, memory, 8 * PAGE, REMOTE);
		struct ibv_ah *ah = ibv_create_ah(pd, &way);
		struct pair pair;
		int status;

		must(ah);
		at("%s, a message of a connection", kinds[kind]);
		make_typed_end(&pair.a, IBV_QPT_UC);
		make_typed_end(&pair.b, IBV_QPT_UC);
		connect_typed_end(&pair.a, IBV_QPT_UC, pair.b.qp->qp_num);
		connect_typed_end(&pair.b, IBV_QPT_UC, pair.a.qp->qp_num);
		check_message(&pair, mr, memory, MESSAGE, 0, NULL, &(struct ibv_send_wr) {});
		at("%s, a write, and a message behind it", kinds[kind]);
		random_fill(memory, PAGE);
		status = run_rdma(&pair, IBV_WR_RDMA_WRITE, mr, memory, 3000,
				  (uint64_t)memory + 6 * PAGE - 1000, mr->rkey);
		if (status)
			fail("%s: %s", where, status_name(status));
		/* By when the write has been done, for nothing else says so. */
		post_receive(&pair, (uint64_t)memory + 4 * PAGE, PAGE, mr->lkey);
		status = run_rdma(&pair, IBV_WR_SEND, mr, memory, 8, 0, 0);
		if (status || completion(&pair.b))
			fail("%s: %s", where, status_name(status));
		if (difference(memory + 6 * PAGE - 1000, memory, 3000) >= 0)
			fail("%s: what is written is something else", where);
		destroy_end(&pair.a);
		destroy_end(&pair.b);

		at("%s, a datagram", kinds[kind]);
		make_typed_end(&pair.a, IBV_QPT_UD);
		make_typed_end(&pair.b, IBV_QPT_UD);
		connect_typed_end(&pair.a, IBV_QPT_UD, 0);
		connect_typed_end(&pair.b, IBV_QPT_UD, 0);
		check_message(&pair, mr, memory, 2000, GRH, NULL, &(struct ibv_send_wr) {
			.wr.ud = { .ah = ah, .remote_qpn = pair.b.qp->qp_num, .remote_qkey = 1 },
		});
		destroy_end(&pair.a);
		destroy_end(&pair.b);
		must(!ibv_destroy_ah(ah));
	}
}

/* A window of the type that belongs to no queue pair. */
static void window_of_type_1(void)
{
	int kind;

	for (kind = 0; kind < KINDS; kind++) {
		uint8_t *memory = map(4 * PAGE);
		struct ibv_mr *mr = reg_kind(kind, memory, 4 * PAGE, REMOTE | IBV_ACCESS_MW_BIND);
		struct ibv_mw *mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
		struct peer peer = make_peer(0, IBV_MTU_1024);
		uint32_t first;

		must(mw);
		at("%s, a window", kinds[kind]);
		first = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory + PAGE, 2 * PAGE,
				    WINDOW);
		if (!first)
			fail("%s cannot be bound", where);
		peer.rkey = first;
		check_write(&peer, memory + PAGE, 2 * PAGE);
		check_read(&peer, memory + PAGE + 10, memory + PAGE + 10, PAGE);
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
		check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + 3 * PAGE - 4);
		at("%s, bound to something else", kinds[kind]);
		mw->rkey = first;
		peer.rkey = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory, PAGE,
					IBV_ACCESS_REMOTE_READ);
		if (!peer.rkey)
			fail("%s: it cannot be", where);
		check_read(&peer, memory, memory, PAGE);
		check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory);
		peer.rkey = first;
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory + PAGE);
		must(!ibv_dealloc_mw(mw));
		must(!ibv_dereg_mr(mr));
	}
}

/* Registers of a device, of the PCI bus, mapped to the process. */
static uint8_t *map_registers(void)
{
	uint8_t *registers = MAP_FAILED;
	glob_t files;
	size_t i;

	must(!glob("/sys/bus/pci/devices/*/resource[0-9]", 0, NULL, &files));
	for (i = 0; i < files.gl_pathc && registers == MAP_FAILED; i++) {
		int fd = open(files.gl_pathv[i], O_RDWR);

		must(fd >= 0);
		/* Ports cannot be mapped. */
		registers = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	globfree(&files);
	must(registers != MAP_FAILED);
	return registers;
}

/* What is mapped in the process, but is no memory. */
static void device_memory(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_1024);
	uint8_t *registers = map_registers();

	at("registers");
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)registers);
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)registers);
	if (counter("inserted"))
		fail("%lu ranges were made", counter("inserted"));
}

/* Waits for what was asked for without waiting. */
static void check_present(uint8_t *page)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;

	while (!is_present(page)) {
		if (now_ms() > deadline)
			fail("%s: the page at %p is not there", where, page);
		sched_yield();
	}
}

static void prefetch_memory(void)
{
	static const struct {
		const char *what;
		uint64_t advice, flags;
	} advices[] = {
		{ "read", IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, IB_UVERBS_ADVISE_MR_FLAG_FLUSH },
		{ "write", IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
		  IB_UVERBS_ADVISE_MR_FLAG_FLUSH },
		{ "read, later", IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH, 0 },
		{ "write, later", IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0 },
	};
	const uint64_t no_fault = IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT;
	struct ibv_mr *mr = implicit(REMOTE), *reads = implicit(IBV_ACCESS_REMOTE_READ);
	uint8_t *memory;
	size_t i;
	int got;

	for (i = 0; i < sizeof(advices) / sizeof(*advices); i++) {
		uint8_t *border = make_border(2UL << 20);

		at("prefetch for %s", advices[i].what);
		must(!madvise(border - BORDER, 2 * BORDER, MADV_DONTNEED));
		if (is_present(border) || is_present(border - PAGE))
			broken("it does not leave memory");
		got = advise((uint64_t)border - PAGE - 100, PAGE + 200, mr->lkey,
			     advices[i].advice, advices[i].flags);
		if (got)
			fail("%s: %s", where, strerror(-got));
		if (advices[i].flags && !(is_present(border) && is_present(border - 2 * PAGE)))
			fail("%s: it is not there", where);
		check_present(border - 2 * PAGE);
		check_present(border - PAGE);
		check_present(border);
		/* Of a file, the kernel maps what is around it, too. */
		if (is_present(border - 3 * PAGE))
			fail("%s: there is more than was asked for", where);
	}

	memory = map(PAGE);
	at("prefetch for write, through an MR for reads");
	got = advise((uint64_t)memory, PAGE, reads->lkey, advices[1].advice, advices[1].flags);
	/*
	 * The first is what ibv_advise_mr(3) has; but rxe looks for MRs that can be written to, and
	 * finds none.
	 */
	if (got != -EPERM && got != -EINVAL)
		fail("%s: %s", where, strerror(-got));
	at("prefetch of what is there");
	got = advise((uint64_t)memory, PAGE, mr->lkey, no_fault, IB_UVERBS_ADVISE_MR_FLAG_FLUSH);
	if (got)
		fail("%s: %s", where, strerror(-got));
	if (is_present(memory))
		fail("%s: a fault", where);
	at("prefetch where nothing is mapped");
	must(!munmap(memory, PAGE));
	for (i = 0; i < 2; i++) {
		got = advise((uint64_t)memory, PAGE, mr->lkey, advices[i].advice,
			     advices[i].flags);
		if (got != -EFAULT)
			fail("%s: %s", where, strerror(-got));
		got = advise(-PAGE, 2 * PAGE, mr->lkey, advices[i].advice, advices[i].flags);
		if (got != -EFAULT)
			fail("%s, around the end: %s", where, strerror(-got));
	}
}

/* Several MRs of one process, which end one after the other, and of another one. */
static void many(void)
{
	enum { N = 8 };
	uint8_t *memory = map(N * PAGE);
	struct ibv_mr *mrs[N];
	struct peer peer;
	int i;

	for (i = 0; i < N; i++)
		mrs[i] = implicit(REMOTE);
	peer = make_peer(mrs[0]->rkey, IBV_MTU_1024);
	for (i = 0; i < N; i++) {
		int k;

		at("with %d MRs", N - i);
		for (k = i; k < N; k++) {
			peer.rkey = mrs[k]->rkey;
			check_write(&peer, memory + k * PAGE - (k ? 10 : 0), PAGE);
		}
		must(!ibv_dereg_mr(mrs[i]));
	}
	at("the end");
	if (!hw_counter("odp_ranges_created"))
		fail("no range was ever created");
	check_all_gone();
}

static const struct test tests[] = {
	{ "odp_caps", odp_caps },
	{ "registration", registration },
	{ "constant_time", constant_time },
	{ "bad_registrations", bad_registrations },
	{ "across_mappings", across_mappings },
	{ "send_and_receive", send_and_receive },
	{ "atomics", atomics },
	{ "access_rights", access_rights },
	{ "memory_window", memory_window },
	{ "bounds", bounds },
	{ "guesses", guesses },
	{ "secret_memory", secret_memory },
	{ "device_memory", device_memory },
	{ "prefetch_memory", prefetch_memory },
	{ "read_only", read_only },
	{ "shared_receives", shared_receives },
	{ "unreliable", unreliable },
	{ "window_of_type_1", window_of_type_1 },
	{ "many", many },
	{ "persistent_window", persistent_window },
	/* If it hangs, what it has made is there for good, so it is the last. */
	{ "window_outlives_queue_pair", window_outlives_queue_pair },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
