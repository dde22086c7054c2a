#!/bin/sh
# yt-dlp decrypts AES-128 of fMP4 with the number of the next segment: the 16th byte of every segment is wrong, exit code 0.
#
# RFC 8216 section 5.2: without an IV attribute the media sequence number of the segment is the IV. EXT-X-MAP is no segment and has no number.
# yt-dlp counts it. Of four segments from EXT-X-MEDIA-SEQUENCE:100 on, the clear init segment before EXT-X-KEY:
#        yt-dlp, with EXT-X-MAP                     the 16th byte of each is another one, or 15th and 16th where 255 is followed by 256
#        yt-dlp, without EXT-X-MAP, or with IV      right
#        streamlink                                 right in each case
# One would expect the tool that most archives of video are made with to be right about this, and a wrong IV to be seen at once. In CBC it
# changes only the bits by which it differs; no padding and no length shows it. Seen with yt-dlp 2026.10.26 and streamlink 8.6.3 (PyPI),
# cryptography by pycryptodomex 3.23.0.
#
# In a segment that begins with moof that byte is the last letter of "mfhd", in one that begins with styp its minor version: most readers get
# over it, strict ones refuse the segment, and no digest of the origin fits. Who compares recordings with an origin or a cache by digest should
# not take it for an error of the link; an origin that wants such readers writes IV.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q streamlink==8.6.3 yt-dlp==2026.10.26 pycryptodomex==3.23.0
cat >test.py <<'EOF'
import http.server, pathlib, subprocess, threading

from Cryptodome.Cipher import AES

KEY = bytes(range(16))
init = b"I" * 40
clear = [bytes([letter]) * 188 for letter in b"abcd"]
files = {"key": KEY, "init.mp4": init}
for number, segment in enumerate(clear, 100):
    padding = 16 - len(segment) % 16
    files[f"{number}.m4s"] = AES.new(KEY, AES.MODE_CBC, number.to_bytes(16, "big")).encrypt(segment + bytes([padding]) * padding)
HEAD = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:100\n#EXT-X-PLAYLIST-TYPE:VOD\n"
MAP = '#EXT-X-MAP:URI="init.mp4"\n'


def playlist(first, iv=False):
    text = HEAD + first
    for number in range(100, 104):
        text += '#EXT-X-KEY:METHOD=AES-128,URI="key"' + (f",IV=0x{number:032x}" if iv else "") + f"\n#EXTINF:4,\n{number}.m4s\n"
    return (text + "#EXT-X-ENDLIST\n").encode()


files |= {"map.m3u8": playlist(MAP), "plain.m3u8": playlist(""), "iv.m3u8": playlist(MAP, iv=True)}


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        body = files[self.path[1:]]
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.apple.mpegurl" if self.path.endswith("m3u8") else "video/mp4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
origin.handle_error = lambda *_: None
threading.Thread(target=origin.serve_forever, daemon=True).start()
YT_DLP = ["venv/bin/yt-dlp", "-q", "--no-warnings", "--ignore-config", "--fixup", "never", "--downloader", "native", "-o"]
STREAMLINK = ["venv/bin/streamlink", "--no-config", "-l", "none", "-o"]


def download(command, name):
    path = pathlib.Path(f"{name}.mp4")
    path.unlink(missing_ok=True)
    url = f"http://127.0.0.1:{origin.server_port}/{name}.m3u8"
    code = subprocess.run([*command, str(path), url, *(["best"] if command is STREAMLINK else [])], stdout=subprocess.DEVNULL).returncode
    assert code == 0
    return path.read_bytes()


for name in ("map", "plain", "iv"):
    right = b"".join(([] if name == "plain" else [init]) + clear)
    for tool, command in (("yt-dlp", YT_DLP), ("streamlink", STREAMLINK)):
        written = download(command, name)
        assert len(written) == len(right)
        wrong = [place for place, (one, other) in enumerate(zip(written, right)) if one != other]
        print(f"{tool}, {name}:", f"wrong bytes at {wrong}" if wrong else "right")
        # The IV differs in its last byte, which is the 16th of each segment.
        assert wrong == ([40 + 188 * segment + 15 for segment in range(4)] if (tool, name) == ("yt-dlp", "map") else [])
EOF
venv/bin/python test.py
