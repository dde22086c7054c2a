#!/bin/sh
# Bundles of Debian's RAUC as a box meets them, without a machine: which `skycached firmware` takes, and the reason for which it
# refuses the others. Nothing is installed: RAUC's service does not run here.
#
# bundle.sh SKYCACHED WORK — as root, in a mount namespace of its own, where /etc/rauc, /run, /efi and /config are an appliance's.
set -eu
skycached=$1 work=$2/bundle
die() { echo "bundle: $*" >&2; exit 1; }
rm -rf "$work"
mkdir -p "$work/etc" "$work/run/firmware" "$work/efi/EFI/Linux" "$work/efi/EFI/skycache" "$work/config" "$work/content"
for name in ours theirs; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$name" \
        -keyout "$work/$name.key" -out "$work/$name.pem" 2>/dev/null
done
sed 's/@COMPATIBLE@/skycache-x86_64/' "$(dirname "$0")/../image/root/etc/rauc/system.conf" >"$work/etc/system.conf"
cp "$work/ours.pem" "$work/etc/keyring.pem"
printf 'ID=skycache\nIMAGE_VERSION=1.4\n' >"$work/os-release"
echo a >"$work/run/firmware/slot"
echo A >"$work/efi/EFI/Linux/skycache_1.4_a.efi"
made=""
for folder in /etc/rauc /efi /config; do [ -d $folder ] || { mkdir $folder; made="$made $folder"; }; done
# Mounts are this namespace's, empty folders the machine's.
cleanup() { umount -l /etc/rauc /etc/os-release /efi /config; [ -z "$made" ] || rmdir $made; }
trap cleanup EXIT
mount --bind "$work/etc" /etc/rauc
mount --bind "$work/os-release" /etc/os-release
mount --bind "$work/run" /run
mount --bind "$work/efi" /efi
mount --bind "$work/config" /config

# bundle NAME COMPATIBLE VERSION KEY
bundle() {
    head -c 300000 /dev/urandom >"$work/content/root.img"
    head -c 5000 /dev/urandom >"$work/content/hash.img"
    printf '[update]\ncompatible=%s\nversion=%s\n\n[bundle]\nformat=verity\n\n[image.root]\nfilename=root.img\n\n[image.hash]\nfilename=hash.img\n' \
        "$2" "$3" >"$work/content/manifest.raucm"
    rauc bundle --cert "$work/$4.pem" --key "$work/$4.key" "$work/content" "$work/$1.raucb" >/dev/null 2>&1
}
# says NAME accepted|REASON
says() {
    if answer=$("$skycached" firmware check --json "$work/$1.raucb"); then code=0; else code=$?; fi
    case $2 in
    accepted) [ $code = 0 ] && echo "$answer" | grep -q '"accepted": *true' ;;
    *) [ $code = 1 ] && echo "$answer" | grep -q "\"reason\": *\"\($2\)\"" ;;
    esac || die "$1: not $2 but $code, $answer"
    echo "   $1: $2"
}
# counts NAME REASON: `install` refuses it, and counts it.
counts() {
    ! "$skycached" firmware install "$work/$1.raucb" 2>"$work/said" || die "$1 was installed"
    grep -q "refused ($2)" "$work/said" || die "$1: $(cat "$work/said")"
    "$skycached" firmware status --json | grep -q "\"$2\": *1" || die "$2 is not counted"
}

bundle later skycache-x86_64 1.5 ours
bundle untrusted skycache-x86_64 1.5 theirs
bundle hardware skycache-aarch64 1.5 ours
bundle older skycache-x86_64 1.3 ours
bundle same skycache-x86_64 1.4 ours
bundle named skycache-x86_64 1_5 ours
size=$(stat -c %s "$work/later.raucb")
head -c $((size / 2)) "$work/later.raucb" >"$work/half.raucb"
head -c $((size - 100)) "$work/later.raucb" >"$work/end.raucb"
cp "$work/later.raucb" "$work/signature.raucb"
printf 'XX' | dd of="$work/signature.raucb" bs=1 seek=$((size - 400)) conv=notrunc status=none

says later accepted
says untrusted signature
says hardware compatible
says older downgrade
says same same
says named version
says half damaged
says end damaged
# By where the bytes are, the signature has no form or is a wrong one.
says signature 'damaged\|signature'
counts untrusted signature
counts hardware compatible
counts half damaged
rm /etc/rauc/keyring.pem
says later keyring
[ -s /run/firmware/status.json ] || die "nothing was left for the daemon"
[ "$(ls /efi/EFI/Linux)" = skycache_1.4_a.efi ] || die "the EFI partition has changed"
echo "bundle: one accepted, nine refused by reason"
