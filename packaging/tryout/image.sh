#!/bin/sh
# The appliance's image in QEMU under OVMF, by software emulation:
#
#   serve     from the firmware to the first cached segment over HTTP; memory; ports; the root is as it was
#   fallback  a newer kernel image that cannot be started: after three tries the old slot serves, and what failed is not blessed
#   damage    a byte of the running slot is flipped: its image is refused, the other slot serves
#
# image.sh IMAGE WORK HEADEND — IMAGE is a disk image of `cargo xtask dist image`; needs root, qemu-system-x86, ovmf, mtools, curl.
# PARTS: which of the above, in this order, "serve" first; all by default. The guest's network is a tap device in this network
# namespace: the carousel comes by multicast, as on a LAN. The console of each start is left in WORK.
#
# The guest's clock counts instructions (2 ns each, as of a slow processor): however little of the machine the emulation gets, no
# time-out and no watchdog of the guest runs out for it, and the seconds that the guest reports do not depend on the host's load.
set -eu
image=$1 work=$2/image headend=$3
parts=${PARTS:-serve fallback damage}
wait_s=${IMAGE_WAIT_S:-3600}
ovmf=/usr/share/OVMF
say() { echo "   $*"; }
die() { echo "image: $*" >&2; exit 1; }
mkdir -p "$work"
pids=""
cleanup() { for pid in $pids; do kill "$pid" 2>/dev/null || true; done; }
trap cleanup EXIT
ip tuntap add tap0 mode tap
ip address add 10.77.0.1/24 dev tap0
ip link set tap0 up
ip route replace 224.0.0.0/4 dev tap0

disk=$work/disk.img
cp --sparse=always "$image" "$disk"
# A machine's disk is larger than the image: the cache takes the rest.
truncate -s 2G "$disk"
esp="$disk@@1M"
cat >"$work/trial.toml" <<'TOML'
[store]
reserve_bytes = 0
quota_bytes = 500_000_000
TOML
printf '[Match]\nType=ether\n\n[Network]\nAddress=10.77.0.2/24\nGateway=10.77.0.1\n' >"$work/10-trial.network"
echo trial >"$work/name"
mcopy -o -i "$esp" "$work/trial.toml" "$work/10-trial.network" "$work/name" ::/skycache/
cp "$ovmf/OVMF_VARS_4M.fd" "$work/vars.fd"

images() { mdir -b -i "$esp" ::/EFI/Linux | tr -d '\r' | sed -n 's,.*/,,p'; }
# First byte of a partition.
offset() { sfdisk -d "$disk" | sed -n "s/.*start= *\([0-9]*\),.*name=\"$1\".*/\1/p" | awk '{ print $1 * 512 }'; }

# Starts the disk; the console goes to a file.
start() {
    rm -f "$1"
    qemu-system-x86_64 -nodefaults -vga none -display none -no-reboot -machine q35,accel=tcg,i8042=off -cpu qemu64,+rdrand \
        -icount shift=1 -m 512 -smp 1 \
        -drive "if=pflash,format=raw,readonly=on,file=$ovmf/OVMF_CODE_4M.fd" -drive "if=pflash,format=raw,file=$work/vars.fd" \
        -drive "file=$disk,format=raw,if=virtio,cache=unsafe" -device virtio-rng-pci -device i6300esb \
        -netdev tap,id=lan,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=lan,romfile= \
        -serial "file:$1" &
    qemu=$!
    pids="$pids $qemu"
    began=$(date +%s)
}

# Until a line is on the console.
until_line() {
    while ! grep -a -q "$2" "$1" 2>/dev/null; do
        kill -0 $qemu 2>/dev/null || { tail -n 40 "$1"; die "the machine has stopped before: $2"; }
        [ $(($(date +%s) - began)) -lt "$wait_s" ] || { tail -n 60 "$1"; die "no $2 within $wait_s s"; }
        sleep 1
    done
}

stop() { kill $qemu 2>/dev/null || true; wait $qemu 2>/dev/null || true; }
# A machine that restarts itself: QEMU ends.
until_end() {
    for _ in $(seq "$wait_s"); do kill -0 $qemu 2>/dev/null || break; sleep 1; done
    ! kill -0 $qemu 2>/dev/null || die "the machine goes on"
    wait $qemu 2>/dev/null || true
}

film=$work/film
rm -rf "$film"; mkdir -p "$film"
{
    printf '#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n'
    for n in 0 1 2 3; do
        head -c 60000 /dev/urandom >"$film/$n.ts"
        printf '#EXTINF:4.0,\n%s.ts\n' "$n"
    done
    printf '#EXT-X-ENDLIST\n'
} >"$film/master.m3u8"
# Slow: the emulated guest must keep up in the host's time.
cat >"$work/headend.toml" <<TOML
[link]
rate_bps = 400_000
[output]
interface = "10.77.0.1"
[nip]
provider = "Tryout"
network_name = "Tryout"
[[source]]
path = "$film"
base = "https://cdn.example.com/vod/"
class = "medium"
[fec.medium]
code = "raptorq"
overhead_percent = 10
TOML
# A segment over HTTP is what was sent.
until_served() {
    while :; do
        curl -sf -m 60 -o "$work/got" "http://10.77.0.2:8080/cdn.example.com/vod/$2.ts" && break
        kill -0 $qemu 2>/dev/null || { tail -n 40 "$1"; die "the machine has stopped before it served $2.ts"; }
        [ $(($(date +%s) - began)) -lt "$wait_s" ] || { tail -n 60 "$1"; die "$2.ts was not served within $wait_s s"; }
        sleep 1
    done
    cmp "$work/got" "$film/$2.ts" || die "$2.ts is not what was sent"
}

