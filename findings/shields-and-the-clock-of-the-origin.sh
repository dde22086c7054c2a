#!/bin/sh
# httpd and Squid ask for "max-age=60" anew each time if the origin's clock is ten minutes slow; nginx, HAProxy and Varnish keep what has Expires longer
# by the seconds that it is fast.
#
# RFC 9111 section 4.2.1: the lifetime by Expires is Expires less Date, both of the origin's clock; section 4.2.3: a response whose Date lies behind
# is as old as that, for max-age too. Lifetimes of the origin's clock, asked for at once, after 2.5 s and after 5 s, by requests to the origin:
#                                            by the RFC    nginx    HAProxy    Varnish    httpd    Squid
#        10 min slow, max-age=60             3             1        1          1          3        3
#        10 min slow, Expires: Date + 60     3             3        3          1          3        3
#        9 s fast, Expires: Date + 1         3             1        1          1          3        3
#        9 s fast, max-age=1                 3             3        3          3          3        3
# One would expect max-age to need no clock, and Date to be read where Expires is. Only httpd and Squid go by both sections. Seen with nginx 1.22.1,
# HAProxy 2.6.12, Varnish 7.1.1 (default_grace=0, or it serves once more what is stale), httpd 2.4 and Squid 5.7 (Debian 12).
#
# A packager whose clock is slow has shields that keep nothing, with max-age and without an error; one whose clock is fast has live playlists that are
# too old by as much. A headend or a monitor should compare the Date of a response with its own clock, and a box should send no Date before its clock is
# set (RFC 9110 section 6.6.1).
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
        for name, value in {"Date": self.date_time_string(), **fields}.items():
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
from email.utils import formatdate

from shields import *

SHIELDS["varnish"] = (SHIELDS["varnish"][0] + " -p default_grace=0", "")
CASES = {
    "10 min slow, max-age=60": (-600, None, 60),
    "10 min slow, Expires": (-600, 60, None),
    "9 s fast, Expires": (9, 1, None),
    "9 s fast, max-age=1": (9, None, 1),
}


def answer(fast, expires, max_age):
    now = time.time() + fast
    fields = {"Date": formatdate(now, usegmt=True)}
    if expires is not None:
        fields["Expires"] = formatdate(now + expires, usegmt=True)
    if max_age is not None:
        fields["Cache-Control"] = f"max-age={max_age}"
    return 200, fields


paths = {case: f"/{number}" for number, case in enumerate(CASES)}
for case, values in CASES.items():
    answers[paths[case]] = lambda values=values: answer(*values)
found = {}
for name, get in shields():
    for wait in (2.5, 2.5, 0):
        for path in paths.values():
            get(path)
        time.sleep(wait)
    found[name] = [asked.count(path) for path in paths.values()]
    print(name, dict(zip(paths, found[name])))
assert found == {
    "nginx": [1, 3, 1, 3],
    "varnish": [1, 1, 1, 3],
    "squid": [3, 3, 3, 3],
    "httpd": [3, 3, 3, 3],
    "haproxy": [1, 3, 1, 3],
}, found
EOF
python3 "$dir/test.py" "$dir"
