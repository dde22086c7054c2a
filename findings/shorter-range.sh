#!/bin/sh
# curl, wget, FFmpeg and fsspec take a 206 with less than they asked for as all of it: a cut-off file, exit code 0.
#
# RFC 9110 section 15.3.7: a server may answer a range with a part of it, for reasons of its own such as what its cache holds, and the
# client must look at Content-Range to see what it got. Of a film of 324,000 bytes whose server gives at most 60,000 at a time, all with
# "Content-Range: bytes 50-60049/324..." and the like:
#        curl -C - (continues from byte 50)      60,050 bytes, exit code 0
#        wget -c (the same)                      60,050 bytes, exit code 0
#        FFmpeg                                  the first 3 of 20 s, exit code 0, "Stream ends prematurely" among its messages
#        fsspec                                  60,000 bytes, no error
#        object_store (obstore)                  an error that names both ranges
#        smart_open                              all of it, by further requests
# One would expect the two tools that everybody continues downloads with to read the length that stands in the answer.
# Seen with curl 7.88.1, wget 1.21.3, FFmpeg 5.1.9 (Debian 12), fsspec 2026.9.0, obstore 0.12.1, smart_open 9.0.2 (PyPI).
#
# A cache that holds the beginning of an object must not answer "bytes=0-" with that alone, though HTTP allows it: it waits for the rest, or
# ends the connection. A repair or pull that asks such a server has to compare Content-Range with what it asked, before it counts a part as done.
#
# Needs curl, wget and ffmpeg (Debian: curl, wget, ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q fsspec==2026.9.0 aiohttp==3.14.5 obstore==0.12.1 smart_open==9.0.2 requests
curl --version | head -n 1
wget --version | head -n 1
ffmpeg -version | head -n 1
ffmpeg -nostdin -v error -f lavfi -i sine=d=20 -c:a aac -b:a 128k film.mp4
cat >test.py <<'EOF'
import http.server, os, re, subprocess, threading

import fsspec, obstore, smart_open

AT_MOST = 60_000
with open("film.mp4", "rb") as file:
    film = file.read()


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        body = film
        self.send_response(206 if asked else 200)
        if asked:
            start = int(asked[1])
            end = min(int(asked[2] or len(film)), start + AT_MOST - 1, len(film) - 1)
            body = film[start : end + 1]
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(film)}")
        self.send_header("ETag", '"1"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass


origin = Server(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{origin.server_port}/film.mp4"
found = {}


def tool(name, *command):
    with open("got", "wb") as file:
        file.write(film[:50])
    done = subprocess.run([*command, url], capture_output=True, timeout=60)
    found[name] = (done.returncode, os.path.getsize("got"))


tool("curl", "curl", "-sS", "-C", "-", "-o", "got")
tool("wget", "wget", "-q", "-c", "-O", "got")
done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-f", "s16le", "-ac", "1", "-ar", "1000", "-"], capture_output=True)
found["FFmpeg"] = (done.returncode, len(done.stdout) // 2 // 1000)
with fsspec.open(url) as file:
    found["fsspec"] = len(file.read())
store = obstore.store.HTTPStore(url.rsplit("/", 1)[0], client_options={"allow_http": True})
try:
    found["object_store"] = len(obstore.get_range(store, "film.mp4", start=0, end=len(film)))
except Exception as error:
    found["object_store"] = "got 0..60000" in str(error)
with smart_open.open(url, "rb") as file:
    file.seek(50)
    found["smart_open"] = len(file.read()) == len(film) - 50
for name, what in found.items():
    print(name, what, "of", len(film))
cut = (0, 50 + AT_MOST)
assert found == {"curl": cut, "wget": cut, "FFmpeg": (0, 3), "fsspec": AT_MOST, "object_store": True, "smart_open": True}, found
EOF
venv/bin/python test.py
