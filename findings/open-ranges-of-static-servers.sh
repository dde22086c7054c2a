#!/bin/sh
# Static file servers of Node and Python answer ranges that leave one end open with other bytes, with 416, or with a Content-Range beyond the file.
#
# RFC 9110 section 14.1.2: bytes=-5 means the last five bytes, and all of a file that is shorter; an end beyond the file means its end.
# Section 14.4: a Content-Range whose last position is not below the complete length is invalid. Of a file of 31 bytes:
#                                        bytes=-5                  bytes=-500      bytes=4-500
#        sirv 3.0.2 (Vite, SvelteKit)    206, bytes 0-5/31: the    206, all        206, bytes 4-30/31
#                                        first six
#        http-server 14.1.1              416                       416             206, bytes 4-30/31
#        serve-handler 6.1.8, send 1.2.1
#        (Express, Fastify)              206, bytes 26-30/31       416             206, bytes 4-30/31
#        Sanic 25.12.1                   206, bytes 26-30/31       (not tried)     206, bytes 4-500/31 with 27 bytes
# nginx and httpd give the last five bytes, the whole file, and bytes 4-30/31.
#
# Players ask for the end of a file in this way where the index of an MP4 or Matroska file may be. A cache has to compare Content-Range
# with what it asked for, and to ask for the whole file where the answer is not that: neither 416 nor these 206 say anything of the file.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q sanic==25.12.1
npm install --silent --no-audit --no-fund --prefix "$dir" sirv@3.0.2 serve-handler@6.1.8 http-server@14.1.1 send@1.2.1
mkdir www
printf 'new bytes of the second version' >www/f.mp4
cat >server.py <<'END'
import os, sys
from sanic import Sanic

app = Sanic("files")
app.static("/", os.path.abspath("www"), use_content_range=True)
app.run(host="127.0.0.1", port=int(sys.argv[1]), single_process=True, access_log=False, motd=False)
END
cat >server.cjs <<'END'
const [port, kind] = process.argv.slice(2);
const http = require("http");
const listen = (handler) => http.createServer(handler).listen(port, "127.0.0.1");
if (kind === "sirv") listen(require("sirv")("www", { etag: true }));
if (kind === "serve-handler") listen((request, response) => require("serve-handler")(request, response, { public: "www", etag: true }));
if (kind === "http-server") require("http-server").createServer({ root: "www" }).listen(port, "127.0.0.1");
if (kind === "send") listen((request, response) => require("send")(request, request.url, { root: "www" }).pipe(response));
END
cat >test.py <<'END'
import http.client, socket, subprocess, sys, time

FILE = open("www/f.mp4", "rb").read()
RANGES = ("bytes=-5", "bytes=-500", "bytes=4-500")
END = (206, "bytes 4-30/31", 27)
EXPECTED = {
    "sirv": [(206, "bytes 0-5/31", 6), (206, "bytes 0-30/31", 31), END],
    "http-server": [(416, None, 0), (416, None, 0), END],
    "serve-handler": [(206, "bytes 26-30/31", 5), (416, "bytes */31", 0), END],
    "send": [(206, "bytes 26-30/31", 5), (416, "bytes */31", 0), END],
    "sanic": [(206, "bytes 26-30/31", 5), None, (206, "bytes 4-500/31", 27)],
}
is_right = True
for kind, expected in EXPECTED.items():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["venv/bin/python", "server.py"] if kind == "sanic" else ["node", "server.cjs"]
    server = subprocess.Popen(command + [str(port), kind], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    found = []
    for wanted, text in zip(expected, RANGES):
        if wanted is None:
            found.append(None)
            continue
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/f.mp4", headers={"Range": text})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        is_part = response.status == 206
        found.append((response.status, response.getheader("Content-Range"), len(body) if is_part else 0))
        if is_part:
            start = int(response.getheader("Content-Range").split()[1].split("-")[0])
            assert body == FILE[start : start + len(body)], body
    server.terminate()
    server.wait()
    print(kind, *found)
    is_right &= found == expected
sys.exit(0 if is_right else 1)
END
python3 test.py
