#!/bin/sh
# nginx joins slices of two versions of an object, without an error, when the origin identifies versions by Last-Modified.
#
# One would expect that a cache which stores an object in slices notices a new version by any validator: Content-Range, ETag and
# Last-Modified of each 206 are at hand, and RFC 9110 section 14.4 says how parts are combined. The slice module compares ETag and
# length, never Last-Modified. A file that is replaced by one of the same length gives
#        200, Content-Length 12000, 4096 bytes of version A and 7904 of version B, under version A's Last-Modified
# for as long as the slices are fresh. With an ETag the transfer is cut off at the border of the versions instead.
# Seen with nginx 1.22.1 (Debian 12).
#
# For a cache behind such a shield: a digest or an ETag from the origin is the only protection; a length proves nothing. An origin
# that serves files which are rewritten in place has to send ETag.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install nginx >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
nginx -v
cat >"$dir/test.py" <<'EOF'
import http.client, http.server, re, socket, subprocess, sys, threading, time

dir = sys.argv[1]
origin = {"version": b"A", "etag": False}


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = origin["version"] * 12000
        first, last = map(int, re.match(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
        part = body[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(part)))
        day = {b"A": "Sat, 01", b"B": "Sun, 02"}[origin["version"]]
        self.send_header("Last-Modified", day + " Jan 2022 00:00:00 GMT")
        if origin["etag"]:
            self.send_header("ETag", '"%s"' % origin["version"].decode())
        self.end_headers()
        self.wfile.write(part)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=server.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as probe:
    port = probe.getsockname()[1]
with open(f"{dir}/nginx.conf", "w") as file:
    file.write(f"""
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log; events {{}}
http {{
    access_log off; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; proxy_cache_path {dir}/stored keys_zone=z:1m;
    server {{ listen 127.0.0.1:{port};
        location / {{
            slice 4k; proxy_set_header Range $slice_range; proxy_http_version 1.1; proxy_pass http://127.0.0.1:{server.server_port};
            proxy_cache z; proxy_cache_key $uri$slice_range; proxy_cache_valid 206 1m; }} }} }}""")


def get(path, headers={}):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    try:
        body, end = answer.read(), "complete"
    except http.client.IncompleteRead as error:
        body, end = error.partial, "cut off"
    versions = {"A": body.count(b"A"), "B": body.count(b"B")}
    print(path, answer.status, "Content-Length", answer.headers["Content-Length"], versions, answer.headers["Last-Modified"], end)
    return answer.status, versions, end


nginx = subprocess.Popen(["nginx", "-p", dir, "-e", f"{dir}/error.log", "-c", f"{dir}/nginx.conf"])
try:
    time.sleep(1)
    get("/dated", {"Range": "bytes=0-4095"})
    origin["version"] = b"B"
    dated = [get("/dated"), get("/dated")]
    origin.update(version=b"A", etag=True)
    get("/tagged", {"Range": "bytes=0-4095"})
    origin["version"] = b"B"
    tagged = get("/tagged")
finally:
    nginx.terminate()
    nginx.wait()
assert dated == [(200, {"A": 4096, "B": 7904}, "complete")] * 2, dated
assert tagged == (200, {"A": 4096, "B": 0}, "cut off"), tagged
EOF
python3 "$dir/test.py" "$dir"
