// SPDX-License-Identifier: GPL-2.0
/*
 * What is unmapped, or ends, while a range is being inserted. ODP_RACES in the environment is how many races
 * there are, ODP_SEED repeats a run.
 */

#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "mirror_shape.h"
#include "mirror_fixture.h"

/* What the device mirrors at once around a fault. */
#define WINDOW (64UL << 10)

/*
 * Windows where nothing is mapped, and nothing will be that does not ask for it: the kernel gives
 * addresses from the top of the address space downwards, a thread's stack for example.
 */
#define WINDOWS_AT ((char *)(1UL << 44))

static bool map_window(char *window)
{
	return mmap(window, WINDOW, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == window;
}

/*
 * The event of a munmap() that begins while the notifier is not in the tree yet reaches nobody, so
 * that whoever asks what is mapped must not have done so before.
 */
TEST_F(mirror, what_is_unmapped_meanwhile_is_not_kept)
{
	char *window = WINDOWS_AT;
	struct inserter inserter;
	struct sleeper frozen;

	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, ODP_MIRROR_AUTO));
	ASSERT_EQ(0, freeze(&frozen, self->fd));
	ASSERT_TRUE(map_window(window));
	ASSERT_EQ(0, inserter_start(&inserter, self->fd, window, 0));
	ASSERT_EQ(0, munmap(window + 2 * self->page, 3 * self->page));
	ASSERT_EQ(0, thaw(&frozen));
	EXPECT_LE(0, inserter_end(&inserter));

	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	EXPECT_EQ(-1, shape_wrong(self->fd, window, "a-...-----------"));
	ASSERT_EQ(0, munmap(window, WINDOW));
	/* That of the invalidation. */
	EXPECT_EQ(1, shape_ranges(self->fd));
}

static bool is_asleep_in_insertion(pid_t tid)
{
	return !wait_asleep_in_for(tid, "mmu_interval_read_begin", 0);
}

struct puncher {
	pthread_t thread;
	int file, result;
};

static void *puncher_run(void *arg)
{
	struct puncher *puncher = arg;

	puncher->result = fallocate(puncher->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				    page_size());
	return NULL;
}

/* Mirrors a page of a file, and then, when it is told to, inserts another range. */
static void mirror_and_insert(int file, int told, int tell)
{
	struct inserter inserter = { .len = page_size() };
	char *mem, byte;

	inserter.fd = mirror_open();
	inserter.addr = map_pages(1);
	mem = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (inserter.fd < 0 || !inserter.addr || mem == MAP_FAILED)
		_exit(1);
	*mem = 1;
	if (mirror_insert(inserter.fd, mem, page_size()) || mirror_read(inserter.fd, mem) != 1 ||
	    write(tell, &inserter.fd, sizeof(int)) != sizeof(int) || read(told, &byte, 1) != 1 ||
	    pthread_create(&inserter.thread, NULL, inserter_run, &inserter))
		_exit(1);
	while (!__atomic_load_n(&inserter.tid, __ATOMIC_ACQUIRE))
		sched_yield();
	if (write(tell, &inserter.tid, sizeof(pid_t)) != sizeof(pid_t))
		_exit(1);
	for (;;)
		pause();
}

/*
 * An invalidation by way of a file needs no user of the address space, and may go on when that ends.
 * The end of it is told only to whoever is in the tree by then.
 */
TEST(the_end_of_the_process_passes_nobody_by)
{
	struct puncher puncher = { .result = 1 };
	long deadline = now_ms() + PATIENCE_MS;
	int told[2], tell[2], theirs, fd;
	int pidfd, status;
	pid_t child, tid;
	bool there;

	puncher.file = memfd_create("inserting", 0);
	ASSERT_LE(0, puncher.file);
	ASSERT_EQ(0, ftruncate(puncher.file, page_size()));
	ASSERT_EQ(0, pipe(told));
	ASSERT_EQ(0, pipe(tell));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		mirror_and_insert(puncher.file, told[0], tell[1]);
	close(tell[1]);
	ASSERT_EQ(sizeof(int), read(tell[0], &theirs, sizeof(int)));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	ASSERT_LE(0, pidfd);
	fd = syscall(SYS_pidfd_getfd, pidfd, theirs, 0);
	ASSERT_LE(0, fd);

	ASSERT_EQ(0, mirror_stall(fd, 1));
	ASSERT_EQ(0, pthread_create(&puncher.thread, NULL, puncher_run, &puncher));
	ASSERT_EQ(0, mirror_wait(fd, ODP_MIRROR_IN_CALLBACK, 1));
	ASSERT_EQ(1, write(told[1], "", 1));
	ASSERT_EQ(sizeof(pid_t), read(tell[0], &tid, sizeof(pid_t)));
	do {
		there = is_asleep_in_insertion(tid) || mirror_stats(fd).inserted == 2;
	} while (!there && now_ms() < deadline);
	ASSERT_TRUE(there);
	ASSERT_EQ(0, kill(child, SIGKILL));
	do {
		/* It ends, or cannot end. */
		there = is_asleep_in_insertion(tid) ||
			mirror_stats(fd).events[ODP_MIRROR_EVENT_RELEASE];
	} while (!there && now_ms() < deadline);
	ASSERT_TRUE(there);

	ASSERT_EQ(0, mirror_unstall(fd));
	pthread_join(puncher.thread, NULL);
	EXPECT_EQ(0, puncher.result);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, shape_ranges(fd));
	EXPECT_EQ(mirror_stats(fd).inserted, mirror_stats(fd).told);
	EXPECT_EQ(0, close(fd));
}

