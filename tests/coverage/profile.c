// SPDX-License-Identifier: GPL-2.0
/*
 * When the User-Mode Linux kernel goes down, writes what the compilers' instrumentation has counted
 * to a file of the host, in the raw format of LLVM 19. Only the kernel that tests/coverage/run
 * builds has this.
 */

#include <linux/align.h>
#include <linux/array_size.h>
#include <linux/types.h>

#include <init.h>
#include <os.h>

/* The linker's: where the sections of the instrumentation begin and end. */
extern const char __start___llvm_prf_data[], __stop___llvm_prf_data[],
	__start___llvm_prf_cnts[], __stop___llvm_prf_cnts[],
	__start___llvm_prf_names[], __stop___llvm_prf_names[];

/* Of LLVM's record of a function. */
#define RECORD_SIZE 64

static void write_profile(void)
{
	const u64 data = __stop___llvm_prf_data - __start___llvm_prf_data;
	const u64 counters = __stop___llvm_prf_cnts - __start___llvm_prf_cnts;
	const u64 names = __stop___llvm_prf_names - __start___llvm_prf_names;
	const u64 header[] = {
		0xff6c70726f667281, /* "lprofr" */
		10, /* version */
		0, /* bytes of build IDs */
		data / RECORD_SIZE,
		0, /* bytes between the records and the counters */
		counters / sizeof(u64),
		0, /* bytes between the counters and the bitmaps */
		0, /* bytes of bitmaps */
		0, /* bytes between the bitmaps and the names */
		names,
		__start___llvm_prf_cnts - __start___llvm_prf_data,
		0, /* of the bitmaps, the same */
		(u64)__start___llvm_prf_names,
		0, /* virtual tables */
		0, /* bytes of their names */
		2, /* the last kind of value that is profiled */
	};
	const char zeros[8] = {};
	const struct {
		const void *from;
		u64 length;
	} parts[] = {
		{ header, sizeof(header) },
		{ __start___llvm_prf_data, data },
		{ __start___llvm_prf_cnts, counters },
		{ __start___llvm_prf_names, names },
		{ zeros, ALIGN(names, 8) - names },
	};
	int file = os_open_file(ODP_PROFILE, of_trunc(of_create(of_write(OPENFLAGS()))), 0644);

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		os_write_file(file, parts[i].from, parts[i].length);
	os_close_file(file);
}

__uml_exitcall(write_profile);
