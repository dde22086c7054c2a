#!/bin/sh
# httpx and aiohttp return a body with "Content-Encoding: x-gzip" as the gzip bytes that it is, aiohttp one that is coded twice too; no error.
#
# RFC 9110 section 8.4.1.3: x-gzip is to be taken as gzip. Section 8.4: several codings are listed in the order in which they were applied.
# A playlist, by Content-Encoding:
#                           httpx 0.28.1    aiohttp 3.14.5    requests 2.34.2, curl, Node's fetch
#        gzip               text            text              text
#        x-gzip             gzip bytes      gzip bytes        text
#        gzip, gzip         text            gzip bytes        text
#        deflate, gzip      text            gzip bytes        text
# One would expect text or an error: a client that does not know a coding has not got the content. Status 200, and text() is replacement characters.
#
# Origins that send what is stored in gzip name it x-gzip as they have since HTTP/1.0; a shield that compresses what comes compressed gives two. Tests and
# ingest in Python see no "#EXTM3U" and take the channel for broken. A shield should send one coding by its present name, or none.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q httpx==0.28.1 aiohttp==3.14.5 requests==2.34.2
cat >test.py <<'END'
import asyncio, gzip, http.server, subprocess, threading, zlib

import aiohttp, httpx, requests

text = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns1.ts\n#EXT-X-ENDLIST\n"
bodies = {
    "gzip": gzip.compress(text),
    "x-gzip": gzip.compress(text),
    "gzip, gzip": gzip.compress(gzip.compress(text)),
    "deflate, gzip": gzip.compress(zlib.compress(text)),
}
codings = list(bodies)


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        coding = codings[int(self.path[1:])]
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl")
        self.send_header("Content-Encoding", coding)
        self.send_header("Content-Length", str(len(bodies[coding])))
        self.end_headers()
        self.wfile.write(bodies[coding])


async def with_aiohttp(url):
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return await answer.read()


def output(*command):
    return subprocess.run(command, capture_output=True, timeout=30).stdout


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
script = "fetch(process.argv[1]).then((it) => it.text()).then((it) => process.stdout.write(it))"
clients = {
    "httpx": lambda url: httpx.get(url).content,
    "aiohttp": lambda url: asyncio.run(with_aiohttp(url)),
    "requests": lambda url: requests.get(url).content,
    "curl": lambda url: output("curl", "-s", "--compressed", url),
    "node": lambda url: output("node", "-e", script, url),
}
coded = {"httpx": ["x-gzip"], "aiohttp": ["x-gzip", "gzip, gzip", "deflate, gzip"]}
for name, get in clients.items():
    got = {coding: get(f"http://127.0.0.1:{origin.server_port}/{place}") for place, coding in enumerate(codings)}
    print(name, {coding: body[:4] for coding, body in got.items()})
    for coding, body in got.items():
        assert body == (bodies[coding] if coding in coded.get(name, []) else text)
END
venv/bin/python test.py
