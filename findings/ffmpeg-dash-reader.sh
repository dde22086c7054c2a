#!/bin/sh
# FFmpeg's DASH reader plays one segment of a timeline that repeats to the end, and the first segment again and again by $Time$; exit code 0.
#
# Four of the ways in which ISO/IEC 23009-1 lets an MPD name three segments, and what FFmpeg asks a server for that has them all:
#        <S t="0" d="4" r="-1"/>, $Time$.m4s    0.m4s                              the film ends after 4 of 12 s
#        duration="4", $Time$.m4s               0.m4s 0.m4s 0.m4s 0.m4s            the same 4 s again and again
#        duration="4", $Number$.m4s             0.m4s 1.m4s 2.m4s 3.m4s            0.m4s does not exist: @startNumber is 1 by default
#        the same with startNumber="1"          1.m4s 2.m4s 3.m4s 4.m4s            4.m4s does not exist
# By clause 5.3.9.6 a negative @r repeats to the end of the Period; by clauses 5.3.9.4.4 and 5.3.9.5 $Time$ is the start of each segment, with
# @duration too. One would expect 0.m4s 4.m4s 8.m4s and 1.m4s 2.m4s 3.m4s, or an error.
# Seen with FFmpeg 5.1.9 (Debian 12). The builds of FFmpeg 8 in PyPI have no DASH reader.
#
# Transcoders, recorders and checkers that are built on FFmpeg report success with a third of the programme. For them a headend has to
# write out its timeline. The request for a segment that does not exist comes with each play: a 404 before the beginning or behind
# the end is no fault.
#
# Needs ffmpeg with the dash demuxer and libx264 (Debian: ffmpeg).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
ffmpeg -version | head -n 1
ffmpeg -nostdin -v error -f lavfi -i testsrc=s=160x90:r=25:d=12 -c:v libx264 -preset ultrafast -g 50 -f hls -hls_time 4 -hls_segment_type fmp4 \
    -hls_fmp4_init_filename i.mp4 -hls_segment_filename made%d.m4s made.m3u8
for segment in 0 1 2; do
    cp made$segment.m4s t$((segment * 4)).m4s
    cp made$segment.m4s n$((segment + 1)).m4s
done
cat >test.py <<'END'
import functools, http.server, re, subprocess, threading

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


def play(template):
    with open("film.mpd", "w") as file:
        file.write(f"""<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
minBufferTime="PT2S" mediaPresentationDuration="PT12S"><Period id="1" start="PT0S"><AdaptationSet mimeType="video/mp4">{template}
<Representation id="v" bandwidth="100000" codecs="avc1.42c00c" width="160" height="90"/></AdaptationSet></Period></MPD>""")
    asked.clear()
    url = f"http://127.0.0.1:{server.server_port}/film.mpd"
    run = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", url, "-c", "copy", "-f", "framemd5", "-"], capture_output=True, text=True)
    pictures = sum(not line.startswith("#") for line in run.stdout.splitlines())
    names = [name for name in asked if re.match(r"[tn]\d+\.m4s", name)]
    print(template, "->", names, "exit code", run.returncode, pictures, "pictures")
    assert run.returncode == 0
    return names, pictures


head = '<SegmentTemplate timescale="1" initialization="i.mp4"'
listed = head + ' media="t$Time$.m4s"><SegmentTimeline><S t="0" d="4" r="2"/></SegmentTimeline></SegmentTemplate>'
assert play(listed) == (["t0.m4s", "t4.m4s", "t8.m4s"], 300)
assert play(listed.replace('r="2"', 'r="-1"')) == (["t0.m4s"], 100)
names, _ = play(head + ' media="t$Time$.m4s" duration="4"/>')
assert len(names) >= 3 and set(names) == {"t0.m4s"}, names
assert play(head + ' media="n$Number$.m4s" duration="4"/>') == (["n0.m4s", "n1.m4s", "n2.m4s", "n3.m4s"], 300)
assert play(head + ' media="n$Number$.m4s" duration="4" startNumber="1"/>') == (["n1.m4s", "n2.m4s", "n3.m4s", "n4.m4s"], 300)
END
python3 test.py
