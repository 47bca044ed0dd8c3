// SPDX-License-Identifier: GPL-2.0
/* The file and the address space end in either order. */

#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "mirror_device.h"

/* What a process mirrors of itself. */
struct owner {
	char *mem;
	int fd;
};

/*
 * Opens the device and mirrors @pages pages, each with a range of its own, which the device has
 * accessed. They are retired when they are unmapped, or only when the address space goes.
 */
static struct owner own(int pages, enum odp_mirror_retire retire)
{
	struct owner owner = { .mem = map_pages(pages), .fd = mirror_open() };

	if (mirror_configure(owner.fd, retire, 0))
		_exit(1);
	for (int i = 0; i < pages; i++) {
		char *mem = owner.mem + i * page_size();

		if (!owner.mem || owner.fd < 0 || mirror_insert(owner.fd, mem, page_size()) ||
		    mirror_write(owner.fd, mem, 1))
			_exit(1);
	}
	return owner;
}

static int send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec data = { .iov_base = "", .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	return sendmsg(socket, &message, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))], byte;
	struct iovec data = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(socket, &message, 0) != 1 || !CMSG_FIRSTHDR(&message))
		return -EIO;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/* Whether all is as it must be with @pages ranges of an address space that is gone. NULL if so. */
static const char *after_the_end(int fd, char *mem, int pages)
{
	struct odp_mirror_stats stats;
	uint64_t id;

	if (mirror_flush(fd, ODP_MIRROR_RELEASED))
		return "flush";
	stats = mirror_stats(fd);
	if (stats.ranges || stats.told != pages || stats.told_by_worker != pages)
		return "released";
	if (stats.events[ODP_MIRROR_EVENT_RELEASE] != pages)
		return "the event";
	if (stats.zapped != pages)
		return "pages taken away";
	if (mirror_probe(fd, mem) || mirror_hold(fd, mem, &id) != -ENOENT)
		return "found";
	if (mirror_insert(fd, mem, page_size()) != -ESRCH)
		return "insert";
	if (mirror_stats(fd).mm_dead != 1 || mirror_stats(fd).ranges)
		return "counted";
	if (mirror_read(fd, mem) != -ESRCH)
		return "fault";
	if (mirror_shutdown(fd))
		return "shutdown";
	return NULL;
}

TEST(exit_before_close)
{
	int sockets[2], status, fd;
	struct owner *owner;
	const char *wrong;
	pid_t child;

	owner = map_shared(sizeof(*owner));
	ASSERT_NE(NULL, owner);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		*owner = own(3, ODP_MIRROR_RETIRE_UNMAP);
		_exit(!!send_fd(sockets[1], owner->fd));
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	fd = receive_fd(sockets[0]);
	ASSERT_LE(0, fd);
	wrong = after_the_end(fd, owner->mem, 3);
	EXPECT_STREQ("", wrong ?: "");
	EXPECT_EQ(0, close(fd));
}

TEST(kill_before_close)
{
	int sockets[2], status, fd;
	struct owner *owner;
	const char *wrong;
	pid_t child;

	owner = map_shared(sizeof(*owner));
	ASSERT_NE(NULL, owner);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		*owner = own(2, ODP_MIRROR_RETIRE_NEVER);
		if (send_fd(sockets[1], owner->fd))
			_exit(1);
		for (;;)
			pause();
	}
	fd = receive_fd(sockets[0]);
	ASSERT_LE(0, fd);
	EXPECT_NE(0, mirror_probe(fd, owner->mem));
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	wrong = after_the_end(fd, owner->mem, 2);
	EXPECT_STREQ("", wrong ?: "");
	EXPECT_EQ(0, close(fd));
}

TEST(a_forked_child_outlives)
{
	const char *wrong = "nothing";
	int alive[2], report[2];
	char text[64] = {};
	struct owner owner;
	pid_t child;

	ASSERT_EQ(0, pipe(alive));
	ASSERT_EQ(0, pipe(report));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		owner = own(3, ODP_MIRROR_RETIRE_NEVER);
		child = fork();
		if (child)
			_exit(child < 0);
		/*
		 * The end of the pipe says that the parent has gone, and its address space goes
		 * before its files.
		 */
		close(alive[1]);
		if (read(alive[0], text, 1))
			_exit(1);
		wrong = after_the_end(owner.fd, owner.mem, 3) ?: "nothing";
		close(owner.fd);
		_exit(write(report[1], wrong, strlen(wrong)) < 0);
	}
	close(alive[1]);
	close(report[1]);
	ASSERT_EQ(child, waitpid(child, NULL, 0));
	ASSERT_LT(0, read(report[0], text, sizeof(text) - 1));
	EXPECT_STREQ("nothing", text);
}

