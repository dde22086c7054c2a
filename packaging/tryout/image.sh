#!/bin/sh
# The appliance's image in QEMU under OVMF, by software emulation: from the firmware to the first cached segment over HTTP, and
# with a byte of its only slot flipped, no start of it.
#
# image.sh IMAGE WORK HEADEND — IMAGE is a disk image of `cargo xtask dist image`; needs root, qemu-system-x86, ovmf, mtools, curl.
# The guest's network is a tap device in this network namespace: the carousel comes by multicast, as on a LAN. The console of
# each start is left in WORK. Emulation on a loaded machine is slower than the watchdog allows: its reset is only reported.
set -eu
image=$1 work=$2/image headend=$3
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

# Starts the disk; the console goes to a file.
start() {
    cp "$ovmf/OVMF_VARS_4M.fd" "$work/vars.fd"
    rm -f "$1"
    qemu-system-x86_64 -machine q35,accel=tcg -cpu max -m 512 -smp 2 -display none -no-reboot -action watchdog=none \
        -drive "if=pflash,format=raw,readonly=on,file=$ovmf/OVMF_CODE_4M.fd" -drive "if=pflash,format=raw,file=$work/vars.fd" \
        -drive "file=$disk,format=raw,if=virtio,cache=unsafe" -device virtio-rng-pci -device i6300esb \
        -netdev tap,id=lan,ifname=tap0,script=no,downscript=no -device virtio-net-pci,netdev=lan,romfile= \
        -serial "file:$1" &
    qemu=$!
    pids="$pids $qemu"
}

film=$work/film
rm -rf "$film"; mkdir -p "$film"
{
    printf '#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n'
    for n in 0 1 2 3; do
        head -c 200000 /dev/urandom >"$film/$n.ts"
        printf '#EXTINF:4.0,\n%s.ts\n' "$n"
    done
    printf '#EXT-X-ENDLIST\n'
} >"$film/master.m3u8"
cat >"$work/headend.toml" <<TOML
[link]
rate_bps = 4_000_000
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
"$headend" send -c "$work/headend.toml" >"$work/headend.log" 2>&1 &
pids="$pids $!"

began=$(date +%s)
start "$work/console.log"
served=""
for _ in $(seq "${IMAGE_WAIT_S:-600}"); do
    kill -0 $qemu 2>/dev/null || { tail -n 40 "$work/console.log"; die "the machine has stopped"; }
    if curl -sf -m 5 -o "$work/got" http://10.77.0.2:8080/cdn.example.com/vod/0.ts && cmp -s "$work/got" "$film/0.ts"; then
        served=$(($(date +%s) - began))
        break
    fi
    sleep 1
done
[ -n "$served" ] || { tail -n 60 "$work/console.log"; die "no segment was served"; }
say "first segment over HTTP $served s after power on (emulated)"
for n in 1 2 3; do
    for _ in $(seq 120); do
        curl -sf -m 5 -o "$work/got" "http://10.77.0.2:8080/cdn.example.com/vod/$n.ts" && cmp -s "$work/got" "$film/$n.ts" && break
        sleep 1
    done
    cmp -s "$work/got" "$film/$n.ts" || die "$n.ts is not what was sent"
done
for port in 22 53 111 5355 8081; do
    ! nc -z -w 2 10.77.0.2 $port 2>/dev/null || die "port $port is open"
done
for _ in $(seq 60); do grep -q 'READY' "$work/console.log" && break; sleep 1; done
tr -d '\r' <"$work/console.log" | grep -a -e READY -e 'MB in use' | tail -n 2 | sed 's/^/   /'
for _ in $(seq 60); do mdir -b -i "$esp" ::/EFI/skycache 2>/dev/null | grep -q started_a || break; sleep 2; done
mdir -b -i "$esp" ::/EFI/Linux | sed 's/^/   /'
kill $qemu; wait $qemu 2>/dev/null || true
sfdisk -d "$disk" | grep -q skycache_cache || die "no partition was made for the cache"
say "$(sfdisk -d "$disk" | sed -n 's/.*size= *\([0-9]*\).*skycache_cache.*/cache: a partition of \1 sectors/p')"

say "a byte of the slot's first block is flipped"
python3 - "$disk" <<'PY'
import sys
with open(sys.argv[1], "r+b") as disk:
    disk.seek((1 + 256) * 2**20 + 100)
    byte = disk.read(1)
    disk.seek(-1, 1)
    disk.write(bytes([byte[0] ^ 1]))
PY
start "$work/damaged.log"
for _ in $(seq "${IMAGE_WAIT_S:-600}"); do kill -0 $qemu 2>/dev/null || break; sleep 1; done
kill $qemu 2>/dev/null || true
wait $qemu 2>/dev/null || true
mdir -b -i "$esp" ::/EFI/Linux | grep -q '+0\.efi' || { tail -n 30 "$work/damaged.log"; die "the damaged slot's image keeps its name"; }
grep -a -q 'Its image does not start again' "$work/damaged.log" || die "the console does not say why"
say "refused: $(mdir -b -i "$esp" ::/EFI/Linux | grep -a '+0')"
echo "image: started, served, refused a damaged slot"
