# SPDX-License-Identifier: GPL-2.0
# What tests/coverage/run adds to the library's Makefile: the library and its tests count what is
# executed, and profile.c writes that. Generic code is counted in the crate that uses it.
odp-counts-rust := -Cinstrument-coverage -Zno-profiler-runtime
RUSTFLAGS_odp_main.o += $(odp-counts-rust)
RUSTFLAGS_tests/odp_kunit_main.o += $(odp-counts-rust)

odp-counts-c := -fprofile-instr-generate -fcoverage-mapping
CFLAGS_helpers.o += $(odp-counts-c)
CFLAGS_interface.o += $(odp-counts-c)
CFLAGS_odp/engine/lockdep.o += $(odp-counts-c)
CFLAGS_odp/engine/trace.o += $(odp-counts-c)

obj-y += profile.o
CFLAGS_profile.o := -DODP_PROFILE='"@profile@"'
