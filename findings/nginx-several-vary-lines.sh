#!/bin/sh
# nginx obeys the last line of Vary only, and a "*" only if it stands alone on its line.
#
# RFC 9110 section 5.2: several lines of a field are one list; section 12.5.5: a list with "*" in it never matches. Varnish, Squid, httpd
# and HAProxy keep the two players of the second row apart. nginx overwrites what it found with the next line:
#        Vary: Accept-Encoding, Origin                    two players, two requests to the origin
#        Vary: Origin, then Vary: Accept-Encoding         one: the second gets Access-Control-Allow-Origin of the first
#        Vary: Accept-Encoding, then Vary: Origin         two
#        Vary: *                                          never served from the cache
#        Vary: Accept-Encoding, *                         served from the cache (by Varnish 7.1.1 too)
# Seen with nginx 1.22.1 (Debian 12).
#
# Two lines are the usual case: one by the module that compresses, one by the one for CORS, in the order of their filters. Behind such
# a shield the page that asked first plays, and the browsers of all others refuse the playlist, or get it in an encoding that they did not
# accept. A cache behind it cannot tell, since both lines arrive. Who adds to Vary at several places has to join all of it in one line.
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
import http.server, socket, subprocess, sys, threading, time, urllib.parse, urllib.request

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        self.send_response(200)
        fields = [("Vary", line) for line in urllib.parse.unquote(self.path[1:]).split("|")]
        for name, value in fields + [("Access-Control-Allow-Origin", self.headers["Origin"]), ("Cache-Control", "max-age=60")]:
            self.send_header(name, value)
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
time.sleep(2)
try:
    found = []
    for vary in ("Accept-Encoding, Origin", "Origin|Accept-Encoding", "Accept-Encoding|Origin", "*", "Accept-Encoding, *"):
        found.append([])
        for page in ("https://a.example", "https://b.example"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{urllib.parse.quote(vary)}", headers={"Origin": page})
            found[-1].append(urllib.request.urlopen(request, timeout=10).headers["Access-Control-Allow-Origin"])
        print(vary, found[-1])
finally:
    cache.terminate()
    cache.wait()
assert [first != second for first, second in found] == [True, False, True, True, False], found
EOF
python3 "$dir/test.py" "$dir"
