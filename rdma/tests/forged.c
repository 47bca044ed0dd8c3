// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs, and peers that send what no device would: reads repeated that never were, headers
 * that contradict the packet that they are of.
 *
 * usage: forged [--before] [--seed N] [TEST...]
 */

#include "forged.h"
#include "harness.h"

static uint64_t seed = 1;

#define PAGES 16
#define HOLE 9
/* Where the window begins, and how long it is: less than three packets. */
#define START (4 * PAGE + 96)
#define LENGTH 2500

/* Memory of the process, and a part of it that a peer may access. */
struct target {
	uint8_t *memory, before[PAGES * PAGE];
	struct ibv_mr *mr;
	struct ibv_mw *mw;
	uint32_t rkey;
	/* what the peer has to say for the first byte that it may have */
	uint64_t va;
};

/* In what is before and behind the window, nothing may change, and nothing be read. */
static void make_target(struct target *target, struct forger *forger, unsigned int access)
{
	target->memory = map(PAGES * PAGE);
	random_fill(target->memory, PAGES * PAGE);
	must(!munmap(target->memory + HOLE * PAGE, PAGE));
	memcpy(target->before, target->memory, HOLE * PAGE);
	memcpy(target->before + (HOLE + 1) * PAGE, target->memory + (HOLE + 1) * PAGE,
	       (PAGES - HOLE - 1) * PAGE);
	target->mr = implicit(REMOTE | IBV_ACCESS_MW_BIND);
	target->mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
	must(target->mw);
	target->va = access & IBV_ACCESS_ZERO_BASED ? 0 : (uint64_t)target->memory + START;
	target->rkey = bind_window(&forger->end, target->mw, target->mr,
				   (uint64_t)target->memory + START, LENGTH, access);
	if (!target->rkey)
		broken("the window cannot be bound");
}

/* Asks for LENGTH bytes, SKIPPED after the beginning of the window. */
static struct answer *ask(struct forger *forger, const struct target *target, uint32_t psn,
			  uint64_t skipped, uint32_t length)
{
	forge(forger, &(struct packet) {
		.opcode = READ_REQUEST, .psn = psn, .va = target->va + skipped,
		.rkey = target->rkey, .length = length,
	});
	return answers(forger);
}

static void check_answer(const struct target *target, const struct answer *answer,
			 uint64_t skipped, uint32_t length)
{
	const uint8_t *want = target->before + START + skipped;
	ssize_t wrong;

	if (answer->nak)
		fail("%s: refused, %02x", where, answer->nak);
	if (answer->length != length)
		fail("%s: %u bytes, not %u", where, answer->length, length);
	wrong = difference(answer->data, want, length);
	if (wrong >= 0)
		fail("%s: byte %zd is %02x, not %02x", where, wrong, answer->data[wrong],
		     want[wrong]);
}

/* Repeats of a read that ask for the same, or for a part of it, are answered, and no others. */
static void repeat_read(unsigned int access)
{
	static const struct {
		uint64_t skipped;
		uint32_t length;
	} others[] = {
		/* from its end, after a step there that asks for nothing */
		{ LENGTH, 1 }, { LENGTH, LENGTH },
		{ -1UL, 1 }, { -8UL, 16 }, { -(uint64_t)LENGTH, LENGTH }, { -PAGE, 8 },
		{ 1, LENGTH }, { LENGTH - 8, 9 }, { 0, LENGTH + 1 }, { 0, 1U << 31 },
		{ PAGE, 8 }, { 6 * PAGE, LENGTH },
		/* the end of the read, in numbers that wrap */
		{ 1UL << 63, 8 }, { -16UL, 1U << 31 },
	};
	static struct forger forger;
	static struct target target;
	uint64_t step;
	size_t i;

	make_forger(&forger);
	make_target(&target, &forger, WINDOW | access);
	forger.psn = (LENGTH + MTU - 1) / MTU;
	at("the read");
	check_answer(&target, ask(&forger, &target, 0, 0, LENGTH), 0, LENGTH);
	at("its repetition");
	check_answer(&target, ask(&forger, &target, 0, 0, LENGTH), 0, LENGTH);
	at("a repetition of its beginning");
	check_answer(&target, ask(&forger, &target, 0, 0, 100), 0, 100);
	at("a repetition of its second packet and what follows");
	check_answer(&target, ask(&forger, &target, 1, MTU, LENGTH - MTU), MTU, LENGTH - MTU);
	at("a repetition of its end");
	check_answer(&target, ask(&forger, &target, 2, LENGTH - 4, 4), LENGTH - 4, 4);

	for (i = 0; i < sizeof(others) / sizeof(*others); i++) {
		struct answer *answer;

		at("%u bytes, %ld behind the beginning of the read", others[i].length,
		   others[i].skipped);
		ask(&forger, &target, 0, LENGTH, 0);
		answer = ask(&forger, &target, 0, others[i].skipped, others[i].length);
		if (answer->nak)
			fail("%s: %02x, which ends the connection", where, answer->nak);
		if (answer->packets)
			fail("%s: %u bytes are had", where, answer->length);
	}
	/* Step by step, with nothing asked for on the way, over a hole and into other memory. */
	for (step = LENGTH; step < (PAGES - 2) * PAGE - START; step += LENGTH) {
		ask(&forger, &target, 0, step, 0);
		at("%lu bytes from the beginning, in steps", step);
		if (ask(&forger, &target, 0, step, LENGTH)->length)
			fail("%s: %u bytes are had", where, forger.answer.length);
		if (forger.answer.nak)
			fail("%s: %02x, which ends the connection", where, forger.answer.nak);
	}
	at("its repetition in the end");
	check_answer(&target, ask(&forger, &target, 0, 0, LENGTH), 0, LENGTH);
}

