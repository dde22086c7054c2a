#!/bin/sh
# The Debian packages in a clean root: installed, run (received, cached, served), upgraded with a conffile that both sides have
# changed, downgraded, removed, purged. Foreign architectures run under user-mode emulation.
#
# deb.sh PACKAGES ARCHITECTURE WORK — folders with the .deb files and for the roots; needs root, debootstrap, qemu-user-static.
set -eu
packages=$1 arch=$2 work=$3
base=$work/base-$arch root=$work/deb-$arch
say() { echo "   $*"; }
die() { echo "deb $arch: $*" >&2; exit 1; }
deb() { ls "$packages"/"$1"_*_"$arch".deb | head -1; }
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C "$@"; }
# Whatever runs in the root was started here.
stop_all() {
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/root" 2>/dev/null)" = "$root" ]; then kill "${process#/proc/}" 2>/dev/null || true; fi
    done
}
cleanup() {
    stop_all
    umount "$root/proc" 2>/dev/null || true
}
pids=""
trap cleanup EXIT

# A root is made once and copied.
if [ ! -e "$base/.made" ]; then
    say "debootstrap bookworm $arch"
    rm -rf "$base"
    if [ "$arch" = "$(dpkg --print-architecture)" ]; then
        debootstrap --variant=minbase bookworm "$base" >"$work/debootstrap-$arch.log"
    else
        case $arch in arm64) cpu=aarch64 ;; armhf) cpu=arm ;; esac
        # The kernel hands foreign programs to the emulator, opened now, so that it need not be in the root.
        binfmt=/proc/sys/fs/binfmt_misc
        [ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
        [ -e $binfmt/qemu-$cpu ] || cat "/usr/lib/binfmt.d/qemu-$cpu.conf" >$binfmt/register
        debootstrap --arch="$arch" --variant=minbase --foreign bookworm "$base" >"$work/debootstrap-$arch.log"
        chroot "$base" /debootstrap/debootstrap --second-stage >>"$work/debootstrap-$arch.log"
    fi
    touch "$base/.made"
fi
rm -rf "$root"
cp -a "$base" "$root"
mount -t proc proc "$root/proc"
listing() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./tmp -o -path ./var/lib/dpkg -o -path ./var/log/dpkg.log -o -path ./var/log/alternatives.log -o -path ./var/cache/ldconfig \) -prune -o -print | sort); }
listing >"$work/before-$arch"

say "install"
mkdir -p "$root/tmp/packages"
cp "$(deb skycache)" "$(deb skycache-headend)" "$root/tmp/packages/"
in_root sh -c 'dpkg -i /tmp/packages/*.deb' >"$work/dpkg-$arch.log" 2>&1 || { cat "$work/dpkg-$arch.log"; die "dpkg -i"; }
in_root skycached --version
in_root headend --version
in_root sh -c 'getent passwd skycache >/dev/null && [ "$(stat -c %U:%a /var/cache/skycache)" = skycache:750 ]' || die "no user or folder"
in_root skycached check --seconds 1 | head -3
for file in usr/share/man/man1/skycached.1.gz usr/share/man/man1/headend-send.1.gz usr/share/bash-completion/completions/skycached usr/lib/systemd/system/skycached.service usr/share/doc/skycache/copyright; do
    [ -s "$root/$file" ] || die "$file is missing"
done
in_root dpkg --verify skycache skycache-headend || die "dpkg --verify"

