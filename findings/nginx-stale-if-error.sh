#!/bin/sh
# nginx obeys stale-if-error when the connection to the origin breaks, not when the origin answers 500, 502, 503 or 504.
#
# RFC 5861 section 4 counts as an error whatever would make the cache answer 500, 502, 503 or 504. A response with
# "max-age=1, stale-if-error=60", stored by nginx, asked for again 3 s later:
#        the origin closes the connection     200, stale
#        the origin answers 503               503, and the same for 500, 502 and 504
#        without stale-if-error               502 and 503
# The documentation of proxy_cache_use_stale says that a stale response is permitted by the directive "if an error occurred"; one would
# expect what httpd does, stale in all of these cases, or undici, for each of the four statuses. Seen with nginx 1.22.1 (Debian 12).
#
# A packager's gateway or load balancer answers 503 more often than connections break: all players see it at once, though the shield
# holds the playlist and the origin allowed to use it. The shield needs proxy_cache_use_stale, and a cache behind it stale responses of its own.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install nginx >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
cat >"$dir/test.py" <<'EOF'
import atexit, http.server, socket, subprocess, sys, threading, time, urllib.error, urllib.parse, urllib.request
asked = []

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        asked.append(self.path)
        how, control = urllib.parse.unquote(self.path[1:]).split("/")
        if asked.count(self.path) > 1 and how == "close":
            return
        self.send_response(200 if asked.count(self.path) == 1 else int(how))
        self.send_header("Cache-Control", control)
        self.end_headers()

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
with open(f"{dir}/nginx.conf", "w") as file:
    file.write(f"""daemon off; master_process off; pid {dir}/pid; events {{}} http {{ access_log off; client_body_temp_path {dir}/1;
proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3; uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5; proxy_cache_path {dir}/stored keys_zone=z:1m;
server {{ listen 127.0.0.1:{port}; location / {{ proxy_cache z; proxy_pass http://127.0.0.1:{origin.server_port}; }} }} }}""")
cache = subprocess.Popen(["nginx", "-p", dir, "-e", f"{dir}/error.log", "-c", f"{dir}/nginx.conf"])
atexit.register(cache.kill)
found = []
for wait in (2, 3):
    time.sleep(wait)
    for control in ("max-age=1, stale-if-error=60", "max-age=1"):
        for how in ("close", "500", "502", "503", "504"):
            try:
                found.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/{how}/{urllib.parse.quote(control)}").status)
            except urllib.error.HTTPError as error:
                found.append(error.code)
        print(control, found[-5:])
assert found == [200] * 11 + [500, 502, 503, 504] + [502, 500, 502, 503, 504], found
EOF
python3 "$dir/test.py" "$dir"
