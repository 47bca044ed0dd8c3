// SPDX-License-Identifier: GPL-2.0
/*
 * The same random operation on several MRs, pinned and of ODP, again and again; all of their
 * memory is compared byte for byte, with each other and with what memcpy() makes of it.
 *
 * usage: compare [--before] [--implicit] CASES [SEED]
 *
 * With --implicit, one more of the MRs is of the whole address space.
 */

#include "harness.h"
#include "implicit.h"

#define PAGES 8
#define SIZE (PAGES * PAGE)
/* What can be behind one operation; more than one packet at any MTU. */
#define LONGEST (3 * PAGE)
#define IOVA 0x40000000000ULL

static unsigned long cases = 500;
static bool with_implicit;

enum kind { PINNED, EXPLICIT, WITH_IOVA, IMPLICIT };

struct memory {
	uint8_t *at;
	struct ibv_mr *mr;
	uint64_t iova;
};

/* A file's, so that MADV_DONTNEED takes it from the page table and leaves its contents. */
static struct memory make_memory(enum kind kind)
{
	int access = kind == PINNED ? REMOTE : ODP, fd;
	struct memory m = { .at = map_file(&fd, SIZE) };

	m.iova = kind == WITH_IOVA ? IOVA : (uint64_t)m.at;
	if (kind == IMPLICIT)
		m.mr = implicit(access);
	else
		m.mr = ibv_reg_mr_iova(pd, m.at, SIZE, m.iova, access);
	must(m.mr);
	return m;
}

enum { WRITE, READ, SEND, KINDS };

static void compare(void)
{
	static const char * const names[] = { "write", "read", "send" };
	static uint8_t model[SIZE];
	struct pair pairs[5];
	size_t i, n_targets = with_implicit ? 4 : 3, n_locals = with_implicit ? 3 : 2;
	/* Each of another kind; no local one has an iova. */
	struct memory targets[4], locals[3];
	unsigned long n, cold = 0;

	for (i = 0; i < 5; i++)
		pairs[i] = connected(IBV_MTU_256 + i, TIMEOUT);
	for (i = 0; i < n_targets; i++)
		targets[i] = make_memory(i);
	locals[0] = make_memory(PINNED);
	locals[1] = make_memory(EXPLICIT);
	if (with_implicit)
		locals[2] = make_memory(IMPLICIT);
	random_fill(model, SIZE);
	for (i = 0; i < n_targets; i++)
		memcpy(targets[i].at, model, SIZE);

	for (n = 0; n < cases; n++) {
		int kind = random_below(KINDS), mtu = random_below(5);
		/* Short ones and long ones alike. */
		size_t length = 1 + random_below(random_below(2) ? 64 : LONGEST);
		size_t offset = random_below(SIZE - length + 1);
		size_t from = random_below(SIZE - length + 1);
		struct memory *local = &locals[random_below(n_locals)];
		bool drop = random_below(4) == 0;
		uint8_t *data = local->at + from;

		at("case %lu: %s of %zu bytes at %zu, MTU %d", n, names[kind], length, offset,
		   256 << mtu);
		cold += drop;
		if (kind != READ) {
			random_fill(data, length);
			memcpy(model + offset, data, length);
		}
		for (i = 0; i < n_targets; i++) {
			struct memory *target = &targets[i];
			int status, received = 0;
			ssize_t wrong;

			if (drop) {
				must(!madvise(target->at, SIZE, MADV_DONTNEED));
				must(!madvise(local->at, SIZE, MADV_DONTNEED));
			}
			if (kind == READ)
				memset(data, 0, length);
			if (kind == SEND)
				post_receive(&pairs[mtu], target->iova + offset, length,
					     target->mr->lkey);
			status = run_rdma(&pairs[mtu],
					  kind == WRITE ? IBV_WR_RDMA_WRITE :
					  kind == READ ? IBV_WR_RDMA_READ : IBV_WR_SEND,
					  local->mr, data, length, target->iova + offset,
					  target->mr->rkey);
			if (!status && kind == SEND)
				received = completion(&pairs[mtu].b);
			if (status || received)
				fail("%s, target %zu: %s, %s", where, i, status_name(status),
				     status_name(received));
			if (kind == READ && memcmp(data, model + offset, length))
				fail("%s, target %zu: byte %zd that was read is wrong", where, i,
				     difference(data, model + offset, length));
			wrong = difference(target->at, model, SIZE);
			if (wrong >= 0)
				fail("%s, target %zu: byte %zd is %02x, not %02x", where, i, wrong,
				     target->at[wrong], model[wrong]);
		}
	}
	printf("# %lu cases, %lu of them cold, on %zu MRs each\n", n, cold, n_targets);
}

int main(int argc, char **argv)
{
	bool before = argc > 1 && !strcmp(argv[1], "--before");
	struct test test = { "compare", compare };
	char *arguments[3] = { argv[0], before ? argv[1] : NULL };
	uint64_t seed;

	argc -= 1 + before;
	argv += 1 + before;
	with_implicit = argc > 0 && !strcmp(argv[0], "--implicit");
	argc -= with_implicit;
	argv += with_implicit;
	if (argc > 0)
		cases = strtoul(argv[0], NULL, 0);
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : now_ns();
	printf("# seed %lu\n", seed);
	random_state = seed | 1;
	return run_tests(&test, 1, 1 + before, arguments);
}
