#!/bin/sh
# Varnish answers 503 for an origin that sends 103 (Early Hints) before its response.
#
# RFC 9110 section 15.2: a proxy must forward informational responses, or may drop 103, and wait for the final one. HAProxy, Squid, httpd and
# Traffic Server do. Varnish takes the 103 for the response, has no use for it, and gives 503 "Backend fetch failed" to the player;
# the same origin without 103 is served. One would expect 1xx to be skipped, as 100 is. Seen with Varnish 7.1.1 (Debian 12).
#
# An origin that begins to send 103 to browsers takes its Varnish shields off the air, at all URLs at once. A cache that has such a
# shield before it sees 503 and should go on with stale objects or another upstream, not store the failure.
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
varnishd -V 2>&1 | head -n 1
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
        if self.path == "/hints":
            self.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </init.mp4>; rel=preload; as=fetch\r\n\r\n")
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.send_header("Cache-Control", "max-age=60")
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


with open(f"{dir}/test.vcl", "w") as file:
    file.write(f'vcl 4.1; backend origin {{ .host = "127.0.0.1"; .port = "{origin.server_port}"; }}')
cache = subprocess.Popen(
    ["varnishd", "-F", "-n", f"{dir}/work", "-a", f"127.0.0.1:{port}", "-f", f"{dir}/test.vcl", "-s", "malloc,16m"],
    stderr=subprocess.DEVNULL,
)

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    found = {}
    for path in ("/plain", "/hints", "/plain"):
        status, headers, body = get(path)
        found[path] = status
        print(path, status, body[:4])
finally:
    cache.terminate()
    cache.wait()
assert found == {"/plain": 200, "/hints": 503}, found
EOF
python3 "$dir/test.py" "$dir"
