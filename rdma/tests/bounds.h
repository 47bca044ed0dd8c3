/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bounds for implicit MRs that are in the place of smaller ones: an access outside of what the program
 * registered fails, as it would without.
 *
 * Peers get the rkey of a memory window of type 1, bound to just that. It is bound by a queue pair
 * of the preload's own, one for each protection domain. Windows have no lkey, so the program's own
 * requests are looked at when they are posted; not those of ibv_wr_start() and the like.
 */

#ifndef _BOUNDS_H
#define _BOUNDS_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <infiniband/verbs.h>

struct bound {
	struct bound *next;
	struct ibv_mr *mr;
	/* If peers have any access. */
	struct ibv_mw *mw;
	uint64_t start, length;
	uint32_t lkey;
};

struct binder {
	struct binder *next;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp;
};

/* Protects what follows, and the binders' queue pairs. */
static pthread_mutex_t bounds_lock = PTHREAD_MUTEX_INITIALIZER;
static struct bound *bounds;
static struct binder *binders;

/* The functions of the device's provider. There is one provider, so they are those of all devices. */
static struct ibv_context_ops unbounded;

/* The last of the port's GIDs: one of RoCE v2, if there is any. */
static int last_gid(struct ibv_context *context, union ibv_gid *gid)
{
	struct ibv_port_attr port;
	int index;

	if (ibv_query_port(context, 1, &port))
		return -1;
	for (index = port.gid_tbl_len - 1; index >= 0; index--)
		if (!ibv_query_gid(context, 1, index, gid) && gid->global.interface_id)
			break;
	return index;
}

/* Connects a queue pair to itself: to bind a window it has to be ready to send. */
static int connect_to_itself(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT, .port_num = 1,
	};
	union ibv_gid gid;
	int index = last_gid(qp->context, &gid);

	if (index < 0)
		return -1;
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			  IBV_QP_ACCESS_FLAGS))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_1024, .dest_qp_num = qp->qp_num,
		.max_dest_rd_atomic = 1, .min_rnr_timer = 12,
		.ah_attr = { .is_global = 1, .port_num = 1,
			     .grh = { .dgid = gid, .hop_limit = 1, .sgid_index = index } },
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN |
			  IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		return -1;
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTS, .timeout = 14, .retry_cnt = 7, .rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	return ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			     IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
}

static void destroy_binder(struct binder *binder)
{
	if (binder->qp)
		ibv_destroy_qp(binder->qp);
	if (binder->cq)
		ibv_destroy_cq(binder->cq);
	free(binder);
}

static struct binder *find_binder(struct ibv_pd *pd)
{
	struct ibv_qp_init_attr attr = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 1, .max_recv_wr = 1, .max_send_sge = 1, .max_recv_sge = 1 },
	};
	struct binder *binder;

	for (binder = binders; binder; binder = binder->next)
		if (binder->pd == pd)
			return binder;
	binder = calloc(1, sizeof(*binder));
	if (!binder)
		return NULL;
	binder->pd = pd;
	binder->cq = ibv_create_cq(pd->context, 1, NULL, NULL, 0);
	attr.send_cq = attr.recv_cq = binder->cq;
	binder->qp = binder->cq ? ibv_create_qp(pd, &attr) : NULL;
	if (!binder->qp || connect_to_itself(binder->qp)) {
		destroy_binder(binder);
		return NULL;
	}
	binder->next = binders;
	binders = binder;
	return binder;
}

/* Has peers reach just what a bound says, by another rkey. */
static int bind_peers(struct ibv_pd *pd, struct bound *bound, unsigned int access)
{
	struct ibv_mw_bind bind = {
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = { .mr = bound->mr, .addr = bound->start, .length = bound->length,
			       .mw_access_flags = access },
	};
	struct binder *binder = find_binder(pd);
	struct ibv_wc wc;
	int n;

	if (!binder)
		return -1;
	bound->mw = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
	if (!bound->mw || ibv_bind_mw(binder->qp, bound->mw, &bind))
		return -1;
	while (!(n = ibv_poll_cq(binder->cq, 1, &wc)))
		;
	if (n < 0 || wc.status)
		return -1;
	bound->mr->rkey = bound->mw->rkey;
	return 0;
}

