#!/bin/sh
# yt-dlp puts the captions behind a discontinuity more than 26 hours later, where the encoder's clock went back.
#
# RFC 8216 section 4.3.2.3: behind EXT-X-DISCONTINUITY timestamps begin anew; of WebVTT segments, X-TIMESTAMP-MAP says the clock's new value (section
# 3.5). yt-dlp joins the segments of a rendition by that map. It does not look at the discontinuity, and takes each lower value for a wrap of
# the 33 bits. Segments of 4 s, a caption one second after the begin of each:
#        MPEGTS:900000, then MPEGTS:1260000                    00:00:01.000 and 00:00:05.000
#        MPEGTS:8589754592, then MPEGTS:180000 (wrapped)       00:00:01.000 and 00:00:05.000
#        MPEGTS:900000, discontinuity, MPEGTS:90000            00:00:01.000 and 26:30:35.718, should be 00:00:05.000
#        MPEGTS:900000, discontinuity, MPEGTS:90900000         00:00:01.000 and 00:16:41.000, the same
# One would expect the playlist's own tag to count, as for the segments of video, or a step of this size to be seen as none of a wrap. Exit
# code 0, no warning. Seen with yt-dlp 2026.10.26 (PyPI).
#
# From the first break or restart of the encoder on, the captions of the recording lie elsewhere, mostly behind its end. A headend that takes
# captions from such a file should compare the last time in it with the length of the video, or read the segments itself.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q yt-dlp==2026.10.26
cat >test.py <<'EOF'
import http.server, pathlib, re, subprocess, threading

HEAD = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n"
CASES = {
    "goes on": (900000, "", 1260000, "00:00:05.000"),
    "wraps": (2**33 - 180000, "", 180000, "00:00:05.000"),
    "back": (900000, "#EXT-X-DISCONTINUITY\n", 90000, "26:30:35.718"),
    "forward": (900000, "#EXT-X-DISCONTINUITY\n", 90900000, "00:16:41.000"),
}
files = {"video.m3u8": HEAD + "#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n"}
for number, (first, between, second, _) in enumerate(CASES.values()):
    files[f"{number}.m3u8"] = f"""#EXTM3U
#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="s",NAME="English",LANGUAGE="en",URI="s{number}.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1000000,SUBTITLES="s"
video.m3u8
"""
    files[f"s{number}.m3u8"] = f"{HEAD}#EXTINF:4,\n{number}a.vtt\n{between}#EXTINF:4,\n{number}b.vtt\n#EXT-X-ENDLIST\n"
    for name, clock in (("a", first), ("b", second)):
        files[f"{number}{name}.vtt"] = f"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{clock},LOCAL:00:00:00.000\n\n00:01.000 --> 00:02.000\n{name}\n"


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        body = files[self.path[1:]].encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl" if self.path.endswith("m3u8") else "text/vtt")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
COMMAND = ["venv/bin/yt-dlp", "-q", "--ignore-config", "--skip-download", "--write-subs", "--sub-langs", "en", "-o"]
for number, (name, (_, _, _, seen)) in enumerate(CASES.items()):
    done = subprocess.run([*COMMAND, str(number), f"http://127.0.0.1:{origin.server_port}/{number}.m3u8"], capture_output=True, text=True)
    times = re.findall(r"([0-9:.]+) -->", pathlib.Path(f"{number}.en.vtt").read_text())
    print(f"{name}: exit code {done.returncode}, captions at {times}", done.stderr.strip())
    assert (done.returncode, times) == (0, ["00:00:01.000", seen])
EOF
venv/bin/python test.py