static void repeated_read(void)
{
	repeat_read(0);
}

static void repeated_read_zero_based(void)
{
	repeat_read(IBV_ACCESS_ZERO_BASED);
}

/* A repetition of a read, when there was an operation of no bytes after it. */
static void repeated_after_nothing(void)
{
	static struct forger forger;
	static struct target target;

	make_forger(&forger);
	make_target(&target, &forger, WINDOW);
	forger.psn = (LENGTH + MTU - 1) / MTU;
	at("the read");
	check_answer(&target, ask(&forger, &target, 0, 0, LENGTH), 0, LENGTH);
	at("a write of no bytes");
	forge(&forger, &(struct packet) { .opcode = WRITE_ONLY, .psn = forger.psn++ });
	/* Not in the way of answers(), whose write has some. */
	forge(&forger, &(struct packet) {
		.opcode = READ_REQUEST, .va = target.va, .rkey = target.rkey, .length = LENGTH,
	});
	at("the repetition of the read");
	check_answer(&target, answers(&forger), 0, LENGTH);
}

/* A write that says that it has no bytes, and has some. */
static void write_of_nothing(void)
{
	static const enum opcode opcodes[] = { WRITE_ONLY, WRITE_FIRST, WRITE_ONLY_IMM };
	static struct forger forger;
	static uint8_t data[MTU];
	uint8_t *memory = map(PAGE);
	struct ibv_mr *mr;
	size_t i;

	make_forger(&forger);
	mr = implicit(REMOTE);
	memset(data, 0xff, sizeof(data));
	for (i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		struct answer *answer;

		at("opcode %02x", opcodes[i]);
		post_receive_to(&forger.end, (uint64_t)forger.mark->addr, PAGE,
				forger.mark->lkey);
		forge(&forger, &(struct packet) {
			.opcode = opcodes[i], .psn = forger.psn++, .va = (uint64_t)memory,
			.rkey = mr->rkey, .payload = MTU, .data = data,
		});
		answer = answers(&forger);
		if (answer->nak != NAK_INVALID)
			fail("%s: the answer is %02x", where, answer->nak);
		if (memory[0])
			fail("%s: it is written", where);
		reconnect_forger(&forger);
	}
}

/* Of all there is to a packet, what may be right, or not. */
static struct packet random_packet(const struct target *target, uint32_t psn)
{
	static const enum opcode opcodes[] = {
		READ_REQUEST, READ_REQUEST, READ_REQUEST, WRITE_ONLY, WRITE_ONLY, WRITE_FIRST,
		WRITE_ONLY_IMM, WRITE_MIDDLE, WRITE_LAST, COMPARE_SWAP, FETCH_ADD, ATOMIC_WRITE,
		FLUSH, SEND_ONLY,
	};
	static uint8_t data[MTU];
	struct packet packet = { .psn = psn, .data = data };
	const uint64_t edges[] = { 0, 0, 8, MTU, LENGTH, LENGTH - MTU, LENGTH - 8 };
	uint32_t n;

	n = random_below(sizeof(opcodes) / sizeof(*opcodes) + 1);
	packet.opcode = n < sizeof(opcodes) / sizeof(*opcodes) ? opcodes[n] : random_below(32);

	packet.rkey = target->rkey;
	if (!random_below(8))
		packet.rkey ^= 1U << random_below(32);
	/* That one is not to be guessed right. */
	if (packet.rkey == target->mr->rkey)
		packet.rkey ^= 1;

	packet.va = target->va + edges[random_below(sizeof(edges) / sizeof(*edges))];
	switch (random_below(12)) {
	case 0:
		packet.va += random_below(2 * PAGE) - PAGE;
		break;
	case 1:
		packet.va += random_below(16) - 8;
		break;
	case 2:
		packet.va = random_below(1UL << 53) << 11 | random_below(2048);
		break;
	case 3:
		packet.va = -random_below(2 * PAGE);
		break;
	case 4:
		/* All of the process's memory, where there is none. */
		packet.rkey = target->mr->rkey;
		packet.va = (uint64_t)target->memory + HOLE * PAGE + random_below(PAGE);
		break;
	case 5:
		packet.rkey = target->mr->rkey;
		packet.va = random_below(1UL << 53) << 11 | random_below(2048);
		break;
	}

	packet.length = edges[random_below(sizeof(edges) / sizeof(*edges))];
	switch (random_below(12)) {
	case 0:
		packet.length = random_below(1UL << 32);
		break;
	case 1:
		packet.length += random_below(16) - 8;
		break;
	case 2:
		/* Around the end of all addresses, by a few bytes. */
		packet.length = -packet.va + random_below(16) - 8;
		break;
	}

