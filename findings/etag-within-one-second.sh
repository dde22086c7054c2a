#!/bin/sh
# nginx and Caddy answer 304 for a playlist that has changed, when both versions were written in one second and have one length.
#
# Their ETag is the time of modification in whole seconds and the length, without W/: it claims that the bytes are equal. A live playlist is
# rewritten with the same number of digits; a low-latency one several times a second:
#        #EXT-X-MEDIA-SEQUENCE:100    200, ETag "6b0bcf51-19"
#        #EXT-X-MEDIA-SEQUENCE:101    304 for If-None-Match: "6b0bcf51-19", 300 ms later
# A range with If-Range of the old ETag gets 206 with bytes of the new file. httpd (microseconds, and weak while
# the file is young) tells the two apart. One would expect a strong ETag to change with the content, by RFC 9110 section 8.8.1, or to be
# weak. Seen with nginx 1.22.1 and Caddy 2.6.2 (Debian 12).
#
# A cache that revalidates against such an origin keeps the old playlist, fresh once more for its whole lifetime. The packager's part has
# to be a length that changes (a comment of varying length), or a server that hashes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install nginx caddy >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$lib"
nginx -v
echo "Caddy $(caddy version)"
cat >"$dir/test.py" <<'EOF'
import http.client, os, socket, subprocess, sys, time

dir = sys.argv[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def put(text):
    with open(f"{dir}/new", "w") as file:
        file.write(text)
    os.replace(f"{dir}/new", f"{dir}/www/live.m3u8")


def get(port, headers={}):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/live.m3u8", headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers["ETag"], answer.read()


ports = {"nginx": free_port(), "caddy": free_port()}
os.makedirs(f"{dir}/www")
os.makedirs(f"{dir}/home")
with open(f"{dir}/nginx.conf", "w") as file:
    file.write(f"""
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; server {{ listen 127.0.0.1:{ports["nginx"]}; root {dir}/www; }} }}""")
caddy = ["caddy", "file-server", "--root", f"{dir}/www", "--listen", f"127.0.0.1:{ports['caddy']}"]
servers = [
    subprocess.Popen(["nginx", "-p", dir, "-e", f"{dir}/error.log", "-c", f"{dir}/nginx.conf"]),
    subprocess.Popen(caddy, env={**os.environ, "HOME": f"{dir}/home"}, stderr=subprocess.DEVNULL),
]
found = {}
try:
    put("#EXTM3U")
    for port in ports.values():
        for _ in range(100):
            try:
                get(port)
                break
            except OSError:
                time.sleep(0.1)
    for name, port in ports.items():
        time.sleep(1.05 - time.time() % 1)
        put("#EXT-X-MEDIA-SEQUENCE:100")
        _, etag, _ = get(port)
        time.sleep(0.3)
        put("#EXT-X-MEDIA-SEQUENCE:101")
        status, _, _ = get(port, {"If-None-Match": etag})
        partial = get(port, {"If-Range": etag, "Range": "bytes=20-"})
        print(name, "ETag", etag, "If-None-Match:", status, "If-Range:", partial[0], partial[2], "file:", get(port)[2])
        found[name] = (etag[:1], status, partial[0], partial[2])
finally:
    for server in servers:
        server.terminate()
    for server in servers:
        server.wait()
assert found == {name: ('"', 304, 206, b"E:101") for name in ports}, found
EOF
python3 "$dir/test.py" "$dir"
