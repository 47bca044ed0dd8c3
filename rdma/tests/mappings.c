// SPDX-License-Identifier: GPL-2.0
/*
 * Implicit MRs, of memory that is unmapped, moved, replaced, discarded and copied, with a peer at
 * work in it.
 *
 * usage: mappings [--before] [--rounds N] [TEST...]
 */

#include <linux/falloc.h>
#include <linux/memfd.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "child.h"
#include "harness.h"

#define MIB (1UL << 20)

/* Of churn; races last as long, up to a point. */
static uint64_t rounds = 500;

static unsigned long races(void)
{
	return rounds < 5000 ? rounds : 5000;
}

/* What a process has mapped that was named by nobody before. */
static uint8_t *map_fresh(size_t length)
{
	static uint64_t next = 1UL << 44;
	uint8_t *memory = mmap((void *)next, length, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	must((uint64_t)memory == next);
	/* The next one has a table of pages of its own. */
	next += (length + 2 * MIB - 1) & -(2 * MIB);
	return memory;
}

#define LIVE 16
/* How often it is waited for that what is gone has left. */
#define SETTLE 50

/*
 * What is unmapped goes: there is a range for each of the mappings, of which there are LIVE at any
 * time, and nothing else but what has not left yet; and none in the end.
 */
static void churn(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *live[LIVE] = {};
	int64_t most = 0, n;
	unsigned long round;

	for (round = 0; round < rounds; round++) {
		uint8_t **slot = &live[round % LIVE];

		at("round %lu", round);
		if (*slot)
			must(!munmap(*slot, 4 * PAGE));
		*slot = map_fresh(4 * PAGE);
		check_write(&peer, *slot + random_below(3 * PAGE), PAGE);
		/* Which takes longer than all of the rest. */
		n = round % 8 ? most : ranges();
		if (n > most)
			most = n;
		if (round % SETTLE == SETTLE - 1)
			check_ranges(LIVE);
	}
	printf("# %lu rounds, %ld ranges at most, %lu in all\n", rounds, most,
	       counter("inserted"));
	if (counter("inserted") < rounds)
		fail("%lu ranges in %lu rounds", counter("inserted"), rounds);
	if (most > LIVE + SETTLE)
		fail("%ld ranges for %d mappings", most, LIVE);
	at("the end");
	for (n = 0; n < LIVE; n++)
		if (live[n])
			must(!munmap(live[n], 4 * PAGE));
	check_ranges(0);
}

#define LIMIT 8

/*
 * With room for fewer ranges than there are mappings, all that can be had can still be had, and
 * there are never more than there is room for.
 */
static void limit(void)
{
	struct ibv_mr *mr;
	struct peer peer;
	uint8_t *memory[3 * LIMIT];
	int round, i;

	mr = implicit_with_room(LIMIT);
	peer = make_peer(mr->rkey, IBV_MTU_4096);
	for (i = 0; i < 3 * LIMIT; i++)
		memory[i] = map_fresh(PAGE);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < 3 * LIMIT; i++) {
			at("mapping %d, round %d", i, round);
			check_write(&peer, memory[i] + round, PAGE - round);
			if (!limit_holds(LIMIT))
				fail("%s: %ld ranges", where, ranges());
		}
	}
	if (counter("inserted") < 2 * 3 * LIMIT)
		broken("only %lu ranges were made", counter("inserted"));
	/* Those on both sides of a hole take more room than there was. */
	at("holes");
	for (i = 0; i < LIMIT; i++) {
		uint8_t *whole = map_fresh(MIB);

		check_write(&peer, whole, PAGE);
		must(!munmap(whole + MIB / 2, MIB / 4));
		check_write(&peer, whole + MIB / 2 - PAGE, PAGE);
		check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)whole + MIB / 2);
		if (!limit_holds(LIMIT))
			fail("%s %d: %ld ranges", where, i, ranges());
	}
	at("the end");
	must(!ibv_dereg_mr(mr));
	check_all_gone();
}

/* The same address again and again; what is read and written is what is there now. */
static void reuse(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map_fresh(2 * PAGE), zeroes[2 * PAGE] = {};
	unsigned long round;

	for (round = 0; round < races() / 5; round++) {
		at("round %lu", round);
		check_read(&peer, memory, zeroes, 2 * PAGE);
		check_write(&peer, memory + 100, PAGE);
		must(!munmap(memory, 2 * PAGE));
		must(mmap(memory, 2 * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == memory);
	}
	must(!munmap(memory, 2 * PAGE));
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory);
	check_ranges(0);
}

