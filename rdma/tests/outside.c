// SPDX-License-Identifier: GPL-2.0
/*
 * What is outside of an MR cannot be reached by it, also where preload.c has put an implicit MR in its
 * place, if that is to be strict. To be run with ODP=strict and without; with ODP=implicit it fails.
 *
 * usage: outside [TEST...]
 */

#include "harness.h"
#include "implicit.h"

#define SKIP 100
#define LENGTH (PAGE + 200)

/* An MR that neither begins nor ends with a page. */
static struct ibv_mr *part(void)
{
	return reg((uint8_t *)map(4 * PAGE) + SKIP, LENGTH, REMOTE);
}

static void peer_outside(void)
{
	struct ibv_mr *mr = part();
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	uint64_t start = (uint64_t)mr->addr, end = start + LENGTH;

	at("all of it");
	check_write(&peer, mr->addr, LENGTH);
	check_read(&peer, mr->addr, mr->addr, LENGTH);
	at("before it");
	check_denied(&peer, IBV_WR_RDMA_READ, 8, start - 4);
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, start - 4);
	at("behind it");
	check_denied(&peer, IBV_WR_RDMA_READ, 8, end - 4);
	check_denied(&peer, IBV_WR_RDMA_WRITE, LENGTH, start + 1);
}

/* The rights are those of the MR, too. */
static void peer_without_right(void)
{
	uint8_t *memory = map(PAGE);
	struct ibv_mr *mr = reg(memory, PAGE, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);

	memory[0] = 1;
	at("a read");
	check_read(&peer, memory, memory, PAGE);
	at("a write");
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory);
}

/* Two MRs of one domain do not become one. */
static void peer_with_another_key(void)
{
	struct ibv_mr *one = part(), *two = part();
	struct peer peer = make_peer(one->rkey, IBV_MTU_1024);

	at("the MR of another key");
	check_write(&peer, one->addr, LENGTH);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)two->addr);
	peer.rkey = two->rkey;
	check_write(&peer, two->addr, LENGTH);
}

static void peer_after_the_end(void)
{
	struct ibv_mr *mr = part();
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	void *memory = mr->addr;

	check_write(&peer, memory, LENGTH);
	must(!ibv_dereg_mr(mr));
	at("the key of an MR that has ended");
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
	at("the next MR there");
	peer.rkey = reg(memory, LENGTH, REMOTE)->rkey;
	check_write(&peer, memory, LENGTH);
}

/* Such a request cannot be posted, or fails. */
static void own_outside(void)
{
	struct ibv_mr *mr = part();
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	static const struct {
		int64_t from;
		uint32_t length;
	} outside[] = { { -4, 8 }, { LENGTH - 4, 8 }, { 0, LENGTH + 1 }, { LENGTH + PAGE, 8 } };
	size_t i;

	at("a request with all of it");
	if (run_rdma(&peer.pair, IBV_WR_RDMA_READ, mr, mr->addr, LENGTH,
		     (uint64_t)peer.local->addr, peer.local->rkey))
		fail("%s fails", where);
	for (i = 0; i < sizeof(outside) / sizeof(*outside); i++) {
		struct ibv_sge sge = {
			.addr = (uint64_t)mr->addr + outside[i].from, .length = outside[i].length,
			.lkey = mr->lkey,
		};
		struct ibv_send_wr wr = {
			.opcode = IBV_WR_RDMA_READ, .send_flags = IBV_SEND_SIGNALED, .sg_list = &sge,
			.num_sge = 1, .wr.rdma = { .remote_addr = (uint64_t)peer.local->addr,
						   .rkey = peer.local->rkey },
		}, *bad;

		at("a request with %u bytes from %ld", sge.length, (long)outside[i].from);
		if (ibv_post_send(peer.pair.a.qp, &wr, &bad))
			continue;
		if (!completion(&peer.pair.a))
			fail("%s succeeds", where);
		reconnect(&peer);
	}
}

static void receive_outside(void)
{
	struct ibv_mr *mr = part();
	struct peer peer = make_peer(mr->rkey, IBV_MTU_1024);
	struct ibv_sge from = { .addr = (uint64_t)peer.local->addr, .length = 64,
				.lkey = peer.local->lkey };
	struct ibv_sge to = { .addr = (uint64_t)mr->addr + LENGTH - 32, .length = 64,
			      .lkey = mr->lkey };
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED,
				  .sg_list = &from, .num_sge = 1 }, *bad_send;
	struct ibv_recv_wr receive = { .sg_list = &to, .num_sge = 1 }, *bad;

	at("a receive beyond its end");
	if (ibv_post_recv(peer.pair.b.qp, &receive, &bad))
		return;
	must(!ibv_post_send(peer.pair.a.qp, &wr, &bad_send));
	if (!completion(&peer.pair.a))
		fail("%s succeeds", where);
}

static const struct test tests[] = {
	{ "peer_outside", peer_outside },
	{ "peer_without_right", peer_without_right },
	{ "peer_with_another_key", peer_with_another_key },
	{ "peer_after_the_end", peer_after_the_end },
	{ "own_outside", own_outside },
	{ "receive_outside", receive_outside },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
