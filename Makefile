# SPDX-License-Identifier: GPL-2.0
#
# Thin verbs; each says in its own script what it does. Everything that is built goes to
# the cache (ODP_CACHE), nothing to the checkout.
#
#   make            the modules, for the plain kernel
#   make try        what the library does, shown on the distribution's own kernel
#   make kunit      the KUnit suites, on User-Mode Linux
#   make test       the fast tests
#   make check      the long ones; RESUME=1, also for test and soak, goes on where a run ended
#   make coverage   which lines of src/ the tests execute, and why not the others (tests/coverage)
#   make mutants    whether each safety step of the code is missed by a test (tests/mutants)
#   make soak       what can go on for ever, for hours; then the oracle for SECONDS (600)
#   make test-rdma  those of rxe: each patch, with both series, and that those of the repairs fail without
#   make bench      the tables that say most, in six minutes; BUDGET=SECONDS for fewer or more
#   make bench-full all of them, for an hour or more, and a report with plots
#   make bench-rdma rxe: pinned memory, explicit and implicit on-demand paging
#   make shell      a guest to try things in, with rxe0 up; ARGS="--register implicit", say
#   make packages   the Debian packages odp-dkms and rdma-rxe-odp-dkms
#   make doc        rustdoc of the library
#   make stage      the library into the kernel source TREE, for drivers there to select
#   make series     the library as patches for the kernel; series/check builds each of them
#   make clean      removes what was built from this checkout, not the root and the kernels
#
# KDIR=TREE builds the modules on the host, for a kernel build tree or for the headers of the
# running kernel: /lib/modules/$(uname -r)/build.

SECONDS ?= 600

.PHONY: all try kunit test check coverage mutants soak test-rdma bench bench-short bench-full \
	bench-rdma shell packages doc stage series clean
all:
	@vm/modules plain

try:
	@vm/shell --kernel stock -- /odp/samples/try/run

kunit:
	@vm/kunit

test:
	@tests/run $(if $(RESUME),--resume)

check:
	@tests/run --long $(if $(RESUME),--resume)

coverage:
	@tests/coverage/run

mutants:
	@tests/mutants/run

soak:
	@tests/run --soak $(if $(RESUME),--resume)
	@tests/oracle/soak $(SECONDS)

test-rdma:
	@tests/run rdma-series rdma rdma-before

bench:
	@bench/bench $(if $(BUDGET),--budget $(BUDGET))

bench-short:
	@bench/bench --short

bench-full:
	@bench/bench --full

bench-rdma:
	@rdma/bench/bench

shell:
	@vm/shell $(ARGS)

packages:
	@packages/build

doc:
	@vm/doc

stage:
	@vm/stage $(TREE)

series:
	@series/write

clean:
	@vm/clean
