#!/bin/sh
# FFmpeg cannot read the single-file DASH film that it wrote: of a SegmentList with startNumber="1" it skips the first segment; exit code 0.
#
# ISO/IEC 23009-1 clause 5.3.9.3: the first SegmentURL of a SegmentList is the first segment, whatever number @startNumber gives to it, and
# 1 is what it has by default. FFmpeg's muxer writes startNumber="1" with -single_file, and its reader takes that for the place in the list:
#        startNumber="1", four SegmentURLs     2nd, 3rd, 4th             150 of 200 pictures, the first 2 s are missing
#        startNumber="3"                       4th                       50 of 200
#        without startNumber                   1st, 2nd, 3rd, 4th        200
# One would expect a muxer and a demuxer of one library to have been run against each other. Streamlink reads all of each.
# Seen with FFmpeg 5.1.9 (Debian 12) and streamlink 8.6.3 (PyPI).
#
# A check or a transcoder that reads such a film reports success for less than the film. For FFmpeg, the numbers of a SegmentList have to be
# left out, which changes nothing for others; and a repair must not take the bytes that nobody asks for as not needed.
#
# Needs ffmpeg with the dash demuxer and libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
python3 -m venv venv
venv/bin/pip install -q streamlink==8.6.3
mkdir film
ffmpeg -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=8 -c:v libx264 -preset ultrafast -g 50 \
    -f dash -seg_duration 2 -single_file 1 -use_template 0 -use_timeline 0 film/1.mpd
grep -E "SegmentList|SegmentURL|Initialization" film/1.mpd
grep -q 'startNumber="1"' film/1.mpd
sed 's/ startNumber="1"/ startNumber="3"/' film/1.mpd >film/3.mpd
sed 's/ startNumber="1"//' film/1.mpd >film/none.mpd
cat >test.py <<'EOF'
import http.server, os, re, subprocess, threading


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        with open("film" + self.path, "rb") as file:
            body = file.read()
        part = re.match(r"bytes=(\d+)-(\d+)$", self.headers.get("Range", ""))
        self.send_response(206 if part else 200)
        if part:
            start, end = int(part[1]), int(part[2])
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(body)}")
            body = body[start : end + 1]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
found = {}
for name in ("1", "3", "none"):
    url = f"http://127.0.0.1:{server.server_port}/{name}.mpd"
    read = ["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    done = subprocess.run(read, capture_output=True, timeout=60)
    record = ["venv/bin/streamlink", "--no-config", "--force", "-o", "got", f"dash://{url}", "best"]
    recorded = subprocess.run(record, capture_output=True, timeout=60)
    whole = os.path.getsize("got") == max(os.path.getsize(f"film/{file}") for file in os.listdir("film"))
    found[name] = (done.returncode, len(done.stdout) // (160 * 90), recorded.returncode, whole)
    print(f"startNumber {name}: FFmpeg exit code {done.returncode}, {found[name][1]} of 200 pictures; all by Streamlink: {whole}")
assert found == {"1": (0, 150, 0, True), "3": (0, 50, 0, True), "none": (0, 200, 0, True)}, found
EOF
venv/bin/python test.py
