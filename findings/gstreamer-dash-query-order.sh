#!/bin/sh
# GStreamer puts the parameters of a segment's query into another order: "?a=1&b=2" of the MPD is asked for as "?b=2&a=1".
#
# RFC 3986 section 6.2: two URIs whose queries differ in order are different; nothing says that a query is a set. GStreamer keeps a query in
# a hash table while it resolves the segment's name against the MPD's, and writes it in the order of the table:
#        initialization="i.mp4?a=1&amp;b=2"               GET /i.mp4?b=2&a=1
#        media="m$Number$.m4s?a=1&amp;b=2&amp;c=3"        GET /m1.m4s?b=2&a=1&c=3
# Seen with GStreamer 1.22.0, dashdemux of Debian 12; the MPD itself is asked for as it was given.
#
# A cache that keys by URL stores each segment twice, once for GStreamer and once for all others, and a segment that came over
# the one-way link under its written name is a miss for it. Tokens that are signed over the text of the query are refused.
#
# Needs gst-launch-1.0 with dashdemux and souphttpsrc (Debian: gstreamer1.0-tools, gstreamer1.0-plugins-good, gstreamer1.0-plugins-bad).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
gst-launch-1.0 --version | head -n 1
cat >test.py <<'END'
import http.server, subprocess, threading

mpd = b"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static" minBufferTime="PT2S"
mediaPresentationDuration="PT4S"><Period id="1"><AdaptationSet mimeType="video/mp4"><SegmentTemplate timescale="1" duration="4"
initialization="i.mp4?a=1&amp;b=2" media="m$Number$.m4s?a=1&amp;b=2&amp;c=3"/>
<Representation id="v" bandwidth="1000" codecs="avc1.42c00c"/></AdaptationSet></Period></MPD>"""
asked = []


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path)
        body = mpd if ".mpd" in self.path else b"\0\0\0\x08free"
        self.send_response(200)
        self.send_header("Content-Type", "application/dash+xml" if body is mpd else "video/mp4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/film.mpd?a=1&b=2"
subprocess.run(["gst-launch-1.0", "-q", "souphttpsrc", f"location={url}", "!", "dashdemux", "!", "fakesink"], timeout=60)
print(*asked, sep="\n")
assert asked == ["/film.mpd?a=1&b=2", "/i.mp4?b=2&a=1", "/m1.m4s?b=2&a=1&c=3"], asked
END
python3 test.py