/* So much grows page by page, and ends with no more ranges than that. */
#define GROWTH (rounds < 5000 ? 64 * MIB : 1024 * MIB)
#define GROWN 32

/* Waits until there are no more than that: what is to become one does so in its own time. */
static void check_at_most(int64_t most)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;

	while (ranges() > most) {
		if (now_ms() > deadline)
			fail("%s: %ld ranges, not %ld: %lu inserted, %lu replaced, %lu merged",
			     where, ranges(), most, counter("inserted"), counter("replaced"),
			     counter("merged"));
		sched_yield();
	}
}

/* A heap grows, with a peer at work on each page as soon as it is there. */
static void heap(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *begin, *end, zeroes[8] = {};
	int64_t most = 0;
	size_t grown;

	/* So that nothing else of it is in use, and its pages are whole. */
	must(mallopt(M_MMAP_THRESHOLD, 1));
	begin = sbrk(0);
	must(sbrk(-(uint64_t)begin & (PAGE - 1)) != (void *)-1);
	begin = sbrk(0);
	for (grown = 0; grown < GROWTH; grown += PAGE) {
		uint8_t *page = sbrk(PAGE);

		must(page != (void *)-1);
		at("page %zu", grown / PAGE);
		check_read(&peer, page + PAGE - 8, zeroes, 8);
		if (!(grown % MIB)) {
			check_write(&peer, page, 8);
			if (ranges() > most)
				most = ranges();
		}
	}
	end = sbrk(0);
	at("the end");
	check_at_most(GROWN);
	printf("# %ld ranges in the end, %ld at most, %lu merged, %lu inserted\n", ranges(), most,
	       counter("merged"), counter("inserted"));
	at("what shrinks");
	must(sbrk(-(intptr_t)(end - begin) / 2) != (void *)-1);
	check_read(&peer, begin + PAGE, zeroes, 8);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)end - 8);
	must(sbrk(begin - (uint8_t *)sbrk(0)) != (void *)-1);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)begin + PAGE);
	/* What was there before may be in the first one. */
	check_at_most(1);
}

/* What a hole in a range has to be to be worth another one. */
#define GRAIN (64UL << 10)
#define PARTS 8

/*
 * A part goes: the beginning, the end, and then the middle of what is left, UNIT by UNIT. There are
 * to be as many ranges then as PIECES says.
 */
static void take_parts(size_t unit, const int *pieces)
{
	static const struct { size_t first, n; } parts[] = { { 0, 1 }, { PARTS - 1, 1 }, { 3, 2 } };
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map_fresh(PARTS * unit), want[PARTS][PAGE], zeroes[PAGE] = {};
	bool gone[PARTS] = {};
	size_t i, n;

	for (n = 0; n < PARTS; n++) {
		random_fill(memory + n * unit, PAGE);
		memcpy(want[n], memory + n * unit, PAGE);
		check_read(&peer, memory + n * unit, want[n], PAGE);
	}
	check_ranges(1);
	for (i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		at("part %zu of units of %zu", i, unit);
		must(!munmap(memory + parts[i].first * unit, parts[i].n * unit));
		for (n = 0; n < parts[i].n; n++)
			gone[parts[i].first + n] = true;
		for (n = 0; n < PARTS; n++) {
			uint8_t *there = memory + n * unit;

			at("unit %zu of %zu, after part %zu", n, unit, i);
			if (gone[n]) {
				check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)there);
				check_denied(&peer, IBV_WR_RDMA_WRITE, 8,
					     (uint64_t)there + unit - 8);
			} else {
				check_read(&peer, there, want[n], PAGE);
				check_write(&peer, there, PAGE);
				memcpy(want[n], there, PAGE);
			}
		}
		at("around part %zu of units of %zu", i, unit);
		check_denied(&peer, IBV_WR_RDMA_READ, 2 * PAGE,
			     (uint64_t)memory + parts[i].first * unit - PAGE);
		check_denied(&peer, IBV_WR_RDMA_READ, 2 * PAGE,
			     (uint64_t)memory + (parts[i].first + parts[i].n) * unit - PAGE);
		at("after part %zu of units of %zu", i, unit);
		check_ranges(pieces[i]);
	}
	at("the middle, mapped again");
	must(mmap(memory + 3 * unit, 2 * unit, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != MAP_FAILED);
	for (n = 1; n < PARTS - 1; n++)
		check_read(&peer, memory + n * unit, n == 3 || n == 4 ? zeroes : want[n], PAGE);
	check_write(&peer, memory + 3 * unit - 100, 200);
	at("the end");
	must(!munmap(memory, PARTS * unit));
	check_ranges(0);
}