say "receive, cache, serve"
film=$root/tmp/film
mkdir -p "$film"
{
    printf '#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n'
    for n in 0 1 2 3; do
        head -c 200000 /dev/urandom >"$film/$n.ts"
        printf '#EXTINF:4.0,\n%s.ts\n' $n
    done
    printf '#EXT-X-ENDLIST\n'
} >"$film/master.m3u8"
cat >"$root/tmp/headend.toml" <<TOML
# Multicast leaves by the route to loopback: emulators know no IP_MULTICAST_IF.
[link]
rate_bps = 8_000_000
[nip]
provider = "Tryout"
network_name = "Tryout"
[[source]]
path = "/tmp/film"
base = "https://cdn.example.com/vod/"
class = "medium"
TOML
cat >"$root/etc/skycache/conf.d/50-test.toml" <<TOML
[receive]
interface = "127.0.0.1"
[http]
listen = "127.0.0.1:18080"
[store]
reserve_bytes = 0
quota_bytes = 100_000_000
[admin]
listen = ["127.0.0.1:18081"]
TOML
in_root headend plan -c /tmp/headend.toml >/dev/null || die "headend plan"
in_root install -d -o skycache -g skycache /run/skycache
in_root setpriv --reuid skycache --regid skycache --clear-groups skycached run >"$work/skycached-$arch.log" 2>&1 &
pids="$pids $!"
for _ in $(seq 100); do curl -sf -o /dev/null http://127.0.0.1:18081/healthz && break; sleep 0.2; done
in_root headend send -c /tmp/headend.toml >"$work/headend-$arch.log" 2>&1 &
pids="$pids $!"
for n in 0 1 2 3; do
    for _ in $(seq 150); do
        curl -sf -o "$work/got-$arch" "http://127.0.0.1:18080/cdn.example.com/vod/$n.ts" && cmp -s "$work/got-$arch" "$film/$n.ts" && break
        sleep 0.2
    done
    cmp "$work/got-$arch" "$film/$n.ts" || { tail "$work/skycached-$arch.log" "$work/headend-$arch.log"; die "$n.ts is not served"; }
done
in_root setpriv --reuid skycache --regid skycache --clear-groups skycached status | head -2
stop_all
for pid in $pids; do wait "$pid" || true; done
pids=""

say "upgrade with a conffile that both have changed"
echo '# an operator was here' >>"$root/etc/skycache/skycached.toml"
newer=$work/newer-$arch
rm -rf "$newer"
dpkg-deb -R "$(deb skycache)" "$newer"
sed -i 's/^Version: .*/Version: 99.0.0-1/' "$newer/DEBIAN/control"
echo '# the package has changed' >>"$newer/etc/skycache/skycached.toml"
dpkg-deb --root-owner-group -b "$newer" "$root/tmp/packages/newer.deb" >/dev/null
in_root dpkg --force-confdef --force-confold -i /tmp/packages/newer.deb >>"$work/dpkg-$arch.log" 2>&1
grep -q 'operator was here' "$root/etc/skycache/skycached.toml" || die "the operator's conffile is lost"
grep -q 'package has changed' "$root/etc/skycache/skycached.toml.dpkg-dist" || die "no .dpkg-dist"
[ -e "$root/etc/skycache/conf.d/50-test.toml" ] || die "the drop-in is lost"
in_root dpkg-query -W -f '${Version}\n' skycache | grep -qx 99.0.0-1

say "downgrade"
in_root dpkg --force-confdef --force-confold -i "/tmp/packages/$(basename "$(deb skycache)")" >>"$work/dpkg-$arch.log" 2>&1
grep -q 'operator was here' "$root/etc/skycache/skycached.toml" || die "the operator's conffile is lost by a downgrade"
in_root dpkg-query -W -f '${Version}\n' skycache | grep -qv 99.0.0

say "remove"
in_root dpkg -r skycache skycache-headend >>"$work/dpkg-$arch.log" 2>&1
[ ! -e "$root/usr/bin/skycached" ] && [ -e "$root/etc/skycache/skycached.toml" ] || die "remove takes the wrong things"

say "purge"
in_root dpkg -P skycache skycache-headend >>"$work/dpkg-$arch.log" 2>&1
listing >"$work/after-$arch"
# Files that keep accounts are there before and after; their backups and the dpkg state are the system's own.
diff "$work/before-$arch" "$work/after-$arch" | grep '^[<>]' | grep -v -e '/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-$' -e /var/lib/systemd/deb-systemd-helper >"$work/left-$arch" || true
[ ! -s "$work/left-$arch" ] || { cat "$work/left-$arch"; die "purge leaves something"; }
in_root getent passwd skycache && die "purge leaves the user"
echo "deb $arch: installed, served, upgraded, downgraded, removed, purged"
