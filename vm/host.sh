# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# What making the root takes of the host, and which package of the host has it. Sourced by vm/root,
# never run.

# Debian with what comes of it, but for Ubuntu, whose apt knows neither Debian's mirror nor its
# keys.
host=other
for id in $(
	# shellcheck source=/dev/null
	source /etc/os-release 2>/dev/null
	echo "${ID:-}" "${ID_LIKE:-}"
); do
	case $id in
	debian | ubuntu | fedora | arch) host=$id; break ;;
	esac
done

# package_with WHAT: the package of this host that has WHAT.
package_with() {
	case $1:$host in
	mmdebstrap:arch) echo "mmdebstrap (from the AUR)" ;;
	apt-get:*) echo apt ;;
	newuidmap:debian | newuidmap:ubuntu) echo uidmap ;;
	newuidmap:fedora) echo shadow-utils ;;
	newuidmap:*) echo shadow ;;
	keyring:fedora) echo debian-keyring ;;
	keyring:*) echo debian-archive-keyring ;;
	*) echo "$1" ;;
	esac
}

# The keys of Debian's archive, of which an apt that is not Debian's has none.
keyring=$(compgen -G '/usr/share/keyrings/debian-archive-keyring.*g*' | head -n 1 || :)

# missing WHAT...: the packages with those of WHAT that this host has not.
missing() {
	local what packages=()
	for what; do
		case $what in
		keyring) [[ -z $keyring ]] || continue ;;
		*) ! command -v "$what" >/dev/null || continue ;;
		esac
		packages+=("$(package_with "$what")")
	done
	(IFS=,; echo "${packages[*]}" | sed 's/,/, /g')
}

# may_make_root: says what is in the way of an ordinary user, or of a container, in a sentence.
may_make_root() {
	local restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
	if "${become_root[@]}" unshare --mount true 2>/dev/null; then return; fi
	if ((EUID == 0)); then
		die "mounts are not allowed here: start a container with --privileged."
	elif [[ -e $restricted && $(<"$restricted") != 0 ]]; then
		die "AppArmor keeps ordinary users from having namespaces here: be root," \
			"or have root do 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'."
	elif unshare --help | grep -q -e --map-auto; then
		die "you need ranges of IDs in /etc/subuid and /etc/subgid," \
			"as adduser makes them, or be root."
	else
		die "the unshare of this host has no --map-auto:" \
			"install util-linux 2.38 or newer, or be root."
	fi
}
