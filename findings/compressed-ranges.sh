#!/bin/sh
# Express with its compression, and `serve`, answer a range with 206 whose Content-Range counts other bytes than its body has.
#
# RFC 9110 sections 8.4 and 14.2: a range is one of the representation that is sent, in its content coding. compression encodes whatever
# passes, the answers to ranges too. Of a caption file of 4,000 bytes, asked for with Range: bytes=1000-2999 and Accept-Encoding: gzip:
#        206, Content-Encoding: gzip, Content-Range: bytes 1000-2999/4000, no Content-Length; the body: those 2000 bytes, gzipped by themselves
#        (Express 5.3.0 with compression 1.8.2; serve 14.2.7, whose compression is on by default)
# One would expect the 2000 bytes as they are, as @fastify/compress, hapi, Starlette and nginx send them, or 200 and all of it.
# The ETag is that of the file without a coding, of `serve` a strong one.
#
# A cache or a client that joins parts by Content-Range, as it has to, gets a file that is too short, and no decoder reads what it joined.
# A headend that pulls, and a cache that fetches parts, should ask for them with Accept-Encoding: identity, and refuse a 206 that is coded.
set -eu
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || :; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" express@5.3.0 compression@1.8.2 serve@14.2.7
mkdir www
python3 -c 'print("WEBVTT\n\n" + "A line of the caption.\n\n" * 166 + "end.....", end="")' >www/c.vtt
cat >express.cjs <<'END'
const express = require("express");
const app = express();
app.use(require("compression")());
app.use(express.static("www"));
app.listen(+process.argv[2], "127.0.0.1");
END
cat >test.py <<'END'
import gzip, http.client, sys, time

name, port = sys.argv[1], int(sys.argv[2])
file = open("www/c.vtt", "rb").read()

def get(**fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/c.vtt", headers={"Range": "bytes=1000-2999", **fields})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()

for _ in range(200):
    try:
        get()
        break
    except OSError:
        time.sleep(0.1)
status, fields, body = get()
assert (status, fields["Content-Range"], body) == (206, f"bytes 1000-2999/{len(file)}", file[1000:3000])
status, fields, body = get(**{"Accept-Encoding": "gzip"})
print(name, status, fields["Content-Encoding"], fields["Content-Range"], fields["Content-Length"], fields["ETag"], len(body), "bytes")
assert (status, fields["Content-Encoding"], fields["Content-Length"]) == (206, "gzip", None)
assert fields["Content-Range"] == f"bytes 1000-2999/{len(file)}"
assert gzip.decompress(body) == file[1000:3000]
END
port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
p=$(port)
node express.cjs "$p" &
server=$!
python3 test.py express "$p"
kill $server
p=$(port)
node node_modules/serve/build/main.js -L -n -l "tcp://127.0.0.1:$p" www >serve.log 2>&1 &
server=$!
python3 test.py serve "$p"
