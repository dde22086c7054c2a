#!/bin/sh
# FFmpeg's DASH reader forgets that an MPD came by a redirect: it asks for the segments beside the URL that redirected.
#
# RFC 3986 section 5.1.3: relative references are resolved against the URI from which the document was retrieved, after redirects. By
# redirects, players are sent to the box or cache that is nearest. Of a channel at /edge/ch/, redirected to from /ch.mpd and /ch.m3u8:
#        FFmpeg, HLS       /edge/ch/0.ts ...            plays
#        FFmpeg, DASH      /init-stream0.m4s            404, "Error when loading first fragment of playlist", no frame
#        yt-dlp, DASH      /edge/ch/init-stream0.m4s    plays
# One would expect one library to do the same for both, the more so as it takes the new URL for HLS from the same HTTP client.
# Seen with FFmpeg 5.1.9 (Debian 12), yt-dlp 2026.10.26 (PyPI).
#
# Recorders, checkers and transcoders behind a redirecting balancer report a DASH channel as dead which every player plays. Who redirects
# to a box should redirect each segment too, or write an absolute BaseURL into the MPD.
#
# Needs ffmpeg with the dash demuxer and libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
python3 -m venv venv
venv/bin/pip install -q yt-dlp==2026.10.26
mkdir -p edge/ch
picture="-f lavfi -i testsrc=s=160x90:r=25:d=8 -c:v libx264 -preset ultrafast -g 50"
ffmpeg -nostdin -v error $picture -f dash -seg_duration 2 edge/ch/ch.mpd
ffmpeg -nostdin -v error $picture -f hls -hls_time 2 -hls_list_size 0 -hls_segment_filename edge/ch/%d.ts edge/ch/ch.m3u8
cat >test.py <<'EOF'
import http.server, subprocess, threading


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        if self.path in ("/ch.mpd", "/ch.m3u8"):
            self.send_response(302)
            self.send_header("Location", "/edge/ch" + self.path)
            self.end_headers()
        else:
            super().do_GET()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}/"
reader = ["ffmpeg", "-nostdin", "-v", "error", "-i"]
found = {}
for name, command in {
    "FFmpeg, HLS": [*reader, base + "ch.m3u8", "-f", "null", "-"],
    "FFmpeg, DASH": [*reader, base + "ch.mpd", "-f", "null", "-"],
    "yt-dlp, DASH": ["venv/bin/yt-dlp", "--no-config", "-q", "--no-warnings", "--fixup", "never", "-o", "got", base + "ch.mpd"],
}.items():
    asked = []
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    media = sorted({path for path in asked if path.endswith((".ts", ".m4s"))})
    found[name] = (media[0], len(media), done.returncode == 0)
    print(f"{name}: exit code {done.returncode}, asked for {media}")
assert found == {
    "FFmpeg, HLS": ("/edge/ch/0.ts", 4, True),
    "FFmpeg, DASH": ("/init-stream0.m4s", 1, False),
    "yt-dlp, DASH": ("/edge/ch/chunk-stream0-00001.m4s", 5, True),
}, found
EOF
venv/bin/python test.py
