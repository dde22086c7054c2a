#!/bin/sh
# mediaflow-proxy answers a live playlist that is empty for one read with 200 and an ended film of no segments: the channel is over for each player.
#
# RFC 8216 section 4.3.3.4: EXT-X-ENDLIST says that no more segments will be added; a player does not ask again. A packager that writes its playlist in
# place has it empty for a moment in each update, and a server that restarts sends a page of HTML. What the proxy makes of the origin's answer:
#        200, a live playlist               200, the playlist, with EXT-X-START:TIME-OFFSET=-18.0 in it
#        200, no byte                       200, #EXT-X-PLAYLIST-TYPE:VOD, #EXT-X-ENDLIST
#        200, a page of HTML                the same
#        503                                502
# One would expect 502 for all three, after which players try again; for the last it is so. The setting, graceful_stream_end, is on
# by default. Seen with mediaflow-proxy 2.4.9 (PyPI).
#
# One such read ends the channel for whoever reads at that moment, and a cache behind the proxy may keep the ended playlist for as long as a film's.
# Who takes a live playlist from a proxy has to ask again when it ends without a segment, and packagers have to replace playlists by renaming.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q mediaflow-proxy==2.4.9
cat >test.py <<'EOF'
import http.server, socket, subprocess, sys, threading, time, urllib.error, urllib.parse, urllib.request

TYPE = "application/vnd.apple.mpegurl"
LIVE = b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7.ts\n"
ANSWERS = {
    "live": (200, LIVE, TYPE),
    "empty": (200, b"", TYPE),
    "page": (200, b"<!DOCTYPE html><html><body>Restarting</body></html>", "text/html"),
    "busy": (503, b"busy", "text/plain"),
}


class Origin(http.server.BaseHTTPRequestHandler):
    log_message = lambda *_: None

    def do_GET(self):
        status, body, kind = ANSWERS[self.path.split("/")[1]]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [sys.executable, "-m", "uvicorn", "mediaflow_proxy.main:app", "--host", "127.0.0.1", "--port", str(port)]
proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
try:
    for _ in range(300):
        time.sleep(0.2)
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            pass
    seen = {}
    for name in ANSWERS:
        url = urllib.parse.quote(f"http://127.0.0.1:{origin.server_port}/{name}/live.m3u8", safe="")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/proxy/hls/manifest.m3u8?d={url}", timeout=60) as answer:
                seen[name] = answer.status, answer.read().decode().splitlines()
        except urllib.error.HTTPError as error:
            seen[name] = error.code, []
        print(name, *seen[name])
finally:
    proxy.terminate()
    proxy.wait()
status, lines = seen["live"]
assert status == 200 and "#EXT-X-START:TIME-OFFSET=-18.0,PRECISE=YES" in lines and "#EXT-X-ENDLIST" not in lines
for name in ("empty", "page"):
    status, lines = seen[name]
    assert status == 200 and {"#EXTM3U", "#EXT-X-PLAYLIST-TYPE:VOD", "#EXT-X-ENDLIST"} <= set(lines)
    assert all(line.startswith("#") for line in lines)
assert seen["busy"][0] == 502
EOF
venv/bin/python test.py
