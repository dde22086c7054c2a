#!/bin/sh
# The admin interface of a live daemon that has objects, asked by schemathesis for everything that docs/openapi.json describes and
# more: statuses, documents against docs/schema, methods, and parameters that are not allowed.
#
# api.sh WORKSPACE PROGRAMS VALIDATOR SCHEMATHESIS — needs multicast on loopback.
set -eu
workspace=$1 programs=$2 validator=$3 schemathesis=$4
folder=$(mktemp -d)
cd "$folder" # paths in the configurations are relative
daemon=""
cleanup() {
    [ -n "$daemon" ] && kill "$daemon" && wait "$daemon" || true
    rm -rf "$folder"
}
trap cleanup EXIT
die() { echo "api: $*" >&2; cat "$folder/log" >&2; exit 1; }
"$validator" "$workspace/docs/openapi.json"

token=0123456789abcdef0123
(umask 077 && echo "$token" >"$folder/token")
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
admin=$(port)
cat >"$folder/box.toml" <<TOML
store.path = "cache"
store.reserve_bytes = 0
http.listen = "127.0.0.1:$(port)"
receive.interface = "127.0.0.1"
receive.announcement = "239.253.22.1:3937"
admin.socket = "admin.sock"
admin.listen = "127.0.0.1:$admin"
admin.token_file = "token"
log.level = "warn,skycache::audit=off"
TOML
cat >"$folder/headend.toml" <<TOML
link.rate_bps = "8 Mbit/s"
output.interface = "127.0.0.1"
[sessions]
announcement = "239.253.22.1:3937"
configuration = "239.253.22.2:49001"
media = "239.253.22.3:49001"
[[source]]
path = "$workspace/tests/media/cmaf"
base = "https://cdn.example.com/vod/film/"
TOML
"$programs/skycached" run -c "$folder/box.toml" >"$folder/log" 2>&1 &
daemon=$!
for _ in $(seq 100); do "$programs/skycached" status -c "$folder/box.toml" >/dev/null 2>&1 && break; sleep 0.1; done
"$programs/headend" send --once -c "$folder/headend.toml" 2>>"$folder/log" || die "headend"
"$programs/skycached" ls -c "$folder/box.toml" | grep -q master.m3u8 || die "nothing has arrived"

# What no parameter by itself says: a purge names something, a sidecar's too; and a name such as "." means nothing.
cat >"$folder/schemathesis.toml" <<TOML
[[operations]]
include-path-regex = "^/(api/v1/(purge|ban|pin|unpin)|cache/(purge|ban))$"
checks.positive_data_acceptance.enabled = false
TOML
# Slowly: a wrong credential costs as much as twenty requests of the hundred a second that a client may send.
"$schemathesis" --config-file "$folder/schemathesis.toml" run "$workspace/docs/openapi.json" --url "http://127.0.0.1:$admin" \
    -H "Authorization: Bearer $token" --max-examples 30 --seed 1 --rate-limit 20/s --no-color || die "schemathesis"
kill -0 "$daemon" || die "the daemon has ended"
grep -q panicked "$folder/log" && die "it panicked"
echo "api: as docs/openapi.json says"
