#!/bin/sh
# Varnish answers 416 to a request for two ranges that exist, and to a unit of ranges that it does not know.
#
# RFC 9110 section 14.2: a server ignores a Range whose unit it does not understand, and may ignore several ranges; in both cases the
# answer is 200 with everything, as nginx, HAProxy and Traffic Server give. Squid and httpd serve multipart/byteranges. 416 is for
# ranges outside the object. Varnish says 416 of an object of 1000 bytes, in its cache or not:
#        bytes=0-9          206
#        bytes=0-9,20-29    416  Content-Range: bytes */1000
#        seconds=0-9        416
# Seen with Varnish 7.1.1 (Debian 12).
#
# Clients take 416 as "the object is shorter than you think" and drop what they have. A repair client that asks for its gaps in one
# request has to fall back to single ranges on 416, and must not conclude anything about the length.
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
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(bytes(1000))


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
    answers = {}
    for range in ("bytes=0-9", "bytes=0-9,20-29", "seconds=0-9"):
        get("/")
        status, headers, body = get("/", {"Range": range})
        answers[range] = status
        print(range, status, headers["Content-Range"], len(body), "bytes")
finally:
    cache.terminate()
    cache.wait()
assert answers == {"bytes=0-9": 206, "bytes=0-9,20-29": 416, "seconds=0-9": 416}, answers
EOF
python3 "$dir/test.py" "$dir"
