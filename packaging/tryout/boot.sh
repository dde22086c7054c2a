#!/bin/sh
# The skycache package under systemd as init, in a container: starts and notifies, serves on while it is restarted, keeps what
# it has when a new configuration is wrong, is ended by the watchdog when it hangs and comes back, and what it may not do.
#
# boot.sh PACKAGES ARCHITECTURE WORK — needs root, debootstrap, systemd-container, python3.
set -eu
packages=$1 arch=$2 work=$3
root=$work/boot-$arch
say() { echo "   $*"; }
die() { echo "boot $arch: $*" >&2; exit 1; }
[ -e "$work/systemd-$arch/.made" ] || {
    say "debootstrap bookworm with systemd"
    rm -rf "$work/systemd-$arch"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm "$work/systemd-$arch" >"$work/debootstrap-systemd.log"
    touch "$work/systemd-$arch/.made"
}
rm -rf "$root"
cp -a "$work/systemd-$arch" "$root"
cp "$packages"/skycache_*_"$arch".deb "$root/skycache.deb"
chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg -i /skycache.deb >"$work/boot-dpkg.log" 2>&1 || { cat "$work/boot-dpkg.log"; die "dpkg -i"; }
# Half a minute is long for a test.
mkdir -p "$root/etc/systemd/system/skycached.service.d"
printf '[Service]\nWatchdogSec=6\n' >"$root/etc/systemd/system/skycached.service.d/test.conf"

leader=""
cleanup() {
    [ -n "$leader" ] && nsenter -t "$leader" -a systemctl poweroff >/dev/null 2>&1 || true
    [ -n "$container" ] && wait "$container" || true
}
container=""
trap cleanup EXIT
systemd-nspawn -q -D "$root" --boot --register=no --keep-unit --private-network --link-journal=no </dev/null >"$work/boot.log" 2>&1 &
container=$!
for _ in $(seq 100); do
    leader=$(pgrep -P "$container" 2>/dev/null | head -1) || true
    [ -n "$leader" ] && nsenter -t "$leader" -a systemctl is-system-running 2>/dev/null | grep -q -e running -e degraded && break
    sleep 0.3
done
[ -n "$leader" ] || { cat "$work/boot.log"; die "the container does not boot"; }
inside() { nsenter -t "$leader" -a /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
shown() { inside systemctl show skycached.service -p "$1" --value; }
until_active() { for _ in $(seq 100); do [ "$(shown ActiveState)" = active ] && return 0; sleep 0.2; done; inside journalctl -u skycached --no-pager | tail -20; die "it does not become active"; }

until_active
say "active; type $(shown Type), status \"$(shown StatusText)\""
[ -n "$(shown StatusText)" ] || die "no STATUS"
pid=$(shown MainPID)
inside grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs)' "/proc/$pid/status" | tr '\n\t' '  ' | sed 's/^/   /'; echo
inside grep -q '^CapBnd:.*0000000000000000$' "/proc/$pid/status" || die "it has capabilities"
inside grep -q '^Uid:.*\b0\b' "/proc/$pid/status" && die "it is root"

say "restarts under load"
cat >"$work/load.py" <<'PY'
import socket, sys, threading, time
until, asked, wrong = time.time() + float(sys.argv[1]), [0], []
def ask():
    while time.time() < until:
        try:
            s = socket.create_connection(("127.0.0.1", 8080), timeout=20)
            s.sendall(b"GET / HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n")
            got = b""
            while piece := s.recv(65536):
                got += piece
            if not got.startswith(b"HTTP/1.1 200"):
                wrong.append(got[:60] or b"nothing")
            asked[0] += 1
        except OSError as err:
            wrong.append(err)
threads = [threading.Thread(target=ask) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(f"{asked[0]} connections, {len(wrong)} failed", *wrong[:3])
sys.exit(bool(wrong))
PY
nsenter -t "$leader" -n python3 "$work/load.py" 12 >"$work/load.txt" 2>&1 &
load=$!
sleep 1
for _ in 1 2 3; do inside systemctl restart skycached; sleep 2; done
wait $load || { cat "$work/load.txt"; inside journalctl -u skycached --no-pager | tail -20; die "players were refused"; }
say "$(cat "$work/load.txt") while it was restarted 3 times"

say "reloads"
echo '[http' >"$root/etc/skycache/conf.d/wrong.toml"
inside systemctl reload skycached
sleep 1
inside journalctl -u skycached --no-pager | grep -q 'the previous one stays in force' || die "a wrong configuration is not said"
until_active
rm "$root/etc/skycache/conf.d/wrong.toml"
inside systemctl reload skycached
sleep 1
inside journalctl -u skycached --no-pager | grep -q 'configuration reloaded' || die "no reload"

say "hangs"
pid=$(shown MainPID)
inside sh -c "kill -STOP $pid"
for _ in $(seq 100); do [ "$(shown MainPID)" != "$pid" ] && [ "$(shown ActiveState)" = active ] && break; sleep 0.3; done
until_active
inside journalctl -u skycached --no-pager | grep -i watchdog | head -1 | sed 's/^/   /'
[ "$(shown MainPID)" != "$pid" ] || die "the watchdog does not end what hangs"
nsenter -t "$leader" -n curl -sf -o /dev/null http://127.0.0.1:8080/ || die "it does not serve after the watchdog"

exposure=$(inside systemd-analyze security --no-pager skycached.service | sed -n 's/.*exposure level for skycached.service: \([0-9.]*\).*/\1/p')
say "systemd-analyze security: $exposure"
[ "$(printf '%s\n2.0\n' "$exposure" | sort -n | head -1)" = "$exposure" ] || die "more exposed than 2.0"
inside systemd-analyze verify skycached.service 2>&1 | sed 's/^/   /' || true
echo "boot $arch: started, restarted, reloaded, watched over"
