// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs of one process on one device, which share what the driver knows of its memory: what
 * each of them allows is its own, and so is its end.
 *
 * usage: sharing [--before] [TEST...]
 */

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "child.h"
#include "harness.h"
#include "stalled.h"

#define MANY 64

/* How many address spaces the library mirrors, each as often as a device does. */
static size_t mirrors(void)
{
	glob_t files;
	size_t n;

	if (glob("/sys/kernel/debug/odp/*", 0, NULL, &files))
		return 0;
	n = files.gl_pathc;
	globfree(&files);
	return n;
}

static void check_mirrors(size_t want)
{
	if (mirrors() != want)
		fail("%s: %zu mirrors, not %zu", where, mirrors(), want);
}

/* Memory number I of some, far from all else, so that nothing else has to do with its ranges. */
static uint8_t *map_far(int i, size_t length)
{
	uint8_t *memory = (uint8_t *)(1UL << 44) + (1UL << 30) * i;

	must(mmap(memory, length, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
	return memory;
}

/* One for a process and a device, from the first MR to the last. */
static void one_mirror(void)
{
	struct ibv_mr *mrs[MANY], *other;
	uint8_t *memory = map_far(0, PAGE);
	struct ibv_pd *own = pd;
	struct peer peer;
	uint64_t inserted;
	int i, socket;
	pid_t child;
	char byte;

	at("before any");
	check_mirrors(0);
	for (i = 0; i < MANY; i++)
		mrs[i] = implicit(REMOTE);
	at("many");
	check_mirrors(1);
	peer = make_peer(mrs[0]->rkey, IBV_MTU_4096);
	check_write(&peer, memory, PAGE);
	inserted = counter("inserted");
	for (i = 1; i < MANY; i++) {
		at("what the first has found, by MR %d", i);
		peer.rkey = mrs[i]->rkey;
		check_read(&peer, memory, memory, PAGE);
	}
	if (!inserted || counter("inserted") != inserted)
		fail("%lu ranges for one MR, %lu for all", inserted, counter("inserted"));

	at("another process");
	child = fork_child(&socket);
	if (!child) {
		implicit(REMOTE);
		check_mirrors(2);
		say(socket, "c", 1);
		hear(socket, &byte, 1);
		_exit(0);
	}
	hear(socket, &byte, 1);
	say(socket, "p", 1);
	wait_child(child);

	at("another device");
	device_name = "rxe1";
	open_device();
	other = implicit(REMOTE);
	device_name = "rxe0";
	pd = own;
	/* The child's MR is the parent's file's, which is still open. */
	check_mirrors(3);

	at("all but one");
	for (i = 1; i < MANY; i++)
		must(!ibv_dereg_mr(mrs[i]));
	check_mirrors(3);
	peer.rkey = mrs[0]->rkey;
	check_write(&peer, memory, PAGE);
	at("none");
	must(!ibv_dereg_mr(mrs[0]));
	check_mirrors(2);
	must(!ibv_dereg_mr(other));
	check_mirrors(1);
	at("the first one once more");
	mrs[0] = implicit(REMOTE);
	check_mirrors(2);
	peer.rkey = mrs[0]->rkey;
	check_read(&peer, memory, memory, PAGE);
}

/* One operation of a peer on the first 8 bytes of a page, by whichever MR RKEY is of. */
static void check_status(struct peer *peer, uint32_t rkey, enum ibv_wr_opcode opcode,
			 uint8_t *memory, bool allowed)
{
	int want = allowed ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR, status;

	/* Nothing is added, and nothing swapped, but what was there. */
	status = run(&peer->pair, &(struct operation) {
		.opcode = opcode, .local = peer->local, .address = peer->local->addr, .length = 8,
		.remote = (uint64_t)memory, .rkey = rkey,
	});
	if (status != want)
		fail("%s, opcode %d: %s", where, opcode, status_name(status));
	if (status)
		reconnect(peer);
}

/*
 * What one MR has had faulted in to be written to is there for all of them. Each allows what it
 * allows, whatever the others do.
 */
static void rights(void)
{
	static const struct {
		const char *what;
		unsigned int access;
	} cases[] = {
		{ "all", REMOTE },
		{ "reads", IBV_ACCESS_REMOTE_READ },
		{ "writes", IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE },
		{ "atomics", IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_ATOMIC },
		{ "nothing", 0 },
	};
	enum { N = sizeof(cases) / sizeof(*cases) };
	static const struct {
		enum ibv_wr_opcode opcode;
		unsigned int needs;
	} operations[] = {
		{ IBV_WR_RDMA_READ, IBV_ACCESS_REMOTE_READ },
		{ IBV_WR_RDMA_WRITE, IBV_ACCESS_REMOTE_WRITE },
		{ IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_ACCESS_REMOTE_ATOMIC },
	};
	uint8_t *memory = map(PAGE);
	struct ibv_mr *mrs[N];
	struct peer peer;
	size_t i, o;
	int status;

	/* In either order: the first one makes what they share. */
	for (i = 0; i < N; i++)
		mrs[i] = implicit(cases[i].access);
	peer = make_peer(mrs[0]->rkey, IBV_MTU_4096);
	at("the one that allows all");
	check_write(&peer, memory, PAGE);
	for (i = 0; i < N; i++) {
		for (o = 0; o < sizeof(operations) / sizeof(*operations); o++) {
			at("an MR for %s, after a write by the one for all", cases[i].what);
			check_status(&peer, mrs[i]->rkey, operations[o].opcode, memory,
				     cases[i].access & operations[o].needs);
		}
	}

	at("a receive by an MR for reads");
	post_receive(&peer.pair, (uint64_t)memory, 8, mrs[1]->lkey);
	post(&peer.pair, &(struct operation) {
		.opcode = IBV_WR_SEND, .local = peer.local, .address = peer.local->addr,
		.length = 8,
	});
	status = completion(&peer.pair.b);
	/* As where nothing is mapped, see send_and_receive of implicit. */
	if (status != IBV_WC_LOC_PROT_ERR && status != IBV_WC_LOC_QP_OP_ERR)
		fail("%s: %s", where, status_name(status));
	reconnect(&peer);

	at("an MR for reads that is to be one for writes, too");
	must(!rereg(mrs[1], IBV_REREG_MR_CHANGE_ACCESS, pd, ODP));
	check_status(&peer, mrs[1]->rkey, IBV_WR_RDMA_WRITE, memory, true);
	at("the one for all that is to be for reads only");
	must(!rereg(mrs[0], IBV_REREG_MR_CHANGE_ACCESS, pd,
		    IBV_ACCESS_REMOTE_READ | IBV_ACCESS_ON_DEMAND));
	check_status(&peer, mrs[0]->rkey, IBV_WR_RDMA_WRITE, memory, false);
	check_status(&peer, mrs[0]->rkey, IBV_WR_RDMA_READ, memory, true);
	check_status(&peer, mrs[1]->rkey, IBV_WR_RDMA_WRITE, memory, true);
}

/* ... the first of which allows the least. */
static void rights_of_the_second(void)
{
	struct ibv_mr *reads = implicit(IBV_ACCESS_REMOTE_READ), *all = implicit(REMOTE);
	struct peer peer = make_peer(all->rkey, IBV_MTU_4096);
	uint8_t *memory = map(PAGE);

	at("the first one, for reads");
	check_status(&peer, reads->rkey, IBV_WR_RDMA_READ, memory, true);
	check_status(&peer, reads->rkey, IBV_WR_RDMA_WRITE, memory, false);
	at("the second one, for all");
	check_status(&peer, all->rkey, IBV_WR_RDMA_WRITE, memory, true);
	at("the first one, after a write by the second");
	check_status(&peer, reads->rkey, IBV_WR_RDMA_WRITE, memory, false);
}

/* A peer that writes to a page, and reads what it has written, all the time. */
struct writer {
	struct peer peer;
	uint8_t *memory;
	atomic_ulong writes;
	atomic_bool stop;
	pthread_t thread;
};

static void *writer_loop(void *arg)
{
	struct writer *writer = arg;

	random_state = (uint64_t)writer->memory | 1;
	while (!writer->stop) {
		check_write(&writer->peer, writer->memory, PAGE);
		writer->writes++;
	}
	return NULL;
}

static void start_writer(struct writer *writer, uint32_t rkey)
{
	writer->peer = make_peer(rkey, IBV_MTU_4096);
	writer->memory = map_far(1, PAGE);
	must(!pthread_create(&writer->thread, NULL, writer_loop, writer));
}

/* Waits for N more writes. */
static void wait_writes(struct writer *writer, unsigned long n)
{
	unsigned long until = writer->writes + n;
	uint64_t deadline = now_ms() + PATIENCE_MS;

	while (writer->writes < until) {
		if (now_ms() > deadline)
			fail("%s: there are no writes any more", where);
		sched_yield();
	}
}

static void stop_writer(struct writer *writer)
{
	writer->stop = true;
	must(!pthread_join(writer->thread, NULL));
}

/* MRs end while there is traffic by another one. Theirs ends; the other one's does not. */
static void dereg_of_others(void)
{
	struct ibv_mr *stays = implicit(REMOTE);
	struct writer writer = {};
	uint8_t *memory = map_far(0, PAGE);
	struct peer peer = make_peer(0, IBV_MTU_4096);
	uint64_t inserted;
	int round;

	start_writer(&writer, stays->rkey);
	wait_writes(&writer, 1);
	peer.rkey = stays->rkey;
	check_write(&peer, memory, PAGE);
	inserted = counter("inserted");
	for (round = 0; round < 30; round++) {
		struct ibv_mr *goes = implicit(REMOTE);

		at("round %d", round);
		peer.rkey = goes->rkey;
		check_write(&peer, memory, PAGE);
		must(!ibv_dereg_mr(goes));
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
		wait_writes(&writer, 2);
	}
	at("the end");
	stop_writer(&writer);
	if (counter("inserted") != inserted)
		fail("%lu ranges were made once more", counter("inserted") - inserted);
	must(!ibv_dereg_mr(stays));
	check_mirrors(0);
	check_all_gone();
}

/* Memory that is mapped, read by a peer, and unmapped, all the time. */
static struct {
	atomic_bool stop;
	atomic_ulong unmaps;
	struct peer peer;
	bool peer_reads;
} churning;

static void *churn_loop(void *)
{
	while (!churning.stop) {
		uint8_t *memory = map_far(0, 4 * PAGE);

		memset(memory, 1, 4 * PAGE);
		if (churning.peer_reads)
			check_read(&churning.peer, memory, memory, 4 * PAGE);
		must(!munmap(memory, 4 * PAGE));
		churning.unmaps++;
	}
	return NULL;
}

/* MANY at a time are registered and end, while the process unmaps memory. */
static void register_many(unsigned long unmaps)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	int round, i;

	for (round = 0; round < 5 || churning.unmaps < unmaps; round++) {
		struct ibv_mr *mrs[MANY];

		at("round %d, after %lu unmaps", round, churning.unmaps);
		if (now_ms() > deadline)
			fail("%s: no more than that", where);
		for (i = 0; i < MANY; i++)
			mrs[i] = implicit(REMOTE);
		for (i = 0; i < MANY; i++)
			must(!ibv_dereg_mr(mrs[i]));
	}
	printf("# %d rounds, %lu unmaps\n", round, churning.unmaps);
}

static void many_during_unmaps(void)
{
	struct ibv_mr *stays = implicit(REMOTE);
	pthread_t thread;

	churning.peer = make_peer(stays->rkey, IBV_MTU_4096);
	churning.peer_reads = true;
	must(!pthread_create(&thread, NULL, churn_loop, NULL));
	register_many(20);
	churning.stop = true;
	must(!pthread_join(thread, NULL));
	check_mirrors(1);

	at("without one that stays");
	must(!ibv_dereg_mr(stays));
	check_mirrors(0);
	churning.stop = churning.peer_reads = false;
	churning.unmaps = 0;
	must(!pthread_create(&thread, NULL, churn_loop, NULL));
	register_many(20);
	churning.stop = true;
	must(!pthread_join(thread, NULL));
	check_mirrors(0);
	check_all_gone();
}

static int register_call(struct call *call)
{
	call->mr = implicit(REMOTE);
	return 0;
}

static int discard_call(struct call *call)
{
	return madvise(call->memory, PAGE, MADV_DONTNEED);
}

/*
 * Once there is one, the registration of another takes no lock of the address space: it does not
 * wait for an invalidation that stands still, nor does the end of it.
 */
static void another_during_invalidation(void)
{
	struct ibv_mr *first = implicit(REMOTE);
	struct call discard = { .run = discard_call, .memory = map(PAGE) };
	struct call another = { .run = register_call };
	struct call dereg = { .run = dereg_call };
	bool registered, gone = false;
	int fd;

	/* A thread's own heap would be mapped first, which waits. */
	must(mallopt(M_ARENA_MAX, 1));
	memset(discard.memory, 1, PAGE);
	make_call(&discard);
	make_call(&another);
	make_call(&dereg);
	fd = hold(discard.memory, PAGE);
	at("the invalidation");
	start_call(&discard);
	wait_held(fd);
	at("the registration");
	start_call(&another);
	registered = ended(&another, PATIENCE_MS);
	if (registered) {
		at("its end");
		dereg.mr = another.mr;
		start_call(&dereg);
		gone = ended(&dereg, PATIENCE_MS);
	}
	/* In any case, for nothing else can end it. */
	must(!ioctl(fd, ODP_HOLD_RELEASE));
	if (!registered)
		fail("the registration of a second MR waits for an invalidation");
	if (!gone)
		fail("the end of a second MR waits for an invalidation");
	if (dereg.result)
		fail("dereg: %s", strerror(dereg.result));
	must(!ibv_dereg_mr(first));
}

#define LIMIT 8

/* The number of ranges is limited for all of them together, as the first one has it. */
static void one_limit(void)
{
	struct ibv_mr *mrs[4];
	struct peer peer;
	int i;

	mrs[0] = implicit_with_room(LIMIT);
	for (i = 1; i < 4; i++)
		mrs[i] = implicit(REMOTE);
	peer = make_peer(0, IBV_MTU_4096);
	for (i = 0; i < 4 * LIMIT; i++) {
		uint8_t *memory = map_far(i, PAGE);

		at("mapping %d", i);
		peer.rkey = mrs[i % 4]->rkey;
		check_write(&peer, memory, PAGE);
		if (!limit_holds(LIMIT))
			fail("%s: %ld ranges", where, ranges());
	}
	at("the end");
	for (i = 0; i < 4; i++)
		must(!ibv_dereg_mr(mrs[i]));
	check_all_gone();
}

/* When the end of an MR begins, in ns. */
static uint64_t dereg_at;

static int timed_dereg(struct call *call)
{
	while (now_ns() < dereg_at)
		;
	return ibv_dereg_mr(call->mr);
}

#define RACES 300

/*
 * The last MR ends while the next one is registered. That gets what there is, or something of its
 * own, and works. As much as the one was late the last time it is early the next time, so that they
 * come to meet.
 */
static void first_during_last(void)
{
	int64_t lead = 0, step = 100000;
	struct peer peer = make_peer(0, IBV_MTU_1024);
	struct ibv_mr *mr = implicit(REMOTE);
	uint8_t *memory = map_far(0, PAGE);
	int round, shared = 0;
	bool last = false;

	for (round = 0; round < RACES; round++) {
		struct call dereg = { .run = timed_dereg, .mr = mr };
		uint64_t start;
		bool found;

		at("round %d", round);
		/* So that it can be seen whose the next one's is. */
		peer.rkey = mr->rkey;
		check_write(&peer, memory, PAGE);
		make_call(&dereg);
		start = now_ns() + 500000;
		dereg_at = start + lead;
		start_call(&dereg);
		while (now_ns() < start)
			;
		mr = implicit(REMOTE);
		if (!ended(&dereg, PATIENCE_MS))
			fail("%s: dereg does not end", where);
		if (dereg.result)
			fail("%s: dereg: %s", where, strerror(dereg.result));
		must(!pthread_join(dereg.thread, NULL));
		close(dereg.done);
		check_mirrors(1);
		found = counter("inserted");
		shared += found;
		peer.rkey = mr->rkey;
		at("round %d, the next one", round);
		check_write(&peer, memory, PAGE);
		/* Towards the moment from which on the other one is the first. */
		step = found == last ? step + step / 4 : step / 2;
		step = step < 200 ? 200 : step > 1000000 ? 1000000 : step;
		lead += found ? -step : step;
		last = found;
	}
	printf("# %d times shared, %d times new; in the end %ld us apart\n", shared,
	       round - shared, lead / 1000);
	if (shared < RACES / 10 || shared > RACES - RACES / 10)
		broken("there was no race");
	must(!ibv_dereg_mr(mr));
	check_mirrors(0);
	check_all_gone();
}

struct comer {
	pthread_t thread;
	struct peer peer;
	uint8_t *memory;
};

static void *come_and_go(void *arg)
{
	struct comer *comer = arg;
	int i;

	random_state = (uint64_t)comer->memory | 1;
	for (i = 0; i < 60; i++) {
		struct ibv_mr *mr = implicit(REMOTE);

		comer->peer.rkey = mr->rkey;
		at("MR %d", i);
		check_write(&comer->peer, comer->memory, PAGE);
		must(!ibv_dereg_mr(mr));
	}
	return NULL;
}

/* Some threads register, use and end MRs, so that there is now one, now none, now several first. */
static void come_and_go_together(void)
{
	struct comer comers[4];
	size_t i;

	for (i = 0; i < 4; i++) {
		comers[i].peer = make_peer(0, IBV_MTU_4096);
		comers[i].memory = map(PAGE);
	}
	for (i = 0; i < 4; i++)
		must(!pthread_create(&comers[i].thread, NULL, come_and_go, &comers[i]));
	for (i = 0; i < 4; i++)
		must(!pthread_join(comers[i].thread, NULL));
	at("the end");
	check_mirrors(0);
	check_all_gone();
}

static const struct test tests[] = {
	{ "one_mirror", one_mirror },
	{ "rights", rights },
	{ "rights_of_the_second", rights_of_the_second },
	{ "dereg_of_others", dereg_of_others },
	{ "many_during_unmaps", many_during_unmaps },
	{ "another_during_invalidation", another_during_invalidation },
	{ "one_limit", one_limit },
	{ "first_during_last", first_during_last },
	{ "come_and_go_together", come_and_go_together },
};

int main(int argc, char **argv)
{
	return RUN_TESTS(tests, argc, argv);
}