	packet.payload = 0;
	if (packet.opcode != READ_REQUEST && packet.opcode != FLUSH)
		packet.payload = packet.length < MTU ? packet.length : MTU;
	if (packet.opcode == ATOMIC_WRITE)
		packet.payload = packet.length = 8;
	if (!random_below(8))
		packet.payload = random_below(MTU + 1);
	if (!random_below(16))
		packet.length = 0;
	random_fill(data, packet.payload);
	packet.type = random_below(16);
	packet.level = random_below(4);
	return packet;
}

/* Whether the window has that; nothing else is granted. */
static bool is_granted(const struct target *target, const struct packet *packet)
{
	uint64_t skipped = packet->va - target->va;

	return packet->rkey == target->rkey && skipped <= LENGTH &&
	       packet->length <= LENGTH - skipped;
}

static void check_around(const struct target *target)
{
	static const struct { size_t from, to; } around[] = {
		{ 0, START }, { START + LENGTH, HOLE * PAGE },
		{ (HOLE + 1) * PAGE, PAGES * PAGE },
	};
	ssize_t wrong;
	size_t i;

	for (i = 0; i < sizeof(around) / sizeof(*around); i++) {
		wrong = difference(target->memory + around[i].from,
				   target->before + around[i].from,
				   around[i].to - around[i].from);
		if (wrong >= 0)
			fail("%s: byte %ld from the beginning of the window has changed", where,
			     around[i].from + wrong - (ssize_t)START);
	}
}

#define GUESSES 600

/*
 * Random packets for a window: none that it does not grant has an effect in memory, or is answered
 * with any of it, or makes a range; and who plays by the rules is not disturbed.
 */
static void random_packets(void)
{
	static struct forger forger;
	static struct target target;
	int i, refused = 0, reads = 0, stopped = 0;
	struct peer peer;

	random_state = seed;
	make_forger(&forger);
	make_target(&target, &forger, WINDOW);
	peer = make_peer(target.mr->rkey, IBV_MTU_1024);
	for (i = 0; i < GUESSES; i++) {
		struct packet packet = random_packet(&target, forger.psn);
		struct answer *answer;
		uint8_t now[LENGTH];

		at("seed %lu, packet %d: opcode %02x, key %x for %x, %u bytes at %lx, of %x to %x, %u in the packet",
		   seed, i, packet.opcode, packet.rkey, target.rkey, packet.length, packet.va,
		   (unsigned int)target.va, (unsigned int)target.va + LENGTH, packet.payload);
		memcpy(now, target.memory + START, LENGTH);
		forge(&forger, &packet);
		/* What a read takes of the numbers of packets. */
		forger.psn++;
		if (packet.opcode == READ_REQUEST && packet.length > MTU)
			forger.psn += (packet.length - 1) / MTU;
		answer = answers(&forger);
		check_around(&target);
		if (answer->length) {
			uint64_t skipped = packet.va - target.va;

			if (packet.opcode != READ_REQUEST || !is_granted(&target, &packet) ||
			    packet.length != answer->length)
				fail("%s: answered with %u bytes", where, answer->length);
			if (difference(answer->data, now + skipped, answer->length) >= 0)
				fail("%s: the answer is wrong", where);
			reads++;
		}
		if (!answer->nak)
			continue;
		if (packet.opcode == READ_REQUEST && !packet.payload && packet.length &&
		    is_granted(&target, &packet))
			fail("%s: refused, %02x", where, answer->nak);
		refused += answer->nak == NAK_ACCESS;
		stopped++;
		/* The window is bound to the queue pair that was stopped. */
		must(!ibv_dealloc_mw(target.mw));
		reconnect_forger(&forger);
		target.mw = ibv_alloc_mw(pd, IBV_MW_TYPE_2);
		must(target.mw);
		target.rkey = bind_window(&forger.end, target.mw, target.mr,
					  (uint64_t)target.memory + START, LENGTH, WINDOW);
		must(target.rkey);
	}
	printf("# seed %lu: %d packets, %d read something, %d refused, and %d otherwise wrong\n",
	       seed, i, reads, refused, stopped - refused);
	if (!reads || !refused || stopped == refused)
		broken("they were all alike");
	if (counter("inserted") > 1)
		fail("%lu ranges were made for a window in one mapping", counter("inserted"));
	at("another peer");
	check_write(&peer, target.memory, PAGE);
}

static const struct test tests[] = {
	{ "repeated_read", repeated_read },
	{ "repeated_read_zero_based", repeated_read_zero_based },
	{ "repeated_after_nothing", repeated_after_nothing },
	{ "write_of_nothing", write_of_nothing },
	{ "random_packets", random_packets },
};

int main(int argc, char **argv)
{
	device_name = "rxe1";
	take_option(&argc, argv, "--seed", &seed);
	/* The generator has no use for 0. */
	seed |= 1ULL << 32;
	return RUN_TESTS(tests, argc, argv);
}
