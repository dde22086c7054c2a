#!/bin/sh
# nginx stores a response with both Expires and Cache-Control, or not, by which of the two lines comes first.
#
# RFC 9111 section 5.3: where Cache-Control has max-age, Expires must be ignored, and the order of header lines has no meaning (RFC 9110
# section 5.3). Varnish, HAProxy, Squid, httpd and Traffic Server store both of these for a minute. nginx goes by the first line:
#        Cache-Control: max-age=60, then Expires: -1     stored
#        Expires: -1, then Cache-Control: max-age=60     asked anew each time
# Seen with nginx 1.22.1 (Debian 12).
#
# Frameworks and CDNs put the lines in an order that nobody chooses, so that an update of the origin can take the shield away without any
# change of values. A cache behind it sees the same two lines in both cases.
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
        lines = [("Expires", "-1"), ("Cache-Control", "max-age=60")]
        for name, value in lines if self.path == "/expires-first" else reversed(lines):
            self.send_header(name, value)
        self.send_header("Content-Length", "4")
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
    requests = {}
    for path in ("/expires-last", "/expires-first"):
        for _ in range(3):
            _, headers, _ = get(path)
        requests[path] = asked.count(path)
        print(path, "Expires", headers["Expires"], "Cache-Control", headers["Cache-Control"], "requests to the origin:", requests[path])
finally:
    cache.terminate()
    cache.wait()
assert requests == {"/expires-last": 1, "/expires-first": 3}, requests
EOF
python3 "$dir/test.py" "$dir"
