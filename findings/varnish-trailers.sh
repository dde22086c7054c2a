#!/bin/sh
# Varnish breaks off every response of an origin that sends a trailer behind its chunks, and stores none.
#
# RFC 9112 section 7.1.2: a recipient of a chunked message may drop the trailer section or keep it; section 7.1.3 reads it in either case.
# nginx, HAProxy, Squid and httpd drop it and store the response. Varnish wants the empty line right behind the last chunk, and takes
# anything else for a broken transfer when it has passed the body on already:
#        0, empty line                          200, complete, then served from the cache
#        0, Server-Timing: ..., empty line      503, or 200 that is cut off; the origin is asked each time
# Seen with Varnish 7.1.1 (Debian 12).
#
# Trailers are where an origin that sends a segment while it is made can say what it knows at the end: a digest, times, CMSD. The day
# it begins to, every object behind such a shield is broken for all players, and none of their bytes is wrong before the break. Who
# sends trailers, or passes them on, should do so only to those that ask by "TE: trailers".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install varnish >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib:$lib/varnish"
cat >"$dir/test.py" <<'EOF'
import atexit, http.client, http.server, socket, subprocess, sys, threading, time

asked = []

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        asked.append(self.path)
        trailer = "Server-Timing: encoder;dur=12\r\n" if self.path == "/trailer" else ""
        head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\nTrailer: Server-Timing\r\n\r\n"
        self.wfile.write(f"{head}4\r\nbody\r\n0\r\n{trailer}\r\n".encode())

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
command = f"varnishd -F -n {dir}/work -a 127.0.0.1:{port} -b 127.0.0.1:{origin.server_port} -s malloc,16m"
cache = subprocess.Popen(command.split(), stderr=subprocess.DEVNULL)
atexit.register(lambda: cache.terminate() or cache.wait())
time.sleep(4)
found = {"/plain": [], "/trailer": []}
for path in sorted(found) * 4:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    try:
        found[path].append((answer.status, answer.read().decode()[:4]))
    except http.client.IncompleteRead as cut:
        found[path].append((answer.status, cut.partial.decode() + ", then cut off"))
    time.sleep(0.5)
print(found, "requests to the origin:", {path: asked.count(path) for path in found})
assert found["/plain"] == [(200, "body")] * 4 and (200, "body") not in found["/trailer"]
assert asked.count("/plain") == 1 and asked.count("/trailer") >= 4, asked
EOF
python3 "$dir/test.py" "$dir"