/* Bounds an implicit MR that has just been made, and may have windows bound to it. */
static int bound_mr(struct ibv_mr *mr, void *addr, size_t length, unsigned int access)
{
	struct bound *bound = calloc(1, sizeof(*bound));
	int error = 0;

	if (!bound)
		return -1;
	*bound = (struct bound) {
		.mr = mr, .start = (uint64_t)addr, .length = length, .lkey = mr->lkey,
	};
	access &= IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	pthread_mutex_lock(&bounds_lock);
	if (access)
		error = bind_peers(mr->pd, bound, access);
	if (!error) {
		bound->next = bounds;
		bounds = bound;
	}
	pthread_mutex_unlock(&bounds_lock);
	if (error) {
		fprintf(stderr, "preload: no window for %zu bytes: %s\n", length, strerror(errno));
		if (bound->mw)
			ibv_dealloc_mw(bound->mw);
		free(bound);
	}
	return error;
}

static void unbound_mr(struct ibv_mr *mr)
{
	struct bound **link, *bound;

	pthread_mutex_lock(&bounds_lock);
	for (link = &bounds; *link && (*link)->mr != mr; link = &(*link)->next)
		;
	bound = *link;
	if (bound)
		*link = bound->next;
	pthread_mutex_unlock(&bounds_lock);
	if (!bound)
		return;
	if (bound->mw)
		ibv_dealloc_mw(bound->mw);
	free(bound);
}

static void unbound_pd(struct ibv_pd *pd)
{
	struct binder **link, *binder;

	pthread_mutex_lock(&bounds_lock);
	for (link = &binders; *link && (*link)->pd != pd; link = &(*link)->next)
		;
	binder = *link;
	if (binder)
		*link = binder->next;
	pthread_mutex_unlock(&bounds_lock);
	if (binder)
		destroy_binder(binder);
}

/* Whether requests name nothing behind or before what was registered by that key. */
static bool are_within(const struct ibv_sge *list, int n)
{
	const struct bound *bound;
	bool within = true;
	int i;

	pthread_mutex_lock(&bounds_lock);
	for (i = 0; i < n && within; i++) {
		for (bound = bounds; bound && bound->lkey != list[i].lkey; bound = bound->next)
			;
		within = !bound || (list[i].addr >= bound->start &&
				    list[i].length <= bound->length &&
				    list[i].addr - bound->start <= bound->length - list[i].length);
	}
	pthread_mutex_unlock(&bounds_lock);
	return within;
}

static int bounded_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad)
{
	struct ibv_send_wr *each;

	for (each = wr; each; each = each->next) {
		/* What is inline is copied by its address alone; a bind has no list. */
		if (each->send_flags & IBV_SEND_INLINE || each->opcode == IBV_WR_BIND_MW ||
		    are_within(each->sg_list, each->num_sge))
			continue;
		*bad = each;
		errno = EINVAL;
		return errno;
	}
	return unbounded.post_send(qp, wr, bad);
}

/* The first of them that is not within, or NULL. */
static struct ibv_recv_wr *first_outside(struct ibv_recv_wr *wr)
{
	while (wr && are_within(wr->sg_list, wr->num_sge))
		wr = wr->next;
	return wr;
}

static int bounded_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad)
{
	struct ibv_recv_wr *outside = first_outside(wr);

	if (!outside)
		return unbounded.post_recv(qp, wr, bad);
	*bad = outside;
	errno = EINVAL;
	return errno;
}

static int bounded_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr,
				 struct ibv_recv_wr **bad)
{
	struct ibv_recv_wr *outside = first_outside(wr);

	if (!outside)
		return unbounded.post_srq_recv(srq, wr, bad);
	*bad = outside;
	errno = EINVAL;
	return errno;
}

static void bound_posts(struct ibv_context *context)
{
	pthread_mutex_lock(&bounds_lock);
	if (context->ops.post_send != bounded_post_send)
		unbounded = context->ops;
	context->ops.post_send = bounded_post_send;
	context->ops.post_recv = bounded_post_recv;
	context->ops.post_srq_recv = bounded_post_srq_recv;
	pthread_mutex_unlock(&bounds_lock);
}

#endif
