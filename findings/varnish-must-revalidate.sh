#!/bin/sh
# Varnish serves stale responses that say must-revalidate.
#
# RFC 9111 section 5.2.2.2: a cache must not reuse such a response once it is stale until the origin has validated it. Varnish's grace
# of 10 s, which is on by default, does not read the directive: the first request after max-age gets the old body, with an Age above
# max-age, while the new one is fetched for the next:
#        Cache-Control: max-age=1, must-revalidate
#        after 3 s: body 1, Age 3      then: body 2, Age 0
# "Cache-Control: max-age=1, stale-while-revalidate=0" ends the grace. Seen with Varnish 7.1.1 (Debian 12).
#
# With few players on a live playlist each reload gets the state of the reload before, one target duration or more old: the distance
# to the live edge grows by that, and blocking reloads answer without the part that was asked for. A cache behind it has to compare Age
# with max-age, and may not take a response as fresh because it came from a shield just now.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install varnish >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
lib="$dir/root/usr/lib/$(uname -m)-linux-gnu"
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$lib:$lib/varnish"
varnishd -V 2>&1 | head -n 1
cat >"$dir/test.py" <<'EOF'
import http.client, http.server, socket, subprocess, sys, threading, time

dir = sys.argv[1]
asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        body = str(asked.count(self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=1, " + ("must-revalidate" if self.path == "/must" else "stale-while-revalidate=0"))
        self.end_headers()
        self.wfile.write(body)


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


with open(f"{dir}/test.vcl", "w") as file:
    file.write(f'vcl 4.1; backend origin {{ .host = "127.0.0.1"; .port = "{origin.server_port}"; }}')
cache = subprocess.Popen(
    ["varnishd", "-F", "-n", f"{dir}/work", "-a", f"127.0.0.1:{port}", "-f", f"{dir}/test.vcl", "-s", "malloc,16m"],
    stderr=subprocess.DEVNULL,
)

try:
    for _ in range(100):
        time.sleep(0.1)
        try:
            get("/ready")
            break
        except OSError:
            pass
    answers = {}
    for path in ("/must", "/zero"):
        for wait_s in (0, 3, 0.5):
            time.sleep(wait_s)
            status, headers, body = get(path)
            answers.setdefault(path, []).append((body, int(headers["Age"]) > 1))
            print(path, headers["Cache-Control"], "body", body.decode(), "Age", headers["Age"])
finally:
    cache.terminate()
    cache.wait()
assert answers["/must"] == [(b"1", False), (b"1", True), (b"2", False)], answers
assert answers["/zero"] == [(b"1", False), (b"2", False), (b"2", False)], answers
EOF
python3 "$dir/test.py" "$dir"
