#!/bin/sh
# The same commit, cloned elsewhere and built from nothing: the same bytes?
#
# repeat.sh PACKAGES WORK
set -eu
packages=$1 work=$2
here=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
rm -rf "$work/repeat"
git clone -q "$here" "$work/repeat"
# Tools are what they are; the programs are built again.
mkdir -p "$work/repeat/target/dist"
cp -a "$here/target/dist/tools" "$work/repeat/target/dist/tools"
(cd "$work/repeat" && cargo xtask dist ${REPEAT:-})
(cd "$work/repeat/target/dist/packages" && find . -type f | sort | xargs sha256sum) >"$work/repeat.sums"
(cd "$packages" && sha256sum -c "$work/repeat.sums")
echo "$(wc -l <"$work/repeat.sums") files are the same, byte for byte"