/* Such that are worth it to cut a range up ... */
static void large_parts(void)
{
	take_parts(GRAIN, (const int []) { 1, 1, 2 });
}

/* ... and such that are not. */
static void small_parts(void)
{
	take_parts(PAGE, (const int []) { 1, 1, 1 });
}

#define SIZE (8 * PAGE)

/* Memory moves, and leaves an empty address behind, or one with nothing in it. */
static void moved(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *old = map_fresh(SIZE), *new = map_fresh(2 * MIB), want[SIZE], zeroes[SIZE] = {};

	check_write(&peer, old, SIZE);
	memcpy(want, old, SIZE);
	at("the move");
	must(mremap(old, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, new) == new);
	check_read(&peer, new, want, SIZE);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)old);
	check_write(&peer, new, SIZE);
	memcpy(want, new, SIZE);

	at("the move that keeps the mapping");
	old = map_fresh(SIZE);
	must(mremap(new, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, old) ==
	     old);
	check_read(&peer, new, zeroes, SIZE);
	check_read(&peer, old, want, SIZE);
	check_write(&peer, new, PAGE);
	check_read(&peer, old, want, SIZE);

	at("the cut");
	must(mremap(old, SIZE, PAGE, 0) == old);
	check_read(&peer, old, want, PAGE);
	check_denied(&peer, IBV_WR_RDMA_READ, 2 * PAGE, (uint64_t)old);
	at("the growth");
	must(mremap(old, PAGE, SIZE, 0) == old);
	check_read(&peer, old + PAGE, zeroes, SIZE - PAGE);
	check_read(&peer, old, want, PAGE);
}

/* What is discarded is not read any more, and what is written after that stays. */
static void discarded(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map(SIZE), zeroes[SIZE] = {}, *file, want[SIZE];
	int fd;

	at("MADV_DONTNEED");
	check_write(&peer, memory, SIZE);
	must(!madvise(memory, SIZE, MADV_DONTNEED));
	check_read(&peer, memory, zeroes, SIZE);
	must(!madvise(memory, SIZE, MADV_DONTNEED));
	check_write(&peer, memory, SIZE);

	file = map_file(&fd, SIZE);
	check_write(&peer, file, SIZE);
	memcpy(want, file, SIZE);
	at("MADV_DONTNEED of a file");
	must(!madvise(file, SIZE, MADV_DONTNEED));
	check_read(&peer, file, want, SIZE);
	at("a hole");
	must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
	memset(want + PAGE, 0, PAGE);
	check_read(&peer, file, want, SIZE);
	check_write(&peer, file + PAGE, PAGE);
	at("a file that is shorter than its mapping");
	must(!ftruncate(fd, PAGE));
	check_read(&peer, file, want, PAGE);
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)file + PAGE);
	at("a file that has grown");
	must(!ftruncate(fd, SIZE));
	check_read(&peer, file + PAGE, zeroes, SIZE - PAGE);
	check_write(&peer, file + PAGE, PAGE);
}

/* What the process may do there, a peer may, and nothing else. */
static void protection(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map(SIZE), want[SIZE];

	check_write(&peer, memory, SIZE);
	memcpy(want, memory, SIZE);
	at("PROT_READ");
	must(!mprotect(memory + PAGE, PAGE, PROT_READ));
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + PAGE);
	/* The packet before the one that is denied is written. */
	check_denied(&peer, IBV_WR_RDMA_WRITE, 2 * PAGE, (uint64_t)memory + PAGE);
	check_read(&peer, memory, want, SIZE);
	/* What was found for a read is not for writes. */
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + PAGE);
	at("PROT_NONE");
	must(!mprotect(memory + PAGE, PAGE, PROT_NONE));
	check_denied(&peer, IBV_WR_RDMA_READ, 8, (uint64_t)memory + PAGE);
	check_denied(&peer, IBV_WR_RDMA_WRITE, 8, (uint64_t)memory + PAGE);
	check_write(&peer, memory, PAGE);
	at("PROT_READ | PROT_WRITE");
	must(!mprotect(memory + PAGE, PAGE, PROT_READ | PROT_WRITE));
	check_read(&peer, memory + PAGE, want + PAGE, SIZE - PAGE);
	check_write(&peer, memory, SIZE);
}

