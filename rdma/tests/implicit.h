/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of implicit MRs have in common: a peer that has the rkey of one, and the numbers
 * that the library behind it shows in debugfs.
 */

#ifndef _IMPLICIT_H
#define _IMPLICIT_H

#include <glob.h>
#include <sched.h>

#include "memory.h"
#include "verbs.h"

/* All of the address space. */
static inline struct ibv_mr *implicit(int access)
{
	return reg(NULL, SIZE_MAX, access | IBV_ACCESS_ON_DEMAND);
}

static inline void set_limit(unsigned int limit)
{
	FILE *file = fopen("/sys/module/rdma_rxe/parameters/odp_max_ranges", "w");

	must(file);
	must(fprintf(file, "%u", limit) > 0);
	must(!fclose(file));
}

/* ... in which no more than LIMIT ranges have room; the first one of the process, which decides. */
static inline struct ibv_mr *implicit_with_room(unsigned int limit)
{
	struct ibv_mr *mr;

	set_limit(limit);
	mr = implicit(REMOTE);
	set_limit(65536);
	return mr;
}

/* Who has an rkey, a pinned page or more of its own, and a connection to the MR's owner. */
struct peer {
	struct pair pair;
	struct ibv_mr *local;
	uint32_t rkey;
	enum ibv_mtu mtu;
};

#define PEER_SIZE (16 * PAGE)

static inline struct peer make_peer(uint32_t rkey, enum ibv_mtu mtu)
{
	return (struct peer) {
		.pair = connected(mtu, TIMEOUT), .local = pinned(PEER_SIZE), .rkey = rkey,
		.mtu = mtu,
	};
}

static inline void destroy_end(struct end *end)
{
	must(!ibv_destroy_qp(end->qp));
	must(!ibv_destroy_cq(end->cq));
	must(!ibv_destroy_comp_channel(end->channel));
}

/*
 * After an error, which both ends stop at. Not by way of IBV_QPS_RESET: what rxe has yet to do for
 * the error may come after that, and puts an end back into it.
 */
static inline void reconnect(struct peer *peer)
{
	destroy_end(&peer->pair.a);
	destroy_end(&peer->pair.b);
	peer->pair = connected(peer->mtu, TIMEOUT);
}

static inline int peer_run(struct peer *peer, enum ibv_wr_opcode opcode, uint32_t length,
			   uint64_t remote)
{
	return run_rdma(&peer->pair, opcode, peer->local, peer->local->addr, length, remote,
			peer->rkey);
}

/* Writes random bytes to TO. Whether they are there is for the caller to see, in the peer's. */
static inline void peer_write(struct peer *peer, void *to, uint32_t length)
{
	int status;

	random_fill(peer->local->addr, length);
	status = peer_run(peer, IBV_WR_RDMA_WRITE, length, (uint64_t)to);
	if (status)
		fail("%s: write of %u bytes to %p: %s", where, length, to, status_name(status));
}

/* ... and that they are. */
static inline void check_write(struct peer *peer, void *to, uint32_t length)
{
	ssize_t wrong;

	peer_write(peer, to, length);
	wrong = difference(to, peer->local->addr, length);
	if (wrong >= 0)
		fail("%s: byte %zd of %u that was written to %p is %02x, not %02x", where, wrong,
		     length, to, ((uint8_t *)to)[wrong], ((uint8_t *)peer->local->addr)[wrong]);
}

static inline void check_read(struct peer *peer, const void *from, const void *want,
			      uint32_t length)
{
	ssize_t wrong;
	int status;

	memset(peer->local->addr, 0xee, length);
	status = peer_run(peer, IBV_WR_RDMA_READ, length, (uint64_t)from);
	if (status)
		fail("%s: read of %u bytes at %p: %s", where, length, from, status_name(status));
	wrong = difference(peer->local->addr, want, length);
	if (wrong >= 0)
		fail("%s: byte %zd of %u that was read at %p is %02x, not %02x", where, wrong,
		     length, from, ((uint8_t *)peer->local->addr)[wrong],
		     ((const uint8_t *)want)[wrong]);
}

/* The process has nothing there, or nothing that can be had in this way. */
static inline void check_denied(struct peer *peer, enum ibv_wr_opcode opcode, uint32_t length,
				uint64_t remote)
{
	int status = peer_run(peer, opcode, length, remote);

	if (status != IBV_WC_REM_ACCESS_ERR)
		fail("%s: %s of %u bytes at %#lx: %s", where,
		     opcode == IBV_WR_RDMA_READ ? "read" : "write", length, remote,
		     status_name(status));
	reconnect(peer);
}

/* An end of another type of connection, or of none, which may share what it receives from. */
static inline void make_sharing_end(struct end *end, enum ibv_qp_type type, struct ibv_srq *srq)
{
	struct ibv_qp_init_attr attr = {
		.qp_type = type, .srq = srq,
		.cap = { .max_send_wr = 15, .max_recv_wr = 15, .max_send_sge = 2,
			 .max_recv_sge = 2 },
	};

	end->channel = ibv_create_comp_channel(device);
	must(end->channel);
	end->cq = ibv_create_cq(device, 63, NULL, end->channel, 0);
	must(end->cq);
	attr.send_cq = end->cq;
	attr.recv_cq = end->cq;
	end->qp = ibv_create_qp(pd, &attr);
	must(end->qp);
}

