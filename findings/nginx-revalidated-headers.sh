#!/bin/sh
# nginx keeps the headers of the first response when a revalidation is answered with new ones.
#
# RFC 9111 section 3.2: on a 304 a cache updates the stored headers with those of the 304. Squid, Varnish, httpd and Traffic Server
# do. nginx takes the new lifetime for itself, and serves the old headers on:
#        stored:   Cache-Control: max-age=1     X-Version: old
#        304:      Cache-Control: max-age=100   X-Version: new
#        served:   Cache-Control: max-age=1     X-Version: old     for 100 s, and without an Age
# Seen with nginx 1.22.1 (Debian 12).
#
# A cache behind it believes max-age=1 and asks every second for an object that is fresh for 100 s; in the other direction, an origin
# that shortens a lifetime (a live playlist that ended and begins anew) is not heard. What an origin changes in headers alone, such
# as CMSD, Link or Access-Control-Allow-Origin, needs a new ETag to get past an nginx shield.
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
        if self.headers["If-None-Match"]:
            self.send_response(304)
            age, version = "100", "new"
        else:
            self.send_response(200)
            self.send_header("Content-Length", "4")
            age, version = "1", "old"
        self.send_header("Cache-Control", f"max-age={age}")
        self.send_header("X-Version", version)
        self.send_header("ETag", '"e"')
        self.end_headers()
        if version == "old":
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


with open(f"{dir}/nginx.conf", "w") as file:
    file.write(f"""
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; proxy_cache_path {dir}/stored keys_zone=z:1m;
    server {{ listen 127.0.0.1:{port}; location / {{
        proxy_pass http://127.0.0.1:{origin.server_port}; proxy_cache z; proxy_cache_revalidate on; add_header X-Cache $upstream_cache_status; }} }} }}""")
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
    for wait_s in (0, 2.2, 2.2, 2.2):
        time.sleep(wait_s)
        status, headers, _ = get("/")
        answers.append((headers["X-Cache"], headers["Cache-Control"], headers["X-Version"]))
        print(status, *answers[-1], "Age", headers["Age"])
finally:
    cache.terminate()
    cache.wait()
old = ("max-age=1", "old")
assert answers == [("MISS", *old), ("REVALIDATED", *old), ("HIT", *old), ("HIT", *old)], answers
EOF
python3 "$dir/test.py" "$dir"
