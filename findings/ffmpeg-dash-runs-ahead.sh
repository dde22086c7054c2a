#!/bin/sh
# FFmpeg's DASH reader answers one 404 at the live edge with hundreds of requests a second for segments of the future, and never comes back.
#
# The next segment of a live channel is not there until its availability time (ISO/IEC 23009-1 clause 5.3.9.5.3), and a player with a clock
# that is a second fast, or an origin that is a second late, meets a 404. One would expect it to wait and to ask again, as FFmpeg's own HLS
# reader does. Here it goes on to the next number at once, that is 404 too, and so on, faster than time passes:
#        an origin that is 3 s late    9.m4s 10.m4s 11.m4s, 12.m4s 404, 13.m4s 404, ... 3922.m4s 404 within ten seconds
# It takes up no segment again, though they become available meanwhile. An origin that is on time meets it too, since the
# reader asks for the next segment as soon as it has read one. Seen with FFmpeg 5.1.9 (Debian 12), $Number$ with @duration.
#
# One restreamer or recorder looks like a flood, each request for another name, so that negative answers for a name do not help; a
# cache that asks its origin for each of them passes the flood on. It has to know from the MPD which numbers can exist, or to limit what
# one client may miss.
#
# Needs ffmpeg with the dash demuxer and libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
ffmpeg -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=4 -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 4 -hls_segment_type fmp4 \
    -hls_fmp4_init_filename init.mp4 -hls_segment_filename segment%d.m4s made.m3u8
cat >test.py <<'END'
import datetime, http.server, re, subprocess, threading, time

began = int(time.time()) - 42
late_s = 3
init, segment = open("init.mp4", "rb").read(), open("segment0.m4s", "rb").read()
answers = []
text = datetime.datetime.fromtimestamp(began, datetime.timezone.utc).isoformat().replace("+00:00", "Z")
mpd = f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="dynamic" minBufferTime="PT2S"
minimumUpdatePeriod="PT4S" availabilityStartTime="{text}" timeShiftBufferDepth="PT40S" suggestedPresentationDelay="PT8S"><Period id="1"
start="PT0S"><AdaptationSet mimeType="video/mp4"><SegmentTemplate timescale="1" duration="4" startNumber="1" media="$Number$.m4s"
initialization="init.mp4"/><Representation id="v" bandwidth="1000" codecs="avc1.42c00c"/></AdaptationSet></Period></MPD>""".encode()


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        body = {"/live.mpd": mpd, "/init.mp4": init}.get(self.path)
        if body is None:
            number = int(re.match(r"/(\d+)\.m4s", self.path)[1])
            available = int((time.time() - began - late_s) // 4)
            answers.append((number, number <= available, available))
            if number > available:
                return self.send_error(404)
            body = segment
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_port}/live.mpd"
player = subprocess.Popen(["ffmpeg", "-nostdin", "-v", "quiet", "-re", "-i", url, "-c", "copy", "-f", "null", "-"])
try:
    for _ in range(300):
        time.sleep(0.1)
        missed = next((available for _, is_there, available in answers[:] if not is_there), None)
        if player.poll() is not None or (missed and (answers[-1][2] >= missed + 2 or len(answers) > 5000)):
            break
finally:
    player.kill()
    player.wait()
numbers = [number for number, _, _ in answers]
missed = next(at for at, (_, is_there, _) in enumerate(answers) if not is_there)
shown = [f"{number}.m4s {200 if is_there else 404}" for number, is_there, _ in answers]
print(len(answers), "requests:", *shown[: missed + 5], "...", shown[-1], "available:", answers[-1][2])
assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a number was asked for again"
assert not any(is_there for _, is_there, _ in answers[missed:])
assert numbers[-1] > answers[-1][2] + 50, answers[-1]
END
python3 test.py
