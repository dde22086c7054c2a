#!/bin/sh
# Varnish stores a response with "Expires: 0" for two minutes, and a 404 without any header as well.
#
# RFC 9111 section 5.3: a cache must read an invalid date, "especially the value 0", as already expired. It is how countless origins
# say "do not store"; nginx, HAProxy, Squid, httpd and Traffic Server obey. To Varnish an Expires that is no date is no Expires, and
# what says nothing gets default_ttl, 120 s, whatever its status:
#        Expires: 0                 stored, Age counts
#        Expires: -1                stored
#        404 without any header     stored
#        Cache-Control: max-age=0   asked anew
# Seen with Varnish 7.1.1 (Debian 12).
#
# A shield of that kind freezes a live playlist whose origin sends "Expires: 0", and turns one early request for a segment at the live
# edge into two minutes of 404 for everybody. A cache behind it sees a plain 200 or 404 with an Age.
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
        missing = self.path == "/segment-of-tomorrow"
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", "1")
        if self.path in ("/0", "/-1"):
            self.send_header("Expires", self.path[1:])
        if self.path == "/max-age":
            self.send_header("Cache-Control", "max-age=0")
        self.end_headers()
        self.wfile.write(b"x")


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
    requests = {}
    for path in ("/0", "/-1", "/segment-of-tomorrow", "/max-age"):
        for _ in range(2):
            status, headers, _ = get(path)
            time.sleep(1.2)
        status, headers, _ = get(path)
        requests[path] = asked.count(path)
        print(path, status, "Expires", headers["Expires"], "Age", headers["Age"], "requests to the origin:", requests[path])
finally:
    cache.terminate()
    cache.wait()
assert requests == {"/0": 1, "/-1": 1, "/segment-of-tomorrow": 1, "/max-age": 3}, requests
EOF
python3 "$dir/test.py" "$dir"
