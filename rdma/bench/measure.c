// SPDX-License-Identifier: GPL-2.0
/*
 * What memory costs that is registered pinned, for explicit and for implicit on-demand paging.
 * Within a measurement the three take turns, in an order that is drawn each time, so that what
 * else the machine does hits all alike. Every sample is printed, as
 *
 *	MEASUREMENT <tab> UNIT <tab> PARAMETER <tab> ARM <tab> VALUE
 *
 * usage: measure [--rounds N] [--seed N] MEASUREMENT...
 *
 * The measurements: operation, parallel, registration, first, munmap, many, memory, churn.
 */

#include <linux/membarrier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "../tests/implicit.h"

#define KIB 1024UL
#define MIB (1024 * KIB)

/* As many as perftest has; what takes less time has more. */
static unsigned long rounds = 10;

enum arm { NONE, PINNED, EXPLICIT, IMPLICIT, ARMS };

static const char * const names[] = { "none", "pinned", "explicit", "implicit" };

/* There is one all the time, so that no measurement but "first" is of the first one. */
static struct ibv_mr *implicit_mr;

static void sample(const char *what, const char *unit, unsigned long parameter, const char *arm,
		   int64_t value)
{
	printf("%s\t%s\t%lu\t%s\t%ld\n", what, unit, parameter, arm, value);
}

/* The arms from FIRST on, in an order that is drawn. */
static void shuffle(enum arm *order, enum arm first)
{
	int n = ARMS - first, i;

	for (i = 0; i < n; i++) {
		int j = random_below(i + 1);

		order[i] = order[j];
		order[j] = first + i;
	}
}

static struct ibv_mr *register_as(enum arm arm, void *memory, size_t length)
{
	switch (arm) {
	case PINNED:
		return reg(memory, length, REMOTE);
	case EXPLICIT:
		return reg(memory, length, ODP);
	case IMPLICIT:
		return implicit(REMOTE);
	default:
		return NULL;
	}
}

/* As perftest does it: without sleeping. */
static void busy_run(struct peer *peer, enum ibv_wr_opcode opcode, uint32_t length, void *remote)
{
	struct ibv_wc wc;
	int n;

	post(&peer->pair, &(struct operation) {
		.opcode = opcode, .local = peer->local, .address = peer->local->addr,
		.length = length, .remote = (uint64_t)remote, .rkey = peer->rkey,
	});
	while ((n = ibv_poll_cq(peer->pair.a.cq, 1, &wc)) == 0)
		;
	must(n == 1);
	if (wc.status)
		fail("%s", status_name(wc.status));
}

/* One operation at a time, on memory that has been accessed before. */
static void operation(void)
{
	static const uint32_t lengths[] = { 8, 4096, PEER_SIZE };
	struct peer peer = make_peer(0, IBV_MTU_4096);
	struct ibv_mr *mrs[ARMS] = {};
	uint8_t *memory[ARMS] = {};
	unsigned long round;
	enum arm arm, order[ARMS];
	size_t i;

	for (arm = PINNED; arm < ARMS; arm++) {
		memory[arm] = map(PEER_SIZE);
		memset(memory[arm], arm, PEER_SIZE);
		mrs[arm] = register_as(arm, memory[arm], PEER_SIZE);
	}
	for (i = 0; i < 2 * sizeof(lengths) / sizeof(*lengths); i++) {
		enum ibv_wr_opcode opcode = i % 2 ? IBV_WR_RDMA_READ : IBV_WR_RDMA_WRITE;
		uint32_t length = lengths[i / 2];

		/* Those that are not counted warm up. */
		for (round = 0; round < 31 * rounds; round++) {
			int n;

			shuffle(order, PINNED);
			for (n = 0; n < ARMS - PINNED; n++) {
				uint64_t start = now_ns();

				peer.rkey = mrs[order[n]]->rkey;
				busy_run(&peer, opcode, length, memory[order[n]]);
				if (round >= rounds)
					sample(i % 2 ? "read" : "write", "ns", length,
					       names[order[n]], now_ns() - start);
			}
		}
	}
}