/* What is the process's only when it is written to: the page of zeroes, and that of a file. */
static void copied_on_write(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map(PAGE), zeroes[PAGE] = {}, *file, *private, want[PAGE];
	int fd;

	at("memory that was not written to");
	check_read(&peer, memory, zeroes, PAGE);
	check_write(&peer, memory + 100, 1000);
	at("other memory that was not written to");
	check_read(&peer, map(PAGE), zeroes, PAGE);

	at("a private mapping of a file");
	file = map_file(&fd, PAGE);
	random_fill(file, PAGE);
	memcpy(want, file, PAGE);
	private = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	must(private != MAP_FAILED);
	check_read(&peer, private, want, PAGE);
	check_write(&peer, private + 100, 1000);
	if (difference(file, want, PAGE) >= 0)
		fail("the file is written to");
}

/* Pages that are paged out all the time; what was written is there when they come back. */
static sem_t paging;

static void *page_out_loop(void *memory)
{
	while (sem_trywait(&paging))
		must(!madvise(memory, SIZE, MADV_PAGEOUT));
	return NULL;
}

static void pressure(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memories[2], want[2][SIZE];
	pthread_t threads[2];
	unsigned long round;
	int fd, i;

	memories[0] = map(SIZE);
	memories[1] = map_file(&fd, SIZE);
	must(!sem_init(&paging, 0, 0));
	for (i = 0; i < 2; i++) {
		check_write(&peer, memories[i], SIZE);
		memcpy(want[i], memories[i], SIZE);
		must(!pthread_create(&threads[i], NULL, page_out_loop, memories[i]));
	}
	for (round = 0; round < races() / 2; round++) {
		size_t offset = random_below(SIZE - 500);

		at("round %lu", round);
		i = random_below(2);
		/* Read first, for a fault that does not ask for a page to write to. */
		check_read(&peer, memories[i], want[i], SIZE);
		peer_write(&peer, memories[i] + offset, 500);
		memcpy(want[i] + offset, peer.local->addr, 500);
		check_read(&peer, memories[i] + offset, want[i] + offset, 500);
		if (difference(memories[i], want[i], SIZE) >= 0)
			fail("round %lu: what was written is lost", round);
	}
	sem_post(&paging);
	sem_post(&paging);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* Addresses that get other memory all the time, as far as their changes have come. */
#define STAMPS 1024
#define ADDRESSES 8

static struct {
	uint8_t *memory;	/* every other page; the rest comes and goes to cut it up */
	uint8_t *file;		/* STAMPS pages, each with its number at its beginning */
	int fd;
	bool holes;		/* after every mapping a time with none */
	/* each change counts one, when it begins and when it is through */
	_Atomic uint64_t begun[ADDRESSES], through[ADDRESSES];
	sem_t go;
	atomic_bool stop;
} changing;

static bool is_hole(uint64_t change)
{
	return changing.holes && change % 2;
}

static void change(size_t i)
{
	uint8_t *there = changing.memory + 2 * i * PAGE;
	uint64_t n = changing.begun[i] + 1;

	changing.begun[i] = n;
	if (is_hole(n))
		must(!munmap(there, PAGE));
	else
		must(mmap(there, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, changing.fd,
			  n % STAMPS * PAGE) == there);
	changing.through[i] = n;
	there += PAGE;
	if (random_below(2))
		must(!munmap(there, PAGE));
	else
		must(mmap(there, PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == there);
}

static void *change_loop(void *)
{
	for (;;) {
		int n = random_below(20);

		must(!sem_wait(&changing.go));
		if (changing.stop)
			return NULL;
		while (n--)
			change(random_below(ADDRESSES));
	}
}

/* Another peer, in the way of the first one: it reads all of it, and takes what it gets. */
static void *disturb_loop(void *arg)
{
	struct peer *peer = arg;

	while (!changing.stop) {
		uint64_t from = random_below(ADDRESSES * 2) * PAGE;
		int status = peer_run(peer, IBV_WR_RDMA_READ, PAGE / 2 + random_below(PAGE / 2),
				      (uint64_t)changing.memory + from);

		if (status == IBV_WC_REM_ACCESS_ERR)
			reconnect(peer);
		else if (status)
			fail("the other peer: %s", status_name(status));
	}
	return NULL;
}

/* Which page has VALUE behind its stamp; there must not be two. */
static int64_t find_value(uint64_t value)
{
	int64_t found = -1, i;

	for (i = 0; i < STAMPS; i++) {
		uint64_t *page = (uint64_t *)(changing.file + i * PAGE);

		if (page[1] != value)
			continue;
		if (found >= 0)
			fail("%s: it is in two pages", where);
		found = i;
	}
	return found;
}

/*
 * A peer reads and writes at addresses that are mapped, unmapped and mapped to something else at
 * the same time. It gets what was there at some moment between the beginning and the end of its
 * operation, and nothing older; and what it writes goes there, too.
 */
static void change_under_traffic(bool holes)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096), other;
	unsigned long round, denied = 0, moved = 0;
	pthread_t thread, disturber;
	size_t i;

	changing.holes = holes;
	changing.file = map_file(&changing.fd, STAMPS * PAGE);
	for (i = 0; i < STAMPS; i++)
		*(uint64_t *)(changing.file + i * PAGE) = i;
	changing.memory = map_fresh(2 * ADDRESSES * PAGE);
	for (i = 0; i < ADDRESSES; i++) {
		change(i);
		change(i);
	}
	must(!sem_init(&changing.go, 0, 0));
	must(!pthread_create(&thread, NULL, change_loop, NULL));
	other = make_peer(peer.rkey, IBV_MTU_1024);
	must(!pthread_create(&disturber, NULL, disturb_loop, &other));

	for (round = 0; round < 2 * races(); round++) {
		enum ibv_wr_opcode opcode = round % 2 ? IBV_WR_RDMA_WRITE : IBV_WR_RDMA_READ;
		uint64_t *local = peer.local->addr, first, last, n, stamp;
		bool hole = false, full = false, fits = false;
		int status;

		i = random_below(ADDRESSES);
		at("round %lu, %s", round, round % 2 ? "a write" : "a read");
		local[0] = local[1] = (round + 1) << 32 | 0x5a5a;
		first = changing.through[i];
		sem_post(&changing.go);
		status = peer_run(&peer, opcode, round % 2 ? 8 : PAGE,
				  (uint64_t)changing.memory + 2 * i * PAGE + (round % 2 ? 8 : 0));
		last = changing.begun[i];
		if (last - first >= STAMPS)
			broken("%lu changes during one operation", last - first);
		for (n = first; n <= last; n++) {
			hole |= is_hole(n);
			full |= !is_hole(n);
		}
		moved += last > first;
		if (status == IBV_WC_REM_ACCESS_ERR && hole) {
			denied++;
			reconnect(&peer);
			continue;
		}
		if (status)
			fail("%s: %s, with changes %lu to %lu", where, status_name(status), first,
			     last);
		if (!full)
			fail("%s: something was there when nothing was mapped", where);
		stamp = round % 2 ? (uint64_t)find_value(local[0]) : local[0];
		for (n = first; n <= last; n++)
			fits |= !is_hole(n) && n % STAMPS == stamp;
		if (!fits)
			fail("%s: it is that of change %ld, not of %lu to %lu", where, stamp,
			     first % STAMPS, last % STAMPS);
	}
	changing.stop = true;
	sem_post(&changing.go);
	pthread_join(thread, NULL);
	pthread_join(disturber, NULL);
	printf("# %lu operations, %lu of them with a change in between, %lu denied\n", round,
	       moved, denied);
	if (!moved || (holes && !denied))
		broken("there was no race");
	at("the end");
	must(!munmap(changing.memory, 2 * ADDRESSES * PAGE));
	check_ranges(0);
}

