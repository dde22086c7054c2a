#!/bin/sh
# Squid does not store what may be kept longest: max-age of 2147483648 seconds.
#
# RFC 9111 section 1.2.2 names this very number, 2^31, as what a cache should take for anything greater than it can represent, and
# many read it as the way to write "forever". Squid takes such values as below zero:
#        max-age=2147483647     stored
#        max-age=2147483648     asked anew each time
#        s-maxage=2147483648    asked anew each time
# nginx, Varnish, HAProxy, httpd and Traffic Server store all three. Seen with Squid 5.7 (Debian 12).
#
# An origin whose segments never change should write one year, 31536000, as RFC 8246 does; with 2^31 a Squid on the way fetches each
# segment once per player.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install squid >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib"
squid -v | head -n 1
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
        self.send_header("Cache-Control", self.path[1:])
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


with open(f"{dir}/squid.conf", "w") as file:
    file.write(f"""
http_port 127.0.0.1:{port} accel defaultsite=origin no-vhost
cache_peer 127.0.0.1 parent {origin.server_port} 0 no-query no-digest no-netdb-exchange originserver default name=origin
http_access allow all
cache_mem 16 MB
pid_filename none
access_log none
cache_log {dir}/cache.log
coredump_dir {dir}
mime_table {dir}/root/usr/share/squid/mime.conf
icon_directory {dir}/root/usr/share/squid/icons
error_directory {dir}/root/usr/share/squid-langpack/en
unlinkd_program {dir}/root/usr/lib/squid/unlinkd
pinger_enable off
visible_hostname box
shutdown_lifetime 0 seconds
""")
cache = subprocess.Popen(["squid", "-N", "-f", f"{dir}/squid.conf"])

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    requests = {}
    for path in ("/max-age=2147483647", "/max-age=2147483648", "/s-maxage=2147483648"):
        for _ in range(3):
            get(path)
            time.sleep(0.2)
        requests[path] = asked.count(path)
        print(path[1:], "requests to the origin:", requests[path])
finally:
    cache.terminate()
    cache.wait()
assert list(requests.values()) == [1, 3, 3], requests
EOF
python3 "$dir/test.py" "$dir"
