// SPDX-License-Identifier: GPL-2.0
/* The events odp:*, how long requests take, and the commands that README.md has for both. */

#include <stdarg.h>
#include <sys/stat.h>

#include "knob.h"
#include "mirror_shape.h"

#define TRACING "/sys/kernel/tracing"
#define INSTANCE TRACING "/instances/odp_test"
#define EVENTS TRACING "/events/odp"
#define LATENCY "/sys/kernel/debug/odp_latency/histogram"

/* An event of the device's file, as the trace has it. */
struct event {
	char name[32];
	char mm[32];
	char object[32];
	unsigned long start;
	unsigned long end;
	/* What follows that. */
	char rest[96];
};

struct trace {
	size_t count;
	struct event events[512];
};

/* Takes a line of the trace apart; says whether it is an event of the library. */
static bool parse(const char *line, struct event *event)
{
	const char *at = strstr(line, ": odp_");
	int read = 0;

	*event = (struct event){};
	if (!at || sscanf(at + 2, "%31[a-z_]: %*s mm=%31s%n", event->name, event->mm, &read) != 2)
		return false;
	at += 2 + read;
	if (sscanf(at, " object=%31s 0x%lx-0x%lx%n", event->object, &event->start, &event->end,
		   &read) == 3)
		at += read;
	snprintf(event->rest, sizeof(event->rest), "%.*s", (int)strcspn(at, "\n"), at);
	return true;
}

/* What has been recorded, in order. */
static int read_trace(struct trace *trace)
{
	FILE *file = fopen(INSTANCE "/trace", "r");
	char line[512];

	if (!file)
		return -errno;
	trace->count = 0;
	while (fgets(line, sizeof(line), file) && trace->count < 512)
		if (line[0] != '#' && parse(line, &trace->events[trace->count]))
			trace->count++;
	fclose(file);
	return 0;
}

/*
 * Looks from @at on for an event of an object at those addresses, or, where @end is 0, of none;
 * returns where it is, or -1.
 */
static int find(const struct trace *trace, int at, const char *name, const char *object,
		unsigned long start, unsigned long end)
{
	for (; at >= 0 && at < (int)trace->count; at++) {
		const struct event *event = &trace->events[at];

		if (!strcmp(event->name, name) && event->start == start && event->end == end &&
		    (!object || !strcmp(event->object, object)))
			return at;
	}
	return -1;
}

/* The same by an address and pages. */
static int find_pages(const struct trace *trace, int at, const char *name, const char *object,
		      const char *mem, size_t pages)
{
	unsigned long start = (uintptr_t)mem;

	return find(trace, at, name, object, start, start + pages * page_size());
}

static size_t count(const struct trace *trace, const char *name)
{
	size_t count = 0;

	for (size_t i = 0; i < trace->count; i++)
		count += !strcmp(trace->events[i].name, name);
	return count;
}

/* Whether what an event says at its end is this. */
static bool says(const struct event *event, const char *format, ...)
{
	char expected[96];
	va_list args;

	va_start(args, format);
	vsnprintf(expected, sizeof(expected), format, args);
	va_end(args);
	if (!strcmp(event->rest, expected))
		return true;
	fprintf(stderr, "# %s: '%s' instead of '%s'\n", event->name, event->rest, expected);
	return false;
}

/* A file of the device, and a trace of its own with all events of the library. */
FIXTURE(traced)
{
	int fd;
	size_t page;
	struct trace *trace;
};

FIXTURE_SETUP(traced)
{
	self->trace = calloc(1, sizeof(*self->trace));
	ASSERT_NE(NULL, self->trace);
	/* What a test that died has left. */
	rmdir(INSTANCE);
	ASSERT_EQ(0, mkdir(INSTANCE, 0700)) TH_LOG("is tracefs mounted on " TRACING "?");
	/* One clock for all CPUs. */
	ASSERT_EQ(0, write_file(INSTANCE "/trace_clock", "mono"));
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	self->page = page_size();
	ASSERT_EQ(0, write_file(INSTANCE "/events/odp/enable", "1"));
}

FIXTURE_TEARDOWN(traced)
{
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, write_file(INSTANCE "/events/odp/enable", "0"));
	EXPECT_EQ(0, rmdir(INSTANCE));
	free(self->trace);
}

