#!/bin/sh
# httpx returns the first member of a gzip response and drops the others, without an error.
#
# RFC 1952 section 2.2: a gzip file is a series of members, and RFC 9110 section 8.4.1.3 makes that format the content coding. Files
# that were put together with cat, compressed in parallel blocks or appended to (guides, logs, index files) have several. One would
# expect all of it, or an error:
#        httpx 0.28.1       110 of 230 bytes, status 200
#        requests 2.34.2    230
#        aiohttp 3.14.5     230
# Seen with those packages of PyPI. curl 7.88 (Debian 12) gives 110 bytes too, but exits with 23.
#
# Content-Length and a digest of the representation are right, since both count the compressed bytes. A server that stores a
# compressed object with several members should serve it decoded, or compress it again, before it meets such a client; a guide that ends
# in the middle is well-formed up to there.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q requests==2.34.2 httpx==0.28.1 aiohttp==3.14.5
cat >"$dir/test.py" <<'EOF'
import asyncio, gzip, http.server, threading
import aiohttp, httpx, requests

first, second = b"first half\n" * 10, b"second half\n" * 10
body = gzip.compress(first) + gzip.compress(second)
assert gzip.decompress(body) == first + second


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/guide.xml"


async def by_aiohttp():
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.read()


found = {"httpx": httpx.get(url).content, "requests": requests.get(url).content, "aiohttp": asyncio.run(by_aiohttp())}
for name, content in found.items():
    print(name, len(content), "of", len(first + second), "bytes")
assert found == {"httpx": first, "requests": first + second, "aiohttp": first + second}
EOF
"$dir/venv/bin/python" "$dir/test.py"