say "serve: the first start of a new box"
start "$work/console.log"
until_line "$work/console.log" 'READY .* s after the kernel'
say "READY $(($(date +%s) - began)) s after power on (host); $(tr -d '\r' <"$work/console.log" | grep -a -o -m 1 'READY .*') (guest)"
"$headend" send -c "$work/headend.toml" >"$work/headend.log" 2>&1 &
pids="$pids $!"
for n in 0 1 2 3; do until_served "$work/console.log" $n; done
say "four segments over HTTP, $(($(date +%s) - began)) s after power on (host)"
is_open() { timeout "$2" bash -c "exec 3<>/dev/tcp/10.77.0.2/$1" 2>/dev/null; }
is_open 8080 60 || die "the players' port is closed to the test itself"
for port in 22 53 111 5355 8081; do
    ! is_open $port 5 || die "port $port is open"
done
say "$(tr -d '\r' <"$work/console.log" | grep -a 'MB in use' | tail -n 1)"
# Health, then four entries of the loader in the firmware's boot order.
while ! tr -d '\000' <"$work/vars.fd" | grep -a -q 'Skycache try 4'; do
    kill -0 $qemu 2>/dev/null || { tail -n 40 "$work/console.log"; die "the start was not healthy"; }
    [ $(($(date +%s) - began)) -lt "$wait_s" ] || { tail -n 60 "$work/console.log"; die "no entries in the boot order"; }
    sleep 1
done
! mdir -b -i "$esp" ::/EFI/skycache | grep -q started_a || die "the healthy start still counts as begun"
say "healthy: $(images | tr '\n' ' '); the loader stands four times in the boot order"
stop
! tr -d '\r' <"$work/console.log" | grep -a 'Failed to start' || die "a unit has failed"
sfdisk -d "$disk" | grep -q skycache_cache || die "no partition was made for the cache"
say "$(sfdisk -d "$disk" | sed -n 's/.*size= *\([0-9]*\).*skycache_cache.*/cache: a partition of \1 sectors/p')"
for name in skycache_root_a skycache_hash_a; do
    at=$(offset $name)
    cmp -i "$at:$at" -n $((4 << 20)) "$image" "$disk" || die "$name was written"
done
version=$(images | sed -n 's/^skycache_\(.*\)_a\.efi$/\1/p')
[ -n "$version" ] || die "no image of slot a: $(images)"

case " $parts " in *" fallback "*)
    say "fallback: a newer image in slot b, cut off after a megabyte"
    mcopy -o -n -i "$esp" "::/EFI/Linux/skycache_${version}_a.efi" "$work/uki.efi"
    head -c 1000000 "$work/uki.efi" >"$work/cut.efi"
    # The sections by which the loader lists it are in the part that is left; its IMAGE_VERSION is the same, so the name sorts it.
    mcopy -o -i "$esp" "$work/cut.efi" "::/EFI/Linux/skycache_9_b+3.efi"
    start "$work/fallback.log"
    until_line "$work/fallback.log" 'slot a'
    until_served "$work/fallback.log" 0
    while mdir -b -i "$esp" ::/EFI/skycache | grep -q started_a; do
        kill -0 $qemu 2>/dev/null || { tail -n 40 "$work/fallback.log"; die "the old slot is not healthy"; }
        sleep 2
    done
    say "served by slot a: $(images | tr '\n' ' ')"
    images | grep -q "^skycache_9_b+0-3.efi$" || die "the image that failed has another name"
    stop
    mdel -i "$esp" "::/EFI/Linux/skycache_9_b+0-3.efi"
    ;;
esac

case " $parts " in *" damage "*)
    say "damage: slot b gets the same content, and a byte of slot a is flipped"
    for name in root hash; do
        dd if="$disk" of="$disk" conv=notrunc bs=1M iflag=skip_bytes oflag=seek_bytes status=none \
            skip="$(offset skycache_${name}_a)" seek="$(offset skycache_${name}_b)" count="$([ $name = root ] && echo 160 || echo 4)"
    done
    mcopy -o -n -i "$esp" "::/EFI/Linux/skycache_${version}_a.efi" "$work/uki.efi"
    # An older name: the loader takes slot a first.
    mcopy -o -i "$esp" "$work/uki.efi" "::/EFI/Linux/skycache_0.0.1_b.efi"
    at=$(($(offset skycache_root_a) + 100))
    byte=$(dd if="$disk" bs=1 skip=$at count=1 status=none | od -An -tu1 | tr -d ' ')
    printf "$(printf '\\%03o' $((byte ^ 1)))" | dd of="$disk" bs=1 seek=$at conv=notrunc status=none
    start "$work/damaged.log"
    until_end
    grep -a -q 'Its image does not start again' "$work/damaged.log" || { tail -n 30 "$work/damaged.log"; die "the console does not say why"; }
    images | grep -q "^skycache_${version}_a+0.efi$" || die "the damaged slot's image keeps its name: $(images)"
    say "refused: $(images | tr '\n' ' ')"
    start "$work/other.log"
    until_line "$work/other.log" 'slot b'
    until_served "$work/other.log" 0
    say "served by slot b"
    stop
    ;;
esac
echo "image: $parts"