static inline void make_typed_end(struct end *end, enum ibv_qp_type type)
{
	make_sharing_end(end, type, NULL);
}

static inline void connect_typed_end(struct end *end, enum ibv_qp_type type, uint32_t other)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT, .port_num = 1, .qkey = 1,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
	};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;
	union ibv_gid own;

	if (type == IBV_QPT_RC) {
		connect_end(end, other, IBV_MTU_4096, TIMEOUT);
		return;
	}
	must(!ibv_query_gid(device, 1, 1, &own));
	mask |= type == IBV_QPT_UC ? IBV_QP_ACCESS_FLAGS : IBV_QP_QKEY;
	must(!ibv_modify_qp(end->qp, &attr, mask));

	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_4096, .dest_qp_num = other,
		.ah_attr = { .is_global = 1, .port_num = 1,
			     .grh = { .dgid = own, .hop_limit = 1, .sgid_index = 1 } },
	};
	mask = IBV_QP_STATE;
	if (type == IBV_QPT_UC)
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	must(!ibv_modify_qp(end->qp, &attr, mask));

	attr = (struct ibv_qp_attr) { .qp_state = IBV_QPS_RTS };
	must(!ibv_modify_qp(end->qp, &attr, IBV_QP_STATE | IBV_QP_SQ_PSN));
}

/*
 * Binds MW to what LENGTH bytes at ADDRESS are in MR, for END's peer; returns its new key, or 0 if
 * that fails.
 */
static inline uint32_t bind_window(struct end *end, struct ibv_mw *mw, struct ibv_mr *mr,
				   uint64_t address, uint64_t length, unsigned int access)
{
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_BIND_MW, .send_flags = IBV_SEND_SIGNALED,
		.bind_mw = { .mw = mw, .rkey = ibv_inc_rkey(mw->rkey), .bind_info = {
			.mr = mr, .addr = address, .length = length, .mw_access_flags = access,
		} },
	}, *bad;
	int status;

	must(!ibv_post_send(end->qp, &wr, &bad));
	status = completion(end);
	/* The error stops the queue pair, and rxe then has but one name for what it had to do. */
	if (status && status != IBV_WC_MW_BIND_ERR && status != IBV_WC_WR_FLUSH_ERR)
		fail("%s: bind: %s", where, status_name(status));
	return status ? 0 : wr.bind_mw.rkey;
}

#define WINDOW (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ)

/* A counter of the library's, of all address spaces together; there are only those of the test. */
static inline uint64_t counter(const char *name)
{
	char line[64];
	uint64_t sum = 0;
	glob_t files;
	size_t i, length = strlen(name);

	if (glob("/sys/kernel/debug/odp/*", 0, NULL, &files))
		return 0;
	for (i = 0; i < files.gl_pathc; i++) {
		FILE *file = fopen(files.gl_pathv[i], "r");

		/* The last MR has gone meanwhile. */
		if (!file)
			continue;
		while (fgets(line, sizeof(line), file))
			if (!strncmp(line, name, length) && line[length] == ' ')
				sum += strtoull(line + length, NULL, 10);
		fclose(file);
	}
	globfree(&files);
	return sum;
}

/* How many notifiers there are, counting those that are on their way out. */
static inline int64_t ranges(void)
{
	/* Those that are gone first: never too few, for both only grow. */
	uint64_t gone = counter("released");

	return counter("inserted") - gone;
}

/* Waits until there are as many as that: what is gone leaves in its own time. */
static inline void check_ranges(int64_t want)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;
	int64_t n;

	while ((n = ranges()) != want) {
		if (now_ms() > deadline)
			fail("%s: %ld ranges, not %ld: %lu inserted, %lu replaced by %lu, %lu removed, %lu released, %lu held",
			     where, n, want, counter("inserted"), counter("replaced"),
			     counter("pieces"), counter("removed"), counter("released"),
			     counter("holds_outstanding"));
		sched_yield();
	}
}

/*
 * Whether a limit holds. It counts a range as gone before the library counts it as released, so for a
 * moment there seem to be more.
 */
static inline bool limit_holds(int64_t limit)
{
	uint64_t deadline = now_ms() + PATIENCE_MS;

	while (ranges() > limit) {
		if (now_ms() > deadline)
			return false;
		sched_yield();
	}
	return true;
}

/* When there is no implicit MR any more, nothing is left of any that there was. */
static inline void check_all_gone(void)
{
	uint64_t deadline = now_ms() + PATIENCE_MS, created, released;

	if (ranges())
		fail("%s: %ld ranges are left", where, ranges());
	while ((created = hw_counter("odp_ranges_created")) !=
	       (released = hw_counter("odp_ranges_released"))) {
		if (now_ms() > deadline)
			fail("%s: %lu ranges were created, %lu released", where, created,
			     released);
		sched_yield();
	}
}

#endif