TEST_F(traced, each_range_is_asked_removed_and_released)
{
	static const char *const steps[] = {
		"odp_remove_begin", "odp_remove_end", "odp_release_begin", "odp_release_end",
	};
	struct trace *trace = self->trace;
	char *mem[3];

	for (int i = 0; i < 3; i++) {
		mem[i] = map_pages(i + 1);
		ASSERT_NE(NULL, mem[i]);
		ASSERT_EQ(0, mirror_insert(self->fd, mem[i], (i + 1) * self->page));
	}
	/* Nothing has been asked for. */
	ASSERT_EQ(0, read_trace(trace));
	ASSERT_EQ(0, trace->count);

	for (int i = 0; i < 3; i++)
		ASSERT_EQ(0, munmap(mem[i], (i + 1) * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, read_trace(trace));
	EXPECT_EQ(3, count(trace, "odp_request"));
	EXPECT_LE(1, count(trace, "odp_batch"));
	EXPECT_EQ(mirror_stats(self->fd).grace_periods, count(trace, "odp_grace_begin"));
	EXPECT_EQ(mirror_stats(self->fd).grace_periods, count(trace, "odp_grace_end"));

	for (int i = 0; i < 3; i++) {
		unsigned long start = (uintptr_t)mem[i], end = start + (i + 1) * self->page;
		int at = find(trace, 0, "odp_request", NULL, start, end);
		const struct event *asked = &trace->events[at];

		ASSERT_LE(0, at);
		EXPECT_TRUE(says(asked, " retire 0x%lx-0x%lx", start, end));
		/* Those are about several objects. */
		at = find(trace, at, "odp_batch", NULL, 0, 0);
		at = find(trace, at, "odp_grace_begin", NULL, 0, 0);
		at = find(trace, at, "odp_grace_end", NULL, 0, 0);
		EXPECT_LE(0, at);
		for (int step = 0; step < 4; step++) {
			at = find(trace, at, steps[step], asked->object, start, end);
			ASSERT_LE(0, at) TH_LOG("range %d has no %s", i, steps[step]);
			EXPECT_STREQ(asked->mm, trace->events[at].mm);
			EXPECT_EQ(3, count(trace, steps[step]));
			at++;
		}
	}
	EXPECT_STREQ(trace->events[0].mm, trace->events[trace->count - 1].mm);
}

TEST_F(traced, a_range_is_replaced)
{
	struct trace *trace = self->trace;
	char *mem = shape_begin(self->fd, 6);
	const struct event *asked;
	char object[32];
	int at;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, munmap(mem + 2 * self->page, 2 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(-1, shape_wrong(self->fd, mem, "aa..bb"));
	ASSERT_EQ(0, read_trace(trace));

	at = find_pages(trace, 0, "odp_request", NULL, mem, 6);
	ASSERT_LE(0, at);
	asked = &trace->events[at];
	EXPECT_TRUE(says(asked, " punch 0x%lx-0x%lx", (uintptr_t)mem + 2 * self->page,
			 (uintptr_t)mem + 4 * self->page));
	at = find(trace, at, "odp_batch", NULL, 0, 0);
	ASSERT_LE(0, at);
	EXPECT_TRUE(says(&trace->events[at], " retired=0 changing=1 replaced=0"));
	at = find_pages(trace, at, "odp_replace", asked->object, mem, 6);
	ASSERT_LE(0, at);
	EXPECT_TRUE(says(&trace->events[at], " pieces=2"));
	EXPECT_LE(0, find_pages(trace, at, "odp_piece", NULL, mem, 2));
	at = find_pages(trace, at, "odp_piece", NULL, mem + 4 * self->page, 2);
	ASSERT_LE(0, at);
	memcpy(object, trace->events[at].object, sizeof(object));
	EXPECT_STRNE(asked->object, object);
	at = find(trace, at, "odp_batch", NULL, 0, 0);
	ASSERT_LE(0, at);
	EXPECT_TRUE(says(&trace->events[at], " retired=0 changing=0 replaced=1"));
	at = find_pages(trace, at, "odp_remove_begin", asked->object, mem, 6);
	at = find_pages(trace, at, "odp_release_begin", asked->object, mem, 6);
	EXPECT_LE(0, at);

	/* What has been a piece is a range like any other. */
	ASSERT_EQ(0, munmap(mem + 4 * self->page, 2 * self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, read_trace(trace));
	at = find_pages(trace, at, "odp_request", object, mem + 4 * self->page, 2);
	at = find_pages(trace, at, "odp_remove_end", object, mem + 4 * self->page, 2);
	EXPECT_LE(0, find_pages(trace, at, "odp_release_end", object, mem + 4 * self->page, 2));
}

TEST_F(traced, a_removal_ends_after_the_invalidation)
{
	struct trace *trace = self->trace;
	struct sleeper sleeper;
	char *mem = map_pages(1);
	int at;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, freeze(&sleeper, self->fd));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	/* It cannot be removed before the invalidation has ended. */
	for (long deadline = now_ms() + PATIENCE_MS;;) {
		ASSERT_EQ(0, read_trace(trace));
		at = find_pages(trace, 0, "odp_remove_begin", NULL, mem, 1);
		if (at >= 0)
			break;
		ASSERT_LT(now_ms(), deadline);
		sched_yield();
	}
	EXPECT_EQ(0, count(trace, "odp_remove_end"));
	EXPECT_EQ(0, thaw(&sleeper));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	ASSERT_EQ(0, read_trace(trace));
	at = find_pages(trace, at, "odp_remove_end", NULL, mem, 1);
	ASSERT_LE(0, at);
	/* Where a removal is begun in a step of its own, who finishes it need not have waited. */
	EXPECT_TRUE(says(&trace->events[at], " waited=%d", !kernel_removes_in_steps()));
}

TEST_F(traced, what_a_drain_takes)
{
	char *first = map_pages(1), *second = map_pages(1);
	struct trace *trace = self->trace;
	char *mem = shape_begin(self->fd, 3);
	int at;

	ASSERT_NE(NULL, first);
	ASSERT_NE(NULL, second);
	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, mirror_insert(self->fd, first, self->page));
	ASSERT_EQ(0, mirror_insert(self->fd, second, self->page));
	/* The worker is busy with that one, and takes nothing else. */
	ASSERT_EQ(0, mirror_hold_worker(self->fd, 1));
	ASSERT_EQ(0, mirror_retire(self->fd, first));
	ASSERT_EQ(0, mirror_wait(self->fd, ODP_MIRROR_IN_WORKER, 1));
	ASSERT_EQ(0, mirror_retire(self->fd, second));
	ASSERT_EQ(0, munmap(mem + self->page, self->page));
	EXPECT_EQ(2, mirror_drain(self->fd));
	EXPECT_EQ(-1, shape_wrong(self->fd, mem, "a.b"));
	ASSERT_EQ(0, read_trace(trace));
	ASSERT_EQ(0, mirror_release_worker(self->fd));

	at = find(trace, 0, "odp_batch", NULL, 0, 0);
	ASSERT_LE(0, at);
	EXPECT_TRUE(says(&trace->events[at], " retired=1 changing=0 replaced=0"));
	at = find(trace, at + 1, "odp_batch", NULL, 0, 0);
	ASSERT_LE(0, at);
	EXPECT_TRUE(says(&trace->events[at], " retired=1 changing=1 replaced=0 drained"));
	/* What is retired it removes, and what is replaced it leaves to the worker. */
	EXPECT_LE(0, find_pages(trace, at, "odp_remove_end", NULL, second, 1));
	EXPECT_LE(0, find_pages(trace, at, "odp_replace", NULL, mem, 3));
	EXPECT_EQ(1, count(trace, "odp_remove_begin"));
}

/* How many removals and releases have been measured; whether any is. */
struct latency {
	bool on;
	unsigned long removed;
	unsigned long released;
};

static int read_latency(struct latency *latency)
{
	unsigned long least, removed, released;
	FILE *file = fopen(LATENCY, "r");
	char heading[128];
	int on = -1;

	*latency = (struct latency){};
	if (!file)
		return -errno;
	if (fscanf(file, "measuring %d\n%127[^\n]", &on, heading) != 2 ||
	    strcmp(heading, "us asked_to_removed removed_to_released"))
		on = -1;
	while (fscanf(file, "%lu %lu %lu", &least, &removed, &released) == 3) {
		latency->removed += removed;
		latency->released += released;
	}
	fclose(file);
	latency->on = on == 1;
	return on < 0 ? -EINVAL : 0;
}

FIXTURE(measured)
{
	int fd;
	size_t page;
};

FIXTURE_SETUP(measured)
{
	self->fd = mirror_open();
	ASSERT_LE(0, self->fd);
	self->page = page_size();
}

FIXTURE_TEARDOWN(measured)
{
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, write_file(LATENCY, "0"));
	/* However a test has ended. */
	EXPECT_EQ(0, write_file(EVENTS "/enable", "0"));
}

