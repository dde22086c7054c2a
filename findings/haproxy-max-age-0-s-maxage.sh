#!/bin/sh
# HAProxy stores nothing that says max-age=0, although s-maxage is there for shared caches.
#
# RFC 9111 section 5.2.2.10: in a shared cache s-maxage overrides max-age. In HAProxy it does so for every max-age but 0, which forbids
# storing whatever else is said:
#        max-age=1, s-maxage=60    stored for 60 s
#        max-age=0, s-maxage=60    asked anew each time; nginx, Varnish, Squid, httpd and Traffic Server store it
# Seen with HAProxy 2.6.12 (Debian 12).
#
# "max-age=0, s-maxage=N" is what a live origin says for "browsers ask, shields hold": with HAProxy as the shield every reload of
# every player reaches the origin, and no setting of its cache section changes that.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install haproxy >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib"
haproxy -v | head -n 1
cat >"$dir/test.py" <<'EOF'
import http.client, http.server, socket, subprocess, sys, threading, time

dir = sys.argv[1]
asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.send_header("Cache-Control", self.path[1:].replace("_", ", "))
        self.end_headers()
        self.wfile.write(b"body")


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]


def get(path, headers={}):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


with open(f"{dir}/haproxy.cfg", "w") as file:
    file.write(f"""
defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
cache small
    total-max-size 4
    max-age 3600
frontend players
    bind 127.0.0.1:{port}
    http-request cache-use small
    http-response cache-store small
    default_backend origin
backend origin
    server origin 127.0.0.1:{origin.server_port}
""")
cache = subprocess.Popen(["haproxy", "-f", f"{dir}/haproxy.cfg"])

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    requests = {}
    for path in ("/max-age=1_s-maxage=60", "/max-age=0_s-maxage=60", "/s-maxage=60_max-age=0"):
        for _ in range(3):
            _, headers, _ = get(path)
            time.sleep(1.1)
        requests[headers["Cache-Control"]] = asked.count(path)
    for name, number in requests.items():
        print(name, "requests to the origin:", number)
finally:
    cache.terminate()
    cache.wait()
assert list(requests.values()) == [1, 3, 3], requests
EOF
python3 "$dir/test.py" "$dir"