static void replaced_under_traffic(void)
{
	change_under_traffic(false);
}

static void unmapped_under_traffic(void)
{
	change_under_traffic(true);
}

/* Who unmaps a page while a peer's write to it may be half done, and looks whether it goes on. */
static struct {
	struct peer peer;
	uint8_t *there, *file;
	int fd;
	unsigned long changes;
	/* the peer's, that are through */
	_Atomic uint64_t writes;
	atomic_bool stop;
	/* 0, or which change it was */
	unsigned long stale;
} interrupted;

static void *interrupt_loop(void *arg)
{
	uint64_t state = 1, seen;
	uint8_t before[PAGE];
	unsigned long n;

	for (n = 1; n <= interrupted.changes && !interrupted.stale; n++) {
		uint8_t *old = interrupted.file + (n - 1) % STAMPS * PAGE;

		/* At any moment of a write. */
		state = state * 6364136223846793005 + 1442695040888963407;
		nanosleep(&(struct timespec) { .tv_nsec = 20000 + (state >> 33) % 500000 }, NULL);
		must(mmap(interrupted.there, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			  interrupted.fd, n % STAMPS * PAGE) == interrupted.there);
		/* It is nobody's but the file's by now. */
		memcpy(before, old, PAGE);
		seen = interrupted.writes;
		while (interrupted.writes < seen + 2)
			nanosleep(&(struct timespec) { .tv_nsec = 100000 }, NULL);
		if (difference(before, old, PAGE) >= 0)
			interrupted.stale = n;
	}
	interrupted.stop = true;
	return arg;
}

