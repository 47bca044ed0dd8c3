# shellcheck shell=bash disable=SC2034 # its variables are for those who source it
# SPDX-License-Identifier: GPL-2.0
# How the kernel's reports begin, as lines of its log. Sourced, never run.

# WARNING: and BUG: are also how lockdep, KASAN, RCU and the soft lockup and workqueue watchdogs begin
# theirs.
report='WARNING: |BUG: |BUG [a-z]|kernel BUG at|Oops: |Kernel panic|INFO: task .* blocked|INFO: rcu|rcu: INFO: |INFO: trying to register|UBSAN: |KASAN: |KCSAN: |ODEBUG: |DEBUG_LOCKS_WARN_ON|possible (circular|recursive) locking|suspicious RCU usage|refcount_t: |list_(add|del) corruption|sleeping function called|general protection fault|hard LOCKUP|soft lockup|workqueue lockup|unregister_netdevice: waiting|bad page state|Memory failure'

# What KCSAN reports of the kernel's own code, and is harmless, as its headline has it: part of a word of
# struct slab is read, the other parts of which slub.c changes, which KCSAN does not watch. The
# function that reads is inlined into two.
known_races='data-race in ([a-z_]*slab_obj_ext|__memcg_slab_(free|post_alloc)_hook)'

# first_report FILE: the number of the line in which the first one begins.
first_report() {
	grep -a -n -E "$report" "$1" | grep -v -m 1 -E "KCSAN: ($known_races)" | cut -d : -f 1
}
