# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
# Sourced, never run.

. ../kselftest/ktap_helpers.sh

# with_module MODULE PROGRAM: the program unloads the module again, as a test.
with_module()
{
	if ! modprobe -q "$1"; then
		ktap_print_header
		ktap_skip_all "$1 cannot be loaded"
		exit "$KSFT_SKIP"
	fi
	exec "$2"
}
