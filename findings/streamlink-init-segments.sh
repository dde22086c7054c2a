#!/bin/sh
# Streamlink takes one init segment for another: two EXT-X-MAP of one file with different byte ranges are both the first one. Exit code 0.
#
# RFC 8216 section 4.3.2.5: an init segment is the URI together with BYTERANGE. Packagers that write a rendition into a single file have them so,
# and behind a discontinuity, at a break or after a change of the encoder, the next one is another range of it:
#        film.mp4 0 to 39, A, film.mp4 268 to 327, B        streamlink: 0 to 39, A, 0 to 39, B
#        i1.mp4, A, i2.mp4, B                               streamlink: i1.mp4, A, i2.mp4, B
#        the same with yt-dlp                               both refused: "Initialization fragment found after media fragments"
# One would expect the range to be part of the name under which it is kept, as for media segments, whose ranges of one file are told apart. It
# keeps the init segment by its URI. Seen with streamlink 8.6.3 and yt-dlp 2026.10.26 (PyPI).
#
# What it records cannot be decoded behind the break, with no error and the right length in segments. A headend that takes in such a channel has
# to compare the init segments, or to ask for init segments under names of their own.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q streamlink==8.6.3 yt-dlp==2026.10.26
cat >test.py <<'EOF'
import http.server, pathlib, subprocess, threading

HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n"
parts = {"first": b"1" * 40, "a": b"A" * 228, "second": b"2" * 60, "b": b"B" * 228}
files = {
    "film.mp4": b"".join(parts.values()),
    "i1.mp4": parts["first"],
    "a.m4s": parts["a"],
    "i2.mp4": parts["second"],
    "b.m4s": parts["b"],
    "ranges.m3u8": f"""{HEAD}#EXT-X-MAP:URI="film.mp4",BYTERANGE="40@0"
#EXTINF:4,
#EXT-X-BYTERANGE:228@40
film.mp4
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="film.mp4",BYTERANGE="60@268"
#EXTINF:4,
#EXT-X-BYTERANGE:228@328
film.mp4
#EXT-X-ENDLIST
""".encode(),
    "names.m3u8": f"""{HEAD}#EXT-X-MAP:URI="i1.mp4"
#EXTINF:4,
a.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="i2.mp4"
#EXTINF:4,
b.m4s
#EXT-X-ENDLIST
""".encode(),
}


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        body = files[self.path[1:]]
        wanted = self.headers.get("Range")
        self.send_response(206 if wanted else 200)
        if wanted:
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
            body = body[first : last + 1]
        self.send_header("Content-Type", "application/vnd.apple.mpegurl" if self.path.endswith("m3u8") else "video/mp4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()


def streamlink(name):
    url = f"http://127.0.0.1:{origin.server_port}/{name}.m3u8"
    code = subprocess.run(["venv/bin/streamlink", "--no-config", "-l", "none", "-o", name, url, "best"], stdout=subprocess.DEVNULL).returncode
    return code, pathlib.Path(name).read_bytes()


right = b"".join(parts.values())
wrong = parts["first"] + parts["a"] + parts["first"] + parts["b"]
for name, seen in (("names", right), ("ranges", wrong)):
    code, written = streamlink(name)
    print(f"streamlink, {name}: exit code {code},", "right" if written == right else "the first init segment twice" if written == wrong else written)
    assert (code, written) == (0, seen)
    url = f"http://127.0.0.1:{origin.server_port}/{name}.m3u8"
    command = ["venv/bin/yt-dlp", "-q", "--no-warnings", "--ignore-config", "--fixup", "never", "--downloader", "native", "-o", f"{name}.mp4", url]
    refused = subprocess.run(command, stderr=subprocess.PIPE, text=True).stderr.strip()
    print(f"yt-dlp, {name}:", refused)
    assert "Initialization fragment found after media fragments" in refused
EOF
venv/bin/python test.py
