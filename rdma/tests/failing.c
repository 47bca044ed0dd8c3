// SPDX-License-Identifier: GPL-2.0
/*
 * Each allocation of the slab allocator that a system call about on-demand paging makes fails once;
 * pages and page tables do not. What the kernel's own tasks allocate, as for a peer's access, is
 * not here: the task that is to meet a failure asks for it.
 *
 * usage: failing [TEST...]
 */

#include "../../tests/user/fail_nth.h"
#include "harness.h"
#include "implicit.h"

/* More than any call makes. */
#define MOST 300
/*
 * How often a call is gone through until an allocation fails that it cannot do without: the kernel
 * allocates for itself as well, and not always as much.
 */
#define ROUNDS 16
#define PAGES 16

/* The memory that is registered. */
static uint8_t *memory;

/* Goes through a call once, and says how many allocations have failed that it cannot do without. */
static int each_failure_once(const char *what, int (*call)(void *), void (*undo)(void *), void *arg,
			     int file)
{
	int n, ret, left, failed = 0;

	for (n = 1, left = 0; !left && n <= MOST; n++) {
		at("%s, failure %d", what, n);
		must(!fail_nth(file, n));
		ret = call(arg);
		left = fail_nth_left(file);
		must(!fail_nth(file, 0));
		must(left >= 0);
		if (!ret) {
			undo(arg);
			continue;
		}
		if (left)
			fail("%s: %s, though no allocation has failed", where, strerror(ret));
		if (ret != ENOMEM)
			fail("%s: %s", where, strerror(ret));
		failed++;
		/* Without it, all is well. */
		ret = call(arg);
		if (ret)
			fail("%s, and then: %s", where, strerror(ret));
		undo(arg);
	}
	printf("# %s: %d of %d allocations are needed\n", what, failed, n - 2);
	if (!left)
		fail("%s: there is no end to it", what);
	return failed;
}

/*
 * Has the n-th allocation of a call fail, for every n. CALL returns 0 or an errno; UNDO is called
 * after each success.
 */
static void each_failure(const char *what, int (*call)(void *), void (*undo)(void *), void *arg)
{
	int file = fail_nth_open(), failed = 0;

	if (file < 0)
		broken("no allocation can be made to fail: %s", strerror(-file));
	/* Here and not earlier, because this process has copies of its parent's pages. */
	memset(memory, 1, PAGES * PAGE);
	for (int round = 0; round < ROUNDS && !failed; round++)
		failed = each_failure_once(what, call, undo, arg, file);
	close(file);
	if (!failed)
		fail("%s: nothing has failed", what);
}

/* What a registration is of, and what has come of it. */
struct registration {
	void *start;
	size_t length;
	int access;
	struct ibv_mr *mr;
};

static int registers(void *arg)
{
	struct registration *it = arg;

	it->mr = ibv_reg_mr(pd, it->start, it->length, it->access);
	return it->mr ? 0 : errno;
}

static void deregisters(void *arg)
{
	struct registration *it = arg;

	must(!ibv_dereg_mr(it->mr));
}

static void registration_of_pages(void)
{
	struct registration it = { .start = memory, .length = PAGES * PAGE, .access = ODP };

	each_failure("explicit", registers, deregisters, &it);
}

/* Each is the first one of the process, so that there is a mirror to be made. */
static void registration_of_all(void)
{
	struct registration it = { .length = SIZE_MAX, .access = ODP };

	each_failure("implicit", registers, deregisters, &it);
	check_all_gone();
}

static void another_registration(void)
{
	struct registration first = { .length = SIZE_MAX, .access = ODP }, second = first;

	must(!registers(&first));
	each_failure("the second", registers, deregisters, &second);
	deregisters(&first);
	check_all_gone();
}

/* A prefetch that this task makes itself; the process has the pages already. */
static int prefetches(void *arg)
{
	struct registration *it = arg;
	struct ibv_sge sge = {
		.addr = (uint64_t)memory, .length = PAGES * PAGE, .lkey = it->mr->lkey,
	};

	return advise_mr(pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1);
}

/* The next one has all of it to do again. */
static void drops(void *arg)
{
	struct registration *it = arg;

	deregisters(it);
	must(!registers(it));
}

static void prefetch_of(const char *what, void *start, size_t length)
{
	struct registration it = { .start = start, .length = length, .access = ODP };
	struct peer peer;

	must(!registers(&it));
	each_failure(what, prefetches, drops, &it);
	must(!prefetches(&it));
	at("what was prefetched");
	peer = make_peer(it.mr->rkey, IBV_MTU_4096);
	check_write(&peer, memory, PAGES * PAGE);
	deregisters(&it);
	check_all_gone();
}

static void prefetch_of_pages(void)
{
	prefetch_of("prefetch of pages", memory, PAGES * PAGE);
}

static void prefetch_of_all(void)
{
	prefetch_of("prefetch of an implicit MR", NULL, SIZE_MAX);
}

/* It cannot fail, whatever does. */
static void deregistration(void)
{
	struct registration it = { .length = SIZE_MAX, .access = ODP };
	int file = fail_nth_open(), n, left = 0, ret;

	must(file >= 0);
	memset(memory, 1, PAGES * PAGE);
	for (n = 1; !left && n <= MOST; n++) {
		must(!registers(&it));
		must(!prefetches(&it));
		at("failure %d", n);
		must(!fail_nth(file, n));
		ret = ibv_dereg_mr(it.mr);
		left = fail_nth_left(file);
		must(!fail_nth(file, 0));
		if (ret)
			fail("%s: %s", where, strerror(ret));
	}
	close(file);
	if (!left)
		fail("there is no end to it");
	check_all_gone();
}

static const struct test tests[] = {
	{ "registration_of_pages", registration_of_pages },
	{ "registration_of_all", registration_of_all },
	{ "another_registration", another_registration },
	{ "prefetch_of_pages", prefetch_of_pages },
	{ "prefetch_of_all", prefetch_of_all },
	{ "deregistration", deregistration },
};

int main(int argc, char **argv)
{
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		      0);
	if (memory == MAP_FAILED)
		return 2;
	return RUN_TESTS(tests, argc, argv);
}
