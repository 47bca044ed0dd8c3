// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD, under programs that know nothing of what is tested. They get ibv_advise_mr() for
 * rxe, which rdma-core's provider lacks before version 61. In the environment,
 *
 *   ODP=explicit   has each MR that they register be one for on-demand paging
 *   ODP=implicit   the same, and of the whole address space
 *   ODP=strict     the same, and has accesses outside of what they registered fail; see bounds.h
 *   IMPLICIT=1     has those be of the whole address space that ask for on-demand paging
 *
 * An MR of the whole address space allows more than the one in whose place it is: a program that reads
 * behind the end of its buffer is found out by strict alone.
 */

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "advise.h"
#include "bounds.h"

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

/* Whether the environment has ODP in that form. */
static bool odp_is(const char *form)
{
	static const char * const forms[] = { "explicit", "implicit", "strict" };
	const char *odp = getenv("ODP");
	size_t i;

	if (!odp)
		return false;
	for (i = 0; i < sizeof(forms) / sizeof(*forms) && strcmp(odp, forms[i]); i++)
		;
	if (i == sizeof(forms) / sizeof(*forms)) {
		fprintf(stderr, "preload: ODP is explicit, implicit or strict, not %s\n", odp);
		abort();
	}
	return !strcmp(odp, form);
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
	if (context && odp_is("strict"))
		bound_posts(context);
	return context;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	struct ibv_mr *(*reg)(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			      unsigned int access) = next("ibv_reg_mr_iova2");
	bool strict = odp_is("strict"), implicit = strict || odp_is("implicit");
	struct ibv_mr *mr;

	if (!getenv("ODP"))
		implicit = getenv("IMPLICIT") && access & IBV_ACCESS_ON_DEMAND;
	else
		access |= IBV_ACCESS_ON_DEMAND;
	/* With another iova there is no way around an MR of its own. */
	if (!implicit || iova != (uint64_t)addr)
		return reg(pd, addr, length, iova, access);
	if (strict)
		access |= IBV_ACCESS_MW_BIND;
	mr = reg(pd, NULL, SIZE_MAX, 0, access);
	if (!mr)
		return NULL;
	/* What the program takes it for. */
	mr->addr = addr;
	mr->length = length;
	if (strict && bound_mr(mr, addr, length, access)) {
		ibv_dereg_mr(mr);
		return NULL;
	}
	return mr;
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	int (*dereg)(struct ibv_mr *mr) = next("ibv_dereg_mr");

	unbound_mr(mr);
	return dereg(mr);
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	int (*dealloc)(struct ibv_pd *pd) = next("ibv_dealloc_pd");

	unbound_pd(pd);
	return dealloc(pd);
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
