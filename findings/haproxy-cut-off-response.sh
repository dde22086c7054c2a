#!/bin/sh
# HAProxy's cache stores nothing under a URL for the whole lifetime of a response whose first transfer was cut off.
#
# A player that changes its rendition closes the connection in the middle of a segment. nginx and Varnish then fetch the rest and store it,
# Squid and httpd store the next complete response. HAProxy keeps the entry that it began, as one that is being filled, until the
# response would have become stale, and passes every request on to the origin meanwhile:
#        nobody gives up                         1 request to the origin for 7 players
#        the first gives up, max-age=2           stored 2 s later
#        the first gives up, max-age=31536000    7 requests
#        the origin breaks off, max-age=60       7 requests
# Seen with HAProxy 2.6.12 (Debian 12).
#
# The longer a segment may be kept, the longer it is not kept at all, up to the max-age of the cache section, and only the load of the
# origin shows it. To boxes behind it such a shield is none: they have to join their own requests and to space out repairs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install haproxy >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
cat >"$dir/test.py" <<'EOF'
import atexit, http.server, socket, subprocess, sys, threading, time, urllib.request

LENGTH, asked = 100_000, []

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        asked.append(self.path)
        head = f"HTTP/1.0 200 OK\r\nCache-Control: max-age={self.path.split('/')[2]}\r\nContent-Length: {LENGTH}\r\n\r\n"
        self.wfile.write(head.encode() + bytes(LENGTH // 2))
        time.sleep(0.5)
        if asked.count(self.path) > 1 or "origin" not in self.path:
            self.wfile.write(bytes(LENGTH // 2))

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
with open(f"{dir}/haproxy.cfg", "w") as file:
    file.write(f"""defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s
cache media\n total-max-size 64\n max-age 31536000\nbackend origin\n server origin 127.0.0.1:{origin.server_port}
frontend players\n bind 127.0.0.1:{port}\n http-request cache-use media\n http-response cache-store media\n default_backend origin\n""")
cache = subprocess.Popen(["haproxy", "-f", f"{dir}/haproxy.cfg"])
atexit.register(cache.kill)
time.sleep(1)
for path, first in (("/nobody/60", LENGTH), ("/player/2", 9), ("/player/31536000", 9), ("/origin/60", LENGTH // 2)):
    for length in [first] + [LENGTH] * 6:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            assert len(answer.read(length)) == length
        time.sleep(0.6)
    print(path, "requests to the origin for 7 players:", asked.count(path))
found = [asked.count(path) for path in dict.fromkeys(asked)]
assert found[0] == 1 and 1 < found[1] < 7 and found[2:] == [7, 7], found
EOF
python3 "$dir/test.py" "$dir"