/*
 * Some queue pairs at a time, each of which writes to memory of its own: by an MR of its own, or by
 * one implicit MR for all. PARAMETER is how many there are.
 */
static void parallel(void)
{
	enum { MOST = 4, WRITES = 8 };
	static const int numbers[] = { 1, MOST };
	struct ibv_mr *mrs[ARMS][MOST];
	uint8_t *memory[ARMS][MOST];
	struct peer peers[MOST];
	enum arm arm, order[ARMS];
	unsigned long round;
	size_t i;
	int p;

	for (p = 0; p < MOST; p++) {
		peers[p] = make_peer(0, IBV_MTU_4096);
		for (arm = PINNED; arm < ARMS; arm++) {
			memory[arm][p] = map(PEER_SIZE);
			memset(memory[arm][p], arm, PEER_SIZE);
			mrs[arm][p] = arm == IMPLICIT ? implicit_mr :
				      register_as(arm, memory[arm][p], PEER_SIZE);
		}
	}
	for (i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		/* Those that are not counted warm up. */
		for (round = 0; round < 6 * rounds; round++) {
			int n, w;

			shuffle(order, PINNED);
			for (n = 0; n < ARMS - PINNED; n++) {
				uint64_t start = now_ns(), took;

				arm = order[n];
				for (w = 0; w < WRITES; w++)
					for (p = 0; p < numbers[i]; p++)
						post(&peers[p].pair, &(struct operation) {
							.opcode = IBV_WR_RDMA_WRITE,
							.local = peers[p].local,
							.address = peers[p].local->addr,
							.length = PEER_SIZE,
							.remote = (uint64_t)memory[arm][p],
							.rkey = mrs[arm][p]->rkey,
						});
				for (w = 0; w < WRITES; w++)
					for (p = 0; p < numbers[i]; p++)
						must(!completion(&peers[p].pair.a));
				took = now_ns() - start;
				if (round >= rounds)
					sample("parallel", "KiB/s", numbers[i], names[arm],
					       WRITES * numbers[i] * PEER_SIZE * 1000000 / took *
					       1000 / KIB);
			}
		}
	}
}

/* Registration and deregistration of memory that the process has written to. */
static void registration(void)
{
	static const size_t lengths[] = { 4 * KIB, MIB, 16 * MIB, 128 * MIB };
	enum arm order[ARMS];
	unsigned long round;
	size_t i;
	int n;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		uint8_t *memory = map(lengths[i]);

		memset(memory, 1, lengths[i]);
		for (round = 0; round < 3 * rounds; round++) {
			shuffle(order, PINNED);
			for (n = 0; n < ARMS - PINNED; n++) {
				uint64_t start = now_ns(), middle;
				struct ibv_mr *mr = register_as(order[n], memory, lengths[i]);

				middle = now_ns();
				must(!ibv_dereg_mr(mr));
				sample("deregistration", "ns", lengths[i], names[order[n]],
				       now_ns() - middle);
				sample("registration", "ns", lengths[i], names[order[n]],
				       middle - start);
			}
		}
		must(!munmap(memory, lengths[i]));
	}
}

/* The same, when there is no implicit MR yet. */
static void first(void)
{
	enum arm order[ARMS];
	unsigned long round;
	uint8_t *memory = map(PAGE);
	int n;

	must(!ibv_dereg_mr(implicit_mr));
	memset(memory, 1, PAGE);
	for (round = 0; round < 3 * rounds; round++) {
		shuffle(order, PINNED);
		for (n = 0; n < ARMS - PINNED; n++) {
			uint64_t start = now_ns(), took;
			struct ibv_mr *mr = register_as(order[n], memory, PAGE);

			took = now_ns() - start;
			must(!ibv_dereg_mr(mr));
			sample("first", "ns", PAGE, names[order[n]], took);
		}
	}
	implicit_mr = implicit(REMOTE);
}

/* Reads of other memory by the same kind of MR, all the time. */
struct traffic {
	struct peer peer;
	uint8_t *memory;
	atomic_bool stop;
	pthread_t thread;
};

