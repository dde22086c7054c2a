#!/bin/sh
# Apache httpd serves a stale response as 200 for as long as its origin answers 5xx, whatever stale-if-error says, and without an Age.
#
# RFC 5861 section 4: stale-if-error=N allows stale responses for N seconds, and one would expect 0 to forbid them; RFC 9111 section
# 5.2.2.10: s-maxage means proxy-revalidate too. httpd has CacheStaleOnError, on by default, without a limit of time.
# An origin that fails from the second request on, asked after 4 s and 12 s:
#        max-age=1                       503: 200 stale    broken connection: 200 stale
#        max-age=1, stale-if-error=0     503: 200 stale    broken connection: 200 stale
#        s-maxage=1                      503: 200 stale    broken connection: 502
#        max-age=1, must-revalidate      503: 503          broken connection: 502
# nginx, Squid and HAProxy give the error in each of these cases, Varnish after 12 s. The stale response has "Warning: 111 Revalidation
# failed", which RFC 9111 dropped, and no Age, though its section 5.1 asks for it. Seen with httpd 2.4 (Debian 12).
#
# A live playlist behind such a shield stands still with status 200 while the origin is down, so that no player changes to another
# one. A cache behind it sees the age by Date alone, or has to see that a live playlist does not move.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root" "$dir/stored"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install apache2-bin >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done && chmod 777 "$dir" "$dir/stored"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
cat >"$dir/test.py" <<'EOF'
import atexit, http.client, http.server, socket, subprocess, sys, threading, time, urllib.parse
asked, controls = [], ["max-age=1", "max-age=1, stale-if-error=0", "s-maxage=1", "max-age=1, must-revalidate"]

class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        asked.append(self.path)
        how, control = urllib.parse.unquote(self.path[1:]).split("/")
        answer = "200 OK" if asked.count(self.path) == 1 else "503 Service Unavailable"
        if asked.count(self.path) == 1 or how == "503":
            self.wfile.write(f'HTTP/1.0 {answer}\r\nCache-Control: {control}\r\nETag: "a"\r\nContent-Length: 1\r\n\r\nx'.encode())

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
modules = "mpm_event authz_core proxy proxy_http cache cache_disk".split()
load = "".join(f"LoadModule {name}_module {dir}/root/usr/lib/apache2/modules/mod_{name}.so\n" for name in modules)
with open(f"{dir}/httpd.conf", "w") as file:
    file.write(f"""{load}ServerRoot {dir}\nServerName box\nPidFile {dir}/pid\nErrorLog {dir}/error.log\nListen 127.0.0.1:{port}
User nobody\nGroup nogroup\nProxyPass / http://127.0.0.1:{origin.server_port}/\nCacheEnable disk /\nCacheRoot {dir}/stored\n""")
cache = subprocess.Popen(["apache2", "-f", f"{dir}/httpd.conf", "-D", "FOREGROUND"])
atexit.register(lambda: cache.terminate() or cache.wait())
found = {f"/{how}/{urllib.parse.quote(control)}": [] for control in controls for how in ("503", "broken")}
for wait in (2, 4, 8):
    time.sleep(wait)
    for path in found:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        found[path].append(answer.status)
        print(path, answer.status, "Warning", answer.headers["Warning"], "Age", answer.headers["Age"])
assert list(found.values()) == [[200, 200, 200]] * 5 + [[200, 502, 502], [200, 503, 503], [200, 502, 502]], found
EOF
python3 "$dir/test.py" "$dir"
