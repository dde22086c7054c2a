#!/bin/sh
# Apache httpd's CacheLock does not hold back requests for an object that is not stored yet.
#
# "CacheLock on", the lock against a thundering herd, is taken for what nginx's proxy_cache_lock and Varnish do: one request goes to
# the origin, the others wait. It only lets others be served stale while one request renews a stored entry; for a new object all of
# them go to the origin at once:
#        3 players ask for a new segment of an origin that takes half a second: 3 requests to the origin
# Seen with Apache httpd 2.4 (Debian 12).
#
# Live segments are new by nature, so that the lock never acts on them: behind such a shield the origin sees every player of the first
# second, and a cache that counts on its upstream to join requests has to join them itself.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install apache2-bin >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib"
apache2 -v | head -n 1
cat >"$dir/test.py" <<'EOF'
import http.client, http.server, os, socket, subprocess, sys, threading, time

dir = sys.argv[1]
asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        time.sleep(0.5)
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


modules = f"{dir}/root/usr/lib/apache2/modules"
names = ["mpm_event", "authz_core", "proxy", "proxy_http", "cache", "cache_disk"]
os.makedirs(f"{dir}/stored")
os.makedirs(f"{dir}/locks")
with open(f"{dir}/httpd.conf", "w") as file:
    file.write("".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in names))
    file.write(f"""
ServerRoot {dir}
ServerName box
PidFile {dir}/pid
ErrorLog {dir}/error.log
Listen 127.0.0.1:{port}
User nobody
Group nogroup
ProxyPass / http://127.0.0.1:{origin.server_port}/
CacheEnable disk /
CacheRoot {dir}/stored
CacheLock on
CacheLockPath {dir}/locks
CacheLockMaxAge 5
""")
for name in (dir, f"{dir}/stored", f"{dir}/locks"):
    os.chmod(name, 0o777)
cache = subprocess.Popen(["apache2", "-f", f"{dir}/httpd.conf", "-D", "FOREGROUND"])

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    players = [threading.Thread(target=get, args=("/segment",)) for _ in range(3)]
    for player in players:
        player.start()
    for player in players:
        player.join()
    at_once = asked.count("/segment")
    get("/segment")
    print("requests to the origin:", at_once, "and with one more player a moment later:", asked.count("/segment"))
finally:
    cache.terminate()
    cache.wait()
assert at_once == asked.count("/segment") == 3, asked
EOF
python3 "$dir/test.py" "$dir"
