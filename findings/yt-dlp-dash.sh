#!/bin/sh
# yt-dlp downloads other segments of DASH films than the MPD lists, skips those that are not there, and exits with 0.
#
# ISO/IEC 23009-1 clause 5.3.9.6.2: a negative @r of an S repeats to the next S or the end of the period. Clause 5.3.2.1: a period without
# @duration ends where the next one starts. Clause 5.3.9.4: @endNumber is the last number. Clause 5.3.9.3: @mediaRange is a range of @media.
# Films of 20 s with segments of 4 s, by a file server:
#        <S t="0" d="4" r="-1"/>                           the first segment of five, exit code 0
#        a period of 8 s, then one of 12 s, by @start      asks for a-1 to a-5 and b-1 to b-5, of which a-3, a-4, a-5, b-4 and b-5 do not exist
#        startNumber="101" endNumber="103"                 asks for 101 to 105
#        SegmentList: init segment and two ranges of a file  the whole file three times
# One would expect all segments, and those alone; or an error. Missing ones are "skipped", which is the default for DASH, so a file with less
# or more in it is a success. Seen with yt-dlp 2026.10.26 (PyPI) and its own downloader.
#
# It is what monitoring and archives of films use. The 404s are at the origin and in a cache's counters, of names that no MPD lists. A headend
# for such clients should write r without -1, and Period@duration.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q yt-dlp==2026.10.26
cat >test.py <<'END'
import glob, http.server, os, subprocess, threading

MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011"
 type="static" minBufferTime="PT2S" mediaPresentationDuration="PT20S">%s</MPD>"""
REPRESENTATION = '<Representation id="v" bandwidth="1000" codecs="avc1.4d401e" width="16" height="16"/>'


def period(template, attributes=""):
    return f'<Period {attributes}><AdaptationSet mimeType="video/mp4">{template}{REPRESENTATION}</AdaptationSet></Period>'


def numbered(prefix, more=""):
    return f'<SegmentTemplate media="{prefix}$Number$.m4s" initialization="{prefix}i.mp4" timescale="1" duration="4" {more}/>'


times = '<SegmentTemplate media="$Time$.m4s" initialization="i.mp4" timescale="1"><SegmentTimeline>%s</SegmentTimeline></SegmentTemplate>'
ranges = """<SegmentList timescale="1" duration="10"><Initialization sourceURL="film.mp4" range="0-99"/>
<SegmentURL media="film.mp4" mediaRange="100-199"/><SegmentURL media="film.mp4" mediaRange="200-299"/></SegmentList>"""
manifests = {
    "listed": period(times % '<S t="0" d="4" r="4"/>'),
    "repeated": period(times % '<S t="0" d="4" r="-1"/>'),
    "periods": period(numbered("a-"), 'start="PT0S"') + period(numbered("b-"), 'start="PT8S"'),
    "numbers": period(numbered("", 'startNumber="101" endNumber="103"')),
    "ranges": period(ranges),
}
there = {"i.mp4", "a-i.mp4", "b-i.mp4"} | {f"{name}.m4s" for name in "0 4 8 12 16 a-1 a-2 b-1 b-2 b-3 101 102 103".split()}
asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        name = self.path[1:]
        if name.endswith(".mpd"):
            body = (MPD % manifests[name[:-4]]).encode()
        else:
            asked.append(name)
            body = b"f" * 300 if name == "film.mp4" else b"s" * 100 if name in there else None
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "application/dash+xml" if name.endswith(".mpd") else "video/mp4")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()


def download(name):
    asked.clear()
    url = f"http://127.0.0.1:{origin.server_port}/{name}.mpd"
    command = ["venv/bin/yt-dlp", "-q", "--no-warnings", "--ignore-config", "--fixup", "never", "--retry-sleep", "0", "--fragment-retries", "0"]
    code = subprocess.run([*command, "-o", f"{name}.mp4", url], stderr=subprocess.DEVNULL).returncode
    size = os.path.getsize(f"{name}.mp4")
    names = list(dict.fromkeys(asked))
    print(name, "exit", code, size, "bytes, asked for", *names)
    return code, size, names


assert download("listed") == (0, 600, ["i.mp4", "0.m4s", "4.m4s", "8.m4s", "12.m4s", "16.m4s"])
assert download("repeated") == (0, 200, ["i.mp4", "0.m4s"])
code, size, names = download("periods")
assert (code, size) == (0, 700) and {"a-5.m4s", "b-5.m4s"} < set(names) and len(names) == 12
code, size, names = download("numbers")
assert (code, size) == (0, 400) and {"104.m4s", "105.m4s"} < set(names)
assert download("ranges")[:2] == (0, 900)
END
venv/bin/python test.py
