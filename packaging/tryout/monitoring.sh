#!/bin/sh
# Prometheus and Alertmanager beside a live cache: no alert while all is well, then a fault each, and how long after it the alert
# fires and the call reaches a webhook. The files are those of configs/prometheus; groups and thresholds are not changed.
#
# monitoring.sh PROGRAMS WORK — PROGRAMS has skycached and headend, or both as `cargo xtask dist` names them; needs curl, openssl, python3 and, of Debian's packages, prometheus,
# prometheus-alertmanager and prometheus-blackbox-exporter. Ports are the usual ones: run it in a network namespace of its own,
#     unshare --net sh -c 'ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && exec monitoring.sh …'
# SLOW=yes adds the alerts that need a quarter of an hour.
set -eu
programs=$1 work=$2/monitoring
program() { ls "$programs/$1" "$programs/$1"-*-x86_64-unknown-linux-musl 2>/dev/null | head -n 1; }
skycached=$(program skycached) headend=$(program headend)
configs=$(cd "$(dirname "$0")/../../configs/prometheus" && pwd)
die() { echo "monitoring: $*" >&2; exit 1; }
[ -n "$skycached" ] && [ -n "$headend" ] || die "$programs: no skycached or no headend"
for program in prometheus prometheus-alertmanager prometheus-blackbox-exporter curl openssl python3; do
    command -v "$program" >/dev/null || { echo "SKIPPED: alerts of a live cache: no $program"; exit 0; }
done
rm -rf "$work"; mkdir -p "$work/film" "$work/cache"
pids=""
start() { log=$1; shift; "$@" >"$work/$log.log" 2>&1 & last=$!; pids="$pids $last"; }
cleanup() { for pid in $pids; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; }
trap cleanup EXIT INT TERM
seconds() { date +%s; }
# The alerts of a state, as Prometheus sees them.
alerts() { curl -s http://127.0.0.1:9090/api/v1/alerts | python3 -c '
import json, sys
print(" ".join(sorted({it["labels"]["alertname"] for it in json.load(sys.stdin)["data"]["alerts"] if it["state"] == sys.argv[1]})))' "$1"; }
# How long until an alert fires (or no longer does), and until the webhook has heard of it.
until_state() {
    alert=$1 wanted=$2 limit_s=$3 since=$(seconds) seen="" heard=""
    while [ $(($(seconds) - since)) -le "$limit_s" ]; do
        is=no; case " $(alerts firing) " in *" $alert "*) is=yes ;; esac
        [ -n "$seen" ] || [ $is != "$wanted" ] || seen=$(($(seconds) - since))
        case $wanted in yes) status=firing ;; no) status=resolved ;; esac
        [ -n "$heard" ] || ! tail -n +"$4" "$work/webhook.log" | grep -q "$status $alert " || heard=$(($(seconds) - since))
        # Alertmanager tells of ends only with the next call of the group, five minutes later.
        if [ -n "$seen" ] && { [ "$wanted" = no ] || [ -n "$heard" ]; }; then break; fi
        sleep 1
    done
    [ -n "$seen" ] || die "$alert: not within $limit_s s ($wanted); firing: $(alerts firing)"
    if [ "$wanted" = no ]; then echo "   $alert ends $seen s later"; return; fi
    [ -n "$heard" ] || die "$alert: fires after $seen s, but the webhook has not heard of it within $limit_s s"
    echo "   $alert fires $seen s later, the webhook hears of it after $heard s"
}
mark() { echo $(($(wc -l <"$work/webhook.log") + 1)); }

{
    printf '#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n'
    for n in 0 1 2 3; do
        head -c 400000 /dev/urandom >"$work/film/$n.ts"
        printf '#EXTINF:4.0,\n%s.ts\n' $n
    done
    printf '#EXT-X-ENDLIST\n'
} >"$work/film/master.m3u8"
# Ends within twelve hours: SkycacheCertificateExpired.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=cache-1.example.net -days 1 \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
cat >"$work/skycached.toml" <<TOML
[receive]
interface = "127.0.0.1"
threads = 1
socket_buffer_bytes = 1_048_576
[store]
path = "$work/cache"
reserve_bytes = 0
quota_bytes = 100_000_000
[http]
listen = "127.0.0.1:8080"
[http.tls]
listen = "127.0.0.1:8443"
certificate = "$work/cert.pem"
key = "$work/key.pem"
[[route]]
path = "/o/"
base = "http://127.0.0.1:9998/"
[[route]]
path = "/dead/"
base = "http://127.0.0.1:9997/"
# The CDN of the objects does not exist: their repair would be the first origin that is down.
[repair]
enabled = false
[admin]
socket = "$work/admin.sock"
TOML
cat >"$work/headend.toml" <<TOML
[link]
rate_bps = 4_000_000
[output]
interface = "127.0.0.1"
[nip]
provider = "Tryout"
network_name = "Tryout"
[[source]]
path = "$work/film"
base = "https://cdn.example.com/vod/"
class = "medium"
TOML
sed "s|rules/|$configs/rules/|g; s|cache-1.example.net:8443|127.0.0.1:8443|; s|scrape_interval: 1m|scrape_interval: 5s|" \
    "$configs/prometheus.yaml" >"$work/prometheus.yaml"
