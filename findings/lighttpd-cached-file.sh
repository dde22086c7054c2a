#!/bin/sh
# lighttpd serves a file that has been replaced for a second or two more, and of one that was rewritten in place a part with status 200.
#
# A static server is expected to look at the file for each request, so that a playlist that was written under another name and renamed
# is the new one from then on, as with nginx, httpd, Caddy and h2o. lighttpd remembers what it found under a path (server.stat-cache-engine,
# "simple" by default) for one to two seconds. Seen with lighttpd 1.4.69 (Debian 12), when the file was asked for just before:
#        renamed over, 12 characters instead of 6       the 6 old ones
#        rewritten in place, 12 instead of 6            200, Content-Length: 6, the first 6 of the new ones
#        rewritten in place, 6 instead of 12            200, Content-Length: 12, 6 characters, connection closed
#        removed                                        200, the old ones
#
# A live playlist from such an origin is a second old, a low-latency one useless; a packager that rewrites in place gives playlists that end
# in the middle of a line, complete by Content-Length. A reader should take a playlist without a newline at its end for one to be asked for
# again; the origin needs server.stat-cache-engine = "disable".
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/root" "$dir/files"
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install lighttpd >"$dir/apt.log" 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in "$dir"/cache/archives/*.deb; do dpkg -x "$package" "$dir/root"; done
export PATH="$dir/root/usr/sbin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
cat >"$dir/test.py" <<'EOF'
import atexit, http.client, os, socket, subprocess, sys, time
with socket.create_server(("127.0.0.1", 0)) as probe:
    dir, port = sys.argv[1], probe.getsockname()[1]
with open(f"{dir}/conf", "w") as file:
    file.write(f'server.document-root = "{dir}/files"\nserver.bind = "127.0.0.1"\nserver.port = {port}\nserver.errorlog = "{dir}/error.log"\n')
cache = subprocess.Popen(["lighttpd", "-D", "-f", f"{dir}/conf", "-m", f"{dir}/root/usr/lib/lighttpd"])
atexit.register(lambda: cache.terminate() or cache.wait())
time.sleep(2)

def get(name):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", f"/{name}")
    try:
        return (answer := connection.getresponse()).status, answer.read().decode()
    except http.client.IncompleteRead as cut:
        return answer.status, cut.partial.decode() + ", then cut off"

def change(how, name, new):
    if how == "removed":
        return os.remove(f"{dir}/files/{name}")
    with open(f"{dir}/files/" + ("written" if how == "renamed" else name), "w") as file:
        file.write(new)
    return os.rename(f"{dir}/files/written", f"{dir}/files/{name}") if how == "renamed" else None

for how, old, wrong in (("renamed", 6, "oooooo"), ("rewritten", 6, "nnnnnn"), ("rewritten", 12, "nnnnnn, then cut off"), ("removed", 6, "oooooo")):
    found = set()
    for at in range(20):  # some meet the moment at which it looks anew
        name = f"{how}-{old}-{at}"
        change("written", name, "o" * old)
        assert get(name) == (200, "o" * old)
        change(how, name, "n" * (18 - old))
        found.add(get(name))
    print(how, old, found)
    assert (200, wrong) in found and len(found) <= 2, found
EOF
python3 "$dir/test.py" "$dir"
