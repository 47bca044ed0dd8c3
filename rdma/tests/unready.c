// SPDX-License-Identifier: GPL-2.0
/*
 * RNR NAKs: what a device says and hears when one of the two ends of a connection is not ready. The
 * peer is a program at the other end of the wire.
 *
 * usage: unready [--before] [TEST...]
 */

#include "forged.h"
#include "harness.h"
#include "stalled.h"

/* Says for how long to wait; 0 is for the longest time there is, 655 ms. */
#define RNR_NAK 0x20
#define LONGEST_MS 656

/* How often a peer sends what it waits for before it gives up. */
#define TRIES 4

/*
 * A peer is connected to an MR in which page faults stand still, and has read 8 bytes there, of
 * PSN 0. Then the page goes.
 */
static struct ibv_mr *make_unready(struct forger *forger, struct faults *faults,
				   struct packet *read)
{
	struct ibv_mr *mr;

	make_forger(forger);
	*faults = stall_faults(PAGE);
	mr = reg(faults->memory, PAGE, ODP);
	end_faults(faults);
	*read = (struct packet) {
		.opcode = READ_REQUEST, .psn = forger->psn++, .va = (uint64_t)mr->addr,
		.rkey = mr->rkey, .length = 8,
	};
	at("the read");
	forge(forger, read);
	if (answers(forger)->length != 8)
		broken("the read is answered with %u bytes", forger->answer.length);
	must(!madvise(faults->memory, PAGE, MADV_DONTNEED));
	return mr;
}

/* The PSN that the next RNR NAK is for. */
static uint32_t next_not_ready(struct forger *forger)
{
	uint8_t packet[2 * PAGE];
	const struct bth *bth = (const struct bth *)packet;

	do
		next_request(forger, ACKNOWLEDGE, packet);
	while ((packet[sizeof(*bth)] & 0xe0) != RNR_NAK);
	return ntohl(bth->psn) & 0xffffff;
}

/*
 * A peer sends N packets again, because it waits for an answer to the first of them: it is told
 * that this one has to wait, before it gives up.
 */
static void check_told(struct forger *forger, struct faults *faults, const struct packet *again,
		       size_t n)
{
	uint32_t psn;
	size_t i;
	int tries;

	for (tries = 0; tries < TRIES; tries++) {
		for (i = 0; i < n; i++)
			forge(forger, &again[i]);
		psn = next_not_ready(forger);
		if (psn == again->psn)
			return;
	}
	end_faults(faults);
	fail("%s: who waits for the answer to %u is told %d times to wait for that to %u", where,
	     again->psn, tries, psn);
}

/*
 * A read is repeated that has been answered, and the page is gone by now: the fault is for the
 * repetition, and the peer waits for what it has sent since.
 */
static void repeated_read_waits(void)
{
	static struct forger forger;
	struct packet read, add;
	struct faults faults;
	struct ibv_mr *mr;

	mr = make_unready(&forger, &faults, &read);
	at("the fault of its repetition");
	forge(&forger, &read);
	wait_fault(&faults);
	at("a fetch and add behind it");
	add = (struct packet) {
		.opcode = FETCH_ADD, .psn = forger.psn++, .va = (uint64_t)mr->addr,
		.rkey = mr->rkey,
	};
	forge(&forger, &add);
	check_told(&forger, &faults, &add, 1);
	at("the end of the fault");
	end_faults(&faults);
	if (answers(&forger)->nak)
		fail("%s: %02x", where, forger.answer.nak);
	if (*(uint64_t *)faults.memory != 1)
		fail("%lu was added, not 1", *(uint64_t *)faults.memory);
}

/*
 * The answer to a read is lost, and the write behind the read is in a fault: the peer waits for
 * that to the read. That the write has to wait would say to it that the read has been done.
 */
static void read_behind_write(void)
{
	static struct forger forger;
	static const uint8_t data[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	struct packet again[2];
	struct faults faults;
	struct ibv_mr *mr;

	mr = make_unready(&forger, &faults, &again[0]);
	at("the fault of a write behind it");
	again[1] = (struct packet) {
		.opcode = WRITE_ONLY, .psn = forger.psn++, .va = (uint64_t)mr->addr,
		.rkey = mr->rkey, .length = 8, .payload = 8, .data = data,
	};
	forge(&forger, &again[1]);
	wait_fault(&faults);
	at("the two again");
	check_told(&forger, &faults, again, 2);
	at("the end of the fault");
	end_faults(&faults);
	if (answers(&forger)->nak)
		fail("%s: %02x", where, forger.answer.nak);
	if (difference(faults.memory, data, sizeof(data)) >= 0)
		fail("the write has not been done");
}

/* Answers a request of the device: a syndrome, and LENGTH bytes behind that. */
static void answer_with(struct forger *forger, enum opcode opcode, const uint8_t *request,
			uint8_t syndrome, uint32_t length)
{
	uint8_t data[4 + MTU] = { syndrome };

	forge(forger, &(struct packet) {
		.opcode = opcode, .psn = ntohl(((const struct bth *)request)->psn) & 0xffffff,
		.payload = 4 + length, .data = data,
	});
}

/*
 * The device is told to wait, and then has its answer without having asked again. What it sends
 * next it sends once.
 */
static void answered_while_waiting(void)
{
	static struct forger forger;
	struct pair pair;
	uint8_t request[2 * PAGE];
	const struct bth *bth = (const struct bth *)request;
	struct operation read;
	int status;

	make_forger(&forger);
	pair = (struct pair) { .a = forger.end };
	read = (struct operation) {
		.opcode = IBV_WR_RDMA_READ, .local = forger.mark, .address = forger.mark->addr,
		.length = 8, .remote = 0x56789a000, .rkey = 0x1234,
	};
	at("the first read");
	post(&pair, &read);
	next_request(&forger, READ_REQUEST, request);
	answer_with(&forger, ACKNOWLEDGE, request, RNR_NAK, 0);
	answer_with(&forger, READ_ONLY, request, 0, 8);
	status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	at("the second read");
	post(&pair, &read);
	next_request(&forger, READ_REQUEST, request);
	/* The time for which the device waited goes by without an answer; it never asks again. */
	if (completed_within(&pair.a, 2 * LONGEST_MS, &status))
		fail("%s, with no answer: %s", where, status_name(status));
	answer_with(&forger, READ_ONLY, request, 0, 8);
	status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	at("the third read");
	post(&pair, &read);
	next_request(&forger, READ_REQUEST, request);
	if ((ntohl(bth->psn) & 0xffffff) != 2)
		fail("the second read is sent twice");
}

static const struct test tests[] = {
	{ "repeated_read_waits", repeated_read_waits },
	{ "read_behind_write", read_behind_write },
	{ "answered_while_waiting", answered_while_waiting },
};

int main(int argc, char **argv)
{
	device_name = "rxe1";
	return RUN_TESTS(tests, argc, argv);
}
