// SPDX-License-Identifier: GPL-2.0

/*
 * A plugin for QEMU's TCG: what the guest's kernel runs from a munmap() until what has been unmapped
 * is gone, which is the end of the next ioctl() of that task. The guest has one CPU.
 *
 * -plugin count.so,munmap=ADDRESS,ioctl=ADDRESS,out=FILE
 *
 * The addresses are those at which the kernel begins with these system calls. One ends where the CPU
 * is behind the instruction that the task has made it by. For each munmap() the file gets a line
 * "munmap" and what was run in it, and a line "gone" and what was run after it. Each block of
 * instructions that was run has a line there:
 *
 * START TIMES INSTRUCTIONS LOCKED FAR FARTHER
 *
 * LOCKED is how many of its instructions are locked ones, each time. FAR is how often, in all, it
 * has used a line that the model of a cache did not have in its first level, and FARTHER of these in
 * neither.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "locked.h"
#include "qemu_plugin.h"

#define EXPORTED __attribute__((visibility("default")))
#define KERNEL (1UL << 63)
/* Translated blocks that are run in one part, at most. */
#define BLOCKS 65536
/* The longest that an instruction can be. */
#define INSTRUCTION 15

EXPORTED int qemu_plugin_version = 4;

struct block {
	uint64_t start;
	/* Behind its last instruction. */
	uint64_t end;
	size_t instructions;
	size_t locked;
	/* What has been counted in the part that it was run in last. */
	uint64_t part;
	uint64_t times;
	uint64_t far;
	uint64_t farther;
};

static uint64_t munmap_begins, ioctl_begins;
static FILE *out;

/* Where the task goes on after its system call. */
static uint64_t return_to;
static enum { OUTSIDE, IN_MUNMAP, AFTER, IN_IOCTL } phase;
/* The block of a user's that was run last. */
static struct block *user;
/* What has been run in this part, which has a number. */
static uint64_t part;
static struct block *run[BLOCKS];
static size_t blocks;
static struct cache cache;

static void end_part(const char *name)
{
	fprintf(out, "%s\n", name);
	for (size_t i = 0; i < blocks; i++)
		fprintf(out, "%lx %lu %zu %zu %lu %lu\n", run[i]->start, run[i]->times,
			run[i]->instructions, run[i]->locked, run[i]->far, run[i]->farther);
	fflush(out);
	blocks = 0;
	part++;
}

static void user_runs(struct block *block)
{
	user = block;
	if (block->start != return_to)
		return;
	if (phase == IN_MUNMAP) {
		end_part("munmap");
		phase = AFTER;
	} else if (phase == IN_IOCTL) {
		end_part("gone");
		phase = OUTSIDE;
	}
}

static void count(struct block *block)
{
	if (block->part != part) {
		if (blocks == BLOCKS)
			abort();
		block->part = part;
		block->times = 0;
		block->far = 0;
		block->farther = 0;
		run[blocks++] = block;
	}
	block->times++;
}

static void runs(unsigned int vcpu, void *data)
{
	struct block *block = data;

	if (block->start < KERNEL) {
		user_runs(block);
		return;
	}
	if (block->start == munmap_begins && phase != IN_MUNMAP && user) {
		blocks = 0;
		part++;
		phase = IN_MUNMAP;
		return_to = user->end;
	} else if (block->start == ioctl_begins && phase == AFTER) {
		phase = IN_IOCTL;
		return_to = user->end;
	}
	if (phase != OUTSIDE)
		count(block);
}

static void uses(unsigned int vcpu, uint32_t info, uint64_t address, void *data)
{
	struct block *block = data;
	/* What is not counted leaves its traces in the cache all the same. */
	enum level level = cache_use(&cache, address);

	if (block->part != part)
		return;
	block->far += level != NEAR;
	block->farther += level == FARTHER;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));

	/* Never freed: the block may be run until QEMU translates it anew. */
	block->start = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	for (size_t i = 0; i < block->instructions; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint8_t bytes[INSTRUCTION] = {};

		block->end = qemu_plugin_insn_vaddr(insn) + qemu_plugin_insn_size(insn);
		qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
		block->locked += is_locked(bytes, sizeof(bytes));
		qemu_plugin_register_vcpu_mem_cb(insn, uses, QEMU_PLUGIN_CB_NO_REGS,
						 QEMU_PLUGIN_MEM_RW, block);
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, runs, QEMU_PLUGIN_CB_NO_REGS, block);
}

EXPORTED int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "munmap=", 7))
			munmap_begins = strtoull(argv[i] + 7, NULL, 16);
		else if (!strncmp(argv[i], "ioctl=", 6))
			ioctl_begins = strtoull(argv[i] + 6, NULL, 16);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!munmap_begins || !ioctl_begins || !out) {
		fprintf(stderr, "count: it takes munmap=ADDRESS, ioctl=ADDRESS and out=FILE\n");
		return -1;
	}
	/* Blocks begin with the part 0. */
	part = 1;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
