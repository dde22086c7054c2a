#!/bin/sh
# Squid and CacheControl do not store a response that has no Date, whatever its max-age: a box that does not know the time yet has no shield.
#
# RFC 9110 section 6.6.1: a server without a clock must not send Date; a recipient with one must record the time at which such a response came and take
# that for Date. Cache-Control: max-age=600, no Date, asked three times; requests to the origin:
#        nginx, Varnish, httpd, HAProxy                              1
#        Squid                                                       3
#        hishel, requests-cache                                      1
#        CacheControl                                                3
# One would expect max-age to need no Date, as it is relative, and a cache to have a clock. Seen with nginx 1.22.1, Varnish 7.1.1, httpd 2.4, HAProxy
# 2.6.12, Squid 5.7 (Debian 12), hishel 2.0.0 (rfc=True), requests-cache 1.3.3 and CacheControl 0.14.4 (PyPI).
#
# Small servers of devices and encoders often send no Date: behind these two every player and every script reaches them. A box whose clock is not set
# must not send it; once it is set, each response should have it, errors too.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
packages="nginx varnish haproxy squid apache2"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install $packages >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
chmod 755 "$dir"
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib:$lib/varnish"
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q "hishel[httpx]==2.0.0" CacheControl==0.14.4 requests-cache==1.3.3
cat >"$dir/shields.py" <<'EOF'
import http.client, http.server, os, socket, subprocess, sys, threading, time

dir = sys.argv[1]
asked, answers = [], {}


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        status, fields = answers.get(self.path, lambda: (200, {}))()
        self.send_response_only(status)
        for name, value in fields.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", "4")
        self.end_headers()
        if status != 204:
            self.wfile.write(b"body")


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
modules = f"{dir}/root/usr/lib/apache2/modules"
loaded = "".join(f"LoadModule {name}_module {modules}/mod_{name}.so\n" for name in "mpm_event authz_core proxy proxy_http cache cache_disk".split())
SHIELDS = {
    "nginx": ("nginx -p {d} -e {d}/error.log -c {d}/conf", """daemon off; master_process off; pid {d}/pid; events {{}} http {{ access_log off;
client_body_temp_path {d}/1; proxy_temp_path {d}/2; fastcgi_temp_path {d}/3; uwsgi_temp_path {d}/4; scgi_temp_path {d}/5; proxy_cache_path {d}/6 keys_zone=z:1m;
server {{ listen 127.0.0.1:{p}; location / {{ proxy_cache z; proxy_pass http://127.0.0.1:{o}; }} }} }}"""),
    "varnish": ("varnishd -F -n {d}/w -a 127.0.0.1:{p} -b 127.0.0.1:{o} -s malloc,16m", ""),
    "squid": ("squid -N -f {d}/conf", """http_port 127.0.0.1:{p} accel defaultsite=origin no-vhost
cache_peer 127.0.0.1 parent {o} 0 no-query no-digest no-netdb-exchange originserver default name=origin
http_access allow all
cache_mem 16 MB
pid_filename none
access_log none
cache_log {d}/cache.log
coredump_dir {d}
mime_table {r}/usr/share/squid/mime.conf
icon_directory {r}/usr/share/squid/icons
error_directory {r}/usr/share/squid-langpack/en
unlinkd_program {r}/usr/lib/squid/unlinkd
pinger_enable off
visible_hostname box
shutdown_lifetime 0 seconds
"""),
    "httpd": ("apache2 -f {d}/conf -D FOREGROUND", loaded + """ServerRoot {d}
ServerName box
PidFile {d}/pid
ErrorLog {d}/error.log
Listen 127.0.0.1:{p}
User nobody
Group nogroup
ProxyPass / http://127.0.0.1:{o}/
CacheEnable disk /
CacheRoot {d}/stored
"""),
    "haproxy": ("haproxy -f {d}/conf", """defaults
    mode http
    timeout client 5s
    timeout server 5s
    timeout connect 5s
cache small
    total-max-size 4
    max-age 3600
frontend players
    bind 127.0.0.1:{p}
    http-request cache-use small
    http-response cache-store small
    default_backend origin
backend origin
    server origin 127.0.0.1:{o}
"""),
}


def shields():
    """Each of them, as a function that asks it for a path; it is ended behind its turn."""
    for name, (command, configuration) in SHIELDS.items():
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        place = f"{dir}/{name}"
        os.makedirs(f"{place}/stored")
        for folder in (place, f"{place}/stored"):
            os.chmod(folder, 0o777)
        values = {"d": place, "p": port, "o": origin.server_port, "r": f"{dir}/root"}
        with open(f"{place}/conf", "w") as file:
            file.write(configuration.format(**values))

        def get(path):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer

        cache = subprocess.Popen(command.format(**values).split(), stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                time.sleep(0.1)
                try:
                    get("/ready")
                    break
                except OSError:
                    pass
            asked.clear()
            yield name, get
        finally:
            cache.terminate()
            cache.wait()
EOF
cat >"$dir/test.py" <<'EOF'
import cachecontrol, hishel.httpx, requests, requests_cache

from shields import *

clients = {
    "hishel": hishel.httpx.CacheClient(rfc=True),
    "CacheControl": cachecontrol.CacheControl(requests.Session()),
    "requests-cache": requests_cache.CachedSession(backend="memory", cache_control=True),
}
for name in (*SHIELDS, *clients):
    answers[f"/{name}"] = lambda: (200, {"Cache-Control": "max-age=600"})
found = {}
for name, get in shields():
    for _ in range(3):
        get(f"/{name}")
        time.sleep(0.1)
    found[name] = asked.count(f"/{name}")
url = f"http://127.0.0.1:{origin.server_port}"
for name, client in clients.items():
    for _ in range(3):
        client.get(f"{url}/{name}")
    found[name] = asked.count(f"/{name}")
print(found)
assert found == {name: 3 if name in ("squid", "CacheControl") else 1 for name in found}, found
EOF
cd "$dir"
venv/bin/python test.py "$dir"
