#!/bin/sh
# Varnish does not understand a list in If-None-Match: a client that holds two versions gets the whole object again instead of 304.
#
# RFC 9110 section 13.1.2: If-None-Match is a list of entity tags, or "*"; 304 if one of them is that of the response. nginx, HAProxy, Squid and
# httpd answer 304 to all of these for a stored response with ETag: "b". Varnish compares the text of the field with that of the ETag:
#        If-None-Match: "b"           304
#        If-None-Match: W/"b"         304
#        If-None-Match: "a", "b"      200, the whole body
#        If-None-Match: *             200, the whole body
# Seen with Varnish 7.1.1 (Debian 12).
#
# A list is what a cache sends that holds several versions or variants (RFC 9111 section 4.3.1), and what http-cache-semantics makes when the
# request that it revalidates for has a tag of its own. Behind such a shield every revalidation is a download: of a guide or a catalogue, once
# per box and period. A box should ask with the one tag that it would serve, and count bytes of revalidations, not their number.
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

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        self.wfile.write(b'HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\nETag: "b"\r\nContent-Length: 100\r\n\r\n' + bytes(100))

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
command = f"varnishd -F -n {dir}/work -a 127.0.0.1:{port} -b 127.0.0.1:{origin.server_port} -s malloc,16m"
cache = subprocess.Popen(command.split(), stderr=subprocess.DEVNULL)
atexit.register(lambda: cache.terminate() or cache.wait())
time.sleep(4)
found = []
for held in (None, '"b"', 'W/"b"', '"a", "b"', "*"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/guide", headers={"If-None-Match": held} if held else {})
    answer = connection.getresponse()
    found.append((answer.status, len(answer.read())))
    print("If-None-Match:", held, "->", *found[-1], "bytes")
    time.sleep(0.5)
assert found == [(200, 100), (304, 0), (304, 0), (200, 100), (200, 100)], found
EOF
python3 "$dir/test.py" "$dir"