/* Has a range removed and released. */
static int come_and_go(int fd)
{
	char *mem = map_pages(1);
	int ret;

	if (!mem)
		return -ENOMEM;
	ret = mirror_insert(fd, mem, page_size());
	if (!ret)
		ret = munmap(mem, page_size());
	return ret ? ret : mirror_flush(fd, ODP_MIRROR_RELEASED);
}

TEST_F(measured, each_range_once_and_while_it_is_on)
{
	struct latency latency;
	char *mem = map_pages(1);
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, write_file(LATENCY, "1"));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_TRUE(latency.on);
	EXPECT_EQ(0, latency.removed);
	EXPECT_EQ(0, latency.released);
	for (int i = 0; i < 5; i++)
		ASSERT_EQ(0, come_and_go(self->fd));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(5, latency.removed);
	EXPECT_EQ(5, latency.released);

	/* One that is held is removed, and not released. */
	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(6, latency.removed);
	EXPECT_EQ(5, latency.released);
	ASSERT_EQ(0, mirror_put(self->fd, id));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(6, latency.released);

	ASSERT_EQ(0, write_file(LATENCY, "0"));
	ASSERT_EQ(0, come_and_go(self->fd));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_FALSE(latency.on);
	EXPECT_EQ(6, latency.removed);
	EXPECT_EQ(6, latency.released);

	/* It begins anew. */
	ASSERT_EQ(0, write_file(LATENCY, "1"));
	ASSERT_EQ(0, come_and_go(self->fd));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(1, latency.removed);
	EXPECT_EQ(1, latency.released);
}

