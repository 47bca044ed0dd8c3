// SPDX-License-Identifier: GPL-2.0
/*
 * A wire that loses packets: two queue pairs of a device are connected by a program that sends each
 * packet back, as if it came from the other address, or drops it.
 *
 * usage: lossy [--before] [--seed N] [TEST...]
 */

#include <pthread.h>
#include <stdatomic.h>

#include "forged.h"
#include "harness.h"

static uint64_t seed = 1;

#define ROUNDS 60
/* One of how many packets is lost. */
#define LOSS 20
/* 268 ms until a packet is sent again, which is longer than the way on a machine however busy. */
#define SENT_AGAIN 16
#define RETRIES 6

/* Several packets of the MTU, and across pages. */
#define SIZE (3 * PAGE)
#define MOST 5000

static struct {
	int wire;
	atomic_bool stop;
	atomic_ulong sent, lost;
} mirror;

/* Sends a frame back, if it is one for the other address. */
static void reflect(uint8_t *frame, size_t length)
{
	struct ethhdr *eth = (struct ethhdr *)frame;
	struct iphdr *ip = (struct iphdr *)(eth + 1);
	struct udphdr *udp = (struct udphdr *)(ip + 1);
	size_t crc_at = length - 4;
	uint32_t address = ip->saddr, crc;

	if (length < sizeof(*eth) + sizeof(*ip) + sizeof(*udp) + sizeof(struct bth) + 4 ||
	    eth->h_proto != htons(ETH_P_IP) || ip->protocol != IPPROTO_UDP ||
	    udp->dest != htons(ROCE_PORT))
		return;
	atomic_fetch_add(&mirror.sent, 1);
	if (!random_below(LOSS)) {
		atomic_fetch_add(&mirror.lost, 1);
		return;
	}
	memset(eth->h_dest, 0xff, ETH_ALEN);
	memset(eth->h_source, 0, ETH_ALEN);
	eth->h_source[0] = 2;
	ip->saddr = ip->daddr;
	ip->daddr = address;
	crc = htole32(icrc((uint8_t *)ip, crc_at - sizeof(*eth)));
	memcpy(frame + crc_at, &crc, 4);
	must(write(mirror.wire, frame, length) == (ssize_t)length);
}

static void *mirror_thread(void *arg)
{
	struct pollfd readable = { .fd = mirror.wire, .events = POLLIN };
	uint8_t frame[2 * PAGE];
	ssize_t got;

	(void)arg;
	random_state = seed;
	while (!mirror.stop) {
		got = read(mirror.wire, frame, sizeof(frame));
		if (got >= 0) {
			reflect(frame, got);
			continue;
		}
		must(errno == EAGAIN);
		must(poll(&readable, 1, 100) >= 0);
	}
	return NULL;
}

static struct pair connect_by_mirror(void)
{
	union ibv_gid ours = { .raw = { [10] = 0xff, [11] = 0xff } };
	struct pair pair;

	must(inet_pton(AF_INET, OURS, ours.raw + 12) == 1);
	retries = RETRIES;
	make_end(&pair.a);
	make_end(&pair.b);
	connect_end_to(&pair.b, &ours, pair.a.qp->qp_num, IBV_MTU_1024, SENT_AGAIN);
	connect_end_to(&pair.a, &ours, pair.b.qp->qp_num, IBV_MTU_1024, SENT_AGAIN);
	return pair;
}

static void post_flush(struct pair *pair, const struct ibv_mr *mr)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(pair->a.qp);

	ibv_wr_start(qp);
	qp->wr_flags = IBV_SEND_SIGNALED;
	ibv_wr_flush(qp, mr->rkey, (uint64_t)mr->addr, SIZE, IBV_FLUSH_GLOBAL, IBV_FLUSH_RANGE);
	must(!ibv_wr_complete(qp));
}

/* What is posted together, with one operation at a time that the other end has to keep. */
static const char * const names[] = { "write", "flush", "write", "read", "fetch and add", "flush" };

#define OPERATIONS (sizeof(names) / sizeof(*names))

/*
 * Everything comes through, once, and in order: a write, and what a read behind it finds; and a
 * number that is counted up.
 */
static void all_arrives(void)
{
	struct ibv_mr *from = pinned(SIZE), *back = pinned(SIZE), *counted = pinned(PAGE), *mr;
	uint8_t *memory = map(2 * SIZE);
	uint64_t *count = counted->addr, i;
	struct pair pair;
	pthread_t thread;
	int status;
	size_t op;

	mirror.wire = open_wire();
	must(!pthread_create(&thread, NULL, mirror_thread, NULL));
	mr = reg(memory, 2 * SIZE, ODP | IBV_ACCESS_FLUSH_GLOBAL);
	pair = connect_by_mirror();
	for (i = 0; i < ROUNDS; i++) {
		uint64_t at_byte = random_below(SIZE - MOST), length = 1 + random_below(MOST);
		struct operation operation = {
			.opcode = IBV_WR_RDMA_WRITE, .local = from, .address = from->addr,
			.length = length, .remote = (uint64_t)memory + at_byte, .rkey = mr->rkey,
		};

		random_fill(from->addr, SIZE);
		at("round %lu", i);
		post(&pair, &operation);
		post_flush(&pair, mr);
		/* Its answer stands for that to the flush, if that is lost. */
		operation.remote += SIZE;
		post(&pair, &operation);
		operation.remote -= SIZE;
		operation.opcode = IBV_WR_RDMA_READ;
		operation.local = back;
		operation.address = back->addr;
		post(&pair, &operation);
		post(&pair, &(struct operation) {
			.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD, .local = counted,
			.address = count + 1, .length = 8, .remote = (uint64_t)count,
			.rkey = counted->rkey, .compare_add = 1,
		});
		post_flush(&pair, mr);
		for (op = 0; op < OPERATIONS; op++) {
			at("round %lu: %s", i, names[op]);
			status = completion(&pair.a);
			if (status)
				fail("%s, after %lu packets of which %lu are lost: %s", where,
				     mirror.sent, mirror.lost, status_name(status));
		}
		if (difference(back->addr, from->addr, length) >= 0)
			fail("%s: byte %zd that is read is another", where,
			     difference(back->addr, from->addr, length));
		if (difference(memory + SIZE + at_byte, from->addr, length) >= 0)
			fail("%s: byte %zd that is written is another", where,
			     difference(memory + SIZE + at_byte, from->addr, length));
		if (*count != i + 1)
			fail("round %lu: %lu were added", i, *count);
	}
	mirror.stop = true;
	pthread_join(thread, NULL);
	printf("# %lu packets, of which %lu were lost\n", mirror.sent, mirror.lost);
	if (!mirror.lost)
		broken("no packet was lost");
}

static const struct test tests[] = {
	{ "all_arrives", all_arrives },
};

int main(int argc, char **argv)
{
	device_name = "rxe1";
	take_option(&argc, argv, "--seed", &seed);
	/* The generator has no use for 0. */
	seed |= 1ULL << 32;
	return RUN_TESTS(tests, argc, argv);
}
