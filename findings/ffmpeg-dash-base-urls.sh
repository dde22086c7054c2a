#!/bin/sh
# FFmpeg's DASH reader forgets the BaseURLs of the outer elements: with "live/" in the MPD and "hd/" in the Representation it asks for hd/.
#
# ISO/IEC 23009-1 clause 5.6.4: a relative BaseURL is resolved against the one of the next outer level, up to the URL of the MPD. FFmpeg
# does that only below an absolute one:
#        MPD http://h/live/, Representation hd/           /live/hd/i.mp4
#        MPD live/, Representation hd/                    /hd/i.mp4
#        MPD live/, Period 1/, AdaptationSet v/, hd/      /hd/i.mp4
#        MPD live/ alone                                  /live/i.mp4
# Seen with FFmpeg 5.1.9 (Debian 12). GStreamer 1.22.0 (Debian 12) asks for /live/hd/ and /live/1/v/hd/.
#
# An ad server or a box that rewrites the absolute URL of the MPD into a relative one, so that it works under any host name, breaks
# every recorder and transcoder that is built on FFmpeg, if the packager gave each representation a folder; the 404 are for names that
# no manifest spells. To them an absolute path ("/live/") is a relative one as well.
#
# Needs ffmpeg with the dash demuxer, and gst-launch-1.0 with dashdemux and souphttpsrc (Debian: ffmpeg, gstreamer1.0-tools,
# gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
gst-launch-1.0 --version | head -n 1
cat >test.py <<'END'
import http.server, subprocess, threading

asked = []
served = {}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != "/film.mpd":
            asked.append(self.path)
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "application/dash+xml")
        self.send_header("Content-Length", str(len(served["mpd"])))
        self.end_headers()
        self.wfile.write(served["mpd"])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
host = f"http://127.0.0.1:{server.server_port}"
players = {
    "ffmpeg": ["ffmpeg", "-nostdin", "-v", "quiet", "-i", f"{host}/film.mpd", "-f", "null", "-"],
    "gst": ["gst-launch-1.0", "-q", "souphttpsrc", f"location={host}/film.mpd", "!", "dashdemux", "!", "fakesink"],
}


def first(player, *bases):
    mpd, period, adaptation, representation = (f"<BaseURL>{base}</BaseURL>" if base else "" for base in bases)
    served["mpd"] = f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
minBufferTime="PT2S" mediaPresentationDuration="PT8S">{mpd}<Period id="1">{period}<AdaptationSet mimeType="video/mp4">{adaptation}
<SegmentTemplate timescale="1" duration="4" initialization="i.mp4" media="$Number$.m4s"/><Representation id="v" bandwidth="1000"
codecs="avc1.42c00c">{representation}</Representation></AdaptationSet></Period></MPD>""".encode()
    asked.clear()
    subprocess.run(players[player], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    print(player, [base.replace(host, "http://h") for base in bases], "->", asked[0])
    return asked[0]


assert first("ffmpeg", f"{host}/live/", "", "", "hd/") == "/live/hd/i.mp4"
assert first("ffmpeg", "live/", "", "", "") == "/live/i.mp4"
assert first("ffmpeg", "live/", "", "", "hd/") == "/hd/i.mp4"
assert first("ffmpeg", "/live/", "", "", "hd/") == "/hd/i.mp4"
assert first("ffmpeg", "live/", "1/", "v/", "hd/") == "/hd/i.mp4"
assert first("gst", "live/", "", "", "hd/") == "/live/hd/i.mp4"
assert first("gst", "live/", "1/", "v/", "hd/") == "/live/1/v/hd/i.mp4"
END
python3 test.py
