#!/bin/sh
# A range with If-Match of the version that the origin has: nginx answers 412 from its cache, Varnish 206 of the version before.
#
# RFC 9111 section 4.3.2: If-Match is not applicable to a cache; what only an origin can judge goes on to the origin. The shield has
# version a for a minute, the origin has b by now, and a client that knows b by other means asks for bytes 0 to 9 with If-Match: "b":
#        nginx        412                       the origin is not asked
#        Varnish      206, bytes of version a   the origin is not asked
# httpd asks the origin and gives bytes of b; Squid answers as nginx does, HAProxy 200 and all of a. One would expect a request that names
# its version to get it or to fail, and 412 to speak for the origin. Seen with nginx 1.22.1 and Varnish 7.1.1 (Debian 12).
#
# A receiver that repairs what it lost knows the new version before the shield does. Behind these two If-Match is a failure for as long as
# the old version is fresh, or no condition at all: the ETag of each 206 has to be compared before its bytes are used, and another source asked.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install nginx varnish >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib:$lib/varnish"
cat >"$dir/test.py" <<'EOF'
import atexit, http.client, http.server, socket, subprocess, sys, threading, time
version, asked = "a", []
class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None
    def do_GET(self):
        asked.append(self.path)
        head = f'HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\nETag: "{version}"\r\nAccept-Ranges: bytes\r\nContent-Length: 100'
        self.wfile.write(f"{head}\r\n\r\n{version * 100}".encode())

def get(port, fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/film", headers=fields)
    answer = connection.getresponse()
    return answer.status, answer.headers["ETag"], answer.read()[:10].decode()

origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
dir, to, found = sys.argv[1], f"127.0.0.1:{origin.server_port}", []
with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
    ports = [probe.getsockname()[1] for probe in (one, two)]
with open(f"{dir}/conf", "w") as file:
    file.write(f"""daemon off; master_process off; pid {dir}/pid; events {{}} http {{ access_log off; client_body_temp_path {dir}/1;
proxy_temp_path {dir}/2; fastcgi_temp_path {dir}/3; uwsgi_temp_path {dir}/4; scgi_temp_path {dir}/5; proxy_cache_path {dir}/6 keys_zone=z:1m;
server {{ listen 127.0.0.1:{ports[0]}; location / {{ proxy_cache z; proxy_pass http://{to}; }} }} }}""")
commands = f"nginx -p {dir} -e {dir}/error.log -c {dir}/conf", f"varnishd -F -n {dir}/w -a 127.0.0.1:{ports[1]} -b {to} -s malloc,16m"
for port, command in zip(ports, commands):
    cache = subprocess.Popen(command.split(), stderr=subprocess.DEVNULL)
    atexit.register(lambda cache=cache: cache.terminate() or cache.wait())
    time.sleep(4)
    version = "a"
    assert get(port, {}) == (200, '"a"', "a" * 10)
    version = "b"
    found.append(get(port, {"Range": "bytes=0-9", "If-Match": '"b"'}))
    print(command.split()[0], found[-1], "requests to the origin:", len(asked))
assert [status for status, _, _ in found] == [412, 206] and found[1][1:] == ('"a"', "a" * 10) and len(asked) == 2, found
EOF
python3 "$dir/test.py" "$dir"
