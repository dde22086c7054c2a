#!/bin/sh
# h2o does not read If-Range: who goes on with an interrupted download gets the rest of another version as 206.
#
# RFC 9110 section 13.1.5: if the validator in If-Range is not that of the file, the server must ignore Range and send all of it; it is the
# field that makes the continuation of a download safe. Of a file that was replaced meanwhile:
#        Range: bytes=6-, If-Range: "the old ETag"      206, bytes 6 to 11 of the new file
#        Range: bytes=6-, If-Range: the old date        206, the same
#        Range: seconds=6-                              416, where an unknown unit has to be ignored (section 14.2)
# nginx, httpd, Caddy and lighttpd give 200 and all of the new file in the first two cases. Seen with h2o 2.2.5 (Debian 12).
#
# The only sign is the ETag or Last-Modified of the 206. A headend that pulls and a repair client have to compare it with what they hold
# before a byte is joined, also where they sent If-Range, and to begin anew when it differs.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root" "$dir/files"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install h2o >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
cat >"$dir/test.py" <<'EOF'
import atexit, http.client, os, socket, subprocess, sys, time

with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
with open(f"{dir}/conf", "w") as file:
    file.write(f"""{"" if os.getuid() else "user: root"}\nnum-threads: 1\nlisten:\n  host: 127.0.0.1\n  port: {port}
hosts:\n  default:\n    paths:\n      "/":\n        file.dir: {dir}/files\n""")
cache = subprocess.Popen(["h2o", "-c", f"{dir}/conf"], stderr=subprocess.DEVNULL)
atexit.register(lambda: cache.terminate() or cache.wait())

def write(text, age):
    with open(f"{dir}/files/new", "w") as file:
        file.write(text)
    os.utime(f"{dir}/files/new", (time.time() - age,) * 2)
    os.rename(f"{dir}/files/new", f"{dir}/files/film")

def get(**fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/film", headers={name.replace("_", "-"): value for name, value in fields.items()})
    answer = connection.getresponse()
    print(fields, "->", answer.status, answer.headers["ETag"], body := answer.read())
    return answer.status, body, answer.headers

write("o" * 12, 2000)
time.sleep(2)
_, _, old = get()
write("n" * 12, 1000)
assert old["ETag"] != get()[2]["ETag"]
for condition in (old["ETag"], old["Last-Modified"]):
    assert get(Range="bytes=6-", If_Range=condition)[:2] == (206, b"n" * 6)
assert get(Range="seconds=6-")[0] == 416
EOF
python3 "$dir/test.py" "$dir"
