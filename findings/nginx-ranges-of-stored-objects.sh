#!/bin/sh
# nginx answers a range of an object in its own cache with 200 and all of it, if the origin's response lacked Accept-Ranges.
#
# One would expect a cache that holds a complete object, with a strong ETag and a known length, to serve any range of it: RFC 9110
# section 14.3 makes Accept-Ranges of the origin a hint about the origin, and Varnish, Squid, httpd and Traffic Server serve 206 in
# this case. nginx takes it as a permission: without it "Range: bytes=0-9" gets 200 with everything, from its disk
#        no Accept-Ranges       200, 100000 bytes
#        Accept-Ranges: bytes   206, 10 bytes
# until proxy_force_ranges is set. Seen with nginx 1.22.1 (Debian 12).
#
# Many origins that build responses by program send no Accept-Ranges. Players of byte-range HLS and of on-demand DASH (one file with a
# sidx) then get the whole film for each segment; a repair client that asks for what it lost gets the whole object once per gap.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install nginx >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib"
nginx -v
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
        self.send_header("Content-Length", "100000")
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("ETag", '"e"')
        if self.path == "/announced":
            self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self.wfile.write(bytes(100000))


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


with open(f"{dir}/nginx.conf", "w") as file:
    file.write(f"""
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; proxy_cache_path {dir}/stored keys_zone=z:1m;
    server {{ listen 127.0.0.1:{port}; location / {{
        proxy_pass http://127.0.0.1:{origin.server_port}; proxy_cache z; add_header X-Cache $upstream_cache_status; }} }} }}""")
cache = subprocess.Popen(["nginx", "-p", dir, "-e", f"{dir}/error.log", "-c", f"{dir}/nginx.conf"])

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    answers = []
    for path in ("/silent", "/announced"):
        get(path)
        status, headers, body = get(path, {"Range": "bytes=0-9"})
        answers.append((headers["X-Cache"], status, len(body)))
        print(path, *answers[-1], headers["Content-Range"])
finally:
    cache.terminate()
    cache.wait()
assert answers == [("HIT", 200, 100000), ("HIT", 206, 10)], answers
EOF
python3 "$dir/test.py" "$dir"
