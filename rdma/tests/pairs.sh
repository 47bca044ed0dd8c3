# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# For programs that come in pairs, a server and a client. Sourced, never run.

number=0 bad=0
# Seconds that each of the two may take.
patience=${ODP_LIMIT:-300}

# listening PORT: waits until somebody listens there.
listening() {
	local deadline=$((SECONDS + patience))
	until [[ -n $(ss -Hltn "sport = :$1") ]]; do
		((SECONDS < deadline)) || { echo "# nobody listens on port $1"; return 1; }
	done
}

# pair NAME PORT COMMAND...: COMMAND as a server, and with the server's address as a client;
# both have to succeed, and neither may say what matches $wrong.
wrong='invalid data|rror|ailed'
pair() {
	local name=$1 port=$2 log=/tmp/pair server status=0
	shift 2
	timeout "$patience" "$@" >"$log.server" 2>&1 &
	server=$!
	listening "$port" && timeout "$patience" "$@" 127.0.0.1 >"$log.client" 2>&1 || status=$?
	((status == 0)) || kill "$server" 2>/dev/null
	wait "$server" || status=$?
	! grep -qE "$wrong" "$log.server" "$log.client" || status=1
	number=$((number + 1))
	if ((status == 0)); then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		sed 's/^/# /' "$log.server" "$log.client"
		bad=1
	fi
}
