// SPDX-License-Identifier: GPL-2.0
/*
 * What ends while a peer's access looks at it. rdma/tests/run has odp_delay.ko delay rxe there: a
 * few instructions are too short for somebody else to come between.
 *
 * usage: raced [TEST...]
 */

#include "harness.h"
#include "implicit.h"

#define ROUNDS 200
/* How many accesses there are at a time. */
#define ACCESSES 4

/* Has a queue pair invalidate a window that is bound to it. */
static void invalidate(struct end *end, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_LOCAL_INV, .send_flags = IBV_SEND_SIGNALED,
		.invalidate_rkey = rkey,
	}, *bad;

	must(!ibv_post_send(end->qp, &wr, &bad));
}

/*
 * A window is invalidated, and its MR ends, while a peer writes through it: it has written before
 * that, or is refused.
 */
static void window_goes_in_access(void)
{
	struct peer peer = make_peer(0, IBV_MTU_1024);
	uint8_t *memory = map(PAGE);
	unsigned int done = 0, refused = 0;
	struct ibv_mw *mw;
	int round, i, status, invalidated;

	for (round = 0; round < ROUNDS; round++) {
		struct operation op = {
			.opcode = IBV_WR_RDMA_WRITE, .local = peer.local,
			.address = peer.local->addr, .length = 8, .remote = (uint64_t)memory,
		};
		struct ibv_mr *mr = reg(memory, PAGE, REMOTE | IBV_ACCESS_MW_BIND);
		bool error = false;

		at("round %d", round);
		mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		must(mw);
		op.rkey = bind_window(&peer.pair.b, mw, mr, (uint64_t)memory, PAGE, WINDOW);
		must(op.rkey);
		for (i = 0; i < ACCESSES; i++)
			post(&peer.pair, &op);
		invalidate(&peer.pair.b, op.rkey);
		invalidated = completion(&peer.pair.b);
		/* If an access was refused first, the queue pair does not come to the invalidation. */
		if (invalidated)
			must(!ibv_dealloc_mw(mw));
		must(!ibv_dereg_mr(mr));
		for (i = 0; i < ACCESSES; i++) {
			status = completion(&peer.pair.a);
			if (status < 0)
				fail("%s: %s", where, status_name(status));
			error |= status != 0;
			*(status ? &refused : &done) += 1;
		}
		if (invalidated && !(error && invalidated == IBV_WC_WR_FLUSH_ERR))
			fail("%s: the invalidation: %s", where, status_name(invalidated));
		if (!invalidated)
			must(!ibv_dealloc_mw(mw));
		if (error)
			reconnect(&peer);
	}
	printf("# %u accesses, %u refused\n", done, refused);
	at("the end");
	if (!done || !refused)
		broken("the invalidations came %s all accesses", done ? "after" : "before");
}

static const struct test tests[] = {
	{ "window_goes_in_access", window_goes_in_access },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
