/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Runs tests, each in a process, and prints KTAP. A test hangs if it says no more where it is (at())
 * for as long as ODP_LIMIT says, in seconds. What the kernel reports during a test fails it. With --before, it is the other way round: each has to fail. Named tests
 * are run alone, and after names that begin with a dash, all but those.
 */

#ifndef _HARNESS_H
#define _HARNESS_H

#include <glob.h>
#include <signal.h>
#include <sys/wait.h>

#include "verbs.h"

struct test {
	const char *name;
	void (*run)(void);
};

/* As the log's lines begin, or go on, when the kernel has something to complain about. */
static const char * const reports[] = {
	"BUG: ", "WARNING: ", "Oops: ", "UBSAN: ", "INFO: task ", "general protection fault",
	"refcount_t: ", "possible recursive locking", "possible circular locking",
};

/* Copies the first report since the last call to TO, empties it if there was none. */
static void kernel_report(int kmsg, char *to, size_t size)
{
	char record[8192], *text;
	ssize_t got;
	size_t i;

	*to = '\0';
	while ((got = read(kmsg, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		if (got < 0)
			continue;
		record[got] = '\0';
		text = strchr(record, ';');
		for (i = 0; !*to && text && i < sizeof(reports) / sizeof(*reports); i++) {
			char *found = strstr(text, reports[i]);

			if (found) {
				snprintf(to, size, "%s", found);
				to[strcspn(to, "\n")] = '\0';
			}
		}
	}
}

/* Where each thread of a process is in the kernel. */
static void print_threads(pid_t pid)
{
	char pattern[64], line[512];
	glob_t stacks;
	size_t i;

	snprintf(pattern, sizeof(pattern), "/proc/%d/task/*/stack", pid);
	if (glob(pattern, 0, NULL, &stacks))
		return;
	for (i = 0; i < stacks.gl_pathc; i++) {
		FILE *stack = fopen(stacks.gl_pathv[i], "r");

		printf("# %s\n", stacks.gl_pathv[i]);
		while (stack && fgets(line, sizeof(line), stack))
			printf("#   %s", line);
		if (stack)
			fclose(stack);
	}
	globfree(&stacks);
}

/*
 * Whether CHILD ended, and how; not if it has said nothing for SECONDS. Prints now and then where it is,
 * for those who wait for all of this.
 */
static bool wait_status(pid_t child, int seconds, int *status)
{
	uint64_t moved = now_ms(), said = moved;
	unsigned long steps = progress->steps;
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	while (waitpid(child, status, WNOHANG) == 0) {
		sigtimedwait(&signals, NULL, &(struct timespec) { .tv_sec = 1 });
		if (steps != progress->steps) {
			steps = progress->steps;
			moved = now_ms();
		} else if (now_ms() - moved >= seconds * 1000ULL) {
			return false;
		}
		if (moved > said && now_ms() - said >= 20000) {
			said = now_ms();
			printf("# at %s\n", where);
		}
	}
	return true;
}

/* Whether TEST did what is expected of it. */
static bool run_test(const struct test *test, int number, bool before, int kmsg)
{
	char report[256], why[512];
	bool hung, failed, tried, ok;
	uint64_t start = now_ms();
	pid_t child;
	int status = 0;

	kernel_report(kmsg, report, sizeof(report));
	at("its start");
	fflush(stdout);
	child = fork();
	if (!child) {
		open_device();
		test->run();
		_exit(0);
	}
	hung = !wait_status(child, limit_seconds(), &status);
	if (hung) {
		print_threads(child);
		kill(child, SIGKILL);
		if (!wait_status(child, limit_seconds(), &status)) {
			printf("# it cannot be killed either\n");
			print_threads(child);
		}
	}
	kernel_report(kmsg, report, sizeof(report));

	if (hung)
		snprintf(why, sizeof(why), "hangs, after %d s at: %.256s", limit_seconds(),
			 where);
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "%s at: %.256s", strsignal(WTERMSIG(status)), where);
	else if (*report)
		snprintf(why, sizeof(why), "kernel: %s", report);
	else
		snprintf(why, sizeof(why), "see above");

	/* A test that could not be tried says nothing about what it tests. */
	tried = !hung && WIFEXITED(status) && WEXITSTATUS(status) != BROKEN;
	failed = !tried || WEXITSTATUS(status) || *report;
	ok = before ? tried && failed : !failed;
	printf("%sok %d - %s%s # %llu ms%s%s\n", ok ? "" : "not ", number,
	       before ? "before-" : "", test->name, (unsigned long long)(now_ms() - start),
	       failed ? ", failed: " : "", failed ? why : "");
	fflush(stdout);
	return ok;
}

/* Takes NAME, and the number after it, out of the arguments of a test program, if they are there. */
static inline void take_option(int *argc, char **argv, const char *name, uint64_t *value)
{
	int i;

	for (i = 1; i + 1 < *argc && strcmp(argv[i], name); i++)
		;
	if (i + 1 >= *argc)
		return;
	*value = strtoull(argv[i + 1], NULL, 0);
	for (; i + 2 <= *argc; i++)
		argv[i] = argv[i + 2];
	*argc -= 2;
}

/* Whether the test of that name is to be run, for NAMES. */
static bool is_chosen(const char *test, char **names)
{
	bool chosen = !*names || **names == '-';

	for (; *names; names++) {
		bool left_out = **names == '-';

		if (!strcmp(*names + left_out, test))
			chosen = !left_out;
	}
	return chosen;
}

/* main() of a test program: TESTS, or those of them that are chosen. */
static inline int run_tests(const struct test *tests, size_t n, int argc, char **argv)
{
	bool before = argc > 1 && !strcmp(argv[1], "--before"), ok = true;
	char **names = argv + 1 + before, **name;
	int number = 0, chosen = 0, kmsg;
	sigset_t signals;
	size_t t;

	for (name = names; *name; name++) {
		for (t = 0; t < n && strcmp(*name + (**name == '-'), tests[t].name); t++)
			;
		if (t == n) {
			fprintf(stderr, "no test is called %s\n", *name);
			return 2;
		}
	}
	for (t = 0; t < n; t++)
		chosen += is_chosen(tests[t].name, names);

	setvbuf(stdout, NULL, _IOLBF, 0);
	progress = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(progress != MAP_FAILED);
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	must(kmsg >= 0);
	must(lseek(kmsg, 0, SEEK_END) >= 0);
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);

	printf("KTAP version 1\n1..%d\n", chosen);
	for (t = 0; t < n; t++)
		if (is_chosen(tests[t].name, names))
			ok &= run_test(&tests[t], ++number, before, kmsg);
	return ok ? 0 : 1;
}

#define RUN_TESTS(tests, argc, argv) run_tests(tests, sizeof(tests) / sizeof(*(tests)), argc, argv)

#endif
