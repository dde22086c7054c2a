#!/bin/sh
# Python's requests gives a 103 (Early Hints) as the final response: status 103, no body, no error.
#
# RFC 9110 section 15.2: a client must be able to parse informational responses that it did not ask for, and wait for the final one.
# http.client of Python's standard library skips 100 only, and all that is built on it (urllib, urllib3, requests, pip, boto3) takes
# 103 for the answer. urllib at least raises HTTPError; in requests it passes raise_for_status(), since 103 is below 400:
#        requests 2.34.2    103, b''
#        httpx 0.28.1       200, b'body'
#        aiohttp 3.14.5     200, b'body'
# Seen with Python 3.11 and those packages of PyPI.
#
# Origins and CDNs that announce preloads with 103 (for players: the init segment of a playlist) answer such a script with an empty
# playlist or object. A cache that passes 103 on must not do so to clients of which it knows nothing but HTTP/1.1, and a health check
# written in Python reports an origin as healthy and empty.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5
cat >"$dir/test.py" <<'EOF'
import asyncio, http.server, threading, time, urllib.error, urllib.request
import aiohttp, httpx, requests


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </init.mp4>; rel=preload; as=fetch\r\n\r\n")
        self.wfile.flush()
        time.sleep(0.1)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/live.m3u8"


async def by_aiohttp():
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.read()


answer = requests.get(url)
answer.raise_for_status()
found = {"requests": (answer.status_code, answer.content)}
try:
    with urllib.request.urlopen(url) as answer:
        found["urllib"] = (answer.status, answer.read())
except urllib.error.HTTPError as error:
    found["urllib"] = ("HTTPError", error.code)
answer = httpx.get(url)
found["httpx"] = (answer.status_code, answer.content)
found["aiohttp"] = asyncio.run(by_aiohttp())
for name, result in found.items():
    print(name, *result)
right = (200, b"body")
assert found == {"requests": (103, b""), "urllib": ("HTTPError", 103), "httpx": right, "aiohttp": right}, found
EOF
"$dir/venv/bin/python" "$dir/test.py"
