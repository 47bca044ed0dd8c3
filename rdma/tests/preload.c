// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD, under programs that know nothing of what is tested. They get ibv_advise_mr() for
 * rxe, which rdma-core's provider lacks before version 61. In the environment,
 *
 *   ODP=explicit   has each MR that they register be one for on-demand paging
 *   ODP=implicit   the same, and of the whole address space
 *   IMPLICIT=1     has those be of the whole address space that ask for on-demand paging
 *
 * An MR of the whole address space allows more than the one in whose place it is: a program that reads
 * behind the end of its buffer is not found out.
 */

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "advise.h"

/* Macros around the functions that are replaced here. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

static void *next(const char *name)
{
	void *symbol = dlsym(RTLD_NEXT, name);

	if (!symbol) {
		fprintf(stderr, "preload: no %s in libibverbs\n", name);
		abort();
	}
	return symbol;
}

static int advise_by_ioctl(struct ibv_pd *pd, enum ibv_advise_mr_advice advice, uint32_t flags,
			   struct ibv_sge *list, uint32_t n)
{
	return advise_mr(pd, advice, flags, list, n);
}

struct ibv_context *ibv_open_device(struct ibv_device *device)
{
	struct ibv_context *(*open)(struct ibv_device *device) = next("ibv_open_device");
	struct ibv_context *context = open(device);
	struct verbs_context *verbs = context ? verbs_get_ctx_op(context, advise_mr) : NULL;

	if (verbs)
		verbs->advise_mr = advise_by_ioctl;
	return context;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	struct ibv_mr *(*reg)(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			      unsigned int access) = next("ibv_reg_mr_iova2");
	const char *odp = getenv("ODP");
	struct ibv_mr *mr;
	bool implicit;

	if (odp && strcmp(odp, "explicit") && strcmp(odp, "implicit")) {
		fprintf(stderr, "preload: ODP is explicit or implicit, not %s\n", odp);
		abort();
	}
	implicit = odp ? !strcmp(odp, "implicit")
		       : getenv("IMPLICIT") && access & IBV_ACCESS_ON_DEMAND;
	if (odp)
		access |= IBV_ACCESS_ON_DEMAND;
	/* With another iova there is no way around an MR of its own. */
	if (!implicit || iova != (uint64_t)addr)
		return reg(pd, addr, length, iova, access);
	mr = reg(pd, NULL, SIZE_MAX, 0, access);
	if (mr) {
		/* What the program takes it for. */
		mr->addr = addr;
		mr->length = length;
	}
	return mr;
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uint64_t)addr, access);
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, iova, access);
}