/* How many windows are used one after the other before it is looked whether anything is left. */
#define WINDOWS 16
/* What is invalidated beside them, so that it takes a while. */
#define DISTURBED 64

struct race {
	int fd;
	/* Both are passed by the device and by whoever unmaps. */
	pthread_barrier_t begin, end;
	/* NULL if there is none any more. */
	char *window;
	/* The page that the device loads from. */
	int page;
	int result;
	/* How long it took the device, about. */
	long ns;
	/* What is invalidated, and whether no more. */
	char *disturbed;
	bool stop;
};

static long now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void *race_load(void *arg)
{
	struct race *race = arg;
	uint64_t value;
	long start;

	for (;;) {
		pthread_barrier_wait(&race->begin);
		if (!race->window)
			return NULL;
		start = now_ns();
		race->result = mirror_load(race->fd, race->window + race->page * page_size(),
					   &value);
		race->ns += (now_ns() - start - race->ns) / 8;
		pthread_barrier_wait(&race->end);
	}
}

static void *race_disturb(void *arg)
{
	struct race *race = arg;
	const size_t len = DISTURBED * page_size();

	while (!__atomic_load_n(&race->stop, __ATOMIC_RELAXED)) {
		memset(race->disturbed, 1, len);
		if (madvise(race->disturbed, len, MADV_DONTNEED))
			return (void *)1;
	}
	return NULL;
}

static int from_environment(const char *name, int otherwise)
{
	return getenv(name) ? atoi(getenv(name)) : otherwise;
}

/* The device faults in a window of which a part is unmapped at the same time, then the rest. */
TEST_F_TIMEOUT(mirror, insertions_race_unmaps, 7200)
{
	const int races = from_environment("ODP_RACES", 320), pages = WINDOW / self->page;
	unsigned int seed = from_environment("ODP_SEED", now_ms());
	struct race race = { .fd = self->fd, .disturbed = map_pages(DISTURBED) };
	char *windows = WINDOWS_AT;
	pthread_t loader, disturber;
	void *wrong;

	TH_LOG("%d races, seed %u", races, seed);
	ASSERT_NE(NULL, race.disturbed);
	ASSERT_EQ(0, mirror_configure(self->fd, ODP_MIRROR_PUNCH_UNMAP, ODP_MIRROR_AUTO));
	ASSERT_EQ(0, mirror_insert(self->fd, race.disturbed, DISTURBED * self->page));
	ASSERT_EQ(0, pthread_barrier_init(&race.begin, NULL, 2));
	ASSERT_EQ(0, pthread_barrier_init(&race.end, NULL, 2));
	race.window = windows;
	ASSERT_EQ(0, pthread_create(&loader, NULL, race_load, &race));
	ASSERT_EQ(0, pthread_create(&disturber, NULL, race_disturb, &race));
	for (int i = 0; i < races; i++) {
		/* Before or behind what is unmapped. */
		int part = 1 + rand_r(&seed) % (pages - 1);
		long until;

		race.window = windows + i % WINDOWS * WINDOW;
		race.page = rand_r(&seed) % 2 ? 0 : pages - 1;
		ASSERT_TRUE(map_window(race.window));
		pthread_barrier_wait(&race.begin);
		until = now_ns() + rand_r(&seed) % (2 * race.ns + 1);
		while (now_ns() < until)
			;
		ASSERT_EQ(0, munmap(race.window + (race.page ? 0 : pages - part) * self->page,
				    part * self->page));
		pthread_barrier_wait(&race.end);
		EXPECT_LE(0, race.result);
		/* Nothing but the rest: an event of all of it would make up for one that was lost. */
		ASSERT_EQ(0, munmap(race.window + (race.page ? part : 0) * self->page,
				    (pages - part) * self->page));
		/* That which is disturbed. */
		if (i % WINDOWS == WINDOWS - 1 || i == races - 1)
			ASSERT_EQ(1, shape_ranges(self->fd));
	}
	race.window = NULL;
	pthread_barrier_wait(&race.begin);
	pthread_join(loader, NULL);
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	pthread_join(disturber, &wrong);
	EXPECT_EQ(NULL, wrong);
	EXPECT_EQ(0, mirror_stats(self->fd).replace_failed);
	pthread_barrier_destroy(&race.begin);
	pthread_barrier_destroy(&race.end);
}

TEST_HARNESS_MAIN
