/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Children of a test: that end with it, and pass their verdict on; and one that has a device, an
 * MR and a queue pair of its own, at the other end of a connection.
 */

#ifndef _CHILD_H
#define _CHILD_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "implicit.h"

/* SOCKET is how the two talk to each other; who is alone with it finds that out. */
static inline pid_t fork_child(int *socket)
{
	int sockets[2];
	pid_t child;

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets));
	child = fork();
	must(child >= 0);
	if (!child)
		must(!prctl(PR_SET_PDEATHSIG, SIGKILL));
	*socket = sockets[!child];
	must(!close(sockets[!!child]));
	return child;
}

static inline void say(int socket, const void *what, size_t length)
{
	must(write(socket, what, length) == (ssize_t)length);
}

static inline void hear(int socket, void *what, size_t length)
{
	must(recv(socket, what, length, MSG_WAITALL) == (ssize_t)length);
}

/* For a child that ends by itself, with the status of fail() or broken() or with 0. */
static inline void wait_child(pid_t child)
{
	int status;

	must(waitpid(child, &status, 0) == child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == BROKEN)
		_exit(BROKEN);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail("%s: the child fails", where);
}

/* A process that owns an implicit MR. */
struct owner {
	pid_t pid;
	/* to it, for what there is to say */
	int socket;
	/* its uverbs file */
	int device;
	uint32_t mr_handle;
	/* the peer's end of the connection to it */
	struct peer peer;
};

struct introduction {
	uint32_t qp_num, rkey, mr_handle;
};

static inline void pass_file(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
	must(sendmsg(socket, &msg, 0) == 1);
}

static inline int take_file(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))] = {};
	struct iovec data = { &byte, 1 };
	struct msghdr msg = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	must(recvmsg(socket, &msg, 0) == 1);
	must(CMSG_FIRSTHDR(&msg));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

/*
 * Forks a process that registers all of its memory, is connected to, and then does LIVE, which is
 * given the socket, and ends. KEEP is whether the caller keeps the owner's file, and with it what
 * the owner has made.
 */
static inline struct owner make_owner(void (*live)(int socket), bool keep)
{
	struct owner owner = { .device = -1 };
	struct introduction its;
	int socket;

	owner.peer = (struct peer) { .local = pinned(PEER_SIZE), .mtu = IBV_MTU_4096 };
	make_end(&owner.peer.pair.a);
	owner.pid = fork_child(&socket);
	if (!owner.pid) {
		struct end end;
		struct ibv_mr *mr;
		uint32_t other;

		/* The parent's stays open, for nothing. */
		open_device();
		mr = implicit(REMOTE);
		make_end(&end);
		its = (struct introduction) { end.qp->qp_num, mr->rkey, mr->handle };
		say(socket, &its, sizeof(its));
		hear(socket, &other, sizeof(other));
		connect_end(&end, other, IBV_MTU_4096, TIMEOUT);
		pass_file(socket, device->cmd_fd);
		live(socket);
		_exit(0);
	}
	owner.socket = socket;
	hear(owner.socket, &its, sizeof(its));
	say(owner.socket, &owner.peer.pair.a.qp->qp_num, 4);
	owner.device = take_file(owner.socket);
	if (!keep)
		close(owner.device);
	connect_end(&owner.peer.pair.a, its.qp_num, IBV_MTU_4096, TIMEOUT);
	owner.peer.rkey = its.rkey;
	owner.mr_handle = its.mr_handle;
	return owner;
}

#endif