/* Whoever records requests has moments noted, too. */
TEST_F(measured, not_because_somebody_traces)
{
	char *mem = map_pages(1);
	struct latency latency;
	uint64_t id;

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, write_file(LATENCY, "1"));
	ASSERT_EQ(0, write_file(LATENCY, "0"));
	ASSERT_EQ(0, write_file(EVENTS "/odp_request/enable", "1"));
	ASSERT_EQ(0, come_and_go(self->fd));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(0, latency.removed);
	EXPECT_EQ(0, latency.released);

	ASSERT_EQ(0, mirror_insert(self->fd, mem, self->page));
	ASSERT_EQ(0, mirror_hold(self->fd, mem, &id));
	ASSERT_EQ(0, munmap(mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_REMOVED));
	ASSERT_EQ(0, write_file(LATENCY, "1"));
	ASSERT_EQ(0, mirror_put(self->fd, id));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(0, latency.removed);
	EXPECT_EQ(0, latency.released);
}

TEST_F(measured, what_was_asked_for_before_is_not_counted)
{
	char *mem = shape_begin(self->fd, 4);
	struct latency latency;

	ASSERT_NE(NULL, mem);
	/* A change that comes to nothing leaves no moment behind. */
	ASSERT_EQ(0, write_file(LATENCY, "1"));
	ASSERT_EQ(0, mirror_punch(self->fd, mem, mem, self->page));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(1, mirror_stats(self->fd).unchanged);
	ASSERT_EQ(0, write_file(LATENCY, "0"));
	ASSERT_EQ(0, mirror_retire(self->fd, mem));
	ASSERT_EQ(0, mirror_flush(self->fd, ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, read_latency(&latency));
	EXPECT_EQ(0, latency.removed);
	EXPECT_EQ(0, latency.released);
}

TEST_F(measured, neither_on_nor_off)
{
	EXPECT_NE(0, write_file(LATENCY, "x"));
	EXPECT_EQ(0, write_file(LATENCY, "0\n"));
	EXPECT_EQ(0, write_file(LATENCY, "1\n"));
	EXPECT_EQ(0, write_file(LATENCY, "1\n"));
}

/* Runs a command, and adds what it prints to @text; returns its status. */
static int run(const char *command, char *text, size_t room)
{
	FILE *pipe = popen(command, "r");
	size_t len = strlen(text), got;

	if (!pipe)
		return -errno;
	while (len + 1 < room && (got = fread(text + len, 1, room - 1 - len, pipe)))
		len += got;
	text[len] = '\0';
	/* It is not to die of what is not read. */
	while (getc(pipe) != EOF)
		;
	return pclose(pipe);
}

TEST_F(measured, what_the_readme_says)
{
	FILE *readme = fopen("README.md", "r");
	size_t room = 1 << 20, commands = 0;
	char *text = calloc(1, room);
	bool there = false;
	char line[512];

	ASSERT_NE(NULL, readme);
	ASSERT_NE(NULL, text);
	while (fgets(line, sizeof(line), readme)) {
		/* In the last cell. */
		char *command = strstr(line + 1, "| `"), *end;

		if (!strncmp(line, "## ", 3))
			there = !strcmp(line, "## Where time goes\n");
		end = command ? strchr(command + 3, '`') : NULL;
		if (!there || line[0] != '|' || !end)
			continue;
		*end = '\0';
		ASSERT_EQ(0, run(command + 3, text, room)) TH_LOG("%s", command + 3);
		ASSERT_EQ(0, come_and_go(self->fd));
		commands++;
	}
	fclose(readme);
	EXPECT_EQ(7, commands);
	EXPECT_NE(NULL, strstr(text, "==> /sys/kernel/debug/odp/mirror-"));
	EXPECT_NE(NULL, strstr(text, ": odp_request: mirror-"));
	EXPECT_NE(NULL, strstr(text, ": odp_release_end: mirror-"));
	EXPECT_NE(NULL, strstr(text, "us asked_to_removed removed_to_released\n"));
	free(text);
}

TEST_HARNESS_MAIN