/* What the program does that exec_keeps_the_file executes. */
static int after_exec(int fd, char *mem)
{
	const char *wrong = after_the_end(fd, mem, 3);

	if (wrong)
		fprintf(stderr, "# after exec: %s\n", wrong);
	return !!wrong;
}

TEST(exec_keeps_the_file)
{
	char fd[16], mem[32];
	struct owner owner;
	pid_t child;
	int status;

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		owner = own(3, ODP_MIRROR_RETIRE_NEVER);
		snprintf(fd, sizeof(fd), "%d", owner.fd);
		snprintf(mem, sizeof(mem), "%lu", (unsigned long)owner.mem);
		execl("/proc/self/exe", "lifetime", "after-exec", fd, mem, NULL);
		_exit(127);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

TEST(close_before_exit)
{
	struct owner owner = own(4, ODP_MIRROR_RETIRE_UNMAP);
	uint64_t id;

	ASSERT_EQ(0, mirror_hold(owner.fd, owner.mem, &id));
	ASSERT_EQ(0, mirror_begin(owner.fd, owner.mem, &id));
	ASSERT_EQ(0, mirror_retire(owner.fd, owner.mem + page_size()));
	ASSERT_EQ(0, close(owner.fd));
	/* Nobody is called any more. */
	EXPECT_EQ(0, munmap(owner.mem, 4 * page_size()));

	/* The address space can be mirrored again, twice. */
	owner = own(4, ODP_MIRROR_RETIRE_UNMAP);
	close(own(4, ODP_MIRROR_RETIRE_UNMAP).fd);
	EXPECT_EQ(0, munmap(owner.mem, 4 * page_size()));
	EXPECT_EQ(0, mirror_flush(owner.fd, ODP_MIRROR_RELEASED));
	EXPECT_EQ(4, mirror_stats(owner.fd).told);
	/* The file goes with the process. */
}

TEST(kill_in_an_invalidation)
{
	struct owner *owner = map_shared(sizeof(*owner));
	struct odp_mirror_stats stats;
	struct sleeper frozen;
	int ready[2], pidfd, fd;
	pid_t child;
	char byte = 0;

	ASSERT_NE(NULL, owner);
	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		*owner = own(2, ODP_MIRROR_RETIRE_NEVER);
		if (freeze(&frozen, owner->fd) || mirror_retire(owner->fd, owner->mem) ||
		    write(ready[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	pidfd = syscall(SYS_pidfd_open, child, 0);
	ASSERT_LE(0, pidfd);
	fd = syscall(SYS_pidfd_getfd, pidfd, owner->fd, 0);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, NULL, 0));

	ASSERT_EQ(0, mirror_flush(fd, ODP_MIRROR_RELEASED));
	stats = mirror_stats(fd);
	EXPECT_EQ(3, stats.inserted);
	EXPECT_EQ(3, stats.told);
	EXPECT_EQ(2, stats.zapped);
	EXPECT_EQ(0, stats.ranges);
	EXPECT_EQ(-ESRCH, mirror_insert(fd, owner->mem, page_size()));
	EXPECT_EQ(0, close(fd));
}

TEST(two_files_mirror_the_same)
{
	char *mem = map_pages(1);
	int fds[2];

	ASSERT_NE(NULL, mem);
	for (int i = 0; i < 2; i++) {
		fds[i] = mirror_open();
		ASSERT_LE(0, fds[i]);
		ASSERT_EQ(0, mirror_insert(fds[i], mem, page_size()));
		ASSERT_EQ(0, mirror_write(fds[i], mem, i));
	}
	ASSERT_EQ(0, mirror_retire(fds[0], mem));
	EXPECT_EQ(0, mirror_probe(fds[0], mem));
	EXPECT_NE(0, mirror_probe(fds[1], mem));
	ASSERT_EQ(0, mirror_flush(fds[0], ODP_MIRROR_RELEASED));
	ASSERT_EQ(0, munmap(mem, page_size()));
	EXPECT_EQ(0, mirror_probe(fds[1], mem));
	EXPECT_EQ(0, mirror_stats(fds[0]).events[ODP_MIRROR_EVENT_UNMAP]);
	EXPECT_EQ(1, mirror_stats(fds[1]).events[ODP_MIRROR_EVENT_UNMAP]);
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "after-exec"))
		return after_exec(atoi(argv[2]), (char *)strtoul(argv[3], NULL, 10));
	return test_harness_run(argc, argv);
}
