#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Implicit on-demand paging of rxe: a program that registers all of its address
# space sends and receives, with every MTU and a message of more packets than
# one, and what the driver keeps of its memory is gone when it ends.

source "$(dirname "$0")/../kselftest/ktap_helpers.sh"

NETDEV=lo
GID=1 # the loopback address
PORT=18617
COUNTERS=
LOG=$(mktemp -d)
RXE= ADDED=

cleanup()
{
	[ -z "$ADDED" ] || rdma link del "$ADDED"
	rm -r "$LOG"
}
trap cleanup EXIT

skip_all()
{
	ktap_skip_all "$@"
	exit "$KSFT_SKIP"
}

# The rxe device on $NETDEV, which is made if there is none.
find_rxe()
{
	local link

	for link in /sys/class/infiniband/*; do
		[ "$(cat "$link/parent" 2>/dev/null)" = "$NETDEV" ] || continue
		RXE=${link##*/}
		return 0
	done
	rdma link add rxe_iodp type rxe netdev "$NETDEV" || return 1
	RXE=rxe_iodp ADDED=rxe_iodp
}

counter()
{
	cat "$COUNTERS/$1"
}

# Waits for a server, and not for long if it does not come up.
listening()
{
	local deadline=$((SECONDS + 60))

	until ss -Hltn "sport = :$PORT" | grep -q .; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
	done
}

# pingpong OPTION...: a server and a client, both of which have to succeed and
# to find in their buffers what was sent.
pingpong()
{
	local server status=0

	timeout 120 ibv_rc_pingpong -d "$RXE" -g "$GID" -p "$PORT" -c "$@" \
		>"$LOG/server" 2>&1 &
	server=$!
	listening && timeout 120 ibv_rc_pingpong -d "$RXE" -g "$GID" \
		-p "$PORT" -c "$@" 127.0.0.1 >"$LOG/client" 2>&1 || status=1
	[ "$status" -eq 0 ] || kill "$server" 2>/dev/null
	wait "$server" || status=1
	# It is only said, and no failure of the program's.
	! grep -q 'invalid data' "$LOG/server" "$LOG/client" || status=1
	[ "$status" -eq 0 ] || sed 's/^/# /' "$LOG/server" "$LOG/client"
	return "$status"
}

check_pingpong()
{
	local description=$1

	shift
	ktap_test_result "$description" pingpong "$@"
}

# The counters are read from the device every 10 ms at most.
nothing_left()
{
	local deadline=$((SECONDS + 60))

	[ "$(counter odp_ranges_created)" -gt "$CREATED" ] || return 1
	until [ "$(counter odp_ranges_created)" = "$(counter odp_ranges_released)" ]; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
	done
}

ktap_print_header

[ "$(id -u)" -eq 0 ] || skip_all "needs root"
for tool in rdma ss ibv_devinfo ibv_rc_pingpong; do
	command -v "$tool" >/dev/null || skip_all "needs $tool"
done
modprobe rdma_rxe 2>/dev/null || skip_all "needs rdma_rxe"
find_rxe || ktap_exit_fail_msg "no rxe device on $NETDEV"
ibv_devinfo -v -d "$RXE" | grep -q ODP_SUPPORT_IMPLICIT ||
	skip_all "$RXE has no implicit on-demand paging"
COUNTERS=/sys/class/infiniband/$RXE/ports/1/hw_counters
CREATED=$(counter odp_ranges_created) ||
	ktap_exit_fail_msg "$RXE does not count ranges"

ktap_set_plan 7
check_pingpong "a page" -O -n 50
for mtu in 256 512 1024 2048; do
	check_pingpong "packets of $mtu bytes" -O -n 20 -s 4096 -m "$mtu"
done
check_pingpong "completions with an event" -O -n 20 -s 9000 -e
ktap_test_result "nothing is left" nothing_left
ktap_finished
