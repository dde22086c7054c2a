#!/bin/sh
# FFmpeg's DASH reader drops the time zone of availabilityStartTime and asks for segments with negative numbers.
#
# The type of MPD@availabilityStartTime is xs:dateTime, which has an offset from UTC or "Z". FFmpeg reads the first 19 characters as UTC:
#        2026-11-29T10:00:00Z             11.m4s, for a channel that began 40 s ago, of 4 s each
#        2026-11-29T11:00:00+01:00        the same instant: -889.m4s
#        2026-11-29T09:00:00-01:00        the same instant: 911.m4s, an hour in the future
# No error, no warning about it. One would expect the same segments for the same instant, or an error.
# Seen with FFmpeg 5.1.9 (Debian 12).
#
# Java's and .NET's writers of XML give the offset of the machine, so that such MPDs work in winter in London only. A name with "-" before
# the number, in a cache's log, is such a player; none of its requests can be answered.
#
# Needs ffmpeg with the dash demuxer (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
cat >test.py <<'END'
import datetime, http.server, subprocess, threading

asked = []
served = {}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        if not self.path.endswith("/live.mpd"):
            asked.append(self.path)
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Type", "application/dash+xml")
        self.send_header("Content-Length", str(len(served["mpd"])))
        self.end_headers()
        self.wfile.write(served["mpd"])


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()


def first(hours):
    zone = datetime.timezone(datetime.timedelta(hours=hours))
    began = datetime.datetime.now(zone).replace(microsecond=0) - datetime.timedelta(seconds=40)
    text = began.isoformat().replace("+00:00", "Z")
    served["mpd"] = f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic"
minBufferTime="PT2S" minimumUpdatePeriod="PT1M" availabilityStartTime="{text}" timeShiftBufferDepth="PT40S"><Period id="1" start="PT0S">
<AdaptationSet mimeType="video/mp4"><SegmentTemplate timescale="1" duration="4" startNumber="1" media="$Number$.m4s"/>
<Representation id="v" bandwidth="1000" codecs="avc1.42c00c"/></AdaptationSet></Period></MPD>""".encode()
    url = f"http://127.0.0.1:{server.server_port}/{hours}/live.mpd"
    try:
        subprocess.run(["ffmpeg", "-nostdin", "-v", "quiet", "-i", url, "-f", "null", "-"], timeout=8)
    except subprocess.TimeoutExpired:
        pass
    names = [path.removeprefix(f"/{hours}/") for path in asked if path.startswith(f"/{hours}/")]
    print(text, "->", names[:3])
    return int(names[0].removesuffix(".m4s"))


assert 1 <= first(0) <= 20
assert -899 <= first(1) <= -870
assert 901 <= first(-1) <= 930
END
python3 test.py