# Origin: every answer passes and is not kept. Webhook: one line for each alert of each call.
cat >"$work/servers.py" <<'PY'
import http.server, json, sys, threading
class Origin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("Cache-Control", "no-store"); self.send_header("Content-Length", "3")
        self.end_headers(); self.wfile.write(b"abc")
    def log_message(self, *_): pass
class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for it in call["alerts"]:
            print(self.path, it["status"], it["labels"]["alertname"], it["annotations"].get("summary", ""), flush=True)
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
threading.Thread(target=http.server.ThreadingHTTPServer(("127.0.0.1", 9998), Origin).serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 9099), Webhook).serve_forever()
PY
start webhook python3 "$work/servers.py"
start skycached "$skycached" run -c "$work/skycached.toml"; daemon=$last
start headend "$headend" send -c "$work/headend.toml"; sender=$last
start blackbox prometheus-blackbox-exporter --config.file="$configs/blackbox.yaml" --web.listen-address=127.0.0.1:9115
start alertmanager prometheus-alertmanager --config.file="$configs/alertmanager.yaml" --storage.path="$work/am" \
    --web.listen-address=127.0.0.1:9093 --cluster.listen-address=
start prometheus prometheus --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/tsdb" --web.listen-address=127.0.0.1:9090
for url in 9090/-/ready 9093/-/ready 9115/-/healthy 8081/healthz; do
    for _ in $(seq 120); do curl -sf -o /dev/null "http://127.0.0.1:$url" && break; sleep 0.5; done
    curl -sf -o /dev/null "http://127.0.0.1:$url" || { tail -n 3 "$work"/*.log; die "no answer on $url"; }
done
players() { while :; do curl -s -o /dev/null "http://127.0.0.1:8080$1$(date +%s%N)"; sleep "$2"; done; }

echo "== all well, but for a certificate that ends within a day"
since=$(mark)
until_state SkycacheCertificateExpired yes 60 "$since"
sleep 40
[ "$(alerts firing)" = SkycacheCertificateExpired ] || die "firing: $(alerts firing)"
families=$(curl -s http://127.0.0.1:8081/metrics | sed -n 's/^# TYPE \(skycache_[a-z_]*\) .*/\1/p' | wc -l)
echo "   nothing else fires; $families families, $(curl -s 'http://127.0.0.1:9090/api/v1/query?query=scrape_samples_scraped%7Bjob%3D%22skycache%22%7D' | sed 's/.*,"\([0-9]*\)".*/\1/') series"

echo "== the headend stops"
since=$(mark)
kill "$sender"; wait "$sender" 2>/dev/null || true
until_state SkycacheNoPackets yes 60 "$since"
start headend "$headend" send -c "$work/headend.toml"; sender=$last
until_state SkycacheNoPackets no 60 "$since"

echo "== an origin is down"
since=$(mark)
players /dead/ 0.2 & asking=$!; pids="$pids $asking"
until_state SkycacheOriginDown yes 150 "$since"
kill "$asking"; wait "$asking" 2>/dev/null || true

if [ "${SLOW:-no}" = yes ]; then
    echo "== players miss, a quarter of an hour"
    since=$(mark)
    players /o/ 0.5 & asking=$!; pids="$pids $asking"
    until_state SkycacheHitRatioLow yes 1500 "$since"
    kill "$asking"; wait "$asking" 2>/dev/null || true
fi

echo "== the daemon ends"
since=$(mark)
kill "$daemon"; wait "$daemon" 2>/dev/null || true
until_state SkycacheDown yes 120 "$since"
echo "== what the webhook heard"
sort "$work/webhook.log" | uniq -c
