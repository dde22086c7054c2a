#!/bin/sh
# systemd and dpkg order the same versions differently: a hotfix "1.4+hotfix1" is older than "1.4.1" as a package and newer as an image.
#
# Debian Policy section 5.6.12 and the Version Format Specification of the UAPI Group, by which systemd-boot, systemd-sysupdate and
# "systemd-analyze compare-versions" sort, agree about 1.9 and 1.10 and about "~". They do not about what stands behind a "+", which the second
# does not know and skips, nor about letters, epochs and revisions:
#                                      dpkg        systemd
#        1.4~rc1 and 1.4               older       older
#        1.4+hotfix1 and 1.4.1         older       newer
#        1.4+git20261130 and 1.4.1     older       newer
#        1.4a and 1.4.1                older       newer
#        1:1.4 and 2.0                 newer       older
#        1.4-1 and 1.4-rc1             older       newer
#        1.4 and 1.4-0                 the same    older
# One would expect systemd's order to be that of the packages from which images are made: it has the "~" of dpkg and rpm, and rpm's "^" for a
# snapshot behind a release. Seen with dpkg 1.21.23 and systemd 252 (Debian 12).
#
# An image with the version of its package is not replaced by the release after a hotfix: the box that has 1.4+hotfix1 starts it again though
# 1.4.1 is in the other slot. Versions of images should be digits and points, with "~" before a release and "^" behind it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install dpkg systemd libsystemd-shared >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export LD_LIBRARY_PATH="$lib/systemd:$lib"
"$dir/root/usr/bin/dpkg" --version | head -n 1
"$dir/root/usr/bin/systemd-analyze" --version | head -n 1
# Each prints older, newer or same: the first version as compared with the second.
by_dpkg() {
  for order in lt:older gt:newer eq:same; do
    ! "$dir/root/usr/bin/dpkg" --compare-versions "$1" "${order%:*}" "$2" || echo "${order#*:}"
  done
}
by_systemd() {
  for order in lt:older gt:newer eq:same; do
    ! "$dir/root/usr/bin/systemd-analyze" compare-versions "$1" "${order%:*}" "$2" || echo "${order#*:}"
  done
}
check() {
  seen="$(by_dpkg "$1" "$2") $(by_systemd "$1" "$2")"
  echo "$1 and $2: $seen"
  [ "$seen" = "$3 $4" ]
}
check 1.9 1.10 older older
check '1.4~rc1' 1.4 older older
check 1.4+hotfix1 1.4.1 older newer
check 1.4+git20261130 1.4.1 older newer
check 1.4a 1.4.1 older newer
check 1:1.4 2.0 newer older
check 1.4-1 1.4-rc1 older newer
check 1.4 1.4-0 same older
# What systemd has for a snapshot behind a release is no version to dpkg.
check '1.4~git1' 1.4.1 older older
[ "$(by_systemd '1.4^git1' 1.4.1) $(by_systemd '1.4^git1' 1.4)" = "older newer" ]
