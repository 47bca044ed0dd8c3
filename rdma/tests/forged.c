// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs, and peers that send what no device would: reads repeated that never were, headers
 * that contradict the packet that they are of.
 *
 * usage: forged [--before] [--seed N] [TEST...]
 */

#include "child.h"
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

#define SECRET 64
/* The memory of two processes whose addresses have the same upper half. */
#define OURS_AT ((uint8_t *)(1UL << 44))
#define THEIRS_AT ((uint8_t *)(1UL << 44) + 16 * PAGE)

static uint8_t *map_at(uint8_t *address)
{
	must(mmap(address, PAGE, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == address);
	random_fill(address, PAGE);
	return address;
}

/* Forks a process that has SECRET bytes at THEIRS_AT, in an MR whose rkey it gives to nobody. */
static uint32_t make_victim(uint8_t *secret)
{
	int socket;
	uint32_t rkey;

	if (!fork_child(&socket)) {
		struct ibv_mr *mr;

		open_device();
		random_state = now_ns() | 1;
		mr = reg(map_at(THEIRS_AT), PAGE, REMOTE);
		say(socket, &mr->rkey, sizeof(mr->rkey));
		say(socket, mr->addr, SECRET);
		hear(socket, &rkey, 1);
		_exit(0);
	}
	hear(socket, &rkey, sizeof(rkey));
	hear(socket, secret, SECRET);
	return rkey;
}

/*
 * A read is repeated after a flush has taken its place among what the responder keeps, with an rkey
 * that the flush has put there: that of another process.
 */
static void flush_taken_for_read(void)
{
	static struct forger forger;
	uint8_t secret[SECRET];
	uint32_t rkey = make_victim(secret);
	struct answer *answer;
	struct ibv_mr *mr;

	make_forger(&forger);
	mr = reg(map_at(OURS_AT), PAGE, REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	at("the read");
	forge(&forger, &(struct packet) {
		.opcode = READ_REQUEST, .psn = forger.psn++, .va = (uint64_t)mr->addr,
		.rkey = mr->rkey, .length = 8,
	});
	if (answers(&forger)->length != 8)
		broken("the read is answered with %u bytes", forger.answer.length);
	at("the flush");
	forge(&forger, &(struct packet) {
		.opcode = FLUSH, .psn = forger.psn++, .va = (uint64_t)INT32_MAX << 32 | rkey,
		.rkey = mr->rkey, .type = IBV_FLUSH_GLOBAL, .level = IBV_FLUSH_MR,
	});
	if (answers(&forger)->nak)
		broken("the flush is refused, %02x", forger.answer.nak);
	at("the read, of another process's memory");
	forge(&forger, &(struct packet) {
		.opcode = READ_REQUEST, .psn = 0, .va = (uint64_t)THEIRS_AT, .rkey = rkey,
		.length = SECRET,
	});
	answer = answers(&forger);
	if (answer->length == SECRET && !memcmp(answer->data, secret, SECRET))
		fail("%s: all of it is had", where);
	if (answer->packets || answer->nak)
		fail("%s: %u bytes, NAK %02x", where, answer->length, answer->nak);
}

/* What is kept of an operation is for the same operation only; for that, it is there. */
static void repeated_as_another(void)
{
	static const struct {
		const char *name;
		enum opcode opcode;
	} ops[] = {
		{ "read", READ_REQUEST }, { "fetch and add", FETCH_ADD },
		{ "atomic write", ATOMIC_WRITE }, { "flush", FLUSH },
	};
	const size_t n = sizeof(ops) / sizeof(*ops);
	static struct forger forger;
	static uint8_t data[8];
	struct answer *answer;
	struct ibv_mr *mr;
	size_t i, j;

	make_forger(&forger);
	mr = reg(map(PAGE), PAGE, REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	for (i = 0; i < n; i++) {
		uint32_t psn = forger.psn++;

		for (j = 0; j <= n + 1; j++) {
			/* It, each of them, and it once more. */
			size_t op = j == 0 || j == n + 1 ? i : j - 1;

			at("%s, %s %s", ops[i].name, j ? "repeated as" : "the first",
			   ops[op].name);
			forge(&forger, &(struct packet) {
				.opcode = ops[op].opcode, .psn = psn, .va = (uint64_t)mr->addr,
				.rkey = mr->rkey, .length = 8, .data = data,
				.payload = ops[op].opcode == ATOMIC_WRITE ? 8 : 0,
				.type = IBV_FLUSH_GLOBAL, .level = IBV_FLUSH_RANGE,
			});
			answer = answers(&forger);
			if (answer->nak)
				fail("%s: refused, %02x", where, answer->nak);
			if (answer->packets != (op == i))
				fail("%s: %d answers", where, answer->packets);
		}
	}
}

/* The CRC of a flush is that of its headers. */
static void flush_icrc(void)
{
	static struct forger forger;
	struct ibv_mr *mr;

	only_right_icrc = true;
	make_forger(&forger);
	mr = reg(map(PAGE), PAGE, REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	at("the flush");
	forge(&forger, &(struct packet) {
		.opcode = FLUSH, .psn = forger.psn++, .va = (uint64_t)mr->addr, .rkey = mr->rkey,
		.length = 8, .type = IBV_FLUSH_GLOBAL,
	});
	if (answers(&forger)->packets != 1)
		fail("%s: %d answers, NAK %02x", where, forger.answer.packets, forger.answer.nak);
}

/* A flush, to a queue pair that can repeat no answer. */
static void flush_without_resources(void)
{
	static struct forger forger;
	struct ibv_mr *mr;

	responder_resources = 0;
	make_forger(&forger);
	mr = reg(map(PAGE), PAGE, REMOTE | IBV_ACCESS_FLUSH_GLOBAL);
	at("the flush");
	forge(&forger, &(struct packet) {
		.opcode = FLUSH, .psn = forger.psn++, .va = (uint64_t)mr->addr, .rkey = mr->rkey,
		.length = 8, .type = IBV_FLUSH_GLOBAL,
	});
	if (answers(&forger)->nak != NAK_INVALID)
		fail("%s: the answer is %02x", where, forger.answer.nak);
}

/* A read is repeated when the right to read has been withdrawn. */
static void read_after_rereg(void)
{
	static struct forger forger;
	struct packet packet = { .opcode = READ_REQUEST, .length = 8 };
	struct ibv_mr *mr;
	int i, error;

	make_forger(&forger);
	mr = reg(map(PAGE), PAGE, REMOTE);
	packet.va = (uint64_t)mr->addr;
	packet.rkey = mr->rkey;
	forger.psn++;
	for (i = 0; i < 2; i++) {
		at("read %d", i);
		forge(&forger, &packet);
		if (answers(&forger)->length != 8)
			broken("%s is answered with %u bytes", where, forger.answer.length);
	}
	error = rereg(mr, IBV_REREG_MR_CHANGE_ACCESS, pd, IBV_ACCESS_LOCAL_WRITE);
	if (error)
		broken("rereg: %s", strerror(-error));
	at("a read that is repeated without the right");
	forge(&forger, &packet);
	if (answers(&forger)->length)
		fail("%s: %u bytes are had", where, forger.answer.length);
}

static void post_any(struct forger *forger, enum opcode opcode)
{
	struct ibv_qp_ex *qp = ibv_qp_to_qp_ex(forger->end.qp);
	const uint64_t remote = 0x56789a000, value = 1;

	if (opcode == READ_REQUEST) {
		post(&(struct pair) { .a = forger->end }, &(struct operation) {
			.opcode = IBV_WR_RDMA_READ, .local = forger->mark,
			.address = forger->mark->addr, .length = 8, .remote = remote, .rkey = 0x1234,
		});
		return;
	}
	ibv_wr_start(qp);
	qp->wr_flags = IBV_SEND_SIGNALED;
	if (opcode == FLUSH)
		ibv_wr_flush(qp, 0x1234, remote, 0x321, IBV_FLUSH_GLOBAL, IBV_FLUSH_RANGE);
	else
		ibv_wr_atomic_write(qp, 0x1234, remote, &value);
	must(!ibv_wr_complete(qp));
}

/* What is not answered is sent again, as it was. */
static void sent_again(void)
{
	static const enum opcode opcodes[] = { FLUSH, ATOMIC_WRITE, READ_REQUEST };
	static struct forger forger;
	uint8_t first[MTU], again[MTU];
	size_t i, length;

	forger.wire = open_wire();
	forger.mark = pinned(PAGE);
	for (i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		/* 67 ms */
		connect_forger_for(&forger, 14);
		at("opcode %02x", opcodes[i]);
		post_any(&forger, opcodes[i]);
		length = next_request(&forger, opcodes[i], first);
		at("opcode %02x again", opcodes[i]);
		if (next_request(&forger, opcodes[i], again) != length)
			fail("%s: it has another length", where);
		if (difference(first, again, length) >= 0)
			fail("%s: byte %zd is another", where, difference(first, again, length));
		destroy_end(&forger.end);
	}
}

/* An answer that does not come in its turn ends the read, with an error. */
static void answered_out_of_turn(void)
{
	static const enum opcode opcodes[] = { READ_MIDDLE, READ_LAST };
	static struct forger forger;
	static uint8_t data[MTU];
	uint8_t request[MTU];
	size_t i;
	int status;

	make_forger(&forger);
	for (i = 0; i < sizeof(opcodes) / sizeof(*opcodes); i++) {
		at("opcode %02x", opcodes[i]);
		post(&(struct pair) { .a = forger.end }, &(struct operation) {
			.opcode = IBV_WR_RDMA_READ, .local = forger.mark,
			.address = forger.mark->addr, .length = 2 * MTU,
			.remote = (uint64_t)forger.mark->addr, .rkey = forger.mark->rkey,
		});
		next_request(&forger, READ_REQUEST, request);
		forge(&forger, &(struct packet) {
			.opcode = opcodes[i], .psn = ntohl(((struct bth *)request)->psn) & 0xffffff,
			.payload = MTU, .data = data,
		});
		status = completion(&forger.end);
		if (status != IBV_WC_BAD_RESP_ERR)
			fail("%s: %s", where, status_name(status));
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
	{ "flush_taken_for_read", flush_taken_for_read },
	{ "repeated_as_another", repeated_as_another },
	{ "read_after_rereg", read_after_rereg },
	{ "flush_icrc", flush_icrc },
	{ "sent_again", sent_again },
	{ "answered_out_of_turn", answered_out_of_turn },
	/* Without the repair the responder's worker is gone, so it is the last. */
	{ "flush_without_resources", flush_without_resources },
};

int main(int argc, char **argv)
{
	device_name = "rxe1";
	take_option(&argc, argv, "--seed", &seed);
	/* The generator has no use for 0. */
	seed |= 1ULL << 32;
	return RUN_TESTS(tests, argc, argv);
}
