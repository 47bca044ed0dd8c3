# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# A clean tree of Linux 7.3 for git am, and what is asked of the suites there. Sourced after
# vm/cache.sh, never run. Whoever does sets $tree and $repository, two directories of the cache.

# shellcheck source=vm/limits.sh
source "$room/limits.sh"
# shellcheck source=vm/reports.sh
source "$room/reports.sh"
# shellcheck source=vm/kunit.sh
source "$room/kunit.sh"

# The repository is not in the tree, so that the kernel's version does not depend on it.
git() { command git -C "$tree" --git-dir="$repository" --work-tree="$tree" \
	-c user.name=check -c user.email=check@localhost -c core.hooksPath=/dev/null "$@"; }

# clean_tree PATCH...: makes $tree anew, the kernel's source as it is. git knows of the files that
# the patches have to do with, and takes no notice of others.
clean_tree() {
	local kernel file
	kernel=$("$room/root")/usr/src/linux-source-7.3
	rm -rf "$tree" "$repository"
	# Links to the root's files; git puts new ones in the place of those that it changes.
	cp -al "$kernel" "$tree"
	git init -q
	echo '*' >"$repository/info/exclude"
	while read -r file; do
		[[ ! -e $tree/$file ]] || git add -f "$file"
	done < <(sed -n 's,^diff --git a/.* b/,,p' "$@" | sort -u)
	git commit -q -m 'Linux 7.3'
	git tag v7.3
}

# suites_passed BUILD STATUS SUMMARY: after kunit.py has ended with that status and said what is in
# SUMMARY, dies unless all suites passed, the kernel reported nothing, and it came to its end.
suites_passed() {
	local log=$1/test.log line
	[[ -e $log ]] || die "no suite was run; see $3."
	! line=$(grep -a -m 1 -E "$report" "$log") || die "the kernel reported: $line; see $log."
	(($2 == 0)) && came_to_end "$log" || die "the suites did not pass; see $3."
	grep -o 'Testing complete.*' "$3"
}
