#!/bin/sh
# A request that waits for nginx's proxy_cache_lock is looked after every half second, and never before the object is complete.
#
# One would expect of a lock that joins equal requests ("collapsed forwarding") that the waiting ones get the object when it has
# arrived, or as it arrives, as Varnish and Squid do. nginx looks again after 500 ms, and hands out only what is stored whole:
#        origin takes 100 ms:                    first after 0.10 s, second after 0.50 s
#        origin sends 6 chunks in 1.8 s:         first byte for the first at once, for the second after 2.0 s
# Seen with nginx 1.22.1 (Debian 12).
#
# For low-latency HLS and DASH behind an nginx shield: parts of 200 ms reach all players but the first of each machine up to half a
# second late, and a segment that is sent chunk by chunk as it is encoded arrives as one piece, at its end. Players measure the
# throughput of a transfer that was a wait.
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
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        pieces, pause_s = (6, 0.3) if self.path == "/slow" else (1, 0)
        time.sleep(0 if self.path == "/slow" else 0.1)
        for _ in range(pieces):
            self.wfile.write(b"4\r\nbody\r\n")
            time.sleep(pause_s)
        self.wfile.write(b"0\r\n\r\n")


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
        proxy_pass http://127.0.0.1:{origin.server_port}; proxy_cache z; proxy_http_version 1.1; proxy_cache_lock on; }} }} }}""")
cache = subprocess.Popen(["nginx", "-p", dir, "-e", f"{dir}/error.log", "-c", f"{dir}/nginx.conf"])

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    def first_byte_s(path, delay_s, results):
        time.sleep(delay_s)
        begin = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        connection.getresponse().read(1)
        results[delay_s] = time.monotonic() - begin

    def pair(path):
        results = {}
        clients = [threading.Thread(target=first_byte_s, args=(path, delay_s, results)) for delay_s in (0, 0.03)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        first, second = results[0], results[0.03]
        print(f"{path}: first byte after {first:.2f} s and {second:.2f} s, requests to the origin: {asked.count(path)}")
        return first, second, asked.count(path)

    fast = pair("/fast")
    slow = pair("/slow")
finally:
    cache.terminate()
    cache.wait()
assert fast[2] == slow[2] == 1
assert fast[0] < 0.4 < 0.45 < fast[1], fast
assert slow[0] < 0.5 and slow[1] > 1.4, slow
EOF
python3 "$dir/test.py" "$dir"
