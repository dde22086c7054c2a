#!/bin/sh
# Python drops a double slash from the path of a base URL: segments and redirects of "/live//ch1/" are asked for below "/live/ch1/".
#
# RFC 3986 section 5.2.3: a relative reference takes the place of what stands behind the last slash of the base; empty segments of a path
# are segments, and "//" is not "/". urllib.parse.urljoin filters them out, and most of Python's web is built on it:
#        urljoin("https://cdn.example/live//ch1/index.m3u8", "seg1.ts")    https://cdn.example/live/ch1/seg1.ts
#        m3u8 6.0.0 (absolute_uri), Streamlink 8.6.3 (its playlist)        the same
#        requests 2.34.2, urllib3 2, httpx 0.28.1, urllib: Location: there    ask for /live/ch1/there
# One would expect /live//ch1/seg1.ts, which Node's URL, curl, FFmpeg and aiohttp (yarl) make. Seen with Python 3.11.7.
#
# Keys of buckets and signed tokens in paths have empty segments; a CDN, a signature and our store tell "//" from "/". Such a channel plays in
# browsers and is 404 for each tool of Python, with the playlist itself still found. A headend should not give names with "//".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q m3u8==6.0.0 streamlink==8.6.3 requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5
cat >test.py <<'END'
import asyncio, http.server, subprocess, threading, urllib.request
from urllib.parse import urljoin

import aiohttp, httpx, m3u8, requests, urllib3
from streamlink.stream.hls.m3u8 import parse_m3u8

asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        self.send_response(302 if self.path.endswith("/go") else 200)
        if self.path.endswith("/go"):
            self.send_header("Location", "there")
        self.send_header("Content-Length", "0")
        self.end_headers()


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nseg1.ts\n"
base = "https://cdn.example/live//ch1/index.m3u8"
dropped, kept = "https://cdn.example/live/ch1/seg1.ts", "https://cdn.example/live//ch1/seg1.ts"
assert urljoin(base, "seg1.ts") == dropped
assert m3u8.loads(playlist, uri=base).segments[0].absolute_uri == dropped
assert parse_m3u8(playlist, base).segments[0].uri == dropped
node = f"process.stdout.write(new URL('seg1.ts', '{base}').href)"
assert subprocess.run(["node", "-e", node], capture_output=True, text=True).stdout == kept
print(base, "+ seg1.ts:", dropped, "(urljoin, m3u8, Streamlink),", kept, "(Node)")


async def with_aiohttp(url):
    async with aiohttp.ClientSession() as client, client.get(url):
        pass


clients = {
    "requests": (requests.get, dropped),
    "urllib3": (lambda url: urllib3.PoolManager().request("GET", url), dropped),
    "urllib": (urllib.request.urlopen, dropped),
    "httpx": (lambda url: httpx.get(url, follow_redirects=True), dropped),
    "aiohttp": (lambda url: asyncio.run(with_aiohttp(url)), kept),
    "curl": (lambda url: subprocess.run(["curl", "-sL", url]), kept),
}
for name, (get, seen) in clients.items():
    asked.clear()
    get(f"http://127.0.0.1:{origin.server_port}/live//ch1/go")
    print(name, asked)
    assert asked == ["/live//ch1/go", "/live/ch1/there" if seen == dropped else "/live//ch1/there"]
END
venv/bin/python -V
venv/bin/python test.py
