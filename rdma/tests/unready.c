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
#define LONGEST_MS 655

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

static uint32_t psn_of(const uint8_t *packet)
{
	return ntohl(((const struct bth *)packet)->psn) & 0xffffff;
}

/* The PSN that the next RNR NAK is for. */
static uint32_t next_not_ready(struct forger *forger)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	uint8_t packet[FRAME];
	const struct bth *bth = (const struct bth *)packet;

	do
		next_packet(forger, packet, deadline);
	while (bth->opcode != ACKNOWLEDGE || (packet[sizeof(*bth)] & 0xe0) != RNR_NAK);
	return psn_of(packet);
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
		.opcode = opcode, .psn = psn_of(request), .payload = 4 + length,
		.data = data,
	});
}

/*
 * The device is told to wait, and then has its answer without having asked again. What the peer has
 * missed of its next request it sends again at once, before what is asked for later; that it would
 * not do if it still waited. False if so much time has gone by that it may have come to the end of
 * the wait.
 */
static bool wait_is_over(struct forger *forger)
{
	struct pair pair = { .a = forger->end };
	struct operation op = {
		.opcode = IBV_WR_RDMA_READ, .local = forger->mark, .address = forger->mark->addr,
		.length = 8, .remote = 0x56789a000, .rkey = 0x1234,
	};
	uint8_t request[FRAME];
	uint64_t told, retried, deadline;
	int status;

	at("the first read");
	post(&pair, &op);
	next_request(forger, READ_REQUEST, request);
	told = now_ms();
	answer_with(forger, ACKNOWLEDGE, request, RNR_NAK, 0);
	answer_with(forger, READ_ONLY, request, 0, 8);
	status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	at("the second read, which is missed");
	retried = hw_counter("completer_retry_err");
	post(&pair, &op);
	next_request(forger, READ_REQUEST, request);
	answer_with(forger, ACKNOWLEDGE, request, NAK_SEQUENCE, 0);
	deadline = now_ms() + PATIENCE_MS;
	while (hw_counter("completer_retry_err") == retried) {
		if (now_ms() > deadline)
			fail("%s: it is not to be sent again", where);
		sched_yield();
	}
	at("a write");
	op.opcode = IBV_WR_RDMA_WRITE;
	post(&pair, &op);
	deadline = now_ms() + PATIENCE_MS;
	do
		next_packet(forger, request, deadline);
	while (*request != READ_REQUEST && *request != WRITE_ONLY);
	if (*request != READ_REQUEST)
		fail("%s is sent before what was missed: the device still waits", where);
	return now_ms() - told < LONGEST_MS;
}

/* Calls TRY, with a connection of its own, until it says that it could tell. */
static void try_until_told(bool (*try)(struct forger *forger))
{
	static struct forger forger;
	uint64_t deadline = now_ms() + PATIENCE_MS;

	make_forger(&forger);
	while (!try(&forger)) {
		if (now_ms() > deadline)
			broken("it takes longer than %d ms each time", LONGEST_MS);
		reconnect_forger(&forger);
	}
}

static void answered_while_waiting(void)
{
	try_until_told(wait_is_over);
}

/*
 * The device is told to wait, and then that the peer has had the first half of its write, and has
 * missed the second, which it sends again: that it has sent all of it again before is no reason not
 * to. False if the wait was over before that.
 */
static bool missed_is_sent_again(struct forger *forger)
{
	struct pair pair = { .a = forger->end };
	uint8_t first[FRAME], last[FRAME], packet[FRAME];
	int status;

	at("a write");
	post(&pair, &(struct operation) {
		.opcode = IBV_WR_RDMA_WRITE, .local = forger->mark,
		.address = forger->mark->addr, .length = 2 * MTU, .remote = 0x56789a000,
		.rkey = 0x1234,
	});
	next_request(forger, WRITE_FIRST, first);
	next_request(forger, WRITE_LAST, last);
	at("the write, of which all is missed");
	answer_with(forger, ACKNOWLEDGE, first, NAK_SEQUENCE, 0);
	next_request(forger, WRITE_FIRST, first);
	next_request(forger, WRITE_LAST, last);
	at("the write, of which half is missed");
	answer_with(forger, ACKNOWLEDGE, first, RNR_NAK, 0);
	answer_with(forger, ACKNOWLEDGE, last, NAK_SEQUENCE, 0);
	next_packet(forger, packet, now_ms() + PATIENCE_MS);
	if (psn_of(packet) == psn_of(first))
		return false;
	if (psn_of(packet) != psn_of(last))
		fail("%s: %u is sent", where, psn_of(packet));
	at("the end of the write");
	answer_with(forger, ACKNOWLEDGE, last, 0, 0);
	status = completion(&pair.a);
	if (status)
		fail("%s: %s", where, status_name(status));
	return true;
}

static void missed_while_waiting(void)
{
	try_until_told(missed_is_sent_again);
}

static const struct test tests[] = {
	{ "repeated_read_waits", repeated_read_waits },
	{ "read_behind_write", read_behind_write },
	{ "answered_while_waiting", answered_while_waiting },
	{ "missed_while_waiting", missed_while_waiting },
};

int main(int argc, char **argv)
{
	device_name = "rxe1";
	return RUN_TESTS(tests, argc, argv);
}
