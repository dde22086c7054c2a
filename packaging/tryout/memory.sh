#!/bin/sh
# The demo's traffic with 64 MB of memory for the box (a control group), and what the program takes on each processor; then an unsigned
# sender that fills every table it can, beside the honest one.
#
# memory.sh PROGRAMS WORK — PROGRAMS has skycached-*-TRIPLE and headend-*-TRIPLE; needs root, curl, python3, qemu-user-static.
set -eu
programs=$1 work=$2
limit_mb=64
hostile_s=60
here=$(cd "$(dirname "$0")" && pwd)
die() { echo "memory: $*" >&2; exit 1; }
group=""
if [ -d /sys/fs/cgroup/memory ]; then
    group=/sys/fs/cgroup/memory/skycache-tryout
    mkdir -p $group
    echo $((limit_mb << 20)) >$group/memory.limit_in_bytes
elif grep -q memory /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
    group=/sys/fs/cgroup/skycache-tryout
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control || true
    mkdir -p $group
    echo $((limit_mb << 20)) >$group/memory.max
fi
[ -n "$group" ] || die "no memory controller"
of_group() { cat "$group/$1" 2>/dev/null || echo 0; }
oom_kills() { cat "$group/memory.events" "$group/memory.oom_control" 2>/dev/null | sed -n 's/^oom_kill //p'; }
pids=""
cleanup() { for pid in $pids; do kill "$pid" 2>/dev/null || true; done; sleep 1; rmdir $group 2>/dev/null || true; }
trap cleanup EXIT
sender=$(ls "$programs"/headend-*-x86_64-unknown-linux-musl)
film=$work/memory-film
rm -rf "$film"; mkdir -p "$film"
{
    printf '#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n'
    for n in $(seq 0 59); do
        head -c 2000000 /dev/urandom >"$film/$n.ts"
        printf '#EXTINF:4.0,\n%s.ts\n' "$n"
    done
    printf '#EXT-X-ENDLIST\n'
} >"$film/master.m3u8"
run() {
    triple=$1; shift
    box=$work/memory-$triple
    rm -rf "$box"; mkdir -p "$box"
    cat >"$box/skycached.toml" <<TOML
[receive]
interface = "127.0.0.1"
threads = 1
socket_buffer_bytes = 2_097_152
[store]
path = "$box/cache"
reserve_bytes = 0
quota_bytes = 1_000_000_000
memory_bytes = 8_388_608
[http]
listen = "127.0.0.1:18080"
workers = 1
max_connections = 200
[admin]
socket = "$box/admin.sock"
listen = ["127.0.0.1:18081"]
TOML
    cat >"$box/headend.toml" <<TOML
[link]
rate_bps = 60_000_000
[output]
interface = "127.0.0.1"
[nip]
provider = "Tryout"
network_name = "Tryout"
[[source]]
path = "$film"
base = "https://cdn.example.com/vod/"
class = "medium"
[fec.medium]
code = "raptorq"
overhead_percent = 5
TOML
    sh -c "echo \$\$ >$group/cgroup.procs; exec $* run -c $box/skycached.toml" >"$box/log" 2>&1 &
    pid=$!; pids="$pids $pid"
    for _ in $(seq 150); do curl -sf -o /dev/null http://127.0.0.1:18081/healthz && break; sleep 0.2; done
    "$sender" send -c "$box/headend.toml" >"$box/headend.log" 2>&1 &
    sending=$!; pids="$pids $sending"
    began=$(date +%s)
    for n in $(seq 0 59); do
        for _ in $(seq 300); do
            curl -sf -o "$box/got" "http://127.0.0.1:18080/cdn.example.com/vod/$n.ts" && cmp -s "$box/got" "$film/$n.ts" && break
            kill -0 $pid || { tail "$box/log"; die "$triple: it has ended"; }
            sleep 0.2
        done
        cmp -s "$box/got" "$film/$n.ts" || { tail "$box/log"; die "$triple: $n.ts is not served"; }
    done
    if [ "${hostile:-no}" = yes ]; then
        python3 "$here/hostile.py" 224.0.23.14 3937 $hostile_s >"$box/hostile.log" 2>&1 || { cat "$box/hostile.log"; die "the hostile sender has failed"; }
        kill -0 $pid 2>/dev/null || { tail "$box/log"; die "$triple: it has ended"; }
        cat "$box/hostile.log"
        # What is held is served.
        for n in $(seq 0 59); do
            curl -sf -o "$box/got" "http://127.0.0.1:18080/cdn.example.com/vod/$n.ts" && cmp -s "$box/got" "$film/$n.ts" ||
                die "$triple: $n.ts is not served after the flood"
        done
    fi
    rss=$(awk '/^VmRSS/ {r=$2} /^RssAnon/ {a=$2} /^VmHWM/ {h=$2} END {printf "%.1f MB resident (%.1f anonymous), at most %.1f", r/1024, a/1024, h/1024}' /proc/$pid/status)
    kills=$(oom_kills)
    [ "${kills:-0}" = 0 ] || die "$triple: killed for its memory"
    echo "   $triple: $(stat -c %s "$(echo "$*" | awk '{print $NF}')") bytes of program; 60 segments of 2 MB at 60 Mbit/s in $(($(date +%s) - began)) s within $limit_mb MB; $rss; no kill"
    kill $sending $pid; wait $sending $pid 2>/dev/null || true
    rm -rf "$box"
}
run x86_64-unknown-linux-musl "$(ls "$programs"/skycached-*-x86_64-unknown-linux-musl)"
hostile=yes
run x86_64-unknown-linux-musl "$(ls "$programs"/skycached-*-x86_64-unknown-linux-musl)"
hostile=no
for pair in aarch64:aarch64-unknown-linux-musl arm:armv7-unknown-linux-musleabihf; do
    program=$(ls "$programs"/skycached-*-"${pair#*:}" 2>/dev/null) || continue
    # The emulator's own memory and translated code count too.
    run "${pair#*:}" "qemu-${pair%%:*}-static" "$program"
done
rm -rf "$film"
