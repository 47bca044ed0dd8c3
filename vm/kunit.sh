# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# How the kernel's kunit.py is run in the root, and what a kernel's log says of its end. Sourced
# after vm/cache.sh, never run.

# kunit_py TREE ARGUMENT...: the one of that tree, a directory of the cache.
kunit_py() {
	local tree=/cache${1#"$cache"}
	shift
	# UML keeps its memory in TMPDIR, and sockets in HOME. It leaves its process group, so that
	# it has a PID namespace to end with. kunit.py takes any KVM that there is for one that
	# works; vm/run tries.
	# shellcheck disable=SC2016 # expands in the root
	"$room/in-root" -- sh -euc '[ "$1" = kvm ] || [ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
		shift
		HOME=/tmp TMPDIR=/tmp exec unshare --pid --fork --kill-child \
			sh -euc "mount -t proc proc /proc; exec \"\$@\"" sh "$@"' sh \
		"${ODP_ACCEL:-tcg}" "$tree/tools/testing/kunit/kunit.py" "$@"
}

# came_to_end LOG: whether the kernel did.
came_to_end() { grep -aqE 'reboot: (System halted|Restarting system)' "$1"; }
