# shellcheck shell=bash disable=SC2034 # its variables are for those who source it
# SPDX-License-Identifier: GPL-2.0
# The cache that the scripts of this room fill, and the long steps that fill it.
# Sourced, never run. ODP_CACHE says where it is.

room=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
checkout=${room%/*}

say() { echo "$*" >&2; }
die() { say "${0##*/}: $*"; exit "${status:-1}"; }
usage() { sed -n '3,/^[^#]/{/^#/s/^# \?//p}' "$0" >&2; exit 2; }
hash() { sha256sum | cut -c1-10; }
clock() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

cache=${ODP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/odp}
mkdir -p "$cache/log" || die "the cache directory $cache cannot be made; set ODP_CACHE to one that can."
cache=$(cd "$cache" && pwd -P)
# Two checkouts share a cache: what is built from one is named after its path.
checkout_key=$(hash <<<"$checkout")
# Where tests and benchmarks put their logs and tables, unless they are told.
results=$cache/results-$checkout_key

# On Debian chroot is where an ordinary user does not look.
PATH=$PATH:/usr/sbin:/sbin

# How to become the root of the Debian root: an ordinary user is it in a user namespace, over the range of
# user IDs that is his own.
become_root=()
((EUID == 0)) || become_root=(unshare --user --map-root-user --map-auto --)

# lock NAME: only one run at a time makes NAME. What a killed run left behind
# keeps the lock until it ends, for it would write to the same place.
lock() {
	exec 9>"$cache/$1.lock"
	flock --nonblock 9 && return
	until
		say "$1: waiting for another run that makes it."
		flock --wait 60 9
	do :; done
}

# need_space GIGABYTES WHAT
need_space() {
	local free
	free=$(df --output=avail --block-size=1G "$cache" | tail -n 1)
	((free >= $1)) || die "$2 needs $1 GB in $cache, which has ${free// /} GB left."
}

job=
end_job() {
	[[ -n $job ]] || return 0
	kill -TERM -- "-$job" 2>/dev/null || return 0
	for _ in {1..50}; do
		kill -0 -- "-$job" 2>/dev/null || return 0
		sleep 0.1
	done
	kill -KILL -- "-$job" 2>/dev/null || :
}
trap end_job EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# step WHAT LINES COMMAND...: runs COMMAND with its output in the log of WHAT and
# shows that it moves: lines of the log so far, of about LINES.
step() {
	local what=$1 lines=$2 start=$SECONDS every=60 next pace log
	shift 2
	log=$cache/log/${what// /-}.log
	[[ ! -t 2 ]] || every=5
	next=$((SECONDS + every))
	set -m # a process group of its own, to end it as a whole
	"$@" >"$log" 2>&1 </dev/null &
	job=$!
	set +m
	while kill -0 "$job" 2>/dev/null; do
		sleep 0.5
		((SECONDS >= next)) || continue
		next=$((SECONDS + every))
		pace="$what: $(wc -l <"$log") of about $lines log lines, $(clock $((SECONDS - start)))"
		if [[ -t 2 ]]; then printf '\r\e[K%s' "$pace" >&2; else say "$pace"; fi
	done
	[[ ! -t 2 ]] || printf '\r\e[K' >&2
	wait "$job" || {
		job=
		say "$what: failed: $(grep -m 1 -E 'error(\[E[0-9]+\])?: |^E: |\*\*\* ' "$log" || tail -n 1 "$log") (log: $log)"
		exit 1
	}
	job=
	took=$(clock $((SECONDS - start)))
}

# watch_guest COMMAND...: runs a guest whose results are used even if it does not come to its end, because
# it dies or somebody interrupts this; sets status to 0 only if it did.
watch_guest() {
	local guest interrupted=''
	"$@" &
	guest=$!
	# A job in the background does not hear of an interruption itself.
	trap 'interrupted=1; kill -TERM "$guest" 2>/dev/null || :' HUP INT TERM
	status=0
	wait "$guest" || status=$?
	# The first wait ends with the signal.
	[[ -z $interrupted ]] || wait "$guest" || status=$?
	trap - HUP INT TERM
	if [[ -n $interrupted ]]; then
		say "interrupted; what follows is of what was measured by then."
	elif ((status)); then
		say "the guest did not come to its end (status $status); what follows is of what was measured by then."
	fi
}
