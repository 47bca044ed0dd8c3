// SPDX-License-Identifier: GPL-2.0

/*
 * A plugin for QEMU's TCG: which blocks of instructions the guest runs in a system call, and how
 * often. The guest has one CPU.
 *
 * -plugin count.so,begin=ADDRESS,out=FILE
 *
 * A system call begins where the CPU is at ADDRESS, and ends where it is below the kernel. For each
 * the file gets a line "call", and a line "START TIMES INSTRUCTIONS" for each block.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

#define EXPORTED __attribute__((visibility("default")))
#define KERNEL (1UL << 63)
/* Translated blocks that a system call comes to, at most. */
#define BLOCKS 65536

EXPORTED int qemu_plugin_version = 4;

struct block {
	uint64_t start;
	uint64_t times;
	size_t instructions;
	/* The call that it has been counted in last. */
	uint64_t call;
};

static uint64_t begin;
static FILE *out;
static uint64_t call;
static bool in_call;
static struct block *run[BLOCKS];
static size_t blocks;

static void end_call(void)
{
	fprintf(out, "call\n");
	for (size_t i = 0; i < blocks; i++)
		fprintf(out, "%lx %lu %zu\n", run[i]->start, run[i]->times, run[i]->instructions);
	fflush(out);
	blocks = 0;
	in_call = false;
}

static void runs(unsigned int vcpu, void *data)
{
	struct block *block = data;

	if (!in_call) {
		if (block->start != begin)
			return;
		in_call = true;
		call++;
	}
	if (block->start < KERNEL) {
		end_call();
		return;
	}
	if (block->call != call) {
		if (blocks == BLOCKS)
			abort();
		block->call = call;
		block->times = 0;
		run[blocks++] = block;
	}
	block->times++;
}

static void translated(uint64_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = calloc(1, sizeof(*block));

	/* Never freed: the block may be run until QEMU translates it anew. */
	block->start = qemu_plugin_tb_vaddr(tb);
	block->instructions = qemu_plugin_tb_n_insns(tb);
	qemu_plugin_register_vcpu_tb_exec_cb(tb, runs, 0, block);
}

EXPORTED int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "begin=", 6))
			begin = strtoull(argv[i] + 6, NULL, 16);
		else if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
	}
	if (!begin || !out) {
		fprintf(stderr, "count: it takes begin=ADDRESS and out=FILE\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
	return 0;
}