static void *traffic_loop(void *arg)
{
	struct traffic *traffic = arg;

	while (!traffic->stop)
		if (peer_run(&traffic->peer, IBV_WR_RDMA_READ, PAGE, (uint64_t)traffic->memory))
			fail("no traffic");
	return NULL;
}

static void begin_traffic(struct traffic *traffic, uint32_t rkey, uint8_t *memory)
{
	traffic->peer.rkey = rkey;
	traffic->memory = memory;
	traffic->stop = false;
	must(!pthread_create(&traffic->thread, NULL, traffic_loop, traffic));
}

static void end_traffic(struct traffic *traffic)
{
	traffic->stop = true;
	must(!pthread_join(traffic->thread, NULL));
}

/*
 * munmap() of memory that a peer has read all of, while other memory is being read. "none" is
 * memory that nobody but the process has accessed.
 */
static void unmapping(void)
{
	static const size_t lengths[] = { 64 * KIB, 2 * MIB };
	struct peer peer = make_peer(0, IBV_MTU_4096);
	struct traffic traffic = { .peer = make_peer(0, IBV_MTU_4096) };
	struct ibv_mr *others[ARMS] = {};
	uint8_t *other = map(PAGE);
	enum arm arm, order[ARMS];
	unsigned long round;
	size_t i, pos;
	int n;

	memset(other, 1, PAGE);
	for (arm = PINNED; arm < ARMS; arm++)
		others[arm] = register_as(arm, other, PAGE);
	others[NONE] = others[PINNED];
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		for (round = 0; round < 10 * rounds; round++) {
			shuffle(order, NONE);
			for (n = 0; n < ARMS; n++) {
				uint8_t *memory = map(lengths[i]);
				struct ibv_mr *mr = NULL;
				uint64_t start, took;

				arm = order[n];
				memset(memory, 1, lengths[i]);
				if (arm != NONE) {
					mr = arm == IMPLICIT ? others[IMPLICIT] :
					     register_as(arm, memory, lengths[i]);
					peer.rkey = mr->rkey;
					for (pos = 0; pos < lengths[i]; pos += PEER_SIZE)
						busy_run(&peer, IBV_WR_RDMA_READ, PEER_SIZE,
							 memory + pos);
				}
				begin_traffic(&traffic, others[arm]->rkey, other);
				start = now_ns();
				must(!munmap(memory, lengths[i]));
				took = now_ns() - start;
				end_traffic(&traffic);
				sample("munmap", "ns", lengths[i], names[arm], took);
				if (mr && arm != IMPLICIT)
					must(!ibv_dereg_mr(mr));
			}
		}
	}
}

/* munmap() of memory that a peer has read all of, in a process with one implicit MR or many. */
static void many(void)
{
	enum { MANY = 64 };
	static const char * const arms[] = { "one", "many" };
	const size_t length = 64 * KIB;
	struct peer peer = make_peer(implicit_mr->rkey, IBV_MTU_4096);
	struct ibv_mr *others[MANY - 1];
	unsigned long round;
	int n, i;

	for (round = 0; round < 20 * rounds; round++) {
		bool with = random_below(2);

		for (n = 0; n < 2; n++, with = !with) {
			uint8_t *memory = map(length);
			uint64_t start, took;

			for (i = 0; with && i < MANY - 1; i++)
				others[i] = implicit(REMOTE);
			memset(memory, 1, length);
			busy_run(&peer, IBV_WR_RDMA_READ, length, memory);
			start = now_ns();
			must(!munmap(memory, length));
			took = now_ns() - start;
			sample("many", "ns", length, arms[with], took);
			for (i = 0; with && i < MANY - 1; i++)
				must(!ibv_dereg_mr(others[i]));
		}
	}
}

/* What the kernel has allocated for itself, in slabs and with vmalloc(). */
static int64_t kernel_memory(void)
{
	static const char * const kinds[] = { "Slab:", "VmallocUsed:" };
	FILE *file = fopen("/proc/meminfo", "r");
	char line[128];
	int64_t sum = 0;
	size_t i;

	must(file);
	while (fgets(line, sizeof(line), file))
		for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
			if (!strncmp(line, kinds[i], strlen(kinds[i])))
				sum += strtol(line + strlen(kinds[i]), NULL, 10) * KIB;
	fclose(file);
	return sum;
}