/* On which CPUs the workers are; returns where they were. */
static char *confine_workers(const char *cpus)
{
	FILE *file = fopen("/sys/devices/virtual/workqueue/cpumask", "r+");
	static char before[64];

	must(file);
	must(fgets(before, sizeof(before), file));
	rewind(file);
	must(fputs(cpus, file) >= 0);
	must(!fclose(file));
	return strdup(before);
}

/*
 * Nothing is written to a page that has been unmapped, not even the rest of what was begun before.
 * A thread that comes first whenever it wakes up unmaps the page on the CPU that does the writes:
 * it has to wait for the one that it interrupts.
 */
static void written_after_unmap(void)
{
	struct sched_param first = { .sched_priority = 1 };
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t cpu;
	uint64_t n;
	char *all;

	interrupted.peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	interrupted.changes = 2 * races();
	interrupted.file = map_file(&interrupted.fd, STAMPS * PAGE);
	memset(interrupted.file, 0, STAMPS * PAGE);
	interrupted.there = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, interrupted.fd, 0);
	must(interrupted.there != MAP_FAILED);
	CPU_ZERO(&cpu);
	CPU_SET(0, &cpu);
	must(!pthread_attr_init(&attr));
	must(!pthread_attr_setaffinity_np(&attr, sizeof(cpu), &cpu));
	must(!pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED));
	must(!pthread_attr_setschedpolicy(&attr, SCHED_FIFO));
	must(!pthread_attr_setschedparam(&attr, &first));
	all = confine_workers("1");
	must(!pthread_create(&thread, &attr, interrupt_loop, NULL));
	for (n = 1; !interrupted.stop; n++) {
		int status;

		at("write %lu", n);
		memset(interrupted.peer.local->addr, n % 255 + 1, PAGE);
		status = peer_run(&interrupted.peer, IBV_WR_RDMA_WRITE, PAGE,
				  (uint64_t)interrupted.there);
		if (status) {
			confine_workers(all);
			fail("%s: %s", where, status_name(status));
		}
		interrupted.writes = n;
	}
	confine_workers(all);
	pthread_join(thread, NULL);
	printf("# %lu writes, %lu changes\n", n, interrupted.changes);
	if (interrupted.stale)
		fail("change %lu: the page is written to when it is unmapped", interrupted.stale);
}

/* Huge pages of both kinds, and what is left of them. */
static void huge_pages(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map_fresh(4 * MIB);
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);

	at("transparent ones");
	advise_huge_pages(memory, 4 * MIB, MADV_HUGEPAGE);
	check_write(&peer, memory + 2 * MIB - 3 * PAGE, 6 * PAGE);
	memset(memory, 3, 4 * MIB);
	check_read(&peer, memory + 2 * MIB - 5, memory + 2 * MIB - 5, PAGE);
	at("a hole in one");
	must(!munmap(memory + MIB, PAGE));
	check_denied(&peer, IBV_WR_RDMA_READ, 2, (uint64_t)memory + MIB);
	check_write(&peer, memory + MIB + PAGE, 3 * PAGE);
	check_write(&peer, memory + MIB - 3 * PAGE, 3 * PAGE);
	must(!munmap(memory, 4 * MIB));

	at("those of hugetlbfs");
	must(fd >= 0);
	must(!ftruncate(fd, 2 * MIB));
	memory = map_fresh(2 * MIB);
	must(mmap(memory, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
	     memory);
	check_write(&peer, memory + MIB - 5, 3 * PAGE);
	must(!munmap(memory, 2 * MIB));
	check_denied(&peer, IBV_WR_RDMA_READ, 2, (uint64_t)memory + MIB);
	check_ranges(0);
}

