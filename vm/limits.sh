# shellcheck shell=sh disable=SC2034 # its variables are for those who source it
# SPDX-License-Identifier: GPL-2.0
# The limits after which something is said to hang: all of them follow from these. Sourced by vm/run on
# the host and by vm/init in the guest, never run.
#
# A guest has no limit for what it does in all. It may run for as long as it shows progress: its console
# or what its command writes grows. How much a benchmark measures is a budget of its own, which no
# limit knows of.
#
# In the guest the limit is ODP_LIMIT, in the environment of the command, and KUnit's and the hung task
# detector's.

# How many seconds something that is waited for, or a test that shows no progress, may take on two idle
# emulated cores. The longest takes some 20. ODP_LIMIT on the host is for another choice.
limit=${ODP_LIMIT:-300}

# How many seconds a kernel takes there from its start to the command.
nominal_boot() {
	case $1 in
	debug | rt | kcsan | staged) echo 25 ;;
	*) echo 10 ;;
	esac
}

# scaled_limit KIND SECONDS: the limit on a machine on which that kernel took so long.
scaled_limit() {
	nominal=$(nominal_boot "$1")
	if [ "$2" -le "$nominal" ]; then
		echo "$limit"
	else
		echo $((limit * $2 / nominal))
	fi
}

# For the kernel's own detectors, which cannot know how busy the host is: 60 s is the longest that the
# first takes, and it is doubled.
kernel_limits="watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=$limit workqueue.watchdog_thresh=$limit"