/* Gives back what slabs keep of objects that were freed, and waits for those that RCU frees. */
static void shrink_slabs(void)
{
	glob_t files;
	int round;
	size_t i;

	must(!glob("/sys/kernel/slab/*/shrink", 0, NULL, &files));
	for (round = 0; round < 3; round++) {
		must(!syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
		for (i = 0; i < files.gl_pathc; i++) {
			int fd = open(files.gl_pathv[i], O_WRONLY);

			must(fd >= 0);
			must(write(fd, "1", 1) == 1);
			close(fd);
		}
	}
	globfree(&files);
}

/* The kernel's memory for an MR with all of its pages in the device; tables of pages not counted. */
static void memory(void)
{
	const size_t length = 256 * MIB;
	uint8_t *touched = map(length);
	enum arm order[ARMS];
	unsigned long round;
	int n;

	/* What it has found would stay. */
	must(!ibv_dereg_mr(implicit_mr));
	memset(touched, 1, length);
	for (round = 0; round < rounds; round++) {
		shuffle(order, PINNED);
		for (n = 0; n < ARMS - PINNED; n++) {
			int64_t before, after;
			struct ibv_mr *mr;

			shrink_slabs();
			before = kernel_memory();
			mr = register_as(order[n], touched, length);
			if (order[n] != PINNED)
				must(!advise((uint64_t)touched, length, mr->lkey,
					     IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE,
					     IB_UVERBS_ADVISE_MR_FLAG_FLUSH));
			after = kernel_memory();
			must(!ibv_dereg_mr(mr));
			sample("memory", "bytes", length, names[order[n]], after - before);
		}
	}
	implicit_mr = implicit(REMOTE);
}

/*
 * Mappings come and go, 16 at a time, each at an address that none had before. PARAMETER is how
 * many there have been, and the value how many ranges there are; "kept" is how many have been made,
 * and so how many there would be if they were freed with their MR and not before.
 */
static void churn(void)
{
	struct peer peer = make_peer(implicit_mr->rkey, IBV_MTU_4096);
	uint8_t *live[16] = {};
	uint64_t next = 1UL << 44, round, n = 300 * rounds;
	int i;

	for (round = 0; round < n; round++) {
		uint8_t **slot = &live[round % 16];

		if (*slot)
			must(!munmap(*slot, PAGE));
		*slot = mmap((void *)next, PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		must((uint64_t)*slot == next);
		next += 2 * MIB;
		busy_run(&peer, IBV_WR_RDMA_WRITE, 8, *slot);
		if (round % (n / 100) == n / 100 - 1) {
			sample("churn", "ranges", round + 1, "implicit", ranges());
			sample("churn", "ranges", round + 1, "kept", counter("inserted"));
		}
	}
	for (i = 0; i < 16; i++)
		must(!munmap(live[i], PAGE));
	check_ranges(0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} measurements[] = {
		{ "operation", operation }, { "parallel", parallel },
		{ "registration", registration }, { "first", first },
		{ "munmap", unmapping }, { "many", many }, { "memory", memory },
		{ "churn", churn },
	};
	size_t i;

	progress = map(PAGE);
	/* Each sample at once: what there is when a run is interrupted counts. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (argv++; argc > 2 && !strncmp(*argv, "--", 2); argc -= 2, argv += 2) {
		if (!strcmp(*argv, "--rounds"))
			rounds = strtoul(argv[1], NULL, 0);
		else if (!strcmp(*argv, "--seed"))
			random_state = strtoull(argv[1], NULL, 0) | 1;
		else
			broken("what is %s?", *argv);
	}
	open_device();
	for (; *argv; argv++) {
		at("%s", *argv);
		implicit_mr = implicit(REMOTE);
		for (i = 0; i < sizeof(measurements) / sizeof(*measurements); i++)
			if (!strcmp(*argv, measurements[i].name))
				break;
		if (i == sizeof(measurements) / sizeof(*measurements))
			broken("what is %s?", *argv);
		measurements[i].run();
		must(!ibv_dereg_mr(implicit_mr));
	}
	return 0;
}