/* An MR is of the memory of the process that registered it, before a fork and after. */
static void forked_memory(void)
{
	struct peer peer = make_peer(implicit(REMOTE)->rkey, IBV_MTU_4096);
	uint8_t *memory = map(SIZE), want[SIZE];
	pid_t child;
	int socket;
	char byte = 0;

	check_write(&peer, memory, SIZE);
	memcpy(want, memory, SIZE);
	child = fork_child(&socket);
	if (!child) {
		/* Its copy of a page is not the peer's, whoever writes first. */
		memset(memory + PAGE, 0xcc, PAGE);
		say(socket, &byte, 1);
		hear(socket, &byte, 1);
		at("what the child sees");
		memset(want + PAGE, 0xcc, PAGE);
		if (difference(memory, want, SIZE) >= 0)
			fail("byte %zd of the child's has changed",
			     difference(memory, want, SIZE));
		_exit(0);
	}
	hear(socket, &byte, 1);
	at("a read after the child's write");
	check_read(&peer, memory, want, SIZE);
	at("a write after a fork");
	check_write(&peer, memory, SIZE);
	say(socket, &byte, 1);
	wait_child(child);
	check_write(&peer, memory, SIZE);
}

/*
 * A child has the device, too. An MR that it registers is of its own memory, and of none when it
 * is gone.
 */
static void forked_device(void)
{
	struct ibv_mr *mr = implicit(REMOTE);
	struct peer peer = make_peer(mr->rkey, IBV_MTU_4096);
	uint8_t *memory = map(PAGE), want[PAGE];
	uint32_t rkey;
	pid_t child;
	int socket;
	char byte = 0;

	memset(memory, 'p', PAGE);
	child = fork_child(&socket);
	if (!child) {
		memset(memory, 'c', PAGE);
		rkey = implicit(REMOTE)->rkey;
		say(socket, &rkey, sizeof(rkey));
		hear(socket, &byte, 1);
		_exit(0);
	}
	hear(socket, &rkey, sizeof(rkey));
	at("the parent's MR");
	memset(want, 'p', PAGE);
	check_read(&peer, memory, want, PAGE);
	at("the child's MR");
	peer.rkey = rkey;
	memset(want, 'c', PAGE);
	check_read(&peer, memory, want, PAGE);
	peer_write(&peer, memory, PAGE);
	memset(want, 'p', PAGE);
	if (difference(memory, want, PAGE) >= 0)
		fail("a write to the child's memory is in the parent's");
	say(socket, &byte, 1);
	wait_child(child);
	at("the MR of a child that is gone");
	check_denied(&peer, IBV_WR_RDMA_READ, PAGE, (uint64_t)memory);
	peer.rkey = mr->rkey;
	at("the parent's MR in the end");
	check_write(&peer, memory, PAGE);
}

static struct test tests[] = {
	{ "churn", churn },
	{ "reuse", reuse },
	{ "limit", limit },
	{ "heap", heap },
	{ "large_parts", large_parts },
	{ "small_parts", small_parts },
	{ "moved", moved },
	{ "discarded", discarded },
	{ "protection", protection },
	{ "copied_on_write", copied_on_write },
	{ "pressure", pressure },
	{ "replaced_under_traffic", replaced_under_traffic },
	{ "unmapped_under_traffic", unmapped_under_traffic },
	{ "written_after_unmap", written_after_unmap },
	{ "huge_pages", huge_pages },
	{ "forked_memory", forked_memory },
	{ "forked_device", forked_device },
};

int main(int argc, char **argv)
{
	take_option(&argc, argv, "--rounds", &rounds);
	return RUN_TESTS(tests, argc, argv);
}
