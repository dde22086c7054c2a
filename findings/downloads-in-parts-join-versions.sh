#!/bin/sh
# aria2, axel, lftp and rclone join the parts of two versions of a file into one of the right length: no request of theirs names a version. Exit code 0.
#
# RFC 9110 section 15.3.7.3: partial responses may be combined only if they have the same strong validator; If-Range and If-Match are for those who ask.
# Each fetches 24 MiB over two connections from a server whose file is replaced, at the same length, between the first and the second part:
#        aria2 1.36.0       the first half of one version, the second of the other
#        axel 2.17.11       the same
#        lftp 4.9.2         the same
#        rclone 1.60.1      the same, though it had asked with HEAD and knew the time of modification
# Every 206 came with an ETag and a Last-Modified of its own version, and a Content-Range that fits both. One would expect tools that are made
# for several connections, mirrors and resumption to compare what each response says. Seen with those of Debian 12.
#
# A file that is replaced under its name (an image of firmware, "latest.mp4") arrives as one that never was, and only a
# digest tells. What may be fetched in parts needs a name of its own for each version; a server cannot help clients that send no validator.
set -eu
dir=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || :; rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install aria2 axel lftp rclone >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu" HOME="$dir"
cat >"$dir/server.py" <<'EOF'
import http.server, sys, time

LENGTH = 24 << 20


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    log_message = lambda *_: None
    # Requests with GET that the first version answers.
    left = int(sys.argv[1])

    def do_HEAD(self):
        self.answer(1 if Server.left > 0 else 2, False)

    def do_GET(self):
        Server.left -= 1
        self.answer(1 if Server.left >= 0 else 2, True)

    def answer(self, version, has_body):
        asked = {name: self.headers[name] for name in ("Range", "If-Range", "If-Match", "If-Unmodified-Since") if self.headers[name]}
        print(self.command, asked, "version", version, flush=True)
        first, end = 0, LENGTH
        if "Range" in asked:
            first, last = asked["Range"].removeprefix("bytes=").split("-")
            first, end = int(first), int(last) + 1 if last else LENGTH
        self.send_response(206 if "Range" in asked else 200)
        self.send_header("ETag", f'"version-{version}"')
        self.send_header("Last-Modified", f"Mon, 30 Nov 2026 10:00:0{version} GMT")
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in asked:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{LENGTH}")
        self.send_header("Content-Length", str(end - first))
        self.end_headers()
        try:
            while has_body and first < end:
                part = min(end - first, 65536)
                self.wfile.write(b"%d" % version * part)
                first += part
                time.sleep(0.002)
        except OSError:
            self.close_connection = True


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
with open("port", "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
EOF
cat >"$dir/look.py" <<'EOF'
import sys

data = open(sys.argv[1], "rb").read()
print(f"{sys.argv[2]}: {len(data)} bytes,", ", ".join(f"{data.count(byte)} of version {byte.decode()}" for byte in (b"1", b"2")))
assert len(data) == 24 << 20 and data.count(b"1") and data.count(b"2")
EOF
# check NAME REQUESTS COMMAND...: with the number of requests that the first version answers; the command has %U for the file's server.
check() {
  name=$1
  mkdir "$dir/$name"
  cd "$dir/$name"
  python3 ../server.py "$2" >../"$name.log" &
  server=$!
  shift 2
  while ! test -s port; do sleep 0.1; done
  url="http://127.0.0.1:$(cat port)"
  command=$(printf '%s' "$*" | sed "s|%U|$url|")
  timeout 60 sh -c "$command" >/dev/null 2>&1
  kill "$server"
  wait "$server" 2>/dev/null || :
  server=
  cat ../"$name.log"
  ! grep -q 'If-' ../"$name.log"
  python3 ../look.py file "$name"
}
check aria2 1 "aria2c -q -x2 -s2 -k1M %U/file"
# The first request of axel only asks whether ranges are served.
check axel 2 "axel -q -n 2 %U/file"
check lftp 1 "lftp -c 'pget -n 2 %U/file'"
check rclone 1 "rclone --config /dev/null copy --multi-thread-streams 2 --multi-thread-cutoff 1M --http-url %U :http:file ."
